"""What a simulator received, and how each exchange ended: the witness that tests and the demo ask.

Rule 1: an entry is written when a whole request has arrived, before anything is answered, so that a call that was
        made is in the journal even if its answer never leaves.
Rule 2: nobody waits by sleeping. `received`, `finished` and `aborted` wake when the thing they wait for happens, and
        say what did happen when it does not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 10.0
"""How long an awaiting test waits before it is told what came instead. Loopback needs milliseconds; a loaded machine
running other tests in parallel may need seconds."""


@dataclass
class Entry:
    """One request, as it arrived, and how its answer ended.

    `headers` keep order and duplicates, names in lower case, values untouched: `authorization` too, since which
    credential was sent to whom is what tests check. `chunks` counts the pieces of the body (the events of a stream)
    given to the kernel; a client that left may have read fewer. `aborted` is true when the client's side closed
    before the answer was complete; a cut that a script asked for is not the client's doing and leaves it false.
    """

    number: int
    connection: int
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    raw: bytes
    body: Any = None
    status: int | None = None
    fault: str | None = None
    chunks: int = 0
    complete: bool = False
    aborted: bool = False
    ended: bool = False
    at: float = field(default_factory=time.monotonic)  # when it had arrived, in seconds that only compare with each other

    def header(self, name: str) -> str | None:
        """The first value of a header, or None. `name` in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def as_json(self) -> dict[str, Any]:
        """The entry as `GET /_simulator/journal` shows it; a body that is not JSON is shown as text."""
        return {
            "number": self.number,
            "connection": self.connection,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": [list(pair) for pair in self.headers],
            "body": self.body if self.body is not None else self.raw.decode("utf-8", "replace"),
            "status": self.status,
            "fault": self.fault,
            "chunks": self.chunks,
            "complete": self.complete,
            "aborted": self.aborted,
            "ended": self.ended,
        }


@dataclass
class Journal:
    """Every request of one simulator, in order of arrival, and what its connections did.

    `accepted` counts connections, `open_connections` those still there, `malformed` holds the reason for each message
    that was no HTTP request (such a message is no entry).
    """

    entries: list[Entry] = field(default_factory=list)
    accepted: int = 0
    open_connections: int = 0
    malformed: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]

    def add(self, entry: Entry) -> None:
        """Write down a request that has arrived whole."""
        self.entries.append(entry)
        self.touch()

    def touch(self) -> None:
        """Wake whoever waits, because something in the journal changed."""
        self._changed.set()

    def clear(self) -> None:
        """Forget the entries and malformed messages. The counts of connections stay: connections live on."""
        self.entries.clear()
        self.malformed.clear()
        self.touch()

    async def received(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Entry]:
        """The first `n` entries, once that many requests have arrived. Raises TimeoutError naming what came instead."""
        return await self._wait(f"{n} received", lambda: self.entries[:n], n, patience_seconds)

    async def finished(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Entry]:
        """The first `n` entries that ended in any way, once there are that many. Raises TimeoutError as above."""
        return await self._wait(f"{n} finished", lambda: [e for e in self.entries if e.ended][:n], n, patience_seconds)

    async def aborted(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Entry]:
        """The first `n` entries whose client left early, once there are that many. Raises TimeoutError as above."""
        return await self._wait(f"{n} aborted", lambda: [e for e in self.entries if e.aborted][:n], n, patience_seconds)

    async def disconnected(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Return once no connection is open. Raises TimeoutError as above."""

        def done() -> list[Any]:
            return [True] if self.open_connections == 0 else []

        await self._wait("no open connection", done, 1, patience_seconds)

    async def _wait(self, wanted: str, found: Callable[[], list[Any]], n: int, patience_seconds: float) -> list[Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        while len(now := found()) < n:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - loop.time())
            except TimeoutError:
                raise TimeoutError(f"waited {patience_seconds:g} s for {wanted}; {self.summary()}") from None
        return now

    def summary(self) -> str:
        """One line per entry, for messages: what arrived, what was answered, how it ended."""
        if not self.entries:
            return f"no request arrived ({self.accepted} connections, {len(self.malformed)} malformed messages)"
        return "; ".join(
            f"{e.number}: {e.method} {e.path} -> {e.status}"
            f"{' fault ' + e.fault if e.fault else ''}"
            f" ({'aborted' if e.aborted else 'complete' if e.complete else 'ended' if e.ended else 'under way'},"
            f" {e.chunks} chunks)"
            for e in self.entries
        )
