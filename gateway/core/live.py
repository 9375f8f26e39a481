"""What changes from second to second, as read for one request. It only takes routes away, and orders: by latency and warmth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

RATE: Final = "rate"  # of the endpoint or the model, used up by everybody together
QUOTA: Final = "quota"  # of its plan, likewise
BUDGET: Final = "budget"  # of the caller: this place costs more than is left
LIMITS: Final = frozenset({RATE, QUOTA, BUDGET})
BUSY: Final = "busy"  # full, and a request may wait there: a route, after all those that are open


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a deployment can't be used now. `word`: throttled, exhausted, breaker, health, busy, full, cordoned; or one of LIMITS."""

    word: str
    detail: str
    until: float | None  # UTC seconds; None: until somebody mends it


@dataclass(frozen=True, slots=True)
class Checked:
    """What asking an endpoint how it is has brought against it: found once for all workers of a gateway."""

    ill: str = ""  # what was found; "": it is well
    queues_until: float = 0.0  # requests wait inside it, as far as is known until then (UTC seconds)


@dataclass(frozen=True, slots=True)
class LiveState:
    """Keyed by deployment id, `endpoint/model`. Nobody changes a mapping once it is in here: new state, new mappings.

    `latency_ms` is time to first content, in steps so that it seldom changes: ranks are remembered while it is the same object.
    `warm` is how many tokens of this request's prompt were read there a short while ago, in steps for the same reason.
    """

    blocked: Mapping[str, Blocked] = field(default_factory=lambda: MappingProxyType({}))
    latency_ms: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    warm: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


ALL_WELL = LiveState()
