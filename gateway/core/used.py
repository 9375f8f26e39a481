"""How much of each limit is used, from what workers report of it: for the admin API, for metrics and for the log.

A worker that shares a limit through the store says what is left among all; one that goes by itself (`alone`: the store is lost, or
there is none) says what is left of its own share. What nothing is said of is untouched.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.core.limits import Limit


@dataclass(frozen=True, slots=True)
class Used:
    """`left` in the account's own unit; `reset_s` seconds until all of it is there again."""

    limit: Limit
    left: int
    reset_s: float
    alone: bool

    @property
    def share(self) -> float:
        """How much of it is used, from 0 to 1."""
        amount = self.limit.terms.of.amount
        return (amount - self.left) / amount

    @property
    def past(self) -> tuple[Decimal, ...]:
        """Which of the shares that are to be warned of (`warn_at`) are used."""
        budget = self.limit.budget
        spent = self.limit.terms.of.amount - self.left
        return () if budget is None else tuple(share for share in budget.warn_at if spent >= share * budget.amount)


def used(limits: Mapping[str, Limit], reports: Iterable[Mapping[str, Any]]) -> Iterator[Used]:
    """Each of `limits` (by account id), by the `reports` of all workers."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for report in reports:
        for row in report.get("limits", ()):
            rows.setdefault(row["id"], []).append(row)
    for name, limit in limits.items():
        found = rows.get(name, [])
        shared = [row for row in found if not row["alone"]]
        amount = limit.terms.of.amount
        left = amount
        if shared:  # who heard of it last is not known: whoever knows of least has heard of most
            left = min(row["left"] for row in shared)
        elif found:
            left = sum(row["left"] for row in found)
        reset_s = max((row["reset_s"] for row in found), default=0.0)
        yield Used(limit, max(0, min(left, amount)), reset_s, bool(found) and not shared)
