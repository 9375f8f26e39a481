"""A request for text completions as a simulator reads it, and the reply it will give, before any dialect spells either.

A prompt is text, or token ids, or a list of either; every prompt gets as many choices as `n` says, in order. The triggers of
`gateway.simulators.ask` work in a prompt as they do in a message, but for tools, which this API does not know.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.simulators import speech, tokens
from gateway.simulators.ask import Ask, TextsAsk, Usage, said

TOKENS_DEFAULT = 16
"""The longest completion where the request says nothing: OpenAI's, which vLLM keeps."""

CHOICES_MAX = 128
"""Prompts times `n`, as OpenAI has it; more are not answered."""


@dataclass(frozen=True)
class PromptAsk(TextsAsk):
    """A request for text completions whose body is a JSON object. Wrong types inside it read as absent."""

    field = "prompt"

    @property
    def suffix(self) -> str:
        """What stands behind the gap that is to be filled, or an empty string."""
        found = self.body.get("suffix")
        return found if isinstance(found, str) else ""

    def prompt(self) -> list[str]:
        return super().prompt() + tokens.pieces(self.suffix)

    def count(self, name: str) -> int:
        """A number of completions that is asked for; 1 where none is."""
        found = self.body.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) and found >= 1 else 1


@dataclass(frozen=True)
class Text:
    """One completion: its tokens, and why it ended. `before` is the prompt, where that is to be repeated."""

    content: tuple[str, ...]
    finish: str
    before: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return self.before + "".join(self.content)


@dataclass(frozen=True)
class TextReply:
    """What will be said, and no word yet of how a dialect spells it. `seed` is hex, the same for the same request."""

    model: str
    created: int
    seed: str
    texts: tuple[Text, ...]
    usage: Usage
    own: tuple[Usage, ...]  # of each choice alone


def compose(ask: PromptAsk, *, who: str, created: int, cached: int, prompt_tokens: int, tokens_default: int | None) -> TextReply:
    """The reply to `ask` of the simulator called `who`. The same request, number and name give the same reply.

    `created` is in seconds since 1970; `cached`, `prompt_tokens` and `tokens_default` (None: no limit) are in tokens.
    """
    seed = hashlib.sha256(who.encode() + b"%d" % ask.number + ask.text.encode()).hexdigest()
    limit = ask.tokens_max if ask.tokens_max is not None else tokens_default
    echo = ask.body.get("echo") is True
    texts: list[Text] = []
    own: list[Usage] = []
    for pieces in ask.texts:
        prompt = "".join(pieces)
        words = said(prompt)
        content = _until_stop(tokens.pieces(speech.answer(who, ask.model, prompt)) if words is None else words, ask)
        finish = "stop"
        if limit is not None and len(content) > limit:
            content, finish = content[:limit], "length"
        for _ in range(ask.count("n")):
            texts.append(Text(tuple(content), finish, prompt if echo else ""))
            own.append(Usage(len(pieces), len(content), min(cached, len(pieces))))
    tries = max(ask.count("n"), ask.count("best_of"))
    spoken = sum(used.completion for used in own) * tries // ask.count("n")
    return TextReply(ask.model, created, seed, tuple(texts), Usage(prompt_tokens, spoken, cached), tuple(own))


def _until_stop(content: list[str], ask: Ask) -> list[str]:
    stops = ask.body.get("stop")
    text, end = "".join(content), None
    for stop in [stops] if isinstance(stops, str) else stops if isinstance(stops, list) else []:
        at = text.find(stop) if isinstance(stop, str) and stop else -1
        if at >= 0 and (end is None or at < end):
            end = at
    return content if end is None else tokens.pieces(text[:end])
