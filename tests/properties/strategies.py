"""Random worlds in which most requests have a route, made by whatever chooses: Hypothesis, which shrinks, or dice, which are fast.

A world drawn blindly permits next to nothing, and then every property of its routes is true and empty. So two in three
start from "permit everything", each attribute has two or three values, and what rules want is what most places have.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st
from worlds import EEA, FACTS, LATER, PAST, PERMIT_ALL, PLACE, World, keeper

from gateway.core.terms import DATA_CLASSES

Choose = Callable[[Sequence[Any]], Any]
Make = Callable[[Choose], Any]

SERVED = [("e0", "m1"), ("e0", "m2"), ("e1", "m1"), ("e1", "m2"), ("e2", "m1")]
ORIGINS = {"m1": {"FR"}, "m2": {"CN"}}
LABELLED = [{"DE"}] * 4 + [{"DE", "FR"}, {"DE", "FR"}, {"US"}, {"DE", "US"}, {"CN"}, None]
WANTED = [set(EEA), EEA | {"US"}, EEA | {"CN"}, {"DE"}]
UPWARDS = [set(DATA_CLASSES[n:]) for n in range(4)]
DOWNWARDS = [set(DATA_CLASSES[: n + 1]) for n in range(4)]
SOME_CATEGORIES = [{"health"}, {"card"}, {"health", "card"}]


def mostly(usual: Any, *others: Any, times: int = 7) -> list[Any]:
    """A list to choose from: `usual`, but for one time in `times` + 1."""
    return [usual] * times * len(others) + list(others)


def several(choose: Choose, values: Sequence[Any], least: int, most: int) -> list[Any]:
    """Some of `values`, each at most once, in the order chosen."""
    left, found = list(values), []
    for _ in range(choose(range(least, most + 1))):
        found.append(choose(left))
        left.remove(found[-1])
    return found


def entries(choose: Choose, least: int, most: int, of: Mapping[str, Sequence[Any]]) -> World:
    """A dict of some of the names in `of`, each with one of its values."""
    return {name: choose(of[name]) for name in several(choose, sorted(of), least, most)}


# --- places -----------------------------------------------------------------------------------------------------------------

LABELS: dict[str, Sequence[Any]] = {
    "provider": ["mistral", "mistral", "ours", "zai"],
    "processed_in": LABELLED,
    "operated_under": LABELLED,
    "assurances": [{"dpa"}, {"dpa", "dpf"}, {"dpa", "dpf"}, set()],
    "stale": mostly({}, *({name: end} for name in ("processed_in", "operated_under", "dpa") for end in (PAST, LATER)), times=2),
    "abilities": mostly({"tools", "vision"}, {"tools"}, set(), times=2),
    "tools": mostly({"function"}, set()),
    "context": mostly(10_000, 1_000, None, times=5),
    "remote_content": [True, False],
    "enabled": mostly(True, False),
    "price": [(1.0, 2.0), (1.0, 2.0), (3.0, 3.0, 0.3), (0.5, 40.0), "plan", "capacity"],
    "scores": [{}, {"coding": 1.0}, {"coding": 2.0}],
}
KEEPER: dict[str, Sequence[Any]] = {
    "processed_in": mostly({"DE"}, {"US"}, None, times=1),
    "operated_under": mostly({"DE"}, {"US"}, times=1),
    "assurances": [{"dpa", "dpf"}, {"dpa"}, set()],
    "stale": mostly({}, {"processed_in": LATER}, {"dpa": PAST}, times=2),
}


def deployment(choose: Choose, endpoint: str, model: str) -> World:
    """One model at one endpoint."""
    labels = {name: choose(values) for name, values in LABELS.items()}
    return PLACE | labels | {"endpoint": endpoint, "model": model, "origin": ORIGINS[model]}


def offering(choose: Choose, of: World) -> World:
    """The same world, whose places' labels hold for some APIs, and each model of which is for some wherever it runs."""
    some = mostly({"chat", "embeddings"}, {"chat"}, {"embeddings"}, times=24)
    models = {model: choose(some) for model in sorted(ORIGINS)}
    return of | {"places": [place | {"apis": choose(some), "model_apis": models[place["model"]]} for place in of["places"]]}


