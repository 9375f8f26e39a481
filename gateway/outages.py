"""A line in the log for each place that workers have shut because of what calls to it came to, and for each that is back.

Metrics and `GET /admin/v1/endpoints` say it too; but whoever is called at night reads the log first, and it says what to look at.
Told once for all workers, and not again while a place is only tried now and then: it is back when a call has gone well.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from gateway.pace import PACE

SHUT: Final = frozenset({"breaker", "exhausted"})  # not for a moment of throttling, nor because somebody wants it so
CLOSED: Final = "closed"  # the phase of a place that lets everything pass

LOOK_AT: Final[Mapping[str, str]] = {
    "credentials_refused": "its `api_key`: the provider does not take it",
    "not_permitted": "what its account may do: the provider says that this is not among it",
    "no_balance": "its account: the provider says that it has nothing left",
    "plan_expired": "its plan, which has ended",
    "quota_used_up": "its plan's quota, which is used up until then",
    "model_not_in_plan": "its plan, which lacks this model",
    "model_not_found": "the model's `as`: nothing goes by that name there",
    "dns": "its host's name, which does not resolve from here",
    "address_refused": "`resolves_to`: its name leads somewhere else",
    "tls": "certificates, its own and ours",
    "redirect": "its `base_url`: it answers with a redirect, which is never followed",
}
"""What there is to be looked at, by the code of the outcome that shut a place."""


class Reports(Protocol):
    """What is asked of the fleet."""

    @property
    def reports(self) -> Iterable[Mapping[str, Any]]: ...


class Outages:
    """All places of one gateway."""

    def __init__(self, fleet: Reports, log: Callable[..., None], look_s: float = PACE.look_s) -> None:
        self._fleet = fleet
        self._log = log
        self._look_s = look_s
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look again and again. Ends when cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._look_s)

    def look(self) -> None:
        """Tell what is shut, or back, since the last look."""
        shut: dict[str, str] = {}
        troubled: set[str] = set()
        for report in self._fleet.reports:
            for place, row in report.get("live", {}).items():
                if row["phase"] != CLOSED:
                    troubled.add(place)
                    if row.get("word") in SHUT:
                        shut.setdefault(place, row["detail"])
        for place, why in shut.items():
            endpoint = place.partition("/")[0]
            if place not in self._told and (endpoint == place or endpoint not in shut):
                self._log(
                    "place_shut", place=place, why=why, look_at=LOOK_AT.get(why), so="requests go to other allowed routes, if any"
                )
                self._told.add(place)
        for place in sorted(self._told - troubled):
            self._log("place_back", place=place)
            self._told.remove(place)
