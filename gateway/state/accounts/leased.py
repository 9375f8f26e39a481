"""What all accounts have in common: a block leased ahead of need, those who wait for more, what is done without a store.

`lease.free` is what may be taken here and now without asking anybody; that is all that is looked at on the usual path (`Lease` in
port.py). What a message to the store promises is written before it is sent, and what it brings is added when the answer is there:
so whatever is lost on the way, the store never believes in less than was taken.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil, inf
from typing import Any, Final, Protocol

from gateway.core.accounts import Terms, WhenLost
from gateway.state.accounts.port import Lease, Said
from gateway.state.store.port import WAIT_S, Asked

AHEAD_S: Final = 0.5  # how much use a block is for: it is asked for again when half of it is gone, so a worker says two or three
# things a second about an account, however busy; no longer than CHECK_S, or what lies idle would not be given back in time
AHEAD_TIMES: Final = 2  # and never less than so many requests as the last one
FRESH_S: Final = 0.05  # for how long a NO is believed without asking again; a flood of refused requests keeps it fresh every 20 ms
CHECK_S: Final = 1.0  # how often what is leased and idle is offered back: so long may it be missing elsewhere
BEAT_S: Final = 5.0  # how often what is held, and nothing else happens to, is said again
LEASE_S: Final = 15.0  # for how long the store believes that a worker that says nothing still holds what it held: three beats
IDLE_S: Final = 10.0  # an account that nobody has used for so long leases nothing ahead


class Keeper(Protocol):
    """The accounts that an account is one of."""

    @property
    def incarnation(self) -> str:
        """This life of this worker: no other ever has the same."""
        ...

    @property
    def workers(self) -> int:
        """How many workers there are, on all machines, as last known; at least 1."""
        ...

    @property
    def store_now(self) -> str:
        """What the store is told of the time: nothing, or in tests UTC seconds."""
        ...

    def now(self) -> float: ...

    def mark(self, account: "Leased") -> None:
        """Have it say and ask what it has to, with the next flush."""
        ...

    def urge(self, account: "Leased") -> None:
        """The same, now: somebody waits."""
        ...


class Waiting:
    """One request that waits for the store's word. `said` becomes True (held), False, or None (not known in time)."""

    __slots__ = ("amount", "said")

    def __init__(self, amount: int, said: "asyncio.Future[bool | None]") -> None:
        self.amount = amount
        self.said = said

    def tell(self, said: bool | None) -> None:
        if not self.said.done():
            self.said.set_result(said)


