"""Tiers of equally good routes, spread into one order: equals share the load."""

from dataclasses import dataclass
from math import lcm

from gateway.core.policy import Deployment

ORDERS_MAX = 12  # remembered of one ranking: enough for ties of two, three and four

Tiers = tuple[tuple[int, ...], ...]
"""Indices of deployments: best tier first; within a tier, in the order of the catalogue."""


@dataclass(frozen=True, slots=True)
class Route:
    """A deployment that a request may go to. `index` is its place in the catalogue."""

    index: int
    deployment: Deployment


class Order:
    """Tiers, and the routes that they are spread into. Equals are few, so draws make few orders: each is put together once."""

    __slots__ = ("_all", "_period", "_spread", "tiers")

    def __init__(self, tiers: Tiers, routes: tuple[Route, ...]) -> None:
        self.tiers = tiers
        self._all = routes
        self._period = lcm(*map(len, tiers))  # draws that differ by it turn every tier alike
        self._spread: dict[int, tuple[Route, ...]] = {}

    def routes(self, draw: int) -> tuple[Route, ...]:
        """The routes for `draw` (any natural number)."""
        draw %= self._period
        found = self._spread.get(draw)
        if found is None:
            found = tuple([self._all[index] for index in spread(self.tiers, draw)])
            if draw < ORDERS_MAX:
                self._spread[draw] = found
        return found


def spread(tiers: Tiers, draw: int) -> tuple[int, ...]:
    """One order out of `tiers`: each tier is turned by `draw` (any natural number), so that equals share the load."""
    order: list[int] = []
    for tier in tiers:
        turn = draw % len(tier)
        order += tier[turn:] + tier[:turn] if turn else tier
    return tuple(order)
