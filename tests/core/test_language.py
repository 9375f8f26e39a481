"""Each row of the table that says what permit, require and forbid mean, label by label, and what is missing, stale or anywhere."""

from typing import Any

import pytest
from worlds import COUNTRIES, EEA, LATER, NOW, PAST, PERMIT_ALL, decided, keeper, place, routes, rule, world

from gateway.core.terms import Because


def allows(effect: str, says: Any, labels: dict[str, Any]) -> bool:
    """Whether a rule that applies to every request leaves a deployment with these labels."""
    rules = [rule(effect, says, "r")] if effect == "permit" else [PERMIT_ALL, rule(effect, says, "r")]
    decision = decided(world([place(**labels)]) | {"rules": rules})
    # the same rule also binds the gateway, which is not what is asked here
    return not {"r", "no permit"} & {reason.word for reason in decision.exclusions.get("e/m1", ())}


DPA_IN_EUROPE = {"processed_in": EEA, "assurances": {"dpa"}}
MODEL_OR_EUROPE = [{"model": {"m1"}}, {"processed_in": EEA}]
SURE = [
    # what is wanted, labels, whether a permit or a require is met
    ("one value: is in the set", {"provider": {"mistral", "ours"}}, {"provider": "mistral"}, True),
    ("one value: is not", {"provider": {"ours"}}, {"provider": "mistral"}, False),
    ("endpoint", {"endpoint": {"e"}}, {}, True),
    ("endpoint, another", {"endpoint": {"f"}}, {}, False),
    ("dialect", {"dialect": {"openai"}}, {}, True),
    ("model", {"model": {"m1"}}, {}, True),
    ("model, another", {"model": {"m2"}}, {}, False),
    ("places: all lie in the set", {"processed_in": EEA}, {"processed_in": {"DE", "FR"}}, True),
    ("places: one does not", {"processed_in": EEA}, {"processed_in": {"DE", "US"}}, False),
    ("places: none does", {"processed_in": EEA}, {"processed_in": {"US"}}, False),
    ("places: anywhere", {"processed_in": EEA}, {"processed_in": None}, False),
    ("places: anywhere is in no set, not even the largest", {"processed_in": COUNTRIES}, {"processed_in": None}, False),
    ("places: an empty label vouches for nothing", {"processed_in": EEA}, {"processed_in": set()}, False),
    ("places: stale", {"processed_in": EEA}, {"stale": {"processed_in": PAST}}, False),
    ("places: stale from this instant on", {"processed_in": EEA}, {"stale": {"processed_in": NOW}}, False),
    ("places: will be stale", {"processed_in": EEA}, {"stale": {"processed_in": LATER}}, True),
    ("operated_under is not processed_in", {"operated_under": EEA}, {"processed_in": {"DE"}, "operated_under": {"US"}}, False),
    ("origin is a third thing", {"origin": {"FR"}}, {"origin": {"CN"}, "processed_in": {"FR"}, "operated_under": {"FR"}}, False),
    ("origin", {"origin": {"CN"}}, {"origin": {"CN"}}, True),
    ("holdings: has every one named", {"assurances": {"dpa", "dpf"}}, {"assurances": {"dpa", "dpf", "scc"}}, True),
    ("holdings: lacks one", {"assurances": {"dpa", "dpf"}}, {"assurances": {"dpa"}}, False),
    ("holdings: has none", {"assurances": {"dpa"}}, {"assurances": set()}, False),
    ("holdings: ended", {"assurances": {"dpa"}}, {"assurances": {"dpa"}, "stale": {"dpa": PAST}}, False),
    ("holdings: ends at this instant", {"assurances": {"dpa"}}, {"assurances": {"dpa"}, "stale": {"dpa": NOW}}, False),
    ("holdings: will end", {"assurances": {"dpa"}}, {"assurances": {"dpa"}, "stale": {"dpa": LATER}}, True),
    ("holdings: apis", {"apis": {"embeddings"}}, {"apis": {"chat"}}, False),
    ("holdings: tools", {"tools": {"function"}}, {"tools": {"function"}}, True),
    ("holdings: abilities", {"abilities": {"vision"}}, {"abilities": {"tools"}}, False),
    ("number: at least", {"context": 10_000}, {"context": 10_000}, True),
    ("number: less", {"context": 10_001}, {"context": 10_000}, False),
    ("number: missing", {"context": 1}, {"context": None}, False),
    ("two tests: both met", {"processed_in": EEA, "assurances": {"dpa"}}, {"assurances": {"dpa"}}, True),
    ("two tests: one not", {"processed_in": EEA, "assurances": {"dpa"}}, {}, False),
    ("alternatives: one met whole", [{"processed_in": {"US"}}, {"operated_under": EEA}], {}, True),
    ("alternatives: halves of two", [{"processed_in": {"US"}, "operated_under": EEA}, DPA_IN_EUROPE], {}, False),
    ("alternatives: none", [{"processed_in": {"US"}}, {"operated_under": {"US"}}], {}, False),
    ("nothing is wanted", {}, {"processed_in": None, "operated_under": None, "context": 10_000}, True),
]  # fmt: skip


