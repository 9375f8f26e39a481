"""How much may be asked for in how much time: what `rates:` says of a tenant, a key, a group, an endpoint or a model.

A rate is a bucket: it holds `amount`, is full at first, and refills evenly over `per_s`. So a caller may use all of it at once, and
then as much as time brings back. Which accounts keep count of it is said in limits.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.core.accounts import WhenLost
from gateway.core.charging import Counted
from gateway.core.live import LiveState

RATE_LIMITED: Final = "rate_limit_exceeded"  # the code of the error, as OpenAI spells it
LIMITED: Final = "limited"  # how such an exchange ended, in the ledger and in metrics


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` (requests or tokens) in `per_s` seconds."""

    amount: int
    per_s: int


@dataclass(frozen=True, slots=True)
class Rates:
    """All rates of one holder; None: no such limit. `concurrency` is requests under way at once."""

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrency: int | None = None
    when_lost: WhenLost = WhenLost.SHARE


class Unlimited:
    """A hold on nothing, for callers without limits; and a limiter that gives no other."""

    __slots__ = ()
    books: tuple[Counted, ...] = ()
    at_price = False

    def live(self, _request: object, state: LiveState, _now: float) -> LiveState:
        """Nothing is taken away."""
        return state

    def hold(self, _request: object, _decision: object) -> "Unlimited":
        """A hold on nothing."""
        return self

    @property
    def headers(self) -> Mapping[str, str]:
        """Nothing to say."""
        return NO_HEADERS

    def admit(self, _now: float) -> None:
        """Whoever asks may begin."""

    def attempt(self, _attempt: object, _now: float) -> None:
        """Anywhere."""

    def attempted(self, _outcome: object, _now: float) -> None:
        """Nothing to give back."""

    def settle(self, _settlement: object, _now: float) -> None:
        """Nothing to settle."""


NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
UNLIMITED: Final = Unlimited()
