"""What an account counts, and when it begins anew. Who keeps count is state/accounts/.

Amounts are whole numbers: requests, tokens, thousandths of a request (plans weigh them), micro-dollars, or places at once.
"""

from dataclasses import dataclass
from enum import StrEnum


class WhenLost(StrEnum):
    """What a limit does while the shared store can't be asked."""

    SHARE = "share"  # this worker keeps to its even share of it
    ADMIT = "admit"  # it does not limit
    REFUSE = "refuse"  # nothing that it limits begins


@dataclass(frozen=True, slots=True)
class Bucket:
    """Holds `amount`, is full at first, and refills evenly over `per_s`: for rates."""

    amount: int
    per_s: int


@dataclass(frozen=True, slots=True)
class Slots:
    """So many at once: for concurrency."""

    amount: int


@dataclass(frozen=True, slots=True)
class Book:
    """At most `amount` in each window: for budgets and for the quotas of plans.

    `window` is `day` or `month` (of UTC, each beginning at 00:00), or `rolling`: whatever `per_s` seconds one looks at.
    """

    amount: int
    window: str
    per_s: int = 0  # of a rolling one


@dataclass(frozen=True, slots=True)
class Terms:
    """All that says which account it is. Equal ids are one account, wherever they are asked.

    `id` is `kind/whose/what`, such as `rate/tenant/lab/requests`; it names the account in the store and in what people read.
    """

    id: str
    of: Bucket | Slots | Book
    when_lost: WhenLost = WhenLost.SHARE
