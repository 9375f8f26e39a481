"""A client that remembers what it passes on: how a stream is kept. Streams that are not cached never meet it."""

from collections.abc import Mapping
from typing import Final

from gateway.core.answer import Problem
from gateway.ports import Callback, Client, Flow

EVENTS_PER_BYTE: Final = 4  # of an answer: a streamed token is an event of 200 bytes, so what is larger is a long answer indeed


class Collecting:
    """Passes all on to `client`. What grows beyond what an entry may be is forgotten, and passed on all the same."""

    __slots__ = ("_client", "_pieces", "_room")

    def __init__(self, client: Client, entry_bytes_max: int) -> None:
        self._client = client
        self._pieces: list[bytes] = []
        self._room = entry_bytes_max * EVENTS_PER_BYTE

    @property
    def gone(self) -> bool:
        return self._client.gone

    def on_gone(self, callback: Callback | None) -> None:
        self._client.on_gone(callback)

    def on_writable(self, callback: Flow | None) -> None:
        self._client.on_writable(callback)

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        self._client.begin_stream(headers)

    def write(self, events: bytes) -> None:
        self._client.write(events)
        self._collect(events)

    def _collect(self, events: bytes) -> None:
        self._room -= len(events)
        if self._room >= 0:
            self._pieces.append(events)
        else:
            self._pieces.clear()

    def forward(self, chunk: bytes, begin: int) -> None:
        self._client.forward(chunk, begin)
        self._collect(chunk[begin:-2])

    def end_stream(self, problem: Problem | None) -> None:
        self._client.end_stream(problem)

    def whole(self) -> bytes | None:
        """All that was written; None: it was too much."""
        return b"".join(self._pieces) if self._room >= 0 else None
