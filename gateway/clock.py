"""The gateway's clock: UTC that never steps back, whatever the machine's clock does.

Policies hang on days ("until 2027-05-20"), so an instant that has been seen must not come again: a label that went stale stays so.
The time is anchored to UTC once and carried on by the monotonic clock, which NTP slews and nobody sets. `resync`, called about once
a second, follows the machine's clock forwards (a late NTP step, a machine that slept) and never backwards.
"""

import time
from collections.abc import Callable

AHEAD_S_MAX = 0.5  # how far the machine's clock may run ahead before we follow; below it, a step would only blur durations


class SystemClock:
    """The port `Clock`. `utc` and `monotonic` (both in seconds) are arguments so that a test can be the machine."""

    __slots__ = ("_anchor", "_monotonic", "_utc")

    def __init__(self, utc: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._utc = utc
        self._monotonic = monotonic
        self._anchor = utc() - monotonic()

    def now(self) -> float:
        """UTC seconds since 1970. Never less than what it said before."""
        return self._anchor + self._monotonic()

    def resync(self) -> None:
        """Follow the machine's clock if it has run ahead; if it is behind, change nothing."""
        ahead_s = self._utc() - self.now()
        if ahead_s > AHEAD_S_MAX:
            self._anchor += ahead_s
