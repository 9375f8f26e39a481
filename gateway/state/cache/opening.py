"""The cache of one worker, opened when a policy first has answers kept: what seals them takes 0.1 s and 8 MB to import."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.core.caching import Spot, spot_of
from gateway.core.policy import Policy
from gateway.ports import Clock
from gateway.state.cache.form import Form
from gateway.state.store.port import Store

if TYPE_CHECKING:
    from gateway.state.cache.cache import SharedCache


class Opener:
    """`spot` is what the policy said of the store when `store` was opened; None there: it is beside the gateway.

    A policy that says otherwise has no cache until the gateway is started again: its labels are those of a store that nobody here
    is connected to.
    """

    def __init__(
        self,
        store: Store | None,
        spot: Spot | None,
        secret: bytes,
        forms: Mapping[str, Form],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[str], None],
        defect: Callable[[BaseException], None],
    ) -> None:
        self.cache: SharedCache | None = None
        self._store = store
        self._spot = spot
        self._secret = secret
        self._forms = forms
        self._clock = clock
        self._loop = loop
        self._count = count
        self._defect = defect

    def cache_for(self, policy: Policy) -> "SharedCache | None":
        """The cache, if `policy` has answers kept, and where this worker can keep them."""
        if self._store is None or not self._secret or not policy.caching or spot_of(policy) != self._spot:
            return None
        if self.cache is None:
            from gateway.state.cache.cache import SharedCache

            self.cache = SharedCache(
                self._store, self._secret, self._forms, policy.bounds, self._clock, self._loop, self._count, self._defect
            )
        return self.cache

    def adopt(self, policy: Policy) -> None:
        """From now on the numbers are those of `policy`."""
        if self.cache is not None:
            self.cache.bounds = policy.bounds

    async def close(self) -> None:
        """End what is done in the background."""
        if self.cache is not None:
            await self.cache.close()
