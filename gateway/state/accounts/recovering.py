"""The books of workers that have died, kept right by who knows their ledger: the supervisor.

Promises: what a dead worker has settled counts, though it died before it said so, and also after the store has forgotten it; what
it held is free again at once, and not only when its lease ends. All is said again and again: saying it twice changes nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.core.accounts import Book, Terms
from gateway.core.windows import begins, oldest_of, slice_of
from gateway.state.accounts.book import recovered
from gateway.state.store.port import Store, StoreLost

AGAIN_S: Final = 60.0  # a store that forgets without going away is put right by then
RETRY_S: Final = 1.0
PIPELINE_MAX: Final = 256
Totals = dict[int, int]


def since(books: Iterable[Terms], now: float) -> float:
    """Before which instant (UTC seconds) nothing that was settled counts any more for any of `books`; `now` if there is none."""
    firsts = (begins(terms.of, oldest_of(terms.of, now)) for terms in books if isinstance(terms.of, Book))
    return min(firsts, default=now)


def summed(books: Iterable[Terms], charges: Iterable[tuple[float, Mapping[str, int]]]) -> dict[str, Totals]:
    """What a worker that has charged these (when, account → amount) has settled in each of `books`, slice by slice. Takes a second
    for a million charges: not for an event loop."""
    found: dict[str, tuple[Book, Totals]] = {terms.id: (terms.of, {}) for terms in books if isinstance(terms.of, Book)}
    for at, charged in charges:
        for name, amount in charged.items():
            if name in found:
                book, totals = found[name]
                number = slice_of(book, at)
                totals[number] = totals.get(number, 0) + amount
    return {name: totals for name, (_, totals) in found.items()}


class Recovering:
    """All dead workers of one gateway. `books` are the terms in force. Use inside a running loop; `run` does the work."""

    def __init__(self, store: Store, books: Callable[[], Iterable[Terms]], now: Callable[[], float], store_now: str = "") -> None:
        self._store = store
        self._books = books
        self._now = now
        self._store_now = store_now
        self._dead: dict[str, Mapping[str, Totals]] = {}  # worker -> account -> slice -> total
        self._due = asyncio.Event()
        store.on_back(self._due.set)

    def add(self, worker: str, settled: Mapping[str, Totals]) -> None:
        """`worker` (its incarnation) has died, having settled this: account → slice → total. It may have held something of each."""
        self._dead[worker] = settled
        self._due.set()

    async def run(self) -> None:
        """Say what the store should know, whenever it may not know it. Ends when cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), AGAIN_S)
            self._due.clear()
            if not await self.post():
                await asyncio.sleep(RETRY_S)
                self._due.set()

    async def post(self) -> bool:
        """Say all totals of all dead workers that still count; False if the store did not hear some."""
        now, books = self._now(), {terms.id: terms for terms in self._books() if isinstance(terms.of, Book)}
        asked = []
        kept: dict[str, dict[str, Totals]] = {}
        for worker, accounts in self._dead.items():
            kept[worker] = {}
            for name, totals in accounts.items():
                if (terms := books.get(name)) is None or not isinstance(terms.of, Book):
                    continue
                oldest = oldest_of(terms.of, now)
                if counting := {number: total for number, total in totals.items() if number >= oldest}:
                    kept[worker][name] = counting
                asked.append(recovered(terms, worker, counting, self._store_now))
        for start in range(0, len(asked), PIPELINE_MAX):
            try:
                answers = await self._store.run_all(asked[start : start + PIPELINE_MAX])
            except StoreLost:
                return False
            if any(isinstance(answer, StoreLost) for answer in answers):
                return False
        for worker, accounts in kept.items():
            self._dead[worker] = accounts
            if not accounts:
                del self._dead[worker]
        return True
