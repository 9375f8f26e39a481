"""So many at once, among all workers. The store knows how many each worker has leased, and until when: a worker that says nothing
for LEASE_S is gone, and what it held is free again.

Every message says how many it has, and adds nothing to what was said before: so it may be repeated, and lost.
"""

import asyncio
from math import inf
from typing import Final

from gateway.core.accounts import Terms, WhenLost
from gateway.state.accounts.leased import BEAT_S, LEASE_S, Keeper, Leased
from gateway.state.accounts.lua import SLOTS
from gateway.state.store.port import WAIT_S, Asked

ON_ITS_WAY_S: Final = 0.005  # for what is given back to reach the store: an urgent flush, and the way there
BUSY_RETRY_S: Final = 1.0  # when one of the requests under way will have ended nobody knows


class LeasedSlots(Leased):
    """The port Account, of Slots."""

    __slots__ = ("_key", "_number")

    def __init__(self, terms: Terms, keeper: Keeper) -> None:
        super().__init__(terms, keeper)
        self._key = f"rg:{{{terms.id}}}:slots"
        self._number = 0  # of the last message

    async def ask(self, amount: int, now: float, wait_s: float = WAIT_S) -> bool:
        """After `take` said ASK: hold `amount` if the store has it. Where it has none it is asked once more: a slot that was given
        back when the caller had its last answer may have been on its way still."""
        time = asyncio.get_running_loop().time
        until = time() + wait_s
        if await super().ask(amount, now, wait_s):
            return True
        if self._lost or amount > self._terms.of.amount or until - time() < 2 * ON_ITS_WAY_S:
            return False
        await asyncio.sleep(ON_ITS_WAY_S)
        return await super().ask(amount, now, max(0.0, until - time()))

    def settle(self, held: int, used: int, now: float) -> None:
        """What was taken as `held` has ended."""
        self.lease.held -= held
        if self._lost:
            self._parted(now)
            return
        self.lease.free += held
        if self._rest <= 0:
            self._keeper.urge(self)  # whoever asks elsewhere next is told that there is none: perhaps who has just had the answer
        elif self.lease.free > min(self.lease.most, self._spare()):
            self._keeper.mark(self)

    def _spare(self) -> int:
        """How much may lie idle here: a quarter of what nobody uses, as the store would grant. So of a few slots, none."""
        return max(0, int(self.lease.free + self._rest) // 4)

    def _kept(self) -> int:
        return min(super()._kept(), max(self._spare(), sum(waiting.amount for waiting in self._asking)))

    def due(self, now: float) -> bool:
        """Also what others had when last heard of: nobody tells that they have it no more."""
        return super().due(now) or (self._rest < self._terms.of.amount and now - self._contact >= BEAT_S)

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds after which to look again."""
        if amount > self._terms.of.amount:
            return inf
        return 0.0 if self.lease.free + self._there(now) >= amount else BUSY_RETRY_S

    def reset_s(self, now: float) -> float:
        """Seconds after which to look again; 0: all are there."""
        return 0.0 if self.left(now) >= self._terms.of.amount else BUSY_RETRY_S

    def _message(self, kept: int, need: int, least: int, ahead: int) -> Asked:
        if not self._lost:
            self._keep(kept)
        self._number += 1
        keeper, amount, held = self._keeper, self._terms.of.amount, self.lease.held
        said = (amount, keeper.incarnation, self._number, held + kept, need, least, ahead, int(LEASE_S), keeper.store_now)
        return Asked(SLOTS, (self._key,), said)

    def _untouched(self, now: float) -> bool:
        return self._lost or not self.lease.free

    # --- while the store is lost --------------------------------------------------------------------------------------

    def _there(self, now: float) -> float:
        return 0 if self._lost else self._rest

    def _parted(self, now: float) -> None:
        share = max(1, self._terms.of.amount // self._keeper.workers)
        self.lease.free = float(share - self.lease.held) if self._terms.when_lost is WhenLost.SHARE else 0.0

    def _would_share(self, amount: int, now: float) -> bool:
        return max(1, self._terms.of.amount // self._keeper.workers) - self.lease.held >= amount

    def _resized(self, more: int) -> None:
        self._parted(0)

    def _back(self) -> None:
        self.lease.free = 0.0