def holder(choose: Choose, times: int) -> World:
    """What processes or keeps content: `times` to one, it is where nearly every rule lets it be."""
    if choose(mostly(True, False, times=times)):
        return keeper(assurances={"dpa", "dpf"})
    return keeper(**{name: choose(values) for name, values in KEEPER.items()})


# --- rules ------------------------------------------------------------------------------------------------------------------

PERMITTED_WHEN = {"tenant": [{"a"}, {"a", "b"}], "region": [set(EEA), {"DE", "US"}, {"CN"}], "data_class": DOWNWARDS[:3]}
APPLIES_WHEN = {
    "tenant": [{"a"}, {"b"}],
    "region": [set(EEA), {"US"}, {"CN"}],
    "data_class": UPWARDS,
    "categories": SOME_CATEGORIES,
    "asked": [{"auto"}, {"m1"}],
}
MEETS: dict[str, Sequence[Any]] = {
    "provider": [{"mistral", "ours"}, {"ours"}],
    "processed_in": WANTED,
    "operated_under": WANTED,
    "origin": [{"FR"}, {"FR", "CN"}],
    "assurances": [{"dpa"}, {"dpa", "dpf"}],
    "abilities": [{"tools"}],
    "context": [1_000, 5_000],
}
HITS: dict[str, Sequence[Any]] = {
    "provider": [{"zai"}, {"mistral"}],
    "model": [{"m2"}],
    "processed_in": [{"CN"}, {"US", "CN"}],
    "operated_under": [{"CN"}, {"US"}],
    "origin": [{"CN"}],
}


def permit(choose: Choose) -> World:
    """A permit; its id comes later."""
    when = entries(choose, 1, 2, PERMITTED_WHEN)
    return {"effect": "permit", "when": when, "says": [entries(choose, 0, 1, MEETS) for _ in range(choose([1, 1, 2]))]}


def restriction(choose: Choose) -> World:
    """A require or a forbid; its id comes later."""
    when = entries(choose, 0, 2, APPLIES_WHEN)
    if choose([True, False]):
        return {"effect": "require", "when": when, "says": [entries(choose, 1, 2, MEETS) for _ in range(choose([1, 2]))]}
    return {"effect": "forbid", "when": when, "says": [entries(choose, 1, 1, HITS) for _ in range(choose([1, 2]))]}


def preference(choose: Choose) -> World:
    """A preference; its id comes later."""
    when = entries(choose, 0, 1, {"language": [{"zh"}, {"en"}], "task": [{"coding"}], "categories": SOME_CATEGORIES})
    if choose([True, False]):
        return {"when": when, "prefer": [entries(choose, 1, 1, MEETS)]}
    return {"when": when, "rank": entries(choose, 1, 3, {"cost": [1.0], "latency": [0.3, 1.0], "score.coding": [1.0, 0.5]})}


def named(prefix: str, found: list[World]) -> list[World]:
    """Give each an id."""
    return [one | {"id": f"{prefix}{number}"} for number, one in enumerate(found)]


def some(choose: Choose, make: Make, most: int) -> list[Any]:
    """Up to `most` of what `make` makes."""
    return [make(choose) for _ in range(choose(range(most + 1)))]