@pytest.mark.parametrize("effect", ["permit", "require"])
@pytest.mark.parametrize(("says", "labels", "met"), [row[1:] for row in SURE], ids=[row[0] for row in SURE])
def test_permit_and_require_want_to_be_sure(effect: str, says: Any, labels: dict[str, Any], met: bool) -> None:
    assert allows(effect, says, labels) is met


MAY = [
    # what is forbidden, labels, whether it is hit
    ("one value: is in the set", {"provider": {"mistral"}}, {}, True),
    ("one value: is not", {"provider": {"zai"}}, {}, False),
    ("model", {"model": {"m1"}}, {}, True),
    ("endpoint", {"endpoint": {"f"}}, {}, False),
    ("places: any lies in the set", {"processed_in": {"CN"}}, {"processed_in": {"DE", "CN"}}, True),
    ("places: all do", {"processed_in": {"CN"}}, {"processed_in": {"CN"}}, True),
    ("places: none does", {"processed_in": {"CN"}}, {"processed_in": {"DE", "US"}}, False),
    ("places: anywhere is hit by every forbid", {"processed_in": {"CN"}}, {"processed_in": None}, True),
    ("places: an empty label is as good as none", {"processed_in": {"CN"}}, {"processed_in": set()}, True),
    ("places: stale", {"processed_in": {"CN"}}, {"stale": {"processed_in": PAST}}, True),
    ("places: stale from this instant on", {"processed_in": {"CN"}}, {"stale": {"processed_in": NOW}}, True),
    ("places: will be stale", {"processed_in": {"CN"}}, {"stale": {"processed_in": LATER}}, False),
    ("operated_under", {"operated_under": {"US"}}, {"operated_under": {"US"}}, True),
    ("origin", {"origin": {"CN"}}, {"origin": {"CN"}}, True),
    ("origin is not where it runs", {"origin": {"CN"}}, {"origin": {"FR"}, "processed_in": {"CN"}}, False),
    ("alternatives: any hits", [{"processed_in": {"CN"}}, {"operated_under": {"DE"}}], {}, True),
    ("alternatives: none hits", [{"processed_in": {"CN"}}, {"operated_under": {"US"}}], {}, False),
]


@pytest.mark.parametrize(("says", "labels", "hit"), [row[1:] for row in MAY], ids=[row[0] for row in MAY])
def test_forbid_hits_what_it_may(says: Any, labels: dict[str, Any], hit: bool) -> None:
    assert allows("forbid", says, labels) is not hit


