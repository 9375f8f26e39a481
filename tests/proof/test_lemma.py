"""Why claims of never and always need proving for known facts only: what is not known never allows more than what might be so.

For a state of knowledge K and a truth f within it, allowed(K) lies inside allowed(f). What is kept lies inside as well, and so
`never` and `always`, if no request with known facts goes against them, hold of all; of `some` it is not so.
"""

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from claimed import claimed, goes_against
from hypothesis import HealthCheck, Phase, given, settings
from oracle import allowed, kept
from strategies import Choose, drawn, facts, thrown
from worlds import COUNTRIES, NOW, Engine, World, request_facts

from gateway.core.masks import bits
from gateway.core.terms import DATA_CLASSES

FACTS_NOT_KNOWN = ("tenant", "region", "data_class", "asked")  # of categories, none may be among it, which is one more truth
TRUTHS = 24  # of one state of knowledge that are looked at
THROWN = 400


def knowing_little(choose: Choose) -> World:
    """A world with claims, and a request of which some facts are not known."""
    request = facts(choose) | {"region": choose([set(COUNTRIES), {"DE", "US"}, {"DE", "FR"}, {"US", "CN"}])}
    request["data_class"] = choose([set(DATA_CLASSES), {"internal", "personal"}, {"public", "internal"}, {"special"}])
    request["categories"] = choose([set(), {"health"}, {"health", "card"}])
    return claimed(choose) | {"request": request, "seed": choose(range(100))}


def truths(request: World, seed: int) -> Iterator[World]:
    """What may be so: each fact one of its values, and of the categories any few."""
    names = [name for name in FACTS_NOT_KNOWN if len(request[name]) > 1]
    among = sorted(request["categories"])
    few = [set(some) for size in range(len(among) + 1) for some in itertools.combinations(among, size)]
    every = [
        request | dict(zip(names, ({value} for value in values), strict=True)) | {"categories": categories}
        for values in itertools.product(*(sorted(request[name]) for name in names))
        for categories in few
    ]
    yield from random.Random(seed).sample(every, min(TRUTHS, len(every)))


Judge = Callable[[World], set[str]]
"""Where a request may go, and where it may be kept."""


def by_specification(world: World) -> Judge:
    return lambda request: allowed(world, request, NOW) | {f"kept in {name}" for name in kept(world, request, NOW)}


def by_engine(world: World) -> Judge:
    engine = Engine()
    view = engine.view(engine.snapshot(world), NOW)

    def judge(request: World) -> set[str]:
        found = view.eligible(request_facts(request))
        here = set() if found.gateway_rules else {"kept in gateway"}
        return {view.subjects[index].name for index in bits(found.mask)} | here | {f"kept in {name}" for name in found.keepers}

    return judge


JUDGES = {"the specification": by_specification, "the engine": by_engine}


def never_more(judge: str, world: World) -> bool:
    """Whether knowing more took nothing away; says whether something was not known and something was allowed."""
    request, found = world["request"], list(truths(world["request"], world["seed"]))
    may = JUDGES[judge](world)
    unknown = may(request)
    for truth in found:
        more = unknown - may(truth)
        assert not more, f"{more}: allowed where nothing is known, and not where it is known to be {truth}"
    return len(found) > 1 and bool(allowed(world, request, NOW))


def claims_follow(world: World) -> bool:
    """Whether no `never` and no `always` is broken by what is not known alone; says whether one was broken at all."""
    found = False
    for claim in world["claims"]:
        if claim["kind"] == "some" or not goes_against(world, claim, world["request"], NOW):
            continue
        about = [truth for truth in truths(world["request"], world["seed"]) if all(truth[f] & v for f, v in claim["when"].items())]
        if len(list(truths(world["request"], 0))) == TRUTHS:
            continue  # not all of them were looked at
        assert any(goes_against(world, claim, truth, NOW) for truth in about), f"{claim}: broken by not knowing"
        found = True
    return found


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_not_known_never_allows_more(judge: str) -> None:
    bites = sum(never_more(judge, thrown(knowing_little, seed)) for seed in range(THROWN))
    assert bites > THROWN * 0.3, f"only {bites} worlds had anything to bite on"


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_not_known_never_allows_more_in_small_worlds(judge: str) -> None:
    @settings(max_examples=60, derandomize=True, database=None, phases=[Phase.generate, Phase.shrink],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(drawn(knowing_little))
    def cases(world: World) -> None:
        never_more(judge, world)

    cases()


def test_never_and_always_that_known_facts_do_not_break_nothing_breaks() -> None:
    bites = sum(claims_follow(thrown(knowing_little, seed)) for seed in range(THROWN))
    assert bites > THROWN * 0.1, f"only {bites} worlds had a claim to break"


def test_of_some_it_is_not_so() -> None:
    """A request may be served whatever is true of it, and not where nobody knows: so the prover has to look at unknown facts."""
    for seed in range(THROWN):
        world = thrown(knowing_little, seed)
        claim = {"kind": "some", "when": {}, "says": [{}]}
        known = [goes_against(world, claim, truth, NOW) for truth in truths(world["request"], world["seed"])]
        if goes_against(world, claim, world["request"], NOW) and not any(known):
            return
    raise AssertionError("no world has a request that is refused only because something is not known")
