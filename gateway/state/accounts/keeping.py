"""All accounts of one worker, and the flush: one message for each account that has something to say, all in one pipeline, one at a
time, at most every FLUSH_S, or URGENT_S where a request waits.

While the store is lost nothing is sent; each account goes by its terms until it has been asked again with success.
"""

import asyncio
from collections.abc import Callable
from math import ceil
from typing import Final
from weakref import WeakValueDictionary

from gateway.core.accounts import Terms
from gateway.state.accounts.book import LeasedBook
from gateway.state.accounts.kinds import account_of
from gateway.state.accounts.leased import Leased
from gateway.state.store.port import Store, StoreLost

FLUSH_S: Final = 0.02
URGENT_S: Final = 0.001  # requests that arrive together near a limit share one message
TICK_S: Final = 0.25  # how often accounts in use are looked at for what is due
ASLEEP_S: Final = 30.0  # and all others, in turn: there may be as many as keys times limits, and each look takes a microsecond
RETRY_S: Final = 0.25  # after a flush that failed; more is for the store's own breaker to say
AT_ONCE: Final = 512  # accounts that are told at once that the store is lost, or back: 1 to 2 ms of an event loop
NEXT_S: Final = 0.001  # and until the next ones are: others have their turn in between
PIPELINE_MAX: Final = 512  # messages: 1 to 2 ms of the store's time, so that WAIT_S is enough for whoever waits
CLOSE_TIMES: Final = 3  # that what is left is tried to be said when the worker ends


