"""Text completions as the cache keeps them: one shape, of a stream or of a whole answer, and back into either.

Promises: only what ended of itself is kept, or at the length that the request, or else the API, set. What holds anything that can't
be given again in either form is not kept.
"""

from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Outcome, Request, Usage
from gateway.upstream.kept import chunks_of, tail_of
from gateway.upstream.texts.shape import TEXT, as_events
from gateway.upstream.usage import as_openai

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
        first: dict[str, Any] = {}
        choices: dict[int, dict[str, Any]] = {}
        for chunk in chunks_of(events):
            first = first or chunk
            for part in chunk["choices"]:
                if not _repeatable(part):
                    return None
                _add(choices.setdefault(part["index"], {"text": [], "finish_reason": None, "logprobs": None}), part)
        if not choices or not all(choice["finish_reason"] in ENDS for choice in choices.values()):
            return None
        found = {
            "id": first["id"],
            "object": TEXT,
            "created": first["created"],
            "model": first["model"],
            "choices": [
                {
                    "index": index,
                    "text": "".join(choices[index]["text"]),
                    "logprobs": choices[index]["logprobs"],
                    "finish_reason": choices[index]["finish_reason"],
                }
                for index in sorted(choices)
            ],
        }
        if outcome.usage is not None and outcome.usage.reported:
            found["usage"] = as_openai(outcome.usage)
        return orjson.dumps(found)

    def events(self, answer: bytes, usage: Usage | None) -> bytes:
        """An answer as a stream brings it, up to its end; with `usage`, if that is wanted."""
        found = orjson.loads(answer)
        return b"".join(as_events(found)) + tail_of(found, usage, TEXT)


def _repeatable(choice: dict[str, Any]) -> bool:
    """Whether all that a choice says can be given again, in a stream or whole."""
    logprobs = choice.get("logprobs")
    if logprobs is not None and not (isinstance(logprobs, dict) and all(isinstance(each, list) for each in logprobs.values())):
        return False
    return all(name in CHOICE or name in OWN or value is None for name, value in choice.items())


def _add(choice: dict[str, Any], part: dict[str, Any]) -> None:
    """Take one chunk's part of a choice."""
    choice["text"].append(part["text"])
    choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
    for name, values in (part.get("logprobs") or {}).items():
        choice["logprobs"] = choice["logprobs"] or {}
        choice["logprobs"].setdefault(name, []).extend(values)
