"""The decision: where a request may go, in which order, and why nowhere else.

A pure function of facts, needs, view, live state and a draw; all of them go into the record, so that it can be made again.
Promises: every deployment is a route or an exclusion with all its reasons. Rules come first and alone; needs, limits, live state
and rank come after and only take away, or order.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts
from gateway.core.fit import bits, fit, over_limit, total, unfit, within_limits
from gateway.core.live import Blocked, LiveState
from gateway.core.policy import Deployment
from gateway.core.rank import rank, spread
from gateway.core.terms import Because, Reason
from gateway.core.view import Eligibility, View


@dataclass(frozen=True, slots=True)
class Route:
    """A deployment that this request may go to. `index` is its place in the catalogue."""

    index: int
    deployment: Deployment


class Verdict(Enum):
    """What a decision comes to."""

    ROUTED = "routed"
    REFUSED = "refused"  # nothing may serve it: an outcome of its own, and no error
    TOO_LONG = "too long"  # what may serve it has too small a window
    UNAVAILABLE = "unavailable"  # what may serve it can't just now


@dataclass(frozen=True)
class Decision:
    """Routes in order; `exclusions` and `verdict` are worked out when somebody asks."""

    view: View
    facts: RequestFacts
    needs: Needs
    live: LiveState
    draw: int
    eligibility: Eligibility
    fitting: int  # eligible, and has what the request needs, and is within the limits
    routes: tuple[Route, ...]

    @cached_property
    def verdict(self) -> Verdict:
        if self.routes:
            return Verdict.ROUTED
        if self.fitting:
            return Verdict.UNAVAILABLE
        reasons = [r for i in bits(self.eligibility.mask) for r in unfit(self.view, i, self.needs)]
        if reasons and all(reason.word == "needs: context" for reason in reasons):
            return Verdict.TOO_LONG
        return Verdict.REFUSED

    @cached_property
    def exclusions(self) -> dict[str, tuple[Reason, ...]]:
        """Every deployment that is no route, with every reason, in the order of the catalogue."""
        routed = {route.index for route in self.routes}
        found = {}
        for index, deployment in enumerate(self.view.deployments):
            if index not in routed:
                found[deployment.id] = self._reasons(index, deployment)
        return found

    def _reasons(self, index: int, deployment: Deployment) -> tuple[Reason, ...]:
        found = self.eligibility.reasons(index, self.view.subjects[index]) + unfit(self.view, index, self.needs)
        if (limit := over_limit(self.view, index, self.needs)) is not None:
            found += (limit,)
        if (blocked := self.live.blocked.get(deployment.id)) is not None:
            found += (Reason(Because.LIVE, f"live: {blocked.word}", blocked.detail),)
        return found

    @property
    def blocking(self) -> tuple[Blocked, ...]:
        """What live state has against routes that the rules allow: says when to come back."""
        allowed = (self.view.deployments[index].id for index in bits(self.fitting))
        return tuple(self.live.blocked[name] for name in allowed if name in self.live.blocked)

    @property
    def refusing_rules(self) -> tuple[str, ...]:
        """The words of the reasons against what was asked for, without repetition: what a person has to look at."""
        asked = self.eligibility.asked or self.view.all_mask
        words: dict[str, None] = {}
        for index in bits(asked):
            for reason in self.exclusions.get(self.view.deployments[index].id, ()):
                words.setdefault(reason.word)
        return tuple(words)


def decide(view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
    """Where this request may go, best first. `draw` is any natural number; it spreads equals and nothing else."""
    eligibility = view.eligible(facts)
    fitting = within_limits(view, fit(view, eligibility.mask, needs), needs)
    usable = up(view, fitting, live)
    order = spread(rank(view, usable, facts, needs.output_tokens, live.latency_ms), draw)
    routes = tuple(Route(index, view.deployments[index]) for index in order)
    return Decision(view, facts, needs, live, draw, eligibility, fitting, routes)


def up(view: View, mask: int, live: LiveState) -> int:
    """Those of `mask` that live state has nothing against."""
    if not live.blocked:
        return mask
    return total(index for index in bits(mask) if view.deployments[index].id not in live.blocked)
