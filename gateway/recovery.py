"""Putting right the books of workers that are no more, out of the ledger: of each that dies, and at start of all earlier lives.

Promise: within a second or so of a worker's death its books have all that its ledger says it has settled. (A ledger of a million
charges takes a few seconds, in a thread; what the worker held covers it for as long.)
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.core.limits import books_of
from gateway.core.policy import Snapshot
from gateway.ledger.charges import charges
from gateway.ledger.reading import chains
from gateway.machine import incarnation
from gateway.state.accounts.recovering import Recovering, since, summed
from gateway.state.store.port import Store

WORKERS: Final = "worker-"  # how their chains' names begin, before their number and an instant


class Recovery:
    """All of one gateway. `snapshot` is the one in force. Use inside a running loop."""

    def __init__(
        self,
        store: Store,
        machine: str,
        ledger: Path,
        snapshot: Callable[[], Snapshot],
        now: Callable[[], float],
        log: Callable[..., None],
    ) -> None:
        self._machine = machine
        self._ledger = ledger
        self._snapshot = snapshot
        self._now = now
        self._log = log
        self._recovering = Recovering(store, lambda: books_of(snapshot()), now)
        self._seen: set[str] = set()  # chains
        self._found: asyncio.Queue[list[str]] = asyncio.Queue()

    def look(self, worker: int | None = None) -> None:
        """The worker of that number is dead, or (None) all that have ever been are. Call it before another one is started."""
        prefix = WORKERS if worker is None else f"{WORKERS}{worker}-"
        try:
            dead = [name for name in chains(self._ledger) if name.startswith(prefix) and name not in self._seen]
        except OSError as error:
            self._unread(error)
            return
        self._seen.update(dead)
        if dead:
            self._found.put_nowait(dead)

    async def run(self) -> None:
        """Do the work. Ends when cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recovering.run())
            group.create_task(self._read())

    async def _read(self) -> None:
        while True:
            for name in await self._found.get():
                try:
                    await self._recover(name)
                except OSError as error:
                    self._unread(error)

    async def _recover(self, name: str) -> None:
        books = books_of(self._snapshot())
        first = since(books, self._now())
        segments = [path for path in chains(self._ledger).get(name, []) if path.stat().st_mtime >= first]
        if segments and books:
            settled = await asyncio.to_thread(summed, books, charges(segments, first))
            self._recovering.add(incarnation(self._machine, name), settled)

    def _unread(self, error: OSError) -> None:
        self._log("books_not_recovered", why=str(error), so="what a dead worker had settled last may be missing from its budgets")
