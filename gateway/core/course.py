"""Every course that failover could take for one decision, written out as steps.

Promise: follow the steps with any outcomes and you are where `failover` is with the same ones; nothing else is ever tried.
What is served, cut short or rejected, and a caller who is gone, ends the course at any step. Whatever else happens goes on: to
`after_alone` where it befell the deployment (or says nothing of it), to `after_endpoint` where the whole endpoint is out.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.core.decide import Decision

STEPS_MAX: Final = 1_000  # written out; four attempts make 15 at the most, and nobody reads more than a page


@dataclass(frozen=True, slots=True)
class Step:
    """One call that could be made. Steps count from 1, the first is where each course begins; None: nothing more is tried."""

    step: int
    attempt: int  # counts from 1
    deployment: str
    after_alone: int | None
    after_endpoint: int | None


@dataclass(frozen=True, slots=True)
class Course:
    """All steps, those of earlier attempts first. Not `complete`: there are more than STEPS_MAX, and the deepest are left out."""

    steps: tuple[Step, ...]
    complete: bool = True


_State = tuple[tuple[int, ...], int]  # the routes, by their place, that could still be tried; and how many attempts are left


def course(decision: Decision, attempts_max: int) -> Course:
    """All that could happen to `decision`, of which `attempts_max` routes are tried at the most."""
    deployments = [route.deployment for route in decision.routes]
    known: dict[_State, int] = {}
    waiting: deque[_State] = deque()
    complete = True

    def number(state: _State) -> int | None:
        nonlocal complete
        remaining, left = state
        if not remaining or not left:
            return None
        if state not in known:
            if len(known) >= STEPS_MAX:
                complete = False
                return None
            known[state] = len(known) + 1
            waiting.append(state)
        return known[state]

    steps = []
    number((tuple(range(len(deployments))), max(0, attempts_max)))
    while waiting:
        state = waiting.popleft()
        (first, *others), left = state
        tried = deployments[first]
        elsewhere = tuple(other for other in others if deployments[other].endpoint.id != tried.endpoint.id)
        after_alone, after_endpoint = number((tuple(others), left - 1)), number((elsewhere, left - 1))
        steps.append(Step(known[state], attempts_max - left + 1, tried.id, after_alone, after_endpoint))
    return Course(tuple(steps), complete)
