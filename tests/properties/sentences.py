"""The properties of a decision, each a sentence, as functions of whatever engine decides.

Each takes an engine and a case, fails by assertion, and says whether the case had anything to bite on: a property that holds of
requests without a route holds of nothing, so each also names the share of cases that must bite.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import strategies as given
from oracle import able, allowed, kept
from worlds import LATER, NOW, Engine, World, identifier, live_state, request_facts, routes

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Needs, Outcome, Scope
from gateway.core.explain import as_json
from gateway.core.facts import RequestFacts
from gateway.core.failover import reachable
from gateway.core.live import LiveState
from gateway.core.terms import DATA_CLASSES
from gateway.core.view import View

Check = Callable[[Engine, World], bool]


@dataclass(frozen=True)
class Sentence:
    """One property. `bites_min` is the share of cases, at the least, that must have something to bite on."""

    text: str
    check: Check
    cases: given.Make
    bites_min: float


@dataclass
class Sentences:
    """All of them, by their text."""

    found: dict[str, Sentence] = field(default_factory=dict)

    def say(self, text: str, bites_min: float, cases: given.Make = given.case) -> Callable[[Check], Check]:
        """Make a property of a check."""

        def keep(check: Check) -> Check:
            self.found[text] = Sentence(text, check, cases, bites_min)
            return check

        return keep


SENTENCES: Final = Sentences()
say = SENTENCES.say


# --- how a case is put to an engine ---------------------------------------------------------------------------------------


def needs_of(found: World) -> Needs:
    """A request's needs."""
    fields: World = {}
    for name, value in found.items():
        fields[name] = frozenset(value) if isinstance(value, set) else value
    return Needs(**fields)


def live_of(case: World) -> LiveState:
    """What a case says of now."""
    return live_state(case["blocked"], case["latency_ms"], case["warm"])


def decided(engine: Engine, case: World, *, view: View | None = None, instant: float = NOW, **changed: Any) -> Decision:
    """The decision of a case, but for what is `changed`: world, facts, needs, live."""
    now = case | changed
    view = view or engine.view(engine.snapshot(now["world"]), instant)
    needs = now["needs"]
    facts = request_facts(now["facts"], prompt_tokens=needs["prompt_tokens"])
    return engine.decide(view, facts, needs_of(needs), changed.get("live", live_of(case)), case["draw"])


def places_of(decision: Decision) -> set[str]:
    """Where a decision lets its request go."""
    return set(routes(decision))


def told(decision: Decision) -> bytes:
    """The whole explanation of a decision, in bytes."""
    return orjson.dumps(as_json(decision))


# --- rules ------------------------------------------------------------------------------------------------------------------


@say("without a permit there is no route", 0.35)
def no_permit(engine: Engine, case: World) -> bool:
    world = case["world"]
    without = world | {"rules": [rule for rule in world["rules"] if rule["effect"] != "permit"]}
    assert not routes(decided(engine, case, world=without))
    return bool(routes(decided(engine, case)))


@say("another forbid or require never adds a route", 0.35, given.with_(another=given.restriction))
def restriction(engine: Engine, case: World) -> bool:
    world = case["world"]
    before = places_of(decided(engine, case))
    for name in ("a-first", "z-last"):
        for rules in ([case["another"], *world["rules"]], [*world["rules"], case["another"]]):
            more = [{"id": name} | rule for rule in rules]
            assert places_of(decided(engine, case, world=world | {"rules": more})) <= before
    return bool(before)


@say("the order of rules does not matter, to the byte", 0.3, given.with_(seed=given.one(range(100))))
def order_of_rules(engine: Engine, case: World) -> bool:
    rules = list(case["world"]["rules"])
    random.Random(case["seed"]).shuffle(rules)
    decision = decided(engine, case)
    assert told(decision) == told(decided(engine, case, world=case["world"] | {"rules": rules}))
    return rules != case["world"]["rules"] and bool(decision.routes)


