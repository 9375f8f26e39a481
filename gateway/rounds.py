"""What is told a part at a time, round after round, put together: of tens of thousands of accounts a worker tells of some with
each report, so that it need not stand still for it.

A part says `rows`, each with an `id`, and whether it is the `first` and the `last` of its round. Promise: what a whole round has
not told of is not there any more; what this round has not come to yet is as the one before told it.
"""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


class Rounds:
    """What one worker tells."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before: dict[str, Row] = {}  # of the last whole round
        self._now: dict[str, Row] = {}

    def take(self, part: Mapping[str, Any]) -> list[Row]:
        """All that is known with this `part`."""
        if part["first"]:
            self._now = {}
        self._now.update((row["id"], row) for row in part["rows"])
        if part["last"]:
            self._before = self._now
        return list({**self._before, **self._now}.values())
