"""The one record of an exchange: the decision, what was tried, what was used, what it cost.

No content, no key, no address of a caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.core.budgets import SPENT
from gateway.core.charging import Charge, Counted, charged
from gateway.core.decide import Decision, Verdict
from gateway.core.exchange import Ended, Outcome, Recalled, Request, Tried
from gateway.core.rates import LIMITED, RATE_LIMITED
from gateway.core.usage import Cost, Usage

LIMITING: Final = frozenset({RATE_LIMITED, SPENT})  # codes of errors of whoever asks too much
NOT_CACHED: Final = "not_cached"  # the code of the error where nothing but a kept answer would have done, and there was none
UNCACHED: Final = "not cached"  # how such an exchange ended, in the ledger and in metrics
OK: Final = 200
NOTHING: Final = Cost(Decimal(0), "none")


@dataclass(unsafe_hash=True, slots=True, init=False)
class Settlement:
    """`status` is what the client was answered (0: it was gone before any answer). Times are UTC seconds.

    `charged` is what it takes from books (charging.py): those of its caller, and of the plans that were used.
    """

    request: Final[Request]
    decision: Final[Decision]
    tried: Final[tuple[Tried, ...]]
    usage: Final[Usage | None]
    cost: Final[Cost]
    status: Final[int]
    code: Final[str]  # of the error that the client was given; "": none
    ended: Final[float]
    charged: Final[tuple[Charge, ...]]
    recalled: Final[Recalled | None]  # what the cache did; None: it was not asked

    def __init__(
        self,
        request: Request,
        decision: Decision,
        tried: tuple[Tried, ...],
        usage: Usage | None,
        cost: Cost,
        status: int,
        code: str,
        ended: float,
        charged: tuple[Charge, ...] = (),
        recalled: Recalled | None = None,
    ) -> None:
        self.request = request
        self.decision = decision
        self.tried = tried
        self.usage = usage
        self.cost = cost
        self.status = status
        self.code = code
        self.ended = ended
        self.charged = charged
        self.recalled = recalled

    @property
    def avoided(self) -> Cost:
        """What the answer that was kept had cost where it was made, at the price of the policy in force. No part of `cost`."""
        recalled = self.recalled
        if recalled is None or recalled.kept is None or recalled.deployment is None:
            return NOTHING
        return recalled.deployment.tariff.settle(recalled.kept.usage)

    @property
    def outcome(self) -> Outcome | None:
        """How the last attempt ended; None if nothing was tried."""
        return self.tried[-1].outcome if self.tried else None

    @property
    def result(self) -> str:
        """One word for tables and metrics: how the last attempt ended, or the decision's verdict where nothing was tried."""
        if self.code in LIMITING:
            return LIMITED
        if self.tried:
            return self.tried[-1].outcome.ended.value
        if self.decision.verdict is not Verdict.ROUTED:
            return str(self.decision.verdict)
        if self.code == NOT_CACHED:
            return UNCACHED
        if self.recalled is not None and self.recalled.kept is not None and self.status == OK:
            return str(Ended.SERVED)
        return str(Ended.FAILED if self.status else Ended.CLIENT_GONE)


def settle(
    request: Request,
    decision: Decision,
    tried: tuple[Tried, ...],
    status: int,
    code: str,
    ended: float,
    books: tuple[Counted, ...] = (),
    recalled: Recalled | None = None,
) -> Settlement:
    """Sum up an exchange that counts toward `books`. Each attempt that processed tokens costs what its own deployment charges.

    A failed attempt without reported usage costs nothing here: an estimate of a failure is never charged silently.
    """
    usd, basis, usage = Decimal(0), "none", None
    for attempt in tried:
        found = attempt.outcome.usage
        if found is None or (not found.reported and attempt.outcome.ended in _UNCHARGED):
            continue
        cost = attempt.attempt.deployment.tariff.settle(found, attempt.attempt.at_price)
        usd += cost.usd
        basis = "estimated" if "estimated" in (basis, cost.basis) else cost.basis
        usage = found if usage is None else _sum(usage, found)
    charges = charged(books, usage, usd, tried) if books else ()
    return Settlement(request, decision, tried, usage, Cost(usd, basis), status, code, ended, charges, recalled)


_UNCHARGED = frozenset({Ended.REJECTED, Ended.THROTTLED, Ended.EXHAUSTED, Ended.FAILED, Ended.UNKNOWN})


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        uncached=one.uncached + other.uncached,
        cached=one.cached + other.cached,
        cache_write=one.cache_write + other.cache_write,
        output=one.output + other.output,
        reasoning=one.reasoning + other.reasoning,
        reported=one.reported and other.reported,
    )


def excluded_words(decision: Decision) -> Mapping[str, list[str]]:
    """Deployment id → the words of its reasons: the record's form of `decision.exclusions`."""
    return {name: [reason.word for reason in reasons] for name, reasons in decision.exclusions.items()}
