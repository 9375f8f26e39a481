"""The decision: where a request may go, in which order, and why nowhere else.

A pure function of facts, needs, view, live state and a draw; all of them go into the record, so that it can be made again.
Promises: every deployment is a route or an exclusion with all its reasons. Rules come first and alone; needs, limits, live state
and rank come after and only take away, or order.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts
from gateway.core.fit import fit, of_no_length, within_limits
from gateway.core.live import BUSY, Blocked, LiveState
from gateway.core.masks import bits
from gateway.core.order import Route
from gateway.core.rank import rank
from gateway.core.reasons import reasons
from gateway.core.terms import Reason
from gateway.core.view import Eligibility, View


class Verdict(StrEnum):
    """What a decision comes to."""

    ROUTED = "routed"
    REFUSED = "refused"  # nothing may serve it: an outcome of its own, and no error
    TOO_LONG = "too long"  # what may serve it has too small a window
    UNAVAILABLE = "unavailable"  # what may serve it can't just now


@dataclass(unsafe_hash=True, slots=True, init=False)
class Decision:
    """Routes in order; `exclusions` and `verdict` are worked out when somebody asks."""

    view: Final[View]
    facts: Final[RequestFacts]
    needs: Final[Needs]
    live: Final[LiveState]
    draw: Final[int]
    eligibility: Final[Eligibility]
    fitting: Final[int]  # eligible, and has what the request needs, and is within the limits
    routes: Final[tuple[Route, ...]]
    _verdict: Verdict | None = field(init=False, repr=False, compare=False)
    _exclusions: dict[str, tuple[Reason, ...]] | None = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        view: View,
        facts: RequestFacts,
        needs: Needs,
        live: LiveState,
        draw: int,
        eligibility: Eligibility,
        fitting: int,
        routes: tuple[Route, ...],
    ) -> None:
        self.view = view
        self.facts = facts
        self.needs = needs
        self.live = live
        self.draw = draw
        self.eligibility = eligibility
        self.fitting = fitting
        self.routes = routes
        self._verdict = None
        self._exclusions = None

    @property
    def verdict(self) -> Verdict:
        """What the decision comes to. Too long: with a shorter prompt, something would take it that does not now."""
        if self._verdict is None:
            self._verdict = self._come_to()
        return self._verdict

    def _come_to(self) -> Verdict:
        if self.routes:
            return Verdict.ROUTED
        if self.fitting:
            return Verdict.UNAVAILABLE
        allowed = self.eligibility.mask
        if not fit(self.view, allowed, self.needs) and fit(self.view, allowed, of_no_length(self.needs)):
            return Verdict.TOO_LONG
        return Verdict.REFUSED

    @property
    def exclusions(self) -> dict[str, tuple[Reason, ...]]:
        """Every deployment that is no route, with every reason, in the order of the catalogue."""
        if self._exclusions is None:
            routed = {route.index for route in self.routes}
            self._exclusions = {
                deployment.id: reasons(self.view, index, self.eligibility, self.needs, self.live)
                for index, deployment in enumerate(self.view.deployments)
                if index not in routed
            }
        return self._exclusions

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
    applying = view.applying(facts)
    eligibility = view.judged(applying, facts.asked)
    fitting = within_limits(view, fit(view, eligibility.mask, needs), needs)
    preferences = view.preferences(applying)
    routes = rank(view, fitting, up(view, fitting, live), preferences, needs, live).routes(draw)
    if live.blocked and (waiting := busy(view, fitting, live)):
        routes += rank(view, fitting, waiting, preferences, needs, live).routes(draw)
    return Decision(view, facts, needs, live, draw, eligibility, fitting, routes)


def up(view: View, mask: int, live: LiveState) -> int:
    """Those of `mask` that live state has nothing against."""
    for name in live.blocked:
        index = view.indices.get(name)
        if index is not None:
            mask &= ~(1 << index)
    return mask


def busy(view: View, mask: int, live: LiveState) -> int:
    """Those of `mask` at which a request would have to wait for room: they are tried after all that are open."""
    found = 0
    for name, why in live.blocked.items():
        if why.word == BUSY and (index := view.indices.get(name)) is not None:
            found |= mask & 1 << index
    return found
