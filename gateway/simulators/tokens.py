"""A stand-in for the providers' tokenizers: deterministic, plausible, and good enough to bill by.

It cuts text where byte-pair tokenizers roughly do: a short run of letters with the space before it, a CJK character
by itself, up to three digits, one punctuation mark. Joining the pieces gives the text back, so an answer of N pieces
is an answer of N tokens, and streaming piece by piece streams token by token.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_PIECE = re.compile(rf"[{_CJK}]| ?(?:(?![{_CJK}])[^\W\d_]){{1,6}}|\d{{1,3}}|\s+|.", re.DOTALL)

PER_MESSAGE = 4
"""Tokens that a chat template adds around each message. Real templates add 3 to 7."""

PREFIXES_MAX = 50_000
"""Prefixes a cache remembers before it forgets the oldest: 50,000 of 64 tokens is more than any test or demo sends,
and bounds a simulator that runs for weeks to some megabytes."""


def pieces(text: str) -> list[str]:
    """`text` cut into token-sized pieces; `"".join(pieces(text)) == text`."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many tokens `text` is counted as."""
    return len(pieces(text))


@dataclass
class PrefixCache:
    """What a provider's prompt cache would have kept: which leading blocks of tokens were seen before, per scope.

    `block` is the provider's granularity in tokens (64 at Mistral), `at_least` the shortest prefix it reports.
    """

    block: int
    at_least: int = 0
    _seen: OrderedDict[int, None] = field(default_factory=OrderedDict, repr=False)

    def hit(self, scope: str, tokens: Sequence[str]) -> int:
        """How many leading tokens were cached under `scope` (a multiple of `block`), and remember these tokens.

        Never the whole prompt: an engine has to compute the last token to answer at all.
        """
        cached = 0
        unbroken = True
        for end, key in self._blocks(scope, tokens):
            if unbroken and key in self._seen and end < len(tokens):
                cached = end
            else:
                unbroken = False
            self._seen[key] = None
            self._seen.move_to_end(key)
        while len(self._seen) > PREFIXES_MAX:
            self._seen.popitem(last=False)
        return cached if cached >= self.at_least else 0

    def _blocks(self, scope: str, tokens: Sequence[str]) -> Iterable[tuple[int, int]]:
        key = hash(scope)
        for end in range(self.block, len(tokens) + 1, self.block):
            key = hash((key, *tokens[end - self.block : end]))
            yield end, key
