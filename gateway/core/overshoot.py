"""How far a limit can be overshot, for `explain`: what leases in blocks cost in exactness, and what a lost store does.

Slots and books are never overshot while the store answers: what a worker has leased counts as used for all others. A bucket
refills while blocks that were taken from it lie idle at workers, so those come on top of a full one. Beside that, a request may use
more than was held for it; that is not counted here, for it is counted in the account.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from gateway.core.accounts import Bucket, Slots, Terms, WhenLost

IDLE_S: Final = 1.1  # so long may a block that nobody uses lie at a worker: it is offered back each second, and a flush is 20 ms
STANDING: Final = 2  # requests' worth that each worker that is used keeps leased ahead


@dataclass(frozen=True, slots=True)
class Overshoot:
    """In the account's own unit. `lost` None: no bound."""

    answering: int  # while the store answers
    lost: int | None  # while it does not
    says: str


def overshoot(terms: Terms, workers: int, largest: int = 1) -> Overshoot:
    """How far an account of `terms` can be overshot by so many `workers`, if no request takes more than `largest`."""
    of, answering = terms.of, 0
    if isinstance(of, Bucket):
        # the n-th worker leases a quarter of what those before it have left
        leased_most = int(of.amount * (1 - 0.75**workers))
        idle_most = ceil(of.amount * IDLE_S / of.per_s) + workers * STANDING * largest
        answering = min(leased_most, idle_most)
    exact = f"by at most {answering:,} beyond a full bucket" if answering else "not at all"
    match terms.when_lost:
        case WhenLost.ADMIT:
            return Overshoot(answering, None, f"{exact}; without bound while the store is lost")
        case WhenLost.REFUSE:
            return Overshoot(answering, 0, f"{exact}; nothing begins while the store is lost")
        case WhenLost.SHARE if isinstance(of, Bucket | Slots):
            share = max(largest, of.amount // workers)  # one request at the least
            # what began before goes on, all of it at one worker at the worst, and what is left of it others may not have heard
            lost = (workers - 1) * share
            if isinstance(of, Bucket):
                lost += answering + max(0, workers * share - of.amount)
            how = f"each of {workers} workers keeps to its even share" if workers > 1 else "its only worker goes on"
            more = f", by at most {lost:,} beyond it" if lost else ""
            return Overshoot(answering, lost, f"{exact}; while the store is lost {how}{more}")
        case WhenLost.SHARE if workers == 1:
            return Overshoot(answering, 0, f"{exact}; while the store is lost its only worker goes on")
        case WhenLost.SHARE:
            heard = "what it last heard was left, at most 5 s before, or 30 s where nobody used it"
            how = f"each of {workers} workers has an even share of {heard}"
            return Overshoot(answering, of.amount, f"{exact}; while the store is lost {how}")