class LeasedAccounts:
    """The port Accounts, on a shared store. Use inside a running loop. `close` it, or what is leased stays so for LEASE_S.

    `incarnation` names this life of this worker, as no other life of any worker is named: its ledger chain's name, with something
    of the machine. `workers` is how many there are on all machines, as last known. `defect` is told of our own bugs.
    """

    shared = True

    def __init__(
        self,
        store: Store,
        incarnation: str,
        now: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        *,
        workers: int = 1,
        defect: Callable[[BaseException], None],
        store_now: Callable[[], str] = lambda: "",
    ) -> None:
        self.incarnation = incarnation
        self.now = now
        self.workers = max(1, workers)
        self._store = store
        self._loop = loop
        self._defect = defect
        self._store_now = store_now
        self._known: WeakValueDictionary[str, Leased] = WeakValueDictionary()  # as long as anybody has it, an id is one object
        self._alive: dict[str, Leased] = {}  # those that must be, though nobody else has them
        self._awake: dict[str, Leased] = {}  # those that something is leased, held, or to be said of
        self._turn: list[Leased] = []  # those whose turn comes before all have had theirs
        self._turns = 0  # at a time
        self._marked: list[Leased] = []
        self._urgent = False
        self._flushing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = -1.0  # loop time
        self._tried = -RETRY_S  # when the last flush failed
        self._closing = False
        self._untold: list[Leased] = []  # those that have yet to hear what has become of the store,
        self._word: Callable[[Leased], None] = self._returned  # which is this,
        self._telling: asyncio.TimerHandle | None = None  # with the next turn
        self._all_lost = False  # whether all have heard that it is lost, and nobody has been answered since
        self._tick = loop.call_later(TICK_S, self._look)
        store.on_back(self._back)

    @property
    def store_now(self) -> str:
        return self._store_now()

    def open(self, terms: Terms) -> Leased:
        """The account of these terms."""
        account, new = account_of(terms, self, self._known.get(terms.id))
        if new:
            self._known[terms.id] = account
            if not self._store.up:
                account.lose(self.now())
                self._awake[terms.id] = account
            elif isinstance(account, LeasedBook):
                self.mark(account)  # a budget should know what is left of it before anybody asks
        return account

    async def close(self) -> None:
        """Say all that was used, give back all that is leased. What can't be said is in the ledger; what is leased will expire."""
        self._closing = True
        self._stop_telling()
        self._tick.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            await asyncio.wait((self._flushing,))
        self._marked = list(self._known.values())
        for account in self._marked:
            account.part()
            account.marked = True
        for _ in range(CLOSE_TIMES):
            while self._marked and self._store.up:
                if not await self._said():
                    break
            if not self._marked:
                break
            await asyncio.sleep(RETRY_S / 5)
        self._stop_telling()

    # --- what accounts ask of it --------------------------------------------------------------------------------------

    def mark(self, account: Leased) -> None:
        """Have it say what it has to, with the next flush."""
        if not account.marked:
            account.marked = True
            account.ease()
            self._marked.append(account)
            self._alive[account.terms.id] = self._awake[account.terms.id] = account
            self._schedule()

    def urge(self, account: Leased) -> None:
        """The same, now."""
        self.mark(account)
        if not self._urgent:
            self._urgent = True
            self._schedule()

    # --- the flush ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._flushing is not None or self._closing:
            return  # when it ends it looks again
        if self._timer is not None:
            if not self._urgent:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._flushed + (URGENT_S if self._urgent else FLUSH_S), self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._flushing = self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            await self._said()
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end all accounting; the next flush is another
            self._defect(error)
        finally:
            self._flushed = self._loop.time()
            self._flushing = None
            if self._marked:
                self._schedule()

    async def _said(self) -> bool:
        """One pipeline; False if the store is lost."""
        self._urgent = False
        now = self.now()
        marked = self._marked[:PIPELINE_MAX]
        del self._marked[:PIPELINE_MAX]
        for account in marked:
            account.marked = False
        if not self._store.up:
            self._lose(marked, now)
            return False
        asked = [account.prepare(now) for account in marked]
        try:
            answers = await self._store.run_all(asked)
        except StoreLost as why:
            # a server that is known to be gone costs nobody any time, and says nothing of the others in its Cluster
            self._lose(marked, self.now(), sent=True, alone=str(why) == "down" and self._store.up)
            return False
        now = self.now()
        self._all_lost = False
        if self._word == self._lost:  # it was late once: who has not heard of it need not
            self._stop_telling()
        for account, answer in zip(marked, answers, strict=True):
            if isinstance(answer, BaseException):
                account.miss(now)
            else:
                account.hear(answer, now)
        return True

    # --- the store goes, and comes back -------------------------------------------------------------------------------

    def _lose(self, marked: list[Leased], now: float, *, sent: bool = False, alone: bool = False) -> None:
        self._tried = now
        for account in marked:
            if sent:
                account.miss(now)
            if self._closing:
                account.marked = True
                self._marked.append(account)
        if not alone:
            self._lose_all()

    def _lose_all(self) -> None:
        if not self._all_lost and (self._telling is None or self._word != self._lost):
            self._tell_all(self._lost)

    def _back(self) -> None:
        self._tried = -RETRY_S
        self._all_lost = False
        self._tell_all(self._returned)

    def _lost(self, account: Leased) -> None:
        account.lose(self.now())
        self._awake[account.terms.id] = account

    def _returned(self, account: Leased) -> None:
        account.returned(self.now())

    def _tell_all(self, word: Callable[[Leased], None]) -> None:
        """Tell all accounts, a few at a time: to tell 40,000 takes 0.1 s. Who has not heard yet goes on with what is leased, and is
        told as soon as it wants more."""
        self._stop_telling()
        self._word, self._untold = word, list(self._known.values())[::-1]
        self._tell_some()

    def _tell_some(self) -> None:
        self._telling = None
        for _ in range(min(AT_ONCE, len(self._untold))):
            self._word(self._untold.pop())
        if self._untold:
            self._telling = self._loop.call_later(NEXT_S, self._tell_some)
        else:
            self._all_lost = self._word == self._lost

    def _stop_telling(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        self._telling, self._untold = None, []

    def _look(self) -> None:
        """Look at the accounts in use for what is due, and at some of the others; forget those that nobody misses."""
        self._tick = self._loop.call_later(TICK_S, self._look)
        now = self.now()
        if not self._store.up:
            self._lose_all()
            return
        asks = now - self._tried >= RETRY_S
        for name, account in list(self._awake.items()):
            if asks and account.due(now):
                self.mark(account)
            elif not account.marked and account.quiet(now):
                del self._awake[name]
        if not self._turn:
            self._turn = list(self._known.values())
            self._turns = ceil(len(self._turn) * TICK_S / ASLEEP_S)
        for _ in range(min(self._turns, len(self._turn))):
            account = self._turn.pop()
            if asks and account.due(now):
                self.mark(account)
            elif not account.marked and account.forgettable(now):
                self._alive.pop(account.terms.id, None)
