"""Faults, each planted in an engine of its own, and the sentence that must catch it.

A fault overrides one part of `Engine` or of what it hands out; nothing is patched. What is listed here has been got wrong
somewhere: in earlier drafts of this engine, or in gateways that people complain of.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from worlds import LATER, NOW, Engine, World

from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Needs, Outcome
from gateway.core.facts import RequestFacts
from gateway.core.live import LiveState
from gateway.core.masks import bits, total
from gateway.core.policy import (
    HOLDINGS,
    PLACES,
    Assurance,
    Deployment,
    FactTest,
    LabelTest,
    Places,
    Preference,
    Rule,
    Snapshot,
    surely_meets,
)
from gateway.core.terms import APIS, DATA_CLASSES, Effect, Subject
from gateway.core.view import Eligibility, View, judge


@dataclass(frozen=True)
class Planted:
    """One fault: the engine that has it, and the text of the sentence that must find it."""

    text: str
    engine: Engine
    caught_by: str


PLANTED: Final[list[Planted]] = []
SPECIFICATION = "the engine agrees with the specification"
MEMORY = "a view that has decided much decides like a fresh one"
UNKNOWN = "making a known fact unknown never adds a route"
RAISED = "raising a class or adding a category never adds a route"
ORDER = "the order of rules does not matter, to the byte"
RESTRICTION = "another forbid or require never adds a route"
TIME = "time only takes away, and between two instants that a view names nothing changes"
REPLAY = "a decision made again from its record is equal, to the byte"
LIVE = "live state only takes away, and leaves the rest in its order"
WHOLE = "every deployment is a route or an exclusion with a reason"
ATTEMPTS = "attempts are routes of the decision, each once, none after the end, none that shares what failed"
PREFERENCES = "preferences order routes, and do nothing else"
WARMTH = "warmth orders routes, and does nothing else, and nothing of it is left for the next request"
HINTS = "asking for one model of an alias, or for more of a model, only narrows"
KEEPING = "nothing is written where rules do not let it be kept, and without a ledger nothing is sent"
NO_PERMIT = "without a permit there is no route"
REACH = "what an explanation says can be reached is what failing routes reach, and no more"


def plant(text: str, *caught_by: str) -> Any:
    """Make faults of an engine class, one for each sentence that must find it."""

    def keep(kind: type[Engine]) -> type[Engine]:
        PLANTED.extend(Planted(text, kind(), sentence) for sentence in caught_by)
        return kind

    return keep


# --- tests of facts ---------------------------------------------------------------------------------------------------------


class Swapped(FactTest):
    def may_hold(self, facts: RequestFacts) -> bool:
        return FactTest.must_hold(self, facts)

    def must_hold(self, facts: RequestFacts) -> bool:
        return FactTest.may_hold(self, facts)


class May(FactTest):
    def must_hold(self, facts: RequestFacts) -> bool:
        return self.may_hold(facts)


class Must(FactTest):
    def may_hold(self, facts: RequestFacts) -> bool:
        return self.must_hold(facts)


class KnownOnly(FactTest):
    def may_hold(self, facts: RequestFacts) -> bool:
        return len(getattr(facts, self.fact)) == 1 and FactTest.may_hold(self, facts)


@plant("may and must are swapped", SPECIFICATION, UNKNOWN)
class MayAndMustSwapped(Engine):
    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        return Swapped(fact, frozenset(values))


@plant("a permit is asked whether it may match", SPECIFICATION, UNKNOWN)
class PermitByMay(Engine):
    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        return May(fact, frozenset(values)) if effect == "permit" else super().fact_test(effect, fact, values)


@plant("a require and a forbid are asked whether they must match", SPECIFICATION, UNKNOWN)
class RestrictionByMust(Engine):
    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        return Must(fact, frozenset(values)) if effect in ("require", "forbid") else super().fact_test(effect, fact, values)


@plant("a rule on a fact that is not known is left out", SPECIFICATION, UNKNOWN)
class UnknownIgnored(Engine):
    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        return KnownOnly(fact, frozenset(values))


@plant("`at_least` of a class is taken for that class alone, so that raising a class adds a route", RAISED, SPECIFICATION)
class ClassRaised(Engine):
    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        if effect != "permit" and fact == "data_class":
            values = {min(values, key=DATA_CLASSES.index)}
        return super().fact_test(effect, fact, values)


@plant("a rule on categories asks that there be no others", RAISED, SPECIFICATION)
class CategoriesAlone(Engine):
    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        return Must(fact, frozenset(values)) if fact == "categories" else super().fact_test(effect, fact, values)


# --- tests of labels --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnyPlace(LabelTest):
    """A require of places is met by any one of them."""

    def surely_met(self, subject: Subject) -> bool:
        value = getattr(subject, self.attribute)
        return bool(value and value & self.values) if self.attribute in PLACES else LabelTest.surely_met(self, subject)


@dataclass(frozen=True, slots=True)
class AllPlaces(LabelTest):
    """A forbid of places hits when all lie in the set."""

    def may_hit(self, subject: Subject) -> bool:
        value = getattr(subject, self.attribute)
        return value is None or value <= self.values if self.attribute in PLACES else LabelTest.may_hit(self, subject)


@dataclass(frozen=True, slots=True)
class AnyHolding(LabelTest):
    """A require of assurances is met by any one of them."""

    def surely_met(self, subject: Subject) -> bool:
        return (
            bool(getattr(subject, self.attribute) & self.values)
            if self.attribute in HOLDINGS
            else LabelTest.surely_met(self, subject)
        )


@dataclass(frozen=True, slots=True)
class AbsentAccepted(LabelTest):
    """A label that is not there meets a require."""

    def surely_met(self, subject: Subject) -> bool:
        return getattr(subject, self.attribute) is None or LabelTest.surely_met(self, subject)


@dataclass(frozen=True, slots=True)
class AbsentMissed(LabelTest):
    """A forbid does not hit a label that is not there."""

    def may_hit(self, subject: Subject) -> bool:
        return getattr(subject, self.attribute) is not None and LabelTest.may_hit(self, subject)


@dataclass(frozen=True, slots=True)
class AnyAlternative(Rule):
    """A require is met when each alternative is met; a forbid hits when each does."""

    def spares(self, subject: Subject) -> bool:
        if self.effect is Effect.FORBID:
            return not all(test.may_hit(subject) for tests in self.says for test in tests)
        return all(surely_meets(subject, (tests,)) for tests in self.says)


@plant("any and all are swapped: a require of places is met by one of them", SPECIFICATION)
class RequireAny(Engine):
    def label_test(self, attribute: str, values: Any) -> LabelTest:
        return AnyPlace(attribute, at_least=values) if isinstance(values, int) else AnyPlace(attribute, frozenset(values))


@plant("any and all are swapped: a forbid of places hits only if all lie in it", SPECIFICATION)
class ForbidAll(Engine):
    def label_test(self, attribute: str, values: Any) -> LabelTest:
        return AllPlaces(attribute, at_least=values) if isinstance(values, int) else AllPlaces(attribute, frozenset(values))


@plant("any and all are swapped: one of the assurances is enough", SPECIFICATION)
class OneAssurance(Engine):
    def label_test(self, attribute: str, values: Any) -> LabelTest:
        return AnyHolding(attribute, at_least=values) if isinstance(values, int) else AnyHolding(attribute, frozenset(values))


@plant("any and all are swapped between alternatives", SPECIFICATION)
class AlternativesSwapped(Engine):
    def rule(self, *parts: Any) -> Rule:
        return AnyAlternative(*parts)


@plant("a label that is absent meets a require", SPECIFICATION)
class AbsentLabelAccepted(Engine):
    def label_test(self, attribute: str, values: Any) -> LabelTest:
        return (
            AbsentAccepted(attribute, at_least=values) if isinstance(values, int) else AbsentAccepted(attribute, frozenset(values))
        )


@plant("a forbid does not hit what nobody vouches for", SPECIFICATION)
class AbsentLabelMissed(Engine):
    def label_test(self, attribute: str, values: Any) -> LabelTest:
        return AbsentMissed(attribute, at_least=values) if isinstance(values, int) else AbsentMissed(attribute, frozenset(values))


@plant("`anywhere` is taken for a country like others", SPECIFICATION)
class AnywhereIsACountry(Engine):
    def places(self, countries: Any, until: float | None) -> Places:
        return super().places({"anywhere"} if countries is None else countries, until)


@dataclass(frozen=True, slots=True)
class NeverStale(Places):
    """Places whose day never comes."""

    def at(self, instant: float) -> frozenset[str] | None:
        return self.countries


@dataclass(frozen=True, slots=True)
class StaleLate(Places):
    """Places that still hold at the very instant at which they go stale."""

    def at(self, instant: float) -> frozenset[str] | None:
        return None if self.until is not None and instant > self.until else self.countries


@plant("a stale label is accepted", SPECIFICATION)
class StaleAccepted(Engine):
    def places(self, countries: Any, until: float | None) -> Places:
        return NeverStale(None if countries is None else frozenset(countries), until=until)


@plant("a label holds at the instant at which it goes stale", SPECIFICATION)
class StaleTooLate(Engine):
    def places(self, countries: Any, until: float | None) -> Places:
        return StaleLate(None if countries is None else frozenset(countries), until=until)


@plant("an assurance that has ended is accepted", SPECIFICATION)
class EndedAccepted(Engine):
    def assurance(self, name: str, until: float | None) -> Assurance:
        return Assurance(name, None)


@plant("a stale label comes back to life", TIME)
class StaleRevived(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return View(snapshot, NOW - 900 if instant >= LATER else instant)


# --- rules ------------------------------------------------------------------------------------------------------------------


class FirstMatch(View):
    """The first rule that applies decides."""

    def judged(self, applying: int, asked: frozenset[str]) -> Eligibility:
        found, decided, allowed = judge(self, applying & self._rules, asked), 0, 0
        rows = {row.rule.id: (line, row) for line, row in enumerate((*self.permits, *self.restrictions))}
        for rule in self.snapshot.policy.rules:
            line, row = rows[rule.id]
            if applying >> line & 1:
                says = row.spared if rule.effect is Effect.PERMIT else self.all_mask & ~row.spared
                allowed |= says & ~decided if rule.effect is Effect.PERMIT else 0
                decided |= says
        return replace(found, mask=allowed & found.asked & found.enabled)


class AnyPermit(View):
    """Where no permit is written, all is permitted."""

    def judged(self, applying: int, asked: frozenset[str]) -> Eligibility:
        found = judge(self, applying & self._rules, asked)
        if self.permits:
            return found
        mask = total(i for i in bits(found.asked & found.enabled) if all(row.spared >> i & 1 for row in found.against))
        return replace(found, mask=mask, permitted=self.all_mask)


class LastRequire(View):
    """Of several requires that apply, only the last binds."""

    def judged(self, applying: int, asked: frozenset[str]) -> Eligibility:
        found = judge(self, applying & self._rules, asked)
        requires = [row for row in found.against if row.rule.effect is Effect.REQUIRE][-1:]
        others = [row for row in found.against if row.rule.effect is not Effect.REQUIRE]
        mask = found.permitted & found.asked & found.enabled
        for row in requires + others:
            mask &= row.spared
        return replace(found, mask=0 if found.gateway_rules else mask, against=tuple(requires + others))


@plant("the first rule that matches wins", ORDER, SPECIFICATION)
class FirstMatchWins(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return FirstMatch(snapshot, instant)


@plant("a policy without permits permits everything", NO_PERMIT)
class DefaultAllow(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return AnyPermit(snapshot, instant)


@plant("the last require overrides the others", RESTRICTION, SPECIFICATION)
class LastRequireWins(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return LastRequire(snapshot, instant)


@dataclass(frozen=True, slots=True)
class DeploymentsOnly(Rule):
    """A rule that binds deployments, and not the gateway, its stores and its sinks."""

    def spares(self, subject: Subject) -> bool:
        return subject.kind != "deployment" or Rule.spares(self, subject)


@dataclass(frozen=True, slots=True)
class NotSinks(Rule):
    """A rule that binds all but sinks."""

    def spares(self, subject: Subject) -> bool:
        return subject.kind == "sink" or Rule.spares(self, subject)


@plant("the gateway, stores and sinks are not asked", KEEPING, SPECIFICATION)
class KeepersNotAsked(Engine):
    def rule(self, *parts: Any) -> Rule:
        return DeploymentsOnly(*parts)


@plant("what may not be recorded is sent all the same", KEEPING, SPECIFICATION)
class SinksNotAsked(Engine):
    def rule(self, *parts: Any) -> Rule:
        return NotSinks(*parts)


class AnyName(View):
    """Of several names that may have been asked for, what any of them stands for."""

    def asked_mask(self, asked: frozenset[str]) -> int:
        mask = 0
        for name in asked:
            mask |= View.asked_mask(self, frozenset((name,)))
        return mask


class AllEnabled(View):
    """What is switched off serves."""

    def __init__(self, snapshot: Snapshot, instant: float) -> None:
        super().__init__(snapshot, instant)
        self.enabled = self.all_mask


@plant("a name that is not known stands for all that any name stands for", UNKNOWN, SPECIFICATION)
class AnyNameAsked(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return AnyName(snapshot, instant)


@plant("what is switched off in the catalogue serves", SPECIFICATION)
class DisabledServes(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return AllEnabled(snapshot, instant)


@plant("the limit on cost is not looked at", SPECIFICATION)
class NoLimit(Engine):
    def snapshot(self, of: World) -> Snapshot:
        return super().snapshot(of | {"limit": None})


# --- memory -----------------------------------------------------------------------------------------------------------------


class Forgetful(View):
    """What the rules leave is remembered by all facts but one."""

    forgotten = ""

    def judged(self, applying: int, asked: frozenset[str]) -> Eligibility:
        lines = 0
        for line, row in enumerate((*self.permits, *self.restrictions)):
            if any(test.fact == self.forgotten for test in row.rule.when):
                lines |= 1 << line
        key = (applying & self._rules & ~lines, asked if self.forgotten != "asked" else frozenset[str]())
        found = self._eligible.get(key)
        return found if found is not None else self._eligible.keep(key, judge(self, applying & self._rules, asked))


def forgetful(fact: str) -> type[Engine]:
    """An engine whose memory takes two values of `fact` for one."""
    kind = type(f"Forgets_{fact}", (Forgetful,), {"forgotten": fact, "__slots__": ()})

    class Forgets(Engine):
        def view(self, snapshot: Snapshot, instant: float) -> View:
            made: View = kind(snapshot, instant)
            return made

    return Forgets


for _fact in ("region", "data_class", "categories", "tenant", "asked"):
    plant(f"the memory's key misses the fact `{_fact}`", MEMORY)(forgetful(_fact))


class OneFit(View):
    """What fits is remembered by the mask alone, whatever is needed."""

    def __init__(self, snapshot: Snapshot, instant: float) -> None:
        super().__init__(snapshot, instant)
        self.fits = cast(Any, _ByMask())


class _ByMask(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[0], default)

    def keep(self, key: Any, value: Any) -> Any:
        self[key[0]] = value
        return value


@plant("what fits is remembered whatever the request needs", MEMORY)
class NeedsForgotten(Engine):
    def view(self, snapshot: Snapshot, instant: float) -> View:
        return OneFit(snapshot, instant)


# --- what comes after the rules -----------------------------------------------------------------------------------------------


def routed(decision: Decision, indices: list[int]) -> Decision:
    """The same decision, with other routes."""
    return replace(decision, routes=tuple(decision.view.routes[index] for index in indices))


@plant("a preference filters", PREFERENCES, SPECIFICATION)
class PreferenceFilters(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        for preference in view.snapshot.policy.preferences:
            liked = [r.index for r in decision.routes if _liked(preference, view.subjects[r.index])]
            decision = routed(decision, liked or [r.index for r in decision.routes])
        return decision


def _liked(preference: Preference, subject: Subject) -> bool:
    return not preference.prefer or surely_meets(subject, preference.prefer)


@plant("live state adds: what is throttled is tried as a last resort", LIVE)
class LiveAdds(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        return routed(
            decision, [r.index for r in decision.routes] + [view.indices[n] for n in live.blocked if n in view.indices][:1]
        )


@plant("an outage changes the order of the others", LIVE)
class RankedAmongUsable(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        order = [r.index for r in decision.routes]
        return routed(decision, order[::-1]) if live.blocked else decision


@plant("what a request needs is not looked at where it would leave no route", HINTS, SPECIFICATION)
class NeedsWaived(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        return decision if decision.fitting else decide(view, facts, Needs("chat"), live, draw)


@plant("a model may be asked for what it is not for, where the endpoint's labels hold for that", SPECIFICATION)
class ForAnything(Engine):
    def snapshot(self, of: World) -> Snapshot:
        return super().snapshot(of | {"places": [place | {"model_apis": set(APIS)} for place in of["places"]]})


@plant("texts that are read apart from one another share one window", SPECIFICATION)
class OneWindow(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        return decide(view, facts, replace(needs, longest_tokens=0), live, draw)


@plant("the order of equal routes is drawn anew each time", REPLAY)
class DiceOfItsOwn(Engine):
    rolled = 0

    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        self.rolled += 1
        return decide(view, facts, needs, live, draw + self.rolled)


@plant("an exclusion gives no reason", WHOLE)
class Silent(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        return replace(decision, eligibility=replace(decision.eligibility, against=())) if decision.routes else decision


@plant("what is warm is a route, whatever rules say", WARMTH)
class WarmthAllows(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        hot = tuple(route for route in view.routes if route.deployment.id in live.warm and route not in decision.routes)
        return replace(decision, routes=(*decision.routes, *hot))


@plant("only what is warm is a route, if anything is", WARMTH)
class WarmthLocks(Engine):
    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        decision = decide(view, facts, needs, live, draw)
        hot = tuple(route for route in decision.routes if route.deployment.id in live.warm)
        return replace(decision, routes=hot or decision.routes)


@plant("orders are remembered without what was warm", WARMTH)
class WarmthStays(Engine):
    def __init__(self) -> None:
        self.first: dict[View, LiveState] = {}

    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        return decide(view, facts, needs, replace(live, warm=self.first.setdefault(view, live).warm), draw)


# --- failover ---------------------------------------------------------------------------------------------------------------


def _tried(deployments: list[Deployment]) -> Generator[Attempt, Outcome, None]:
    for number, deployment in enumerate(deployments, start=1):
        outcome = yield Attempt(number, deployment)
        if not outcome.tries_next:
            return


@plant("failover goes by the first route's labels: whatever serves the same model may be tried", ATTEMPTS, REACH)
class FailoverByModel(Engine):
    def failover(self, decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
        first = [route.deployment for route in decision.routes[:1]]
        same = [d for d in decision.view.deployments if first and d.model.id == first[0].model.id and d is not first[0]]
        return _tried((first + same)[:attempts_max])


@plant("failover tries an endpoint again that failed as a whole", ATTEMPTS, REACH)
class FailoverAtBrokenEndpoints(Engine):
    def failover(self, decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
        return _tried([route.deployment for route in decision.routes[:attempts_max]])


@plant("failover counts no attempts", ATTEMPTS, REACH)
class FailoverWithoutEnd(Engine):
    def failover(self, decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
        return super().failover(decision, len(decision.routes))


@plant("failover goes on after the client's own fault", ATTEMPTS)
class FailoverAfterRejection(Engine):
    def failover(self, decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
        course = super().failover(decision, attempts_max)
        attempt = next(course, None)
        while attempt is not None:
            outcome = yield attempt
            try:
                attempt = course.send(replace(outcome, ended=Ended.FAILED))
            except StopIteration:
                attempt = None
