"""Who waits for room at one endpoint, and whose turn is next. Pure: no clock, no loop.

Promises: never more wait than `length`; whoever has the higher priority goes first; among equals tenants take turns, whatever each
of them sends; of one tenant, who came first goes first. Whoever leaves is gone at once.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """One endpoint's."""

    __slots__ = ("_count", "_waiting", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        self._waiting: dict[int, OrderedDict[str, deque[T]]] = {}  # priority -> tenant, the next one first -> its own
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        for tenants in self._waiting.values():
            for own in tenants.values():
                yield from own

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return self._count >= self.length

    def join(self, who: T, tenant: str, priority: int) -> None:
        """Wait, as the last of one's tenant."""
        self._waiting.setdefault(priority, OrderedDict()).setdefault(tenant, deque()).append(who)
        self._count += 1

    def next(self) -> T:
        """Whose turn it is; it waits no more. Somebody has to wait."""
        priority = max(self._waiting)
        tenants = self._waiting[priority]
        tenant, own = next(iter(tenants.items()))
        who = own.popleft()
        if own:
            tenants.move_to_end(tenant)  # the others' turn
        self._gone(priority, tenant)
        return who

    def leave(self, who: T, tenant: str, priority: int) -> None:
        """Wait no more."""
        self._waiting[priority][tenant].remove(who)
        self._gone(priority, tenant)

    def _gone(self, priority: int, tenant: str) -> None:
        self._count -= 1
        tenants = self._waiting[priority]
        if not tenants[tenant]:
            del tenants[tenant]
            if not tenants:
                del self._waiting[priority]
