"""What an exchange charges to books: budgets and the quotas of plans.

The charges are worked out once, when an exchange is settled, and stand in its ledger line (`charged`), account by account. So the
ledger says what every book must be, whatever became of the worker, and whatever has happened to the policy, a plan's weights or a
tenant's group by the time that somebody adds it up.

Promise, as long as whoever settles keeps to the order (the line first, then the account, both with one `now`): a line's amounts and
its `ended` are what the account was told in `settle`, so a book is the sum of the lines that name it, exactly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from math import ceil
from types import MappingProxyType
from typing import Final, assert_never

from gateway.core.accounts import Terms
from gateway.core.exchange import Ended, Outcome, Tried
from gateway.core.usage import Usage

MICRO: Final = Decimal(1_000_000)
WHOLE_TICKET: Final = 1_000  # thousandths: plans weigh what a request takes of them
REFUSING: Final = frozenset({Ended.REJECTED, Ended.THROTTLED, Ended.EXHAUSTED})

Charge = tuple[str, int]
"""An account's id, and how much of its unit an exchange has used."""


class Unit(StrEnum):
    """What a book counts."""

    REQUESTS = "requests"  # exchanges that were sent anywhere
    TOKENS = "tokens"  # input and output, of all attempts
    MICRO_USD = "micro_usd"  # cost, rounded up: a budget never lets through more than it says
    TICKETS = "tickets"  # thousandths of a request of a plan, for each attempt that its places took


_TOKENS: Final = Unit.TOKENS
_MICRO_USD: Final = Unit.MICRO_USD
"""Told apart by identity, and found once: comparing words, or looking a member up, costs a quarter of a microsecond a book."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A book, and what it counts of an exchange that counts toward it.

    `weights` are of tickets: what one attempt takes, in thousandths, by the deployment's id; deployments that are not in it belong
    to another credential, and take nothing.
    """

    terms: Terms
    unit: Unit
    weights: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def charged(books: Iterable[Counted], usage: Usage | None, usd: Decimal, tried: Iterable[Tried]) -> tuple[Charge, ...]:
    """What an exchange that counts toward `books` charges to each; those that it does not touch are left out."""
    found = []
    tokens = 0 if usage is None else usage.input + usage.output
    for book in books:
        unit = book.unit
        if unit is _TOKENS:
            used = tokens
        elif unit is _MICRO_USD:
            used = micro_usd(usd)
        elif unit is Unit.REQUESTS:
            used = int(any(attempt.outcome.sent for attempt in tried))
        elif unit is Unit.TICKETS:
            planned = (attempt for attempt in tried if not attempt.attempt.at_price)
            used = sum(ticket(book.weights.get(attempt.attempt.deployment.id, 0), attempt.outcome) for attempt in planned)
        else:
            assert_never(unit)
        if used:
            found.append((book.terms.id, used))
    return tuple(found)


def micro_usd(usd: Decimal) -> int:
    """US dollars in millionths, rounded up."""
    return ceil(usd * MICRO)


def ticket(weight: int, outcome: Outcome) -> int:
    """What an attempt of `weight` took of its plan: nothing if its place said no, or surely never saw it; else all of it.

    One whose end is not known may have been counted there, so it is counted here.
    """
    refused = outcome.ended in REFUSING or (outcome.ended is Ended.FAILED and outcome.status >= 400)
    return 0 if refused or not outcome.sent else weight