@say(
    "preferences order routes, and do nothing else",
    0.17,
    given.with_(others=lambda choose: [given.preference(choose), *given.some(choose, given.preference, 2)]),
)
def preferences(engine: Engine, case: World) -> bool:
    first = decided(engine, case)
    second = decided(engine, case, world=case["world"] | {"preferences": given.named("other", case["others"])})
    assert places_of(first) == places_of(second)
    assert first.exclusions == second.exclusions
    return len(first.routes) > 1


# --- facts ------------------------------------------------------------------------------------------------------------------


@say("making a known fact unknown never adds a route", 0.2, given.with_(fact=given.one(sorted(given.HARD)), more=given.facts))
def unknown(engine: Engine, case: World) -> bool:
    fact, facts = case["fact"], case["facts"]
    wider = facts | {fact: set(facts[fact]) | set(case["more"][fact])}
    before, after = decided(engine, case), decided(engine, case, facts=wider)
    assert places_of(after) <= places_of(before)
    return wider[fact] != facts[fact] and bool(before.routes)


@say(
    "raising a class or adding a category never adds a route",
    0.3,
    given.with_(steps=given.one(range(4)), more=given.one(given.SOME_CATEGORIES)),
)
def raised(engine: Engine, case: World) -> bool:
    facts, top = case["facts"], len(DATA_CLASSES) - 1
    higher = {DATA_CLASSES[min(DATA_CLASSES.index(word) + case["steps"], top)] for word in facts["data_class"]}
    after = facts | {"data_class": higher, "categories": set(facts["categories"]) | case["more"]}
    before = decided(engine, case)
    assert places_of(decided(engine, case, facts=after)) <= places_of(before)
    return after != facts and bool(before.routes)


@say(
    "asking for one model of an alias, or for more of a model, only narrows",
    0.4,
    given.with_(more=given.needs, model=given.one(["m1", "m2"])),
)
def hints(engine: Engine, case: World) -> bool:
    # a rule that tests the name asked for means different rules for different names; these are not such worlds
    world = case["world"] | {"rules": [rule for rule in case["world"]["rules"] if "asked" not in rule["when"]]}
    facts, needs, more = case["facts"] | {"asked": {"auto"}}, case["needs"], case["more"]
    usual = 0 if needs["api"] == "embeddings" else 500
    dearer = {
        "api": needs["api"],
        "abilities": needs["abilities"] | more["abilities"],
        "tools": needs["tools"] | more["tools"],
        "prompt_tokens": max(needs["prompt_tokens"], more["prompt_tokens"]),
        "output_tokens": max(needs["output_tokens"] or usual, more["output_tokens"] or 500),
        "remote_content": needs["remote_content"] or more["remote_content"],
        "longest_tokens": max(one["longest_tokens"] or one["prompt_tokens"] for one in (needs, more)),
    }
    before = decided(engine, case, world=world, facts=facts, needs=needs | {"output_tokens": needs["output_tokens"] or usual})
    assert places_of(decided(engine, case, world=world, facts=facts, needs=dearer)) <= places_of(before)
    narrower = decided(engine, case, world=world, facts=facts | {"asked": {case["model"]}}, needs=needs)
    assert places_of(narrower) <= places_of(before)
    return bool(before.routes)


# --- now, and time ----------------------------------------------------------------------------------------------------------


@say("live state only takes away, and leaves the rest in its order", 0.18)
def live_only_takes_away(engine: Engine, case: World) -> bool:
    case = case | {"draw": 0}
    well = decided(engine, case, live=live_state((), case["latency_ms"], case["warm"]))
    assert routes(decided(engine, case)) == [name for name in routes(well) if name not in case["blocked"]]
    return len(well.routes) > 1 and not case["blocked"].isdisjoint(routes(well))


