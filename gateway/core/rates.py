"""How much may be asked for in how much time: what `rates:` says of a tenant, a key, a group, an endpoint or a model.

A rate is a bucket: it holds `amount`, is full at first, and refills evenly over `per_s`. So a caller may use all of it at once, and
then as much as time brings back. Which accounts keep count of it is said in limits.py.
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.accounts import WhenLost

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
