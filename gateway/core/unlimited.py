"""What callers without limits are held by, so that nobody needs to ask whether there is a hold."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.core.charging import Counted
from gateway.core.live import LiveState

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Unlimited:
    """A hold on nothing, for callers without limits; and a limiter that gives no other."""

    __slots__ = ()
    books: tuple[Counted, ...] = ()
    at_price = False
    headers: Mapping[str, str] = NO_HEADERS

    def live(self, _request: object, state: LiveState, _now: float) -> LiveState:
        """Nothing is taken away."""
        return state

    def hold(self, _request: object, _decision: object, _patience: object) -> "Unlimited":
        """A hold on nothing."""
        return self

    def admit(self, _now: float) -> None:
        """Whoever asks may begin."""

    def attempt(self, _attempt: object, _now: float) -> None:
        """Anywhere."""

    def attempted(self, _outcome: object, _now: float) -> None:
        """Nothing to give back."""

    def settle(self, _settlement: object, _now: float) -> None:
        """Nothing to settle."""


UNLIMITED: Final = Unlimited()
