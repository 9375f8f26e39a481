"""Small worlds with tenants, keys and claims in them, and what a claim says of them by trying every request there is.

`allowed` and `kept` come from the specification of ten lines; what stands here adds, in as plain words, what each key may say,
and what the three kinds of claim ask. Nothing of `gateway/proof` is used, and nothing of the engine.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from oracle import allowed, as_of, hits, kept, meets
from strategies import HITS, MEETS, Choose, entries, mostly, named, several, world
from worlds import COUNTRIES, FACTS, LATER, Engine, World

from gateway.core.facts import FactSpec
from gateway.core.policy import Access, Claim, Key, Snapshot, Tenant
from gateway.core.terms import DATA_CLASSES

LAST = 2_000.0  # to here each claim is made; LATER lies before it
PLACES = {"processed_in", "operated_under", "origin"}
BINDING = {"provider", "processed_in", "operated_under", "assurances"}

# --- worlds -------------------------------------------------------------------------------------------------------------------

REGIONS: list[Any] = [
    {"within": {"DE"}, "default": {"DE"}}, {"within": {"DE", "US"}}, {"within": {"DE", "CN"}, "default": {"DE"}}, {},
    {"default": {"DE", "FR"}}, {"within": {"US", "CN"}}, {"within": {"DE", "FR"}},
]  # fmt: skip
DATA: list[Any] = [
    {"within": {"public"}, "default": {"public"}}, {"within": {"internal", "personal"}}, {"default": {"internal"}}, {},
    {"within": {"public", "personal"}, "default": {"personal"}},
]  # fmt: skip
KINDS: list[Any] = [
    {}, {}, {"always": {"health"}}, {"within": {"health", "card"}, "default": set()}, {"within": {"card"}},
    {"always": {"health"}, "within": {"card"}},
]  # fmt: skip
ABOUT = {
    "tenant": [{"a"}, {"b"}],
    "region": [{"DE", "FR"}, {"US"}, {"CN"}, {"DE"}],
    "data_class": [{"public"}, {"personal", "special"}, {"internal", "personal", "special"}],
    "categories": [{"health"}, {"card"}, {"health", "card"}],
    "asked": [{"auto"}, {"m1"}, {"old-*"}],
}
WANTS = MEETS | {"operated_under": [{"DE"}, {"DE", "FR"}, {"DE", "US"}], "provider": [{"ours"}, {"mistral", "ours"}]}


def claim(choose: Choose) -> World:
    """A claim; its id comes later."""
    kind = choose(["always", "always", "never", "some"])
    about = entries(choose, 0, 2, ABOUT)
    if kind == "never":
        says = [entries(choose, 1, 1, HITS) for _ in range(choose([1, 1, 2]))]
    else:
        says = [entries(choose, 0 if kind == "some" else 1, 2, WANTS) for _ in range(choose([1, 1, 2]))]
    return {"kind": kind, "when": about, "says": says}


def claimed(choose: Choose) -> World:
    """A world of one or two tenants with one or two keys each, a few claims, and labels that end before the claims do."""
    made = world(choose)
    tenants = {}
    for name in several(choose, ["a", "b"], 1, 2):
        facts = {"region": choose(REGIONS), "data_class": choose(DATA), "categories": choose(KINDS)}
        keys: World = {f"{name}1": {"facts": {}, "expires": choose([None, None, LATER])}}
        if choose([True, False]):
            narrowed = {fact: {"within": {min(spec["within"])}} for fact, spec in facts.items() if len(spec.get("within", ())) > 1}
            keys[f"{name}2"] = {"facts": narrowed, "expires": None}
        tenants[name] = {"facts": facts, "keys": keys}
    for place in made["places"]:
        ending = choose([None, "processed_in", "operated_under", "dpa"])
        place["stale"] = choose([place["stale"], {} if ending is None else {ending: LATER}])
    made["gateway"]["stale"] = choose(mostly({}, {"processed_in": LATER}, times=3))
    return made | {"tenants": tenants, "claims": named("c", [claim(choose) for _ in range(choose([1, 2, 3]))])}


def snapshot(of: World, engine: Engine | None = None) -> Snapshot:
    """The compiled form of such a world."""
    made = (engine or Engine()).snapshot(of)
    tenants, keys = {}, {}
    for name, tenant in of["tenants"].items():
        tenants[name] = Tenant(name, None, _specs(tenant["facts"]))
        for key, found in tenant["keys"].items():
            keys[key] = Key(key, name, b"", found["expires"], False, _specs(found["facts"]), frozenset())
    return Snapshot(replace(made.policy, claims=tuple(compiled(found) for found in of["claims"])), Access("access", tenants, keys))


def compiled(found: World) -> Claim:
    """One claim, compiled."""
    engine = Engine()
    when = tuple(engine.fact_test("claim", fact, values) for fact, values in found["when"].items())
    says = tuple(tuple(engine.label_test(name, values) for name, values in tests.items()) for tests in found["says"])
    return Claim(found["id"], "", "claims.yaml:1", found["kind"], when, says, LAST)


def _specs(facts: World) -> dict[str, FactSpec]:
    def frozen(values: Any) -> frozenset[str] | None:
        return None if values is None else frozenset(values)

    return {
        fact: FactSpec(frozen(spec.get("within")), frozen(spec.get("default")), frozenset(spec.get("always", ())))
        for fact, spec in facts.items()
    }


# --- every request there is -----------------------------------------------------------------------------------------------------

ALL = {"region": set(COUNTRIES), "data_class": set(DATA_CLASSES), "categories": {"health", "card"}}


def sayings(tenant: World, key: World, fact: str) -> list[tuple[set[str] | None, set[str]]]:
    """What requests can declare of a fact (None: nothing), each with what the fact is then."""
    spec, own = tenant["facts"].get(fact, {}), key["facts"].get(fact, {})
    within = spec.get("within")
    if within is not None and "within" in own:
        within = within & own["within"]
    always = set(spec.get("always", ()))
    if "default" in spec:
        default = spec["default"] & own["within"] if "within" in own else spec["default"]
        undeclared = default or (within if spec["default"] else set())
    else:
        undeclared = within or (set() if fact == "categories" else ALL[fact])
    sizes = range(0 if fact == "categories" else 1, 2 if fact == "data_class" else len(within or ()) + 1)
    declared = [set(few) for size in sizes for few in itertools.combinations(sorted(within), size)] if within is not None else []
    return [(None, set(undeclared) | always), *((few, few | always) for few in declared)]


def requests(of: World, now: float) -> Iterator[tuple[World, World]]:
    """Every request that some key can make: what is sent, and its facts."""
    names = [*of["aliases"], *sorted({place["model"] for place in of["places"]})]
    for tenant_name, tenant in of["tenants"].items():
        for key_name, key in tenant["keys"].items():
            if key["expires"] is not None and key["expires"] <= now:
                continue
            choices = [sayings(tenant, key, fact) for fact in ALL]
            for name in names:
                for chosen in itertools.product(*choices):
                    declared = {fact: said for fact, (said, _) in zip(ALL, chosen, strict=True) if said is not None}
                    facts = {fact: values for fact, (_, values) in zip(ALL, chosen, strict=True)}
                    sent = {"key": key_name, "asked": name.replace("*", "any"), "declared": declared}
                    yield sent, FACTS | facts | {"tenant": {tenant_name}, "key": {key_name}, "asked": {name}}


def goes_against(of: World, claim: World, facts: World, now: float) -> bool:
    """Whether a request with these facts goes against a claim."""
    if not all(facts[fact] & values for fact, values in claim["when"].items()):
        return False
    open_to = allowed(of, facts, now)
    places = {f"{p['endpoint']}/{p['model']}": as_of(p, now) for p in of["places"]}
    reached = [places[name] for name in open_to]
    if claim["kind"] == "some":
        return not any(_sure(place, claim["says"]) for place in reached)
    keepers = {"gateway": of["gateway"], **of["stores"], **of["sinks"]}
    here = kept(of, facts, now)
    if here >= {"gateway", *of["sinks"]}:
        reached += [as_of(keepers[name], now) for name in here]
    return any(_possible(p, claim["says"]) if claim["kind"] == "never" else not _sure(p, claim["says"]) for p in reached)


def _sure(place: World, says: list[World]) -> bool:
    asked = [{n: v for n, v in tests.items() if "model" in place or n in BINDING} for tests in says]
    asked = asked if "model" in place else [tests for tests in asked if tests] or [{}]
    return any(all(meets(place, n, v) for n, v in tests.items()) for tests in asked)


def _possible(place: World, says: list[World]) -> bool:
    return any(hits(place, n, v) for tests in says for n, v in tests.items() if "model" in place or n in BINDING)


def false_at(of: World, claim: World, now: float) -> bool:
    """Whether some request goes against a claim at that instant."""
    return any(goes_against(of, claim, facts, now) for _, facts in requests(of, now))


def asked_at(of: World, claim: World, now: float) -> bool:
    """Whether some request is in the `for` of a claim at that instant."""
    return any(all(f[fact] & values for fact, values in claim["when"].items()) for _, f in requests(of, now))
