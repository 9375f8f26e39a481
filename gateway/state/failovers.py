"""How many failovers a worker may make: a share of its requests, and a few besides.

When a provider fails under load, every one of its requests goes to the next, which may fail of just that. Promise: over a window,
failovers are at most `failovers_share` of the requests that began in it, and `failovers_free_per_s`; what is beyond is not tried
again, and its caller is told of the first failure. Counted in halves of a window: this one and the one before.
"""

from gateway.core.bounds import Bounds


class Failovers:
    """The budget of one worker. `until` (UTC seconds) is when `turn` is due."""

    __slots__ = ("_begun", "_spent", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._begun = (0, 0)  # how many requests had begun in all when the half before began, and when this one did
        self._spent = (0, 0)  # failovers in the half before, and in this one

    def turn(self, now: float, begun: int, bounds: Bounds) -> None:
        """Begin another half, if it is time. `begun` is how many requests have begun in all."""
        if now < self.until:
            return
        half_s = bounds.failovers_window_s / 2
        if now < self.until + half_s:
            self._begun, self._spent = (self._begun[1], begun), (self._spent[1], 0)
        else:  # nobody has asked for longer than a half: what was before is over
            self._begun, self._spent = (begun, begun), (0, 0)
        self.until = now + half_s

    def spend(self, now: float, begun: int, bounds: Bounds) -> bool:
        """Whether one more may be made at `now`; if so, it counts."""
        self.turn(now, begun, bounds)
        before, spent = self._spent
        may = bounds.failovers_share * (begun - self._begun[0]) + bounds.failovers_free_per_s * bounds.failovers_window_s
        if before + spent + 1 > may:
            return False
        self._spent = (before, spent + 1)
        return True
