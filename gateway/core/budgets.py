"""How much may be spent in how much time: what `budgets:` says of a key, a tenant, a group or a tag.

A budget counts what was really used, in US dollars at the margin or in tokens. Which accounts keep count is said in limits.py.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from gateway.core.accounts import WhenLost

SPENT: Final = "insufficient_quota"  # the code of the error, as OpenAI spells it
MONEY: Final = "usd"
TOKENS: Final = "tokens"


class WhenSpent(StrEnum):
    """What a budget does with a request that would take more than is left."""

    REFUSE = "refuse"
    CHEAPER = "cheaper"  # only routes that take no more than is left stay: those that cost nothing at the margin always do


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `amount` (micro-dollars or tokens) in each window. `window` and `per_s` are as a Book has them."""

    unit: str  # MONEY or TOKENS
    amount: int
    window: str  # "day", "month" or "rolling"
    per_s: int = 0
    warn_at: tuple[Decimal, ...] = ()  # shares of `amount`, ascending: past each, metrics and the log say so
    when_spent: WhenSpent = WhenSpent.REFUSE
    when_lost: WhenLost = WhenLost.SHARE

    @property
    def window_of(self) -> tuple[str, str, int]:
        """What tells it from its holder's other budgets."""
        return self.unit, self.window, self.per_s
