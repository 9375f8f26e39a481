"""How much one caller may ask for in how much time: what `rates:` of a tenant or a key says. Who keeps count is state/rates.py.

A rate is a bucket: it holds `amount`, is full at first, and refills evenly over `per_s`. So a caller may use all of it at once, and
then as much as time brings back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

RATE_LIMITED: Final = "rate_limit_exceeded"  # the code of the error, as OpenAI spells it
LIMITED: Final = "limited"  # how such an exchange ended, in the ledger and in metrics


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` (requests or tokens) in `per_s` seconds."""

    amount: int
    per_s: int


@dataclass(frozen=True, slots=True)
class Rates:
    """All rates of one caller; None: no such limit. `concurrency` is requests under way at once."""

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrency: int | None = None


class Unlimited:
    """A hold on nothing, for callers without rates; and a limiter that gives no other."""

    __slots__ = ()

    def admit(self, _request: object, _now: float) -> "Unlimited":
        """Whoever asks may begin."""
        return self

    @property
    def headers(self) -> Mapping[str, str]:
        """Nothing to say."""
        return NO_HEADERS

    def settle(self, tokens: int, now: float) -> None:
        """Nothing to give back."""


NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
UNLIMITED: Final = Unlimited()