@say(
    "warmth orders routes, and does nothing else, and nothing of it is left for the next request",
    0.12,
    given.with_(hot=lambda choose: {name: choose([64, 640, 4_096]) for name in given.several(choose, given.IDS, 1, 3)}),
)
def warmth(engine: Engine, case: World) -> bool:
    snapshot = engine.snapshot(case["world"])
    view, cold = engine.view(snapshot, NOW), live_state(case["blocked"], case["latency_ms"])
    warm = decided(engine, case, view=view, live=replace(cold, warm=case["hot"]))
    after = decided(engine, case, view=view, live=cold)
    fresh = decided(engine, case, view=engine.view(snapshot, NOW), live=cold)
    assert places_of(warm) == places_of(fresh)
    assert warm.exclusions == fresh.exclusions
    assert routes(after) == routes(fresh)
    assert routes(decided(engine, case, live=replace(cold, warm={"nowhere/m1": 640}))) == routes(fresh)
    return len(fresh.routes) > 1 and not places_of(fresh).isdisjoint(case["hot"])


@say(
    "time only takes away, and between two instants that a view names nothing changes",
    0.18,
    given.with_(later=given.one([NOW + 1, LATER, 9e9])),
)
def time_only_takes_away(engine: Engine, case: World) -> bool:
    snapshot = engine.snapshot(case["world"])
    now, later = engine.view(snapshot, NOW), engine.view(snapshot, case["later"])
    before, after = decided(engine, case, view=now), decided(engine, case, view=later)
    assert places_of(after) <= places_of(before)
    if case["later"] < now.valid_until:
        assert routes(after) == routes(before)
        assert after.exclusions == before.exclusions
    return bool(before.routes) and now.valid_until < 9e9


# --- decisions --------------------------------------------------------------------------------------------------------------


@say("every deployment is a route or an exclusion with a reason", 0.3)
def whole(engine: Engine, case: World) -> bool:
    decision = decided(engine, case)
    found = routes(decision)
    assert sorted([*found, *decision.exclusions]) == sorted(identifier(place) for place in case["world"]["places"])
    assert len(set(found)) == len(found)
    assert all(decision.exclusions.values())
    return bool(decision.routes) and bool(decision.exclusions)


@say("a decision made again from its record is equal, to the byte", 0.35)
def replay(engine: Engine, case: World) -> bool:
    snapshot = engine.snapshot(case["world"])
    view = engine.view(snapshot, NOW)
    for other in (case | {"draw": case["draw"] + 1}, case):  # the second decides with what the first left in the memory of the view
        decision = decided(engine, other, view=view)
    record = orjson.loads(orjson.dumps(decision.facts.as_record()))
    fields: dict[str, Any] = {name: frozenset(value) if isinstance(value, list) else value for name, value in record.items()}
    facts = RequestFacts(**fields)
    again = engine.decide(engine.view(snapshot, view.instant), facts, decision.needs, decision.live, decision.draw)
    assert told(again) == told(decision)
    return bool(decision.routes)


@say(
    "a view that has decided much decides like a fresh one",
    0.5,
    given.with_(others=lambda choose: [(given.facts(choose), given.needs(choose)) for _ in range(3)]),
)
def memory(engine: Engine, case: World) -> bool:
    snapshot = engine.snapshot(case["world"])
    old, live = engine.view(snapshot, NOW), live_of(case)
    differs = {"region": {"US"}, "data_class": {"special"}, "categories": {"health"}, "tenant": {"b"}, "asked": {"m2"}}
    others = [(case["facts"] | {fact: value}, case["needs"]) for fact, value in differs.items()] + case["others"]
    found = False
    for facts, needs in [*others, (case["facts"], case["needs"])]:
        remembered = decided(engine, case, view=old, facts=facts, needs=needs, live=live)
        fresh = decided(engine, case, view=engine.view(snapshot, NOW), facts=facts, needs=needs, live=live)
        assert routes(remembered) == routes(fresh)
        assert remembered.exclusions == fresh.exclusions
        assert remembered.eligibility == fresh.eligibility
        found |= bool(fresh.routes)
    return found


@say("the engine agrees with the specification", 0.35, given.with_(instant=given.one([NOW, NOW, LATER - 1, LATER])))
def specification(engine: Engine, case: World) -> bool:
    world, facts, instant = case["world"], case["facts"], case["instant"]
    wanted = allowed(world, facts, instant)
    decision = decided(engine, case, instant=instant)
    eligible = {route.deployment.id for route in decision.view.routes if decision.eligibility.mask >> route.index & 1}
    assert eligible == wanted
    usable = {identifier(p) for p in world["places"] if identifier(p) in wanted and able(world, p, case["needs"])}
    assert places_of(decision) == usable - case["blocked"]
    keepers = kept(world, facts, instant)
    assert decision.eligibility.keepers == keepers - {"gateway"}
    assert bool(decision.eligibility.gateway_rules) == (not keepers >= {"gateway", *world["sinks"]})
    return bool(decision.routes)


