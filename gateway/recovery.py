"""Putting right the books of workers that are no more, out of the ledger: of each that dies, and at start of all earlier lives.

Promise: within a second or so of a worker's death its books have all that its ledger says it has settled, or of when that
can be read again. (A ledger of a million charges takes a few seconds, in a thread; what the worker held covers it for as long.)
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from gateway.core.limits import books_of
from gateway.core.policy import Snapshot
from gateway.ledger.charges import charges
from gateway.ledger.reading import chains
from gateway.machine import incarnation
from gateway.state.accounts.recovering import Recovering, since, summed
from gateway.state.store.port import Store

AGAIN_S: Final = 1.0  # until what could not be read is tried again
WORKERS: Final = "worker-"  # how their chains' names begin, before their number and an instant


class Recovery:
    """All of one gateway. `snapshot` is the one in force; `living` are the chains of the workers that live, and None while some
    have not said theirs. Use inside a running loop."""

    def __init__(
        self,
        store: Store,
        machine: str,
        ledger: Path,
        snapshot: Callable[[], Snapshot],
        living: Callable[[], frozenset[str] | None],
        now: Callable[[], float],
        log: Callable[..., None],
    ) -> None:
        self._machine = machine
        self._ledger = ledger
        self._snapshot = snapshot
        self._living = living
        self._now = now
        self._log = log
        self._recovering = Recovering(store, lambda: books_of(snapshot()), now)
        self._seen: set[str] = set()  # chains
        self._found: asyncio.Queue[list[str]] = asyncio.Queue()
        self._overlooked = asyncio.Event()  # set while there may be dead ones that were not seen

    def look(self, worker: int | None = None) -> None:
        """The worker of that number is dead, or (None) all that have ever been are. Call it before another one is started."""
        prefix = WORKERS if worker is None else f"{WORKERS}{worker}-"
        try:
            dead = [name for name in chains(self._ledger) if name.startswith(prefix)]
        except OSError as error:
            self._unread(error)
            self._overlooked.set()
            return
        self._take(dead)

    def _take(self, dead: Iterable[str]) -> None:
        new = [name for name in dead if name not in self._seen]
        self._seen.update(new)
        if new:
            self._found.put_nowait(new)

    async def run(self) -> None:
        """Do the work. Ends when cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recovering.run())
            group.create_task(self._read())
            group.create_task(self._look_again())

    async def _look_again(self) -> None:
        """See who was overlooked. By now others have been started, which must not be taken for dead."""
        while True:
            await self._overlooked.wait()
            await asyncio.sleep(AGAIN_S)
            if (living := self._living()) is None:
                continue
            try:
                found = chains(self._ledger)
            except OSError:  # as was said
                continue
            self._overlooked.clear()
            self._take(name for name in found if name.startswith(WORKERS) and name not in living)

    async def _read(self) -> None:
        unread: list[str] = []
        while True:
            for name in [*unread, *await self._more(AGAIN_S if unread else None)]:
                try:
                    await self._recover(name)
                except OSError as error:
                    if name not in unread:
                        unread.append(name)
                        self._unread(error)
                else:
                    unread = [other for other in unread if other != name]

    async def _more(self, wait_s: float | None) -> list[str]:
        """Chains that nobody has read, as soon as there are any; none, if there are none within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._found.get()
        except TimeoutError:
            return []

    async def _recover(self, name: str) -> None:
        books = books_of(self._snapshot())
        first = since(books, self._now())
        segments = [path for path in chains(self._ledger).get(name, []) if path.stat().st_mtime >= first]
        if segments and books:
            settled = await asyncio.to_thread(summed, books, charges(segments, first))
            self._recovering.add(incarnation(self._machine, name), settled)

    def _unread(self, error: OSError) -> None:
        self._log("books_not_recovered", why=str(error), so="what a dead worker had settled last may be missing from its budgets")
