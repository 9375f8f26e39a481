"""How far a limit can be overshot, for `explain`: what blocks and even shares cost in exactness, and what a lost store does.

Slots and books are never overshot while the store answers: what a worker has leased counts as used for all others. A bucket
refills while blocks that were taken from it lie idle at workers, so those come on top of a full one. Beside that, a request may use
more than was held for it; that is not counted here, for it is counted in the account.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from gateway.core.accounts import Bucket, Slots, Terms, WhenLost
from gateway.core.pricing import even_share

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


def crowding(concurrency: int, workers: int, *, among_machines: bool) -> Overshoot:
    """How far the room of an endpoint can be overshot by so many `workers`, each of which has its even share of it.

    Who knows of n workers has an n-th. So if each is a machine of its own, and comes while all that those before it began goes on,
    the first has the whole room under way, the second half of it, the third a third. No more can come together, unless machines
    lose the store in turns. `among_machines`: they hear of each other, through a store that the policy names.
    """
    steady = max(0, workers * even_share(concurrency, workers) - concurrency)
    exact = f"by at most {steady:,}, as each worker has one at the least" if steady else "not at all"
    if not among_machines:
        more = "another machine has as much again, for no store is named by which they hear of each other"
        return Overshoot(steady, steady, f"{exact}; {more}")
    most = sum(even_share(concurrency, known) for known in range(1, workers + 1)) - concurrency
    if most > steady:
        come = "a machine that has come is not heard of yet (2 s)"
        cut_off = "one has lost the store by itself (10 s later others have its share)"
        exact += f"; by at most {most:,} while {come}, or {cut_off}, until what began before has ended"
    return Overshoot(most, most, exact)
