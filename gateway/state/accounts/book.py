"""A budget or a plan's quota, among all workers: what each has settled, slice by slice, and what each may yet settle.

A worker says its totals and never what is to be added, and the store keeps the larger of what it has and what it hears. So what is
settled counts once, whatever is lost, repeated or late, and whoever knows a worker's totals can say them for it: itself, after the
store has forgotten them, or its supervisor, from the ledger, after it has died. What it may yet settle is a hold, with an end.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

from gateway.core.accounts import Book, Terms, WhenLost
from gateway.core.windows import begins, leaves, oldest_of, slice_of, slice_s
from gateway.state.accounts.leased import BEAT_S, LEASE_S, Keeper, Leased
from gateway.state.accounts.lua import BOOK
from gateway.state.store.port import Asked

POST_S: Final = 0.5  # what was settled is told so often; the hold covers it until then, so nobody overshoots for not knowing
HEAL_S: Final = 1.0  # a store that has come back is told by everybody what it must know, and not relied on before
SOON_S: Final = 1.0  # when what is held will be settled, or a store will be back, nobody knows
LAST: Final = 2**53 - 1  # the number of a message after which none comes


class LeasedBook(Leased):
    """The port Account, of a Book."""

    __slots__ = ("_born", "_newest", "_number", "_oldest", "_others", "_said", "_slice", "_totals", "_unsaid")

    def __init__(self, terms: Terms, keeper: Keeper) -> None:
        super().__init__(terms, keeper)
        self._number = 0  # of the last message
        self._totals: dict[int, int] = {}  # slice -> what this worker has ever settled in it
        self._unsaid: set[int] = set()  # slices whose total the store may not have
        self._said: set[int] = set()  # those of the message that is not answered yet
        self._slice = self._newest = -1  # the one that was settled in last; the newest that was ever seen
        self._oldest = -1  # slice of the window in which anybody has settled anything
        self._others = 0  # what all others had settled in the window when last heard of
        self._born: bytes | None = None  # when the store's book was made: another one has forgotten what this one knew

    @property
    def book(self) -> Book:
        of = self._terms.of
        assert isinstance(of, Book)
        return of

    def settle(self, held: int, used: int, now: float) -> None:
        """What was taken as `held` has used `used`, and that is final."""
        lease = self.lease
        lease.held -= held
        lease.free += held - used
        if not lease.since <= now < lease.until:
            self._turn(now)
        lease.used += used
        self._settled()

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until something leaves the window; fewer where that is not what stands in the way."""
        book = self.book
        if amount > book.amount:
            return inf
        if self.lease.free + self._there(now) >= amount:
            return 0.0
        if amount <= self._unsettled():
            return SOON_S
        if book.window != "rolling":
            return max(0.0, begins(book, slice_of(book, now) + 1) - now)
        self._add_up()
        oldest = min((number for number in (self._oldest, *self._totals) if number >= oldest_of(book, now)), default=None)
        return SOON_S if oldest is None else max(SOON_S, leaves(book, oldest) - now)

    def _unsettled(self) -> float:
        """What there is, as far as is known, once all that is held comes back unused; most requests use less than they hold."""
        if not self._lost:
            return self.book.amount - self._others - sum(self._totals.values()) - self.lease.used
        return inf if self._terms.when_lost is WhenLost.REFUSE else self.lease.free + self.lease.held

    def left(self, now: float) -> int:
        """What is left among all, as far as is known here. A share has to be brought up to `now` first."""
        if self._lost and not self.lease.since <= now < self.lease.until:
            self._turn(now)
        return super().left(now)

    def reset_s(self, now: float) -> float:
        """Seconds until the window holds nothing of what it holds now."""
        book = self.book
        return 0.0 if self.left(now) >= book.amount else max(0.0, leaves(book, slice_of(book, now)) - now)

    # --- what the keeper does with it ---------------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """It looks at the store even when nobody uses it, so that a share is one of what is really left."""
        since_s = now - self._contact
        return super().due(now) or (not self._lost and since_s >= (POST_S if self._unsaid or self.lease.used else BEAT_S))

    def quiet(self, now: float) -> bool:
        """And nothing is to be said of it."""
        return not self._unsaid and not self.lease.used and super().quiet(now)

    def returned(self, now: float) -> None:
        """All is said again; and as others have to do so too, what the store grants is not relied on yet."""
        self._add_up()
        self._unsaid.update(self._totals)
        super().returned(now)
        if self._heard > -inf:
            self.lose(now, now + HEAL_S)

    def _message(self, kept: int, need: int, least: int, ahead: int) -> Asked:
        if not self._lost:
            self._keep(kept)  # what was below 0 is in the totals that are said
        self._add_up()
        self._number += 1
        self._said, self._unsaid = self._unsaid, set()
        totals = {number: self._totals[number] for number in self._said if number in self._totals}
        worker, held, store_now = self._keeper.incarnation, self.lease.held, self._keeper.store_now
        return told(self._terms, worker, totals, self._number, held + kept, need, least, ahead, store_now)

    def _learn(self, answer: Sequence[Any], now: float) -> None:
        self._said = set()
        self._oldest = int(answer[2])
        self._others = int(answer[4]) - sum(self._totals.values())
        known, self._born = self._born, answer[3]
        if known is not None and known != self._born:
            self._add_up()
            self._unsaid.update(self._totals)
            self.lose(now, now + HEAL_S)
            self._keeper.mark(self)

    def _untouched(self, now: float) -> bool:
        """Its totals are to be said again, should the store forget them."""
        self._add_up()
        return (self._lost or not self.lease.free) and max(self._totals, default=-1) < oldest_of(self.book, now)

    def _unsent(self) -> None:
        self._unsaid |= self._said
        self._said = set()

    # --- while the store is lost: a share of what was left ------------------------------------------------------------

    def _there(self, now: float) -> float:
        return 0 if self._lost and self._terms.when_lost is not WhenLost.ADMIT else self._rest

    def _parted(self, now: float) -> None:
        if self._terms.when_lost is WhenLost.SHARE:
            self.lease.free = max(0, self.lease.free) + max(0, self._rest) // self._keeper.workers
            self._turn(now)
        else:
            self.lease.free = min(0, self.lease.free)

    def _share(self, amount: int, now: float) -> bool:
        if not self.lease.since <= now < self.lease.until:
            self._turn(now)
        return self.lease.free >= amount

    def _back(self) -> None:
        self.lease.free = 0.0

    def _turn(self, now: float) -> None:
        """Settle in the slice of `now` from here on, and forget slices that have left the window."""
        self._add_up()
        book, lease = self.book, self.lease
        self._slice = slice_of(book, now)
        lease.since, lease.until = begins(book, self._slice), begins(book, self._slice + 1)
        if self._slice <= self._newest:
            return
        first, self._newest = self._newest < 0, self._slice
        oldest = oldest_of(book, now)
        gone = sum(self._totals.pop(number) for number in list(self._totals) if number < oldest)
        if self._lost and not first and self._terms.when_lost is WhenLost.SHARE:
            if book.window == "rolling":
                lease.free += gone
            else:
                lease.free = float(book.amount // self._keeper.workers - lease.held)

    def _add_up(self) -> None:
        """Bring what was settled of late into the total of its slice."""
        used, self.lease.used = self.lease.used, 0
        if used:
            self._totals[self._slice] = self._totals.get(self._slice, 0) + used
            self._unsaid.add(self._slice)


def told(
    terms: Terms,
    worker: str,
    totals: Mapping[int, int],
    number: int,
    kept: int,
    need: int = 0,
    least: int = 0,
    ahead: int = 0,
    store_now: str = "",
) -> Asked:
    """The message that `worker`, who has settled these `totals` (slice → amount) and holds `kept` more, needs `need`."""
    book = terms.of
    assert isinstance(book, Book)
    window = f"{book.per_s}s" if book.window == "rolling" else book.window  # another window is another book
    keys = tuple(f"rg:{{{terms.id}}}:{window}:{what}" for what in ("book", "holds"))
    slices: Iterable[int] = (value for pair in sorted(totals.items()) for value in pair)
    said = (book.amount, book.window, book.per_s, slice_s(book), worker, number, kept, need, least, ahead, int(LEASE_S), store_now)
    return Asked(BOOK, keys, (*said, *slices))


def recovered(terms: Terms, worker: str, totals: Mapping[int, int], store_now: str = "") -> Asked:
    """The message of a worker that has died, by whoever knows its ledger: its totals, and that it holds nothing any more."""
    return told(terms, worker, totals, LAST, 0, store_now=store_now)
