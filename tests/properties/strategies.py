"""Random worlds in which most requests have a route.

A world drawn blindly permits next to nothing, and then every property of its routes is true and empty. So most start from "permit
everything", each attribute has two or three values, and what rules want is what most places have.
"""

from typing import Any

from hypothesis import strategies as st
from worlds import EEA, FACTS, LATER, PAST, PERMIT_ALL, PLACE, World, keeper

from gateway.core.terms import DATA_CLASSES

SERVED = [("e0", "m1"), ("e0", "m2"), ("e1", "m1"), ("e1", "m2"), ("e2", "m1")]
ORIGINS = {"m1": {"FR"}, "m2": {"CN"}}
REGIONS = [{"DE"}, {"US"}, {"CN"}, {"DE", "US"}, {"DE", "CN"}, {"DE", "US", "CN"}]
LABELLED = [{"DE"}, {"DE"}, {"DE"}, {"DE", "FR"}, {"DE", "FR"}, {"US"}, {"DE", "US"}, {"CN"}, None]
WANTED = [set(EEA), EEA | {"US"}, EEA | {"CN"}, {"DE", "US", "CN"}, {"DE"}]
UPWARDS = [set(DATA_CLASSES[n:]) for n in range(4)]
DOWNWARDS = [set(DATA_CLASSES[: n + 1]) for n in range(4)]
SOME_CATEGORIES = [{"health"}, {"card"}, {"health", "card"}]
ENDS = [PAST, LATER]


def some(values: list[Any]) -> st.SearchStrategy[Any]:
    """One of `values`."""
    return st.sampled_from(values)


def mostly(usual: Any, *others: Any, times: int = 7) -> st.SearchStrategy[Any]:
    """`usual`, but for one time in `times` + 1 or so."""
    return st.sampled_from([usual] * times * len(others) + list(others))


def dicts(minimum: int, maximum: int, **entries: list[Any]) -> st.SearchStrategy[World]:
    """Dicts of some of `entries`, each with one of its values."""
    names = st.lists(some(sorted(entries)), min_size=minimum, max_size=maximum, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: some(entries[name]) for name in chosen}))


LABELS: World = {
    "provider": some(["mistral", "mistral", "ours", "zai"]),
    "processed_in": some(LABELLED),
    "operated_under": some(LABELLED),
    "assurances": some([{"dpa"}, {"dpa", "dpf"}, set()]),
    "stale": mostly({}, *({name: end} for name in ("processed_in", "operated_under", "dpa") for end in ENDS), times=3),
    "abilities": mostly({"tools", "vision"}, {"tools"}, set(), times=2),
    "tools": mostly({"function"}, set()),
    "context": mostly(10_000, 1_000, None, times=4),
    "remote_content": st.booleans(),
    "enabled": mostly(True, False),
    "price": some([(1.0, 2.0), (1.0, 2.0), (3.0, 3.0), (0.5, 40.0), "plan", "capacity"]),
    "scores": some([{}, {"coding": 1.0}, {"coding": 2.0}]),
}


@st.composite
def places(draw: st.DrawFn) -> list[World]:
    """Two to five deployments, some of them at the same endpoint."""
    served = draw(st.lists(some(SERVED), min_size=2, max_size=5, unique=True))
    found = [PLACE | draw(st.fixed_dictionaries(LABELS)) for _ in served]
    return [p | {"endpoint": e, "model": m, "origin": ORIGINS[m]} for p, (e, m) in zip(found, served, strict=True)]


def keepers(times: int) -> st.SearchStrategy[World]:
    """What processes or keeps content: `times` to one, it is where nearly every rule lets it be."""
    labels = st.fixed_dictionaries(
        {
            "processed_in": mostly({"DE"}, {"US"}, None, times=1),
            "operated_under": mostly({"DE"}, {"US"}, times=1),
            "assurances": some([{"dpa", "dpf"}, {"dpa"}, set()]),
            "stale": mostly({}, {"processed_in": LATER}, {"dpa": PAST}, times=2),
        }
    )
    return mostly(True, False, times=times).flatmap(
        lambda usual: st.just(keeper(assurances={"dpa", "dpf"})) if usual else labels.map(lambda found: keeper(**found))
    )


PERMITTED_WHEN = dicts(0, 2, tenant=[{"a"}, {"a", "b"}], region=[set(EEA), {"DE", "US"}, {"CN"}], data_class=DOWNWARDS)
APPLIES_WHEN = dicts(
    0,
    2,
    tenant=[{"a"}, {"b"}],
    region=[set(EEA), {"US"}, {"CN"}],
    data_class=UPWARDS,
    categories=SOME_CATEGORIES,
    asked=[{"auto"}, {"m1"}],
)
MEETS = dicts(
    1,
    2,
    provider=[{"mistral", "ours"}, {"ours"}],
    processed_in=WANTED,
    operated_under=WANTED,
    origin=[{"FR"}, {"FR", "CN"}],
    assurances=[{"dpa"}, {"dpa", "dpf"}],
    abilities=[{"tools"}],
    context=[1_000, 5_000],
)
HITS = dicts(
    1,
    1,
    provider=[{"zai"}, {"mistral"}],
    model=[{"m2"}],
    processed_in=[{"CN"}, {"US", "CN"}],
    operated_under=[{"CN"}],
    origin=[{"CN"}],
)