# --- attempts ---------------------------------------------------------------------------------------------------------------

FAILURES: Final = [Outcome(Ended.FAILED, scope=scope) for scope in Scope]
ENDINGS: Final = [Outcome(ended) for ended in (Ended.SERVED, Ended.REJECTED, Ended.CLIENT_GONE, Ended.CUT_SHORT)]


def attempts(engine: Engine, decision: Decision, attempts_max: int, outcomes: Iterator[Outcome]) -> list[tuple[Attempt, Outcome]]:
    """What is tried if attempts end in `outcomes`, one after the other."""
    found = []
    course = engine.failover(decision, attempts_max)
    attempt = next(course, None)
    while attempt is not None:
        outcome = next(outcomes, None)
        assert outcome is not None, "more attempts than there are routes"
        found.append((attempt, outcome))
        try:
            attempt = course.send(outcome)
        except StopIteration:
            attempt = None
    return found


@say(
    "attempts are routes of the decision, each once, none after the end, none that shares what failed",
    0.1,
    given.with_(outcomes=lambda choose: [choose(6 * FAILURES + ENDINGS) for _ in range(6)]),
)
def failing_over(engine: Engine, case: World) -> bool:
    decision = decided(engine, case)
    tried = attempts(engine, decision, case["world"]["attempts_max"], iter(case["outcomes"]))
    ids = [attempt.deployment.id for attempt, _ in tried]
    assert [attempt.number for attempt, _ in tried] == list(range(1, len(tried) + 1))
    assert len(tried) <= case["world"]["attempts_max"]
    assert ids == [name for name in routes(decision) if name in ids], "not routes of the decision, in its order"
    assert all(outcome.tries_next for _, outcome in tried[:-1])
    for (one, outcome), (other, _) in itertools.combinations(tried, 2):
        assert outcome.scope is not Scope.ENDPOINT or one.deployment.endpoint.id != other.deployment.endpoint.id
    return len(tried) > 1


@say("what an explanation says can be reached is what failing routes reach, and no more", 0.17)
def reach(engine: Engine, case: World) -> bool:
    decision, attempts_max = decided(engine, case), case["world"]["attempts_max"]
    earliest: dict[str, int] = {}
    for course in itertools.product(FAILURES, repeat=len(decision.routes)):
        for attempt, _ in attempts(engine, decision, attempts_max, iter(course)):
            name = attempt.deployment.id
            earliest[name] = min(earliest.get(name, attempt.number), attempt.number)
    assert reachable(decision, attempts_max) == earliest
    return len(decision.routes) > 1


@say(
    "nothing is written where rules do not let it be kept, and without a ledger nothing is sent",
    0.18,
    given.with_(another=lambda choose: given.entries(choose, 1, 2, given.MEETS)),
)
def keeping(engine: Engine, case: World) -> bool:
    wants = {"effect": "require", "when": {}, "says": [case["another"]], "id": "wants"}
    decision = decided(engine, case, world=case["world"] | {"rules": [*case["world"]["rules"], wants]})
    kept_in = decision.eligibility.keepers
    for name, keeper in {**case["world"]["stores"], **case["world"]["sinks"]}.items():
        provider = case["another"].get("provider")
        assert not (name in kept_in and provider is not None and keeper["provider"] not in provider)
        for label in ("processed_in", "operated_under"):
            within = case["another"].get(label)
            gone = keeper["stale"].get(label, LATER) <= NOW
            assert not (name in kept_in and within is not None and (gone or keeper[label] is None or not keeper[label] <= within))
    assert not (decision.routes and not kept_in >= set(case["world"]["sinks"]))
    return kept_in < {*case["world"]["stores"], *case["world"]["sinks"]}