def world(choose: Choose) -> World:
    """A world: two in three permit everything to begin with."""
    everything = [PERMIT_ALL] if choose([True, True, False]) else []
    permits = [permit(choose) for _ in range(choose([1, 2, 3]))]
    return {
        "places": [deployment(choose, *served) for served in several(choose, SERVED, 3, 5)],
        "rules": everything + named("p", permits) + named("r", [restriction(choose) for _ in range(choose([0, 1, 1, 2, 3]))]),
        "gateway": holder(choose, 5),
        "stores": {"cache": holder(choose, 1)},
        "sinks": {"ledger": holder(choose, 3)} if choose([True, False]) else {},
        "preferences": named("order", some(choose, preference, 2)),
        "aliases": {"auto": {"m1", "m2"}, "old-*": {"m1"}},
        "limit": choose(mostly(None, 0.01, times=2)),
        "attempts_max": choose([1, 2, 4, 4]),
    }


# --- requests ---------------------------------------------------------------------------------------------------------------

HARD: dict[str, Sequence[Any]] = {
    "tenant": [{"a"}, {"a"}, {"b"}, {"a", "b"}],
    "region": [{"DE"}] * 4 + [{"US"}, {"CN"}, {"DE", "US"}, {"DE", "US", "CN"}],
    "data_class": [*({word} for word in DATA_CLASSES), {"public"}, {"internal"}, set(DATA_CLASSES), {"personal", "special"}],
    "categories": [set(), set(), set(), *SOME_CATEGORIES],
    "asked": [{"auto"}] * 5 + [{"m1"}, {"m2"}, {"old-*"}, {"m1", "auto"}],
}
SOFT: dict[str, Sequence[Any]] = {"language": [{"en"}, {"zh"}, {"en", "zh"}], "task": [{"coding"}, {"other"}, {"coding", "other"}]}
NEEDS: dict[str, Sequence[Any]] = {
    "api": mostly("chat", "embeddings", times=12),
    "abilities": mostly(set(), {"tools"}, {"vision"}, times=3),
    "tools": mostly(set(), {"function"}, times=3),
    "prompt_tokens": mostly(100, 900, 5_000, times=3),
    "output_tokens": mostly(None, 50, 4_000, times=2),
    "remote_content": mostly(False, True, times=9),
    "longest_tokens": mostly(0, 100, 900, times=9),
}
IDS = [f"{endpoint}/{model}" for endpoint, model in SERVED]
BLOCKED = [frozenset(few) for few in ((), IDS[:1], IDS[1:3], IDS[3:], IDS)]


def facts(choose: Choose) -> World:
    """A request's facts."""
    return FACTS | {name: choose(values) for name, values in (HARD | SOFT).items()}


def needs(choose: Choose) -> World:
    """What a request needs."""
    return {name: choose(values) for name, values in NEEDS.items()}


def case(choose: Choose) -> World:
    """A world, a request, and a moment."""
    found = {
        "world": world(choose),
        "facts": facts(choose),
        "needs": needs(choose),
        "blocked": choose(BLOCKED),
        "latency_ms": {name: choose([50, 100, 400]) for name in several(choose, IDS, 0, 3)},
        "warm": {name: choose([64, 640, 4_096]) for name in several(choose, IDS, 0, choose([0, 2]))},
        "draw": choose(range(6)),
    }
    return found | {"world": offering(choose, found["world"])}


def with_(**more: Make) -> Make:
    """Cases that carry something more."""
    return lambda choose: case(choose) | {name: make(choose) for name, make in more.items()}


def one(values: Sequence[Any]) -> Make:
    """One of `values`."""
    return lambda choose: choose(values)


@cache
def places(count: int) -> st.SearchStrategy[int]:
    """One of so many places. Made once: a case chooses a hundred times, and making a strategy takes longer than drawing from it."""
    return st.sampled_from(range(count))


@st.composite
def drawn(draw: st.DrawFn, make: Make) -> World:
    """Cases as Hypothesis draws them: the first of each list is the simplest."""
    made: World = make(lambda values: values[draw(places(len(values)))])
    return made


def thrown(make: Make, seed: int) -> World:
    """The case that the dice of `seed` make."""
    made: World = make(random.Random(seed).choice)
    return made