def rules(effect: str, when: st.SearchStrategy[World], says: st.SearchStrategy[list[World]]) -> st.SearchStrategy[World]:
    """Rules of one effect; their ids come later."""
    return st.fixed_dictionaries({"effect": st.just(effect), "when": when, "says": says})


PERMITS = rules("permit", PERMITTED_WHEN, st.lists(MEETS | st.just({}), min_size=1, max_size=2))
RESTRICTIONS = rules("require", APPLIES_WHEN, st.lists(MEETS, min_size=1, max_size=2)) | rules(
    "forbid", APPLIES_WHEN, st.lists(HITS, min_size=1, max_size=2)
)
PREFERENCES = st.fixed_dictionaries(
    {"when": dicts(0, 1, language=[{"zh"}, {"en"}], task=[{"coding"}], categories=SOME_CATEGORIES)}
).flatmap(
    lambda base: st.one_of(
        st.fixed_dictionaries({"prefer": st.lists(MEETS, min_size=1, max_size=1)}),
        st.fixed_dictionaries({"rank": dicts(1, 3, **{"cost": [1.0], "latency": [0.3, 1.0], "score.coding": [1.0, 0.5]})}),
    ).map(lambda says: base | says)
)


def named(prefix: str, found: list[World]) -> list[World]:
    """Give each an id."""
    return [one | {"id": f"{prefix}{number}"} for number, one in enumerate(found)]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world: three in four permit everything to begin with."""
    permits = draw(st.lists(PERMITS, min_size=0, max_size=2))
    everything = [PERMIT_ALL] if draw(mostly(True, False, times=3)) else []
    return {
        "places": draw(places()),
        "rules": everything + named("p", permits) + named("r", draw(st.lists(RESTRICTIONS, min_size=0, max_size=3))),
        "gateway": draw(keepers(3)),
        "stores": {"cache": draw(keepers(1))},
        "sinks": {"ledger": draw(keepers(3))} if draw(st.booleans()) else {},
        "preferences": named("order", draw(st.lists(PREFERENCES, min_size=0, max_size=2))),
        "aliases": {"auto": {"m1", "m2"}, "old-*": {"m1"}},
        "limit": draw(mostly(None, 0.01, times=2)),
        "attempts_max": draw(some([1, 2, 2, 4])),
    }


FACT_VALUES: World = {
    "tenant": [{"a"}, {"b"}, {"a", "b"}],
    "region": [{"DE"}, {"DE"}, *REGIONS],
    "data_class": [*({word} for word in DATA_CLASSES), set(DATA_CLASSES), {"personal", "special"}],
    "categories": [set(), set(), *SOME_CATEGORIES],
    "asked": [{"auto"}, {"auto"}, {"auto"}, {"m1"}, {"m2"}, {"old-*"}, {"m1", "auto"}],
    "language": [{"en"}, {"zh"}, {"en", "zh"}],
    "task": [{"coding"}, {"other"}, {"coding", "other"}],
}
FACTS_DRAWN = st.fixed_dictionaries({name: some(values) for name, values in FACT_VALUES.items()}).map(lambda found: FACTS | found)

NEEDS = st.fixed_dictionaries(
    {
        "api": mostly("chat", "embeddings", times=12),
        "abilities": mostly(set(), {"tools"}, {"vision"}, times=2),
        "tools": mostly(set(), {"function"}, times=3),
        "prompt_tokens": mostly(100, 900, 5_000, times=2),
        "output_tokens": mostly(None, 50, 4_000, times=2),
        "remote_content": mostly(False, True, times=9),
    }
)
BLOCKED = some([frozenset(f"{e}/{m}" for e, m in few) for few in ((), SERVED[:1], SERVED[1:3], SERVED[3:], SERVED)])
LATENCIES = st.dictionaries(some([f"{e}/{m}" for e, m in SERVED]), some([50, 100, 400]), max_size=3)
CASES = st.fixed_dictionaries(
    {
        "world": worlds(),
        "facts": FACTS_DRAWN,
        "needs": NEEDS,
        "blocked": BLOCKED,
        "latency_ms": LATENCIES,
        "draw": st.integers(0, 5),
    }
)


def with_(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[World]:
    """Cases that carry something more."""
    return st.tuples(CASES, st.fixed_dictionaries(more)).map(lambda pair: pair[0] | pair[1])
