"""What a simulator says: one sentence in the language of the prompt, which names the simulator and the model.

So that a person who reads an answer in the demo sees at once which of the stand-ins gave it, and a test can tell one
upstream from another by its text alone.
"""

from __future__ import annotations

import re

_MARKS = {
    "de": "der die das und ist nicht ein eine ich sie bitte für mit auf wie schreibe guten",
    "fr": "le la les et est une des je vous que pour avec dans bonjour quel écris merci",
    "es": "el los las es una que por con para usted hola cómo qué escribe gracias",
    "it": "il lo gli è un una che per con sono ciao come scrivi grazie della",
}
_WORDS = {language: frozenset(words.split()) for language, words in _MARKS.items()}

_ANSWERS = {
    "en": "This is the {who} simulator speaking for {model}. I read {words} words and would answer them here.",
    "de": "Hier spricht der {who}-Simulator für {model}. Ich habe {words} Wörter gelesen und beantworte sie hier.",
    "fr": "Ici le simulateur {who} pour {model}. J'ai lu {words} mots et j'y répondrais ici.",
    "es": "Aquí habla el simulador {who} por {model}. He leído {words} palabras y las respondería aquí.",
    "it": "Qui parla il simulatore {who} per {model}. Ho letto {words} parole e risponderei qui.",
    "zh": "这里是 {who} 模拟器，代表 {model} 回答。我读了 {words} 个字，会在这里作答。",
    "ja": "こちらは {model} の代わりに答える {who} シミュレーターです。{words} 文字を読みました。",
}
_THOUGHTS = {
    "en": "The user wrote {words} words. I should say who I am and answer briefly.",
    "de": "Der Text hat {words} Wörter. Ich sage, wer ich bin, und antworte kurz.",
    "zh": "用户写了 {words} 个字。我应该说明我是谁，并简短回答。",
}


def language(text: str) -> str:
    """The language of `text` as an ISO 639-1 code, by script and then by common words; `en` where nothing speaks."""
    sample = text[:4000]  # enough to tell, and a long prompt stays cheap
    kana = len(re.findall(r"[\u3040-\u30ff]", sample))
    han = len(re.findall(r"[\u4e00-\u9fff]", sample))
    if kana + han > len(sample) / 10:
        return "ja" if kana * 4 > han else "zh"
    words = set(re.findall(r"[^\W\d_]+", sample.lower()))
    best = max(_WORDS, key=lambda code: len(words & _WORDS[code]))
    return best if len(words & _WORDS[best]) >= 2 else "en"


def _words(text: str) -> int:
    return len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u4e00-\u9fff]+", text))


def answer(who: str, model: str, text: str) -> str:
    """The sentence with which the simulator `who` answers `text`, asked of `model`."""
    return _ANSWERS[language(text)].format(who=who, model=model or "no model", words=_words(text))


def thought(text: str) -> str:
    """What a reasoning model would have thought of `text` first."""
    return _THOUGHTS.get(language(text), _THOUGHTS["en"]).format(words=_words(text))
