"""What is tried next: a generator that yields an attempt and receives its outcome.

Promises: only routes of the decision, each at most once, none after one that says the end, none that shares what just failed.
"""

from collections.abc import Generator

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Outcome, Scope


def failover(decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
    """Attempts for `decision`, in its order. Send each one's outcome; ends when there is nothing more to try."""
    broken_endpoints: set[str] = set()
    number = 0
    for route in decision.routes:
        if number >= attempts_max:
            return
        if route.deployment.endpoint.id in broken_endpoints:
            continue
        number += 1
        outcome = yield Attempt(number, route.deployment)
        if not outcome.tries_next:
            return
        if outcome.scope is Scope.ENDPOINT:
            broken_endpoints.add(route.deployment.endpoint.id)


def reachable(decision: Decision, attempts_max: int) -> dict[str, int]:
    """Every deployment that `failover` could ever call for `decision`, with the number of its earliest attempt.

    A route is reached soonest when each endpoint before it fails as a whole at its first attempt; but its own endpoint can't have,
    or it would be passed over: earlier routes there have each failed alone.
    """
    found: dict[str, int] = {}
    before: list[str] = []  # endpoints of the routes passed so far
    for route in decision.routes:
        own = route.deployment.endpoint.id
        number = 1 + before.count(own) + len(set(before) - {own})
        if number <= attempts_max:
            found[route.deployment.id] = number
        before.append(own)
    return found
