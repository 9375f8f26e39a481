"""Chat completions as the cache keeps them: one shape, of a stream or of a whole answer, and back into either.

Promises: only what ended of itself is kept: every choice said `stop` or `tool_calls`, or `length` where the request set that length
(else it was the window of the machine that happened to serve it). What holds anything that can't be given again in either form
(sound, a kind of delta that is not known here) is not kept.
"""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Outcome, Request
from gateway.core.usage import Usage
from gateway.upstream.canonical import ANSWER, CHUNK, as_events
from gateway.upstream.streamed import events_of, put_together, whole_of

ENDS: Final = frozenset({"stop", "tool_calls", "function_call"})
LENGTH: Final = "length"
TEXTS: Final = ("content", "reasoning_content", "refusal")  # of a delta: what follows is appended
SPOKEN: Final = frozenset({"role", "tool_calls", *TEXTS})


class ChatForm:
    """`POST /v1/chat/completions`."""

    def answer(self, request: Request, outcome: Outcome, body: bytes) -> bytes | None:
        """The answer to keep of one that came whole; None: it is none that another request may be given."""
        if outcome.ended is not Ended.SERVED:
            return None
        found = orjson.loads(body)
        choices = found.get("choices")
        if found.get("object") != ANSWER or not choices or any(choice["message"].get("audio") for choice in choices):
            return None
        return body if _ended(request, (choice.get("finish_reason") for choice in choices)) else None

    def answer_of(self, request: Request, outcome: Outcome, events: bytes) -> bytes | None:
        """The same of one that was streamed, as the client was written it."""
        if outcome.ended is not Ended.SERVED:
            return None
        found = put_together(events, _Choice)
        if found is None:
            return None
        first, choices = found
        if not _ended(request, (choice.finish for choice in choices.values())):
            return None
        return whole_of(first, ANSWER, choices, outcome.usage)

    def events(self, answer: bytes, usage: Usage | None) -> bytes:
        """An answer as a stream brings it, up to its end; with `usage`, if that is wanted."""
        return events_of(answer, as_events, CHUNK, usage)


def _ended(request: Request, finishes: Iterable[object]) -> bool:
    """Whether every choice ended of itself, or where the request wanted it to."""
    limited = bool(request.body.get("max_completion_tokens") or request.body.get("max_tokens"))
    return all(finish in ENDS or (finish == LENGTH and limited) for finish in finishes)


class _Choice:
    """One choice of a stream, put together."""

    __slots__ = ("calls", "finish", "logprobs", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: dict[str, list[Any]] = {}
        self.finish: object = None

    def add(self, part: dict[str, Any]) -> bool:
        """Take one chunk's part of this choice. False: it says something that is not known here."""
        self.finish = part.get("finish_reason") or self.finish
        for name, values in (part.get("logprobs") or {}).items():
            if values:
                self.logprobs.setdefault(name, []).extend(values)
        delta = part.get("delta") or {}
        for name in TEXTS:
            if (text := delta.get(name)) is not None:
                self.texts.setdefault(name, []).append(text)
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        return all(name in SPOKEN or not value for name, value in delta.items())

    def _add_call(self, call: dict[str, Any]) -> None:
        whole = self.calls.setdefault(call["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        whole["id"] = call.get("id") or whole["id"]
        whole["type"] = call.get("type") or whole["type"]
        said = call.get("function") or {}
        for name in ("name", "arguments"):
            whole["function"][name] += said.get(name) or ""

    def whole(self, index: int) -> dict[str, Any]:
        """The choice as a whole answer has it."""
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message.update((name, "".join(pieces)) for name, pieces in self.texts.items())
        if self.calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [self.calls[at] for at in sorted(self.calls)]
        choice = {"index": index, "message": message, "finish_reason": self.finish}
        return {**choice, "logprobs": self.logprobs} if self.logprobs else choice
