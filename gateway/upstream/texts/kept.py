"""Text completions as the cache keeps them: one shape, of a stream or of a whole answer, and back into either.

Promises: only what ended of itself is kept, or at the length that the request, or else the API, set. What holds anything that can't
be given again in either form is not kept.
"""

from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Outcome, Request
from gateway.core.usage import Usage
from gateway.upstream.streamed import events_of, put_together, whole_of
from gateway.upstream.texts.shape import TEXT, as_events

ENDS: Final = frozenset({"stop", "length"})
CHOICE: Final = frozenset({"index", "text", "logprobs", "finish_reason"})  # what is given again; the rest is the engine's own
OWN: Final = frozenset({"stop_reason"})  # of which nobody misses anything


class CompletionForm:
    """`POST /v1/completions`."""

    def answer(self, request: Request, outcome: Outcome, body: bytes) -> bytes | None:
        """The answer to keep of one that came whole; None: it is none that another request may be given."""
        if outcome.ended is not Ended.SERVED:
            return None
        found = orjson.loads(body)
        choices = found.get("choices")
        if found.get("object") != TEXT or not choices or not all(_repeatable(choice) for choice in choices):
            return None
        return body if all(choice["finish_reason"] in ENDS for choice in choices) else None

    def answer_of(self, request: Request, outcome: Outcome, events: bytes) -> bytes | None:
        """The same of one that was streamed, as the client was written it."""
        if outcome.ended is not Ended.SERVED:
            return None
        found = put_together(events, _Choice)
        if found is None:
            return None
        first, choices = found
        return whole_of(first, TEXT, choices, outcome.usage) if all(choice.finish in ENDS for choice in choices.values()) else None

    def events(self, answer: bytes, usage: Usage | None) -> bytes:
        """An answer as a stream brings it, up to its end; with `usage`, if that is wanted."""
        return events_of(answer, as_events, TEXT, usage)


def _repeatable(choice: dict[str, Any]) -> bool:
    """Whether all that a choice says can be given again, in a stream or whole."""
    logprobs = choice.get("logprobs")
    if logprobs is not None and not (isinstance(logprobs, dict) and all(isinstance(each, list) for each in logprobs.values())):
        return False
    return all(name in CHOICE or name in OWN or value is None for name, value in choice.items())


class _Choice:
    """One choice of a stream, put together."""

    __slots__ = ("finish", "logprobs", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: dict[str, list[Any]] = {}
        self.finish: object = None

    def add(self, part: dict[str, Any]) -> bool:
        """Take one chunk's part of this choice. False: it says something that can't be given again."""
        if not _repeatable(part):
            return False
        self.texts.append(part["text"])
        self.finish = part["finish_reason"] or self.finish
        for name, values in (part.get("logprobs") or {}).items():
            self.logprobs.setdefault(name, []).extend(values)
        return True

    def whole(self, index: int) -> dict[str, Any]:
        """The choice as a whole answer has it."""
        return {"index": index, "text": "".join(self.texts), "logprobs": self.logprobs or None, "finish_reason": self.finish}