EVERYTHING = {"public", "internal", "personal", "special"}
WHENS = [
    # when, facts, whether it may hold, whether it must
    ("no test", {}, {}, True, True),
    ("known, and in the set", {"region": EEA}, {"region": {"DE"}}, True, True),
    ("known, and not in it", {"region": EEA}, {"region": {"US"}}, False, False),
    ("not known, and some values are in it", {"region": EEA}, {"region": {"DE", "US"}}, True, False),
    ("a zone inside a larger one", {"region": EEA}, {"region": EEA}, True, True),
    ("a class at least", {"data_class": {"personal", "special"}}, {"data_class": {"special"}}, True, True),
    ("any class", {"data_class": {"personal", "special"}}, {"data_class": EVERYTHING}, True, False),
    ("two tests, one not", {"region": EEA, "tenant": {"b"}}, {}, False, False),
    ("two tests, one not sure", {"region": EEA, "tenant": {"a"}}, {"region": {"DE", "CN"}}, True, False),
    ("a category is among them", {"categories": {"health"}}, {"categories": {"health", "card"}}, True, False),
    ("a category, and no other", {"categories": {"health"}}, {"categories": {"health"}}, True, True),
    ("no category was found: finding one can only take away", {"categories": {"health"}}, {"categories": set()}, False, True),
    ("a fact without any value is as good as unknown", {"region": EEA}, {"region": set()}, True, False),
    ("key", {"key": {"other"}}, {}, False, False),
    ("group of a tenant in none", {"group": {"health"}}, {}, False, False),
    ("api", {"api": {"chat"}}, {}, True, True),
    ("a range, both ends inside it", {"prompt_tokens": (100, 100)}, {}, True, True),
    ("a range, above", {"prompt_tokens": (101, None)}, {}, False, False),
    ("a range, below", {"prompt_tokens": (None, 99)}, {}, False, False),
]


@pytest.mark.parametrize(("when", "facts", "may", "must"), [row[1:] for row in WHENS], ids=[row[0] for row in WHENS])
def test_permit_needs_must_and_others_need_may(when: Any, facts: Any, may: bool, must: bool) -> None:
    permit_only = world() | {"rules": [rule("permit", identifier="p", **when)]}
    assert bool(routes(decided(permit_only, facts))) is must
    for effect, says in (("require", {"provider": {"ours"}}), ("forbid", {"provider": {"mistral"}})):
        assert bool(routes(decided(world([], [rule(effect, says, **when)]), facts))) is not may


def test_preferences_need_must_and_something_there() -> None:
    places = [place("e"), place("f", provider="ours")]

    def first(facts: dict[str, Any], **when: Any) -> str:
        preference = {"id": "ours-first", "when": when, "prefer": [{"provider": {"ours"}}]}
        return routes(decided(world(places, preferences=[preference]), facts))[0]

    assert first({}) == "f/m1"
    assert first({"region": {"DE"}}, region=EEA) == "f/m1"
    assert first({"region": {"DE", "US"}}, region=EEA) == "e/m1", "not sure"
    assert first({"categories": {"health"}}, categories={"health"}) == "f/m1"
    assert first({"categories": set()}, categories={"health"}) == "e/m1", "nothing was found"
    assert first({"ability": set()}, ability={"tools"}) == "e/m1", "nothing is used"


def test_without_a_permit_there_is_no_route() -> None:
    decision = decided(world() | {"rules": []})
    assert not decision.routes
    assert [reason.word for reason in decision.exclusions["e/m1"]] == ["no permit"]


def test_one_permit_is_enough_and_every_restriction_counts() -> None:
    rules = [
        rule("permit", {"provider": {"zai"}}, "p1"),
        rule("permit", {"provider": {"mistral"}}, "p2"),
        rule("require", {"processed_in": EEA}, "r1"),
        rule("require", {"assurances": {"dpa"}}, "r2"),
        rule("forbid", {"operated_under": {"DE"}}, "f1"),
    ]
    reasons = decided(world() | {"rules": rules}).exclusions["e/m1"]
    assert [reason.word for reason in reasons if reason.kind is not Because.GATEWAY] == ["f1", "r2"], (
        "every rule against it, and none that is met"
    )


# --- what is asked of the gateway, stores and sinks -------------------------------------------------------------------------


