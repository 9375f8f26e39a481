"""One whole answer out of the events that brought it to a client, and those out of it: what is the same for every API."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import orjson

from gateway.core.usage import Usage
from gateway.upstream.canonical import DONE_EVENT, Identity, usage_event
from gateway.upstream.sse import DONE, fields
from gateway.upstream.usage import as_openai


class Choice(Protocol):
    """One choice of a stream, put together."""

    def add(self, part: dict[str, Any]) -> bool:
        """Take one chunk's part of it. False: that says something that can't be given again."""
        ...

    def whole(self, index: int) -> dict[str, Any]:
        """The choice as a whole answer has it."""
        ...


C = TypeVar("C", bound=Choice)


def put_together(events: bytes, make: Callable[[], C]) -> tuple[dict[str, Any], dict[int, C]] | None:
    """The first chunk of a whole stream, and its choices. None: it has none, or says what can't be given again."""
    first: dict[str, Any] = {}
    choices: dict[int, C] = {}
    for chunk in _chunks_of(events):
        first = first or chunk
        for part in chunk["choices"]:
            choice = choices.get(part["index"]) or choices.setdefault(part["index"], make())
            if not choice.add(part):
                return None
    return (first, choices) if choices else None


def whole_of(first: Mapping[str, Any], kind: str, choices: Mapping[int, Choice], usage: Usage | None) -> bytes:
    """The answer whose stream began with the chunk `first`; `kind` is its `object`."""
    found = {
        "id": first["id"],
        "object": kind,
        "created": first["created"],
        "model": first["model"],
        "choices": [choices[index].whole(index) for index in sorted(choices)],
    }
    if usage is not None and usage.reported:
        found["usage"] = as_openai(usage)
    return orjson.dumps(found)


def events_of(answer: bytes, as_events: Callable[[Mapping[str, Any]], list[bytes]], kind: str, usage: Usage | None) -> bytes:
    """A whole answer as a stream brings it, up to its end; with `usage`, if that is wanted and known. `kind` is that of a chunk."""
    found = orjson.loads(answer)
    said = as_events(found)
    if usage is not None and usage.reported:
        said.append(usage_event(Identity(found["id"], found["created"], found["model"]), usage, kind))
    return b"".join((*said, DONE_EVENT))


def _chunks_of(events: bytes) -> Iterator[dict[str, Any]]:
    for event in events.split(b"\n\n"):
        _, data = fields(event)
        if data is not None and data != DONE:
            yield orjson.loads(data)