class Leased(ABC):
    """The port Account, but for what differs between a bucket, slots and a book. `marked` is the keeper's."""

    __slots__ = (
        "__weakref__", "_ahead", "_asking", "_contact", "_heard", "_keeper", "_lost", "_rate", "_rest", "_retry", "_terms",
        "_used_at", "_waiting", "lease", "marked",
    )  # fmt: skip

    def __init__(self, terms: Terms, keeper: Keeper) -> None:
        self.marked = False
        self._terms = terms
        self._keeper = keeper
        self.lease = Lease()
        self._rate = 0.0  # taken per second, of late
        self._ahead = 0  # how much should be leased ahead of need
        self._rest: float = float(terms.of.amount)  # in the store, for whoever takes it, when last heard of
        self._heard = -inf  # when that was
        self._contact = -inf  # when a message was last sent
        self._used_at = keeper.now()
        self._lost = False  # the store can't be asked: it goes by `when_lost`
        self._retry = -inf  # not before, if lost
        self._waiting: list[Waiting] = []  # for the next message
        self._asking: list[Waiting] = []  # for the answer to the last one

    # --- the port -----------------------------------------------------------------------------------------------------

    @property
    def terms(self) -> Terms:
        return self._terms

    @property
    def alone(self) -> bool:
        """Whether the store can't be asked."""
        return self._lost

    @property
    def untouched(self) -> bool:
        """Whether nothing is used of it, as far as is known, and something is known."""
        lease = self.lease
        return self._heard > -inf and not self._lost and not lease.held and lease.free + self._rest >= self._terms.of.amount

    def take(self, amount: int, now: float) -> Said:
        """Hold `amount`."""
        lease = self.lease
        left = lease.free - amount
        if left >= 0 and not self._lost:  # a share has to be brought up to `now` first, or an idle bucket would hold twice its size
            lease.free = left
            lease.held += amount
            lease.taken += amount
            lease.last = amount
            if left < lease.least:
                self._keeper.mark(self)
            return Said.YES
        if self._lost:
            return Said.YES if self._by_terms(amount, now) else Said.NO
        if amount > self._terms.of.amount:
            return Said.NO
        if now - self._heard < FRESH_S and lease.free + self._there(now) < amount:
            lease.last = amount
            self._keeper.mark(self)  # so that what is known stays fresh, and nobody has to wait to be told no
            return Said.NO
        return Said.ASK

    async def ask(self, amount: int, now: float, wait_s: float = WAIT_S) -> bool:
        """After `take` said ASK: hold `amount` if the store has it. Waits no longer than `wait_s`, then goes by the terms. So do
        all others until the store answers, unless it has meanwhile, to an earlier message: such a store is slow, and not lost."""
        if self._lost:
            return self._by_terms(amount, now)
        if amount > self._terms.of.amount:
            return False
        loop = asyncio.get_running_loop()
        asked_at = self._keeper.now()
        waiting = Waiting(amount, loop.create_future())
        self._waiting.append(waiting)
        self._keeper.urge(self)
        timer = loop.call_later(wait_s, waiting.tell, None)
        try:
            said = await waiting.said
        except asyncio.CancelledError:
            if waiting.said.done() and not waiting.said.cancelled() and waiting.said.result():
                self.settle(amount, 0, now)
            raise
        finally:
            timer.cancel()
        if said is None:
            if self._heard < asked_at:
                self.lose(self._keeper.now())
            return self._by_terms(amount, now)
        return said

    @abstractmethod
    def settle(self, held: int, used: int, now: float) -> None: ...

    @abstractmethod
    def wait_s(self, amount: int, now: float) -> float: ...

    @abstractmethod
    def reset_s(self, now: float) -> float: ...

    def left(self, now: float) -> int:
        """What is left among all, as far as is known here; never below 0."""
        return max(0, min(self._terms.of.amount, int(self.lease.free + self._there(now))))

    def standing(self, now: float) -> tuple[int, float]:
        """`left` and `reset_s`."""
        return self.left(now), self.reset_s(now)

    # --- what the keeper does with it ---------------------------------------------------------------------------------

    def adopt(self, terms: Terms) -> None:
        """Go by other terms of the same id and kind: what was used stays used."""
        if terms == self._terms:
            return
        more = terms.of.amount - self._terms.of.amount
        self._terms = terms
        if self._lost:
            self._resized(more)
        else:
            self._rest += more
            self._keeper.mark(self)

    def prepare(self, now: float) -> Asked:
        """The next message: what was used, what is held, what is given back, what is needed. Nothing else may be sent before it is
        answered (`hear`) or lost (`miss`)."""
        self._asking = [waiting for waiting in self._waiting if not waiting.said.done()]
        self._waiting = []
        if self._lost:
            return self._message(0, 0, 0, 0)
        need = sum(waiting.amount for waiting in self._asking)
        least = min((waiting.amount for waiting in self._asking), default=0)
        self._measure(now, need)
        self._contact = now
        kept = self._kept()
        ahead = max(0, self._ahead - max(0, kept - need))
        return self._message(kept, max(0, need - kept), max(0, least - kept), ahead)

    def hear(self, answer: Sequence[Any], now: float) -> None:
        """The store answered."""
        self._heard = now
        self._learn(answer, now)
        if not self._lost:
            self._rest = float(int(answer[1]))
            self.lease.free += int(answer[0])
            self._tell(now)
        elif now >= self._retry:
            self._rest = float(int(answer[1]))
            self._lost = False
            self.ease()
            self._back()
            self._keeper.mark(self)

    def _tell(self, now: float) -> None:
        """Give those who wait what there is for them, first come, first served."""
        asking, self._asking = self._asking, []
        for waiting in asking:
            if not waiting.said.done():
                enough = self.lease.free >= waiting.amount
                if enough:
                    self._hold(waiting.amount, now)
                waiting.tell(enough)

    def miss(self, now: float) -> None:
        """The answer was lost: what was asked may have been done, or not. From here on it goes by its terms."""
        self._unsent()
        self.lose(now)

    def lose(self, now: float, until: float = -inf) -> None:
        """The store can't be asked: go by the terms until it answers, and not before `until`."""
        self._retry = max(self._retry, until)
        if not self._lost:
            self._lost = True
            self.lease.taken = 0
            self.lease.least = inf  # nothing goes the fast way
            self._parted(now)
        waiting = [*self._asking, *self._waiting]
        self._asking, self._waiting = [], []
        for one in waiting:
            if not one.said.done():
                one.tell(self._by_terms(one.amount, now))

    def returned(self, now: float) -> None:
        """The store answers again, and may have forgotten everything."""
        self._retry = -inf
        self._keeper.mark(self)

    def due(self, now: float) -> bool:
        """Whether something is to be said or asked, though nobody waits for it."""
        if self._lost:
            return now >= self._retry
        return now - self._contact >= (CHECK_S if self.lease.free else BEAT_S if self.lease.held else inf)

    def quiet(self, now: float) -> bool:
        """Whether nothing is leased or held of it, nobody waits for it, and nobody has used it for a while."""
        busy = self._lost or self.lease.free or self.lease.held or self._waiting or self._asking
        return not busy and now - self._used_at >= IDLE_S

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be missed if it were forgotten."""
        busy = self.lease.held or self._waiting or self._asking or now - self._used_at < IDLE_S
        return not busy and self._untouched(now)

    def part(self) -> None:
        """Lease nothing ahead any more: the worker ends."""
        self.lease.taken, self.lease.last, self._rate, self._used_at = 0, 0, 0.0, -inf

    # --- what differs -------------------------------------------------------------------------------------------------

    def _there(self, now: float) -> float:
        """What is in the store, as far as is known."""
        return self._rest

    def _keep(self, kept: int) -> None:
        """Have `kept` free. What is given back is in the store from here on, and what is owed is not: `left` is the same before the
        store answers as after it."""
        self._rest += self.lease.free - kept
        self.lease.free = float(kept)

    @abstractmethod
    def _message(self, kept: int, need: int, least: int, ahead: int) -> Asked:
        """Reduce what is free to `kept`, and say so. Of a lost store nothing is asked but how it is, and what is free stays."""

    @abstractmethod
    def _untouched(self, now: float) -> bool:
        """Whether it is as one that was just made."""

    def _learn(self, answer: Sequence[Any], now: float) -> None:  # noqa: B027 - most answers say no more
        """More that an answer says."""

    def _unsent(self) -> None:  # noqa: B027 - most messages may be lost without further ado
        """Take back what was thought to be said."""

    @abstractmethod
    def _parted(self, now: float) -> None:
        """Set what is free to what may be taken here while the store is lost."""

    @abstractmethod
    def _back(self) -> None:
        """Set what is free to what is truly leased, now that the store is there again."""

    def _resized(self, more: int) -> None:
        """The limit is `more` higher than it was, while the store is lost."""
        if self._terms.when_lost is WhenLost.SHARE:
            self.lease.free += more / self._keeper.workers

    def _share(self, amount: int, now: float) -> bool:
        """Whether this worker's share has `amount`, given time."""
        return self.lease.free >= amount

    def _would_share(self, amount: int, now: float) -> bool:
        """The same while the store is not lost: a share of what is known to be left. What it has is owed by what is free."""
        return self.lease.free + max(0, self._there(now)) / self._keeper.workers >= amount

    # --- shared -------------------------------------------------------------------------------------------------------

    def _by_terms(self, amount: int, now: float) -> bool:
        """Hold `amount` or not, as is said for a store that is lost, or too slow for this one."""
        match self._terms.when_lost:
            case WhenLost.REFUSE:
                return False
            case WhenLost.SHARE if amount > self._terms.of.amount:
                return False
            case WhenLost.SHARE if not (self._share(amount, now) if self._lost else self._would_share(amount, now)):
                return False
        self._hold(amount, now)
        return True

    def _settled(self) -> None:
        """Something was settled: ask for more, or give back, if that is due. Without a store, those that refuse have nothing."""
        lease = self.lease
        if self._lost:
            if self._terms.when_lost is WhenLost.REFUSE:
                lease.free = min(0, lease.free)
        elif lease.free < lease.least or lease.free > lease.most:
            self._keeper.mark(self)

    def _hold(self, amount: int, now: float) -> None:
        self.lease.free -= amount
        self.lease.held += amount
        self.lease.taken += amount
        self.lease.last = amount
        self._used_at = now

    def _measure(self, now: float, need: int) -> None:
        """How much should be leased ahead of need: as much as was used of late in AHEAD_S, nothing if nobody uses it."""
        if self.lease.taken or need:
            self._used_at = now
        past_s = now - self._contact
        if past_s > 0.005:  # a moment says nothing of a rate
            weight = min(1.0, past_s / AHEAD_S)
            self._rate += (self.lease.taken / past_s - self._rate) * weight
            self.lease.taken = 0
        idle = now - self._used_at > IDLE_S
        self._ahead = 0 if idle else max(AHEAD_TIMES * self.lease.last, AHEAD_TIMES * need, ceil(self._rate * AHEAD_S))
        # it asks for more below, and gives back above
        self.lease.least, self.lease.most = float(self._ahead // 2), 2.0 * self._ahead

    def ease(self) -> None:
        """It is to say and ask what it has to: until it has, nothing more is to be done for it than to count."""
        if not self._lost:
            self.lease.least, self.lease.most = 0.0, inf

    def _kept(self) -> int:
        """How much of what is free stays so: nothing if nobody has used it since the last look, for then it is leased anew, if
        there is enough of it."""
        if self.lease.free <= 0:
            return 0
        return min(int(self.lease.free), self._ahead) if self._rate or self.lease.taken or self._asking else 0
