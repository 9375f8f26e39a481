"""A rate, among all workers. The bucket is in the store and refills there, by the store's clock; a worker leases blocks of it.

Lost messages only take away: what is given back is no longer used here when it is said, and what is owed is said until the store
has surely heard it. Time mends both.
"""

from math import ceil, inf

from gateway.core.accounts import Bucket, Terms, WhenLost
from gateway.state.accounts.leased import Keeper, Leased
from gateway.state.accounts.lua import BUCKET
from gateway.state.store.port import Asked


class LeasedBucket(Leased):
    """The port Account, of a Bucket. May be overdrawn, by requests that used more than was held: time pays it back."""

    __slots__ = ("_at", "_key", "_owed")

    def __init__(self, terms: Terms, keeper: Keeper) -> None:
        super().__init__(terms, keeper)
        self._key = f"rg:{{{terms.id}}}:bucket"
        self._at = keeper.now()  # of the share, when it was last refilled
        self._owed = 0  # as said in a message that is not answered yet

    @property
    def _of(self) -> Bucket:
        of = self._terms.of
        assert isinstance(of, Bucket)
        return of

    def settle(self, held: int, used: int, now: float) -> None:
        """What was taken as `held` has used `used`; the difference is there again, or owed."""
        self.lease.held -= held
        self.lease.free += held - used
        self._settled()

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until `amount` will be there, if nobody else takes it."""
        of = self._of
        if amount > of.amount:
            return inf
        if self._lost:
            self._refill(now)
            return max(0.0, (min(amount, self._size) - self.lease.free) / self._per_second)
        return max(0.0, (amount - self.lease.free - self._there(now)) * of.per_s / of.amount)

    def reset_s(self, now: float) -> float:
        """Seconds until it is full, if nobody takes from it."""
        if self._lost:
            self._refill(now)
            return max(0.0, (self._size - self.lease.free) / self._per_second)
        of = self._of
        return max(0.0, (of.amount - self.lease.free - self._there(now)) * of.per_s / of.amount)

    def left(self, now: float) -> int:
        """What can be taken, as far as is known here."""
        if self._lost:
            self._refill(now)
        return super().left(now)

    def standing(self, now: float) -> tuple[int, float]:
        """`left` and `reset_s`: each answer to a request with a rate tells them, so what they have in common is looked at once."""
        if self._lost:
            return self.left(now), self.reset_s(now)
        of = self._of
        amount, whole = of.amount, self.lease.free + self._there(now)
        if whole >= amount:
            return amount, 0.0
        return int(whole) if whole > 0 else 0, (amount - whole) * of.per_s / amount

    def _there(self, now: float) -> float:
        return 0 if self._lost else self._filled(now)

    def _filled(self, now: float) -> float:
        """What should be in the store by `now`, if nobody else took any since it was last heard of."""
        of = self._of
        return min(of.amount, self._rest + max(0.0, now - self._heard) * of.amount / of.per_s) if self._heard > -inf else self._rest

    def _untouched(self, now: float) -> bool:
        if self._lost:
            self._refill(now)
        return self.lease.free >= self._size if self._lost else not self.lease.free

    def _message(self, kept: int, need: int, least: int, ahead: int) -> Asked:
        give = owed = 0
        if not self._lost:
            give, owed = max(0, int(self.lease.free) - kept), max(0, -int(self.lease.free))
            self._keep(kept)
        self._owed = owed
        of = self._of
        return Asked(BUCKET, (self._key,), (of.amount, of.per_s, give, owed, need, least, ahead, self._keeper.store_now))

    def _unsent(self) -> None:
        self.lease.free -= self._owed
        self._rest += self._owed
        self._owed = 0

    # --- while the store is lost: a bucket of its own, as large as this worker's share, with its share of what was left ----

    @property
    def _size(self) -> float:
        return max(1.0, self._of.amount / self._keeper.workers)  # one at the least, or nobody could do anything

    @property
    def _per_second(self) -> float:
        return self._of.amount / self._keeper.workers / self._of.per_s

    def _parted(self, now: float) -> None:
        self._at = now
        if self._terms.when_lost is WhenLost.REFUSE:
            self.lease.free = min(0, self.lease.free)
        else:  # and not what is leased alone: far from its limit nobody should be refused because a store had the hiccups
            self.lease.free = min(self._size, self.lease.free + self._filled(now) / self._keeper.workers)

    def _refill(self, now: float) -> None:
        if now > self._at:
            if self._terms.when_lost is not WhenLost.REFUSE:
                self.lease.free = min(self._size, self.lease.free + (now - self._at) * self._per_second)
            self._at = now

    def _share(self, amount: int, now: float) -> bool:
        """One that is larger than the share waits for all of it, and overdraws: it would never begin otherwise."""
        self._refill(now)
        return self.lease.free >= min(amount, self._size)

    def _would_share(self, amount: int, now: float) -> bool:
        return super()._would_share(ceil(min(amount, self._size)), now)

    def _back(self) -> None:
        """What the share lacks is owed to the bucket, which has refilled meanwhile: but no more than was taken."""
        lacking = self._size - self.lease.free if self._terms.when_lost is WhenLost.SHARE else self._of.amount
        self.lease.free = -float(int(min(self.lease.taken, max(0, lacking))))
        self.lease.taken = 0
