"""What can be told from text at a glance: its script, so its possible languages, and about how many tokens it is.

Neither is the truth, and neither is used as if it were: language serves preferences only, and the estimate is corrected by what
upstreams report. Both look at a sample, so that a 100 kB prompt costs no more than a short one.
"""

import re
from enum import StrEnum
from typing import Final

from gateway.core.terms import OTHER

SAMPLE_CHARS = 1_000


class Script(StrEnum):
    """Scripts that tell languages apart, and that tokenisers treat differently."""

    LATIN = "latin"
    HAN = "han"
    KANA = "kana"
    HANGUL = "hangul"
    CYRILLIC = "cyrillic"
    GREEK = "greek"
    ARABIC = "arabic"
    HEBREW = "hebrew"
    DEVANAGARI = "devanagari"
    THAI = "thai"
    OTHER = "other"


_RANGES: Final = (
    (Script.HAN, re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")),
    (Script.KANA, re.compile("[\u3040-\u30ff]")),
    (Script.HANGUL, re.compile("[\u1100-\u11ff\uac00-\ud7af]")),
    (Script.CYRILLIC, re.compile("[\u0400-\u052f]")),
    (Script.GREEK, re.compile("[\u0370-\u03ff]")),
    (Script.ARABIC, re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    (Script.HEBREW, re.compile("[\u0590-\u05ff]")),
    (Script.DEVANAGARI, re.compile("[\u0900-\u097f]")),
    (Script.THAI, re.compile("[\u0e00-\u0e7f]")),
    (Script.LATIN, re.compile("[A-Za-z\u00c0-\u024f]")),
)

LANGUAGES: Final[dict[Script, frozenset[str]]] = {
    Script.HAN: frozenset({"zh"}),
    Script.KANA: frozenset({"ja"}),
    Script.HANGUL: frozenset({"ko"}),
    Script.CYRILLIC: frozenset({"ru", "uk", "bg", "sr", "be", "mk", "kk", "ky", "mn", "tg"}),
    Script.GREEK: frozenset({"el"}),
    Script.ARABIC: frozenset({"ar", "fa", "ur", "ps", "ckb", "sd", "ug"}),
    Script.HEBREW: frozenset({"he", "yi"}),
    Script.DEVANAGARI: frozenset({"hi", "mr", "ne", "sa"}),
    Script.THAI: frozenset({"th"}),
}
"""ISO 639. Latin script and what is not listed say only which languages it is not."""

LATIN_TOO: Final = frozenset({"sr", "kk", "tg", "mn"})  # written in Latin script as well

CHARS_PER_TOKEN: Final[dict[Script, float]] = {
    Script.LATIN: 4.0,
    Script.HAN: 1.4,
    Script.KANA: 1.4,
    Script.HANGUL: 1.6,
    Script.CYRILLIC: 2.6,
    Script.GREEK: 2.2,
    Script.ARABIC: 2.4,
    Script.HEBREW: 2.2,
    Script.DEVANAGARI: 2.2,
    Script.THAI: 2.0,
    Script.OTHER: 1.5,
}
"""Where the estimate starts: about what the tokenisers of Mistral (Tekken) and GLM do to prose. `Estimator` corrects it."""


def script_of(text: str) -> Script:
    """The script that most letters of a sample of `text` are written in. A fifth of kana makes Han text Japanese."""
    if text.isascii():
        return Script.LATIN
    middle = max(0, len(text) // 2 - SAMPLE_CHARS // 2)
    sample = text if len(text) <= SAMPLE_CHARS else text[: SAMPLE_CHARS // 2] + text[middle : middle + SAMPLE_CHARS // 2]
    counts = {script: len(pattern.findall(sample)) for script, pattern in _RANGES}
    # a Han character carries about what four Latin letters do: a Chinese sentence with an English name in it is Chinese
    for dense in (Script.HAN, Script.KANA, Script.HANGUL):
        counts[dense] *= 4
    if counts[Script.KANA] * 5 > counts[Script.HAN]:
        counts[Script.KANA] += counts[Script.HAN]
    script, most = max(counts.items(), key=lambda item: item[1])
    return script if most else Script.OTHER


def languages_of(script: Script, known: frozenset[str]) -> frozenset[str]:
    """The languages, of those `known` to the policy and OTHER, that text in `script` may be in. Never empty."""
    certain = LANGUAGES.get(script)
    if certain is not None:
        return frozenset(language if language in known else OTHER for language in certain)
    return known - (frozenset().union(*LANGUAGES.values()) - LATIN_TOO) or known


class Estimator:
    """Prompt tokens by script, corrected by what upstreams report: a slow average of reported / estimated, held to ½ … 2."""

    STEP = 0.05  # weight of the newest report: a few dozen requests teach it a tokeniser, one odd request does not
    TOKENS_MIN = 50  # shorter prompts are mostly chat template and teach nothing about text

    def __init__(self) -> None:
        self._factor = dict.fromkeys(Script, 1.0)

    def tokens(self, script: Script, chars: int) -> int:
        """About how many tokens `chars` characters of `script` are."""
        return int(chars / CHARS_PER_TOKEN[script] * self._factor[script]) + 1

    def learn(self, script: Script, estimated: int, reported: int) -> None:
        """An upstream counted `reported` tokens where we had estimated `estimated`."""
        if estimated < self.TOKENS_MIN or reported < self.TOKENS_MIN:
            return
        seen = self._factor[script] * reported / estimated
        self._factor[script] += self.STEP * (min(2.0, max(0.5, seen)) - self._factor[script])