KEPT = [
    ("places", "require", {"processed_in": EEA}, {"processed_in": {"US"}}, False),
    ("places, met", "require", {"processed_in": EEA}, {}, True),
    ("places, anywhere", "require", {"processed_in": EEA}, {"processed_in": None}, False),
    ("places, stale", "require", {"processed_in": EEA}, {"stale": {"processed_in": PAST}}, False),
    ("provider", "require", {"provider": {"ours"}}, {"provider": "redis-labs"}, False),
    ("assurances", "require", {"assurances": {"dpa"}}, {"assurances": {"dpa"}}, True),
    ("assurances, lacking", "require", {"assurances": {"dpa"}}, {}, False),
    ("forbidden", "forbid", {"operated_under": {"US"}}, {"operated_under": {"US"}}, False),
    ("forbidden, anywhere", "forbid", {"operated_under": {"US"}}, {"operated_under": None}, False),
    ("not asked: model", "require", {"model": {"m2"}}, {}, True),
    ("not asked: origin", "forbid", {"origin": {"CN"}}, {}, True),
    ("not asked: abilities", "require", {"abilities": {"vision"}}, {}, True),
    ("the half that is asked binds", "require", {"model": {"m2"}, "processed_in": EEA}, {"processed_in": {"US"}}, False),
    ("an alternative that asks nothing is not met for free", "require", MODEL_OR_EUROPE, {"processed_in": {"US"}}, False),
    ("one of two alternatives that ask", "require", [{"provider": {"x"}}, {"processed_in": EEA}], {}, True),
]  # fmt: skip


@pytest.mark.parametrize(("effect", "says", "labels", "allowed"), [row[1:] for row in KEPT], ids=[row[0] for row in KEPT])
@pytest.mark.parametrize("kind", ["gateway", "stores", "sinks"])
def test_keepers_are_asked_for_what_binds_them(kind: str, effect: str, says: Any, labels: Any, allowed: bool) -> None:
    # the deployment meets whatever is asked of it
    served = place(model="m2", assurances={"dpa"}, abilities={"vision"}, provider="ours")
    name = {"gateway": "gateway", "stores": "cache", "sinks": "ledger"}[kind]
    held = keeper(**labels) if kind == "gateway" else {name: keeper(**labels)}
    rest = {} if kind == "gateway" else {"gateway": keeper(assurances={"dpa"})}
    decision = decided(world([served], [rule(effect, says, "r")], **{kind: held}, **rest))
    if kind == "gateway":
        assert bool(decision.eligibility.gateway_rules) is not allowed
    else:
        assert (name in decision.eligibility.keepers) is allowed
    if kind != "stores" and not allowed:
        assert not decision.routes, "what may not be processed or recorded here is sent nowhere"


def test_keepers_need_no_permit() -> None:
    narrow = world(stores={"cache": keeper()}, sinks={"ledger": keeper()}) | {"rules": [rule("permit", {"provider": {"mistral"}})]}
    decision = decided(narrow)
    assert decision.routes
    assert decision.eligibility.keepers == {"cache", "ledger"}


def test_what_the_gateway_may_not_process_is_refused_with_the_rule() -> None:
    germany = rule("require", {"processed_in": {"DE"}}, "germany", data_class={"special"})
    apart = world(rules=[germany], gateway=keeper(processed_in={"FR"}))
    assert decided(apart, data_class={"internal"}).routes
    decision = decided(apart, data_class={"special"})
    assert not decision.routes
    assert [reason.word for reason in decision.exclusions["e/m1"]] == ["gateway: germany"]


# --- names ------------------------------------------------------------------------------------------------------------------


def test_a_name_stands_for_its_models_and_only_those() -> None:
    both = world([place("e", model="m1"), place("f", model="m2")], aliases={"auto": {"m1", "m2"}, "gpt-*": {"m2"}, "m1": {"m2"}})
    assert routes(decided(both, asked={"auto"})) == ["e/m1", "f/m2"]
    assert routes(decided(both, asked={"m2"})) == ["f/m2"]
    assert routes(decided(both, asked={"gpt-*"})) == ["f/m2"]
    assert routes(decided(both, asked={"m1"})) == ["e/m1"], "a model's own name comes before an alias'"
    assert routes(decided(both, asked={"m1", "auto"})) == ["e/m1"], "either may have been meant, so both must stand for it"
    assert routes(decided(both, asked={"nothing"})) == []
    assert routes(decided(both, asked=set())) == []


def test_what_is_switched_off_is_excluded_by_that_name() -> None:
    decision = decided(world([place(enabled=False)]))
    assert [reason.word for reason in decision.exclusions["e/m1"]] == ["disabled"]
