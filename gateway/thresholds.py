"""A line in the log for each budget that is used past a share of which somebody wants to hear (`warn_at`); metrics say it, too."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from gateway.core.limits import all_limits
from gateway.core.used import used
from gateway.fleet import Fleet
from gateway.pace import PACE


class Thresholds:
    """All budgets of one gateway. One that has been told of is told of again after it has been below the share."""

    def __init__(self, fleet: Fleet, log: Callable[..., None], look_s: float = PACE.look_s) -> None:
        self._fleet = fleet
        self._look_s = look_s
        self._log = log
        self._told: set[tuple[str, Decimal]] = set()

    async def run(self) -> None:
        """Look again and again. Ends when cancelled."""
        snapshot, limits = None, {}
        while True:
            if self._fleet.snapshot is not snapshot:
                snapshot = self._fleet.snapshot
                limits = {name: limit for name, limit in all_limits(snapshot).items() if limit.budget and limit.budget.warn_at}
            past = set()
            for one in used(limits, self._fleet.reports) if limits else ():
                if one.alone:
                    past |= {told for told in self._told if told[0] == one.limit.terms.id}  # it knows less than was known before
                    continue
                for share in one.past:
                    past.add((one.limit.terms.id, share))
                    if (one.limit.terms.id, share) not in self._told:
                        self._log(
                            "budget_past", of=one.limit.whose, budget=one.limit.says, share=float(share), used=round(one.share, 3)
                        )
            self._told = past
            await asyncio.sleep(self._look_s)
