"""What share of a place's last calls failed, or were slow: two counts, kept so that a call that went well costs one addition.

Promise: `found` is exact for the window that begins with the oldest bad call in it. A window without a bad call has nothing to say,
so none is kept for it. Times are UTC seconds and arguments.
"""

from collections import deque
from typing import Final

KEPT_MAX: Final = 512  # bad calls; of a place that fails so often, fewer seconds are enough to know it


class Share:
    """The bad calls of one place and one kind. Good ones are counted by whoever keeps it: here they are a running number."""

    __slots__ = ("_bad",)

    def __init__(self) -> None:
        self._bad: deque[tuple[float, int]] = deque(maxlen=KEPT_MAX)  # when, and how many good ones there had been by then

    def found(self, now: float, good: int, window_s: float) -> tuple[int, int]:
        """One more is bad at `now`, after `good` good ones in all. Returns how many were bad in the window, and of how many."""
        bad = self._bad
        bad.append((now, good))
        while bad[0][0] <= now - window_s:
            bad.popleft()
        return len(bad), good - bad[0][1] + len(bad)
