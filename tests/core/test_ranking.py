"""The order of routes: preferences, ties, and what is still equal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import decided, live_state, place, routes, world

from gateway.core.exchange import Needs
from gateway.core.order import Order, spread
from gateway.core.rank import coarse, output_expected

CHEAP, MIDDLE, DEAR = place("cheap", price=(1.0, 1.0)), place("middle", price=(2.0, 2.0)), place("dear", price=(9.0, 9.0))
COST = {"id": "cost", "when": {}, "rank": {"cost": 1.0}}


def test_without_preferences_all_are_equal_and_spread_by_draw() -> None:
    of = world([DEAR, CHEAP, MIDDLE])
    assert routes(decided(of, draw=0)) == ["dear/m1", "cheap/m1", "middle/m1"]
    assert routes(decided(of, draw=1)) == ["cheap/m1", "middle/m1", "dear/m1"]
    assert routes(decided(of, draw=3)) == routes(decided(of, draw=0))


def test_what_an_answer_is_taken_to_be_long_depends_on_what_is_asked() -> None:
    for api, unsaid in (("chat", 500), ("completions", 16), ("embeddings", 0)):
        assert output_expected(Needs(api)) == unsaid
        assert output_expected(Needs(api, output_tokens=7)) == 7


def test_cheapest_first() -> None:
    assert routes(decided(world([DEAR, CHEAP, MIDDLE], preferences=[COST]), draw=7)) == ["cheap/m1", "middle/m1", "dear/m1"]


def test_cost_is_marginal_cost() -> None:
    owned, plan = place("owned", price="capacity"), place("plan", price="plan")
    found = routes(decided(world([CHEAP, owned, plan], preferences=[COST])))
    assert found == ["owned/m1", "plan/m1", "cheap/m1"]


def test_cost_depends_on_the_shape_of_the_request() -> None:
    reader, writer = place("reader", price=(0.1, 10.0)), place("writer", price=(1.0, 1.0))
    of = world([reader, writer], preferences=[COST])
    assert routes(decided(of, needs=Needs("chat", prompt_tokens=9_000, output_tokens=10)))[0] == "reader/m1"
    assert routes(decided(of, needs=Needs("chat", prompt_tokens=10, output_tokens=400)))[0] == "writer/m1"


def test_each_preference_breaks_the_ties_of_those_before_it() -> None:
    ours = {"id": "ours", "when": {}, "prefer": [{"provider": {"ours"}}]}
    of = [place("dear", price=(9.0, 9.0), provider="ours"), CHEAP, MIDDLE]
    assert routes(decided(world(of, preferences=[ours, COST]))) == ["dear/m1", "cheap/m1", "middle/m1"]
    assert routes(decided(world(of, preferences=[COST, ours]))) == ["cheap/m1", "middle/m1", "dear/m1"]


def test_scores_and_latency_are_weighed_and_nothing_is_worse_than_unknown() -> None:
    best, good = (place(name, model=name, scores={"coding": score}) for name, score in (("b", 9.0), ("g", 5.0)))
    unknown = place("u", model="u")
    aliases = {"auto": {"b", "g", "u"}}
    coding = {"id": "coding", "when": {}, "rank": {"score.coding": 1.0}}
    scored = world([unknown, good, best], preferences=[coding], aliases=aliases)
    assert routes(decided(scored, draw=0)) == ["b/b", "u/u", "g/g"], "unknown is as bad as the worst that is known"
    assert routes(decided(scored, draw=1)) == ["b/b", "g/g", "u/u"]
    assert routes(decided(world([unknown, good], preferences=[coding], aliases=aliases), draw=0)) == ["g/g", "u/u"]
    fast = {"id": "fast", "when": {}, "rank": {"latency": 1.0}}
    live = live_state((), {"u/u": 100, "b/b": 300})
    assert routes(decided(world([best, good, unknown], preferences=[fast], aliases=aliases), live=live)) == ["u/u", "b/b", "g/g"]


def test_a_thousandth_of_the_spread_is_a_tie() -> None:
    near = place("near", price=(1.0001, 1.0001))
    assert routes(decided(world([CHEAP, near, DEAR], preferences=[COST]), draw=1)) == ["near/m1", "cheap/m1", "dear/m1"]


def test_an_outage_takes_away_and_leaves_the_others_in_their_order() -> None:
    # between the two that are left, cost alone would turn them round once the dear one no longer stretches the scale
    mixed = {"id": "mixed", "when": {}, "rank": {"cost": 1.0, "latency": 0.3}}
    latency = {"cheap/m1": 400, "middle/m1": 100, "dear/m1": 100}
    of = world([CHEAP, MIDDLE, DEAR], preferences=[mixed])
    well = routes(decided(of, live=live_state((), latency)))
    for name in well:
        assert routes(decided(of, live=live_state([name], latency))) == [other for other in well if other != name]


def test_live_state_of_unknown_deployments_changes_nothing() -> None:
    assert routes(decided(world([CHEAP]), live=live_state(["gone/m1"]))) == ["cheap/m1"]


def test_new_latencies_are_a_new_order() -> None:
    fast = {"id": "fast", "when": {}, "rank": {"latency": 1.0}}
    of = world([CHEAP, DEAR], preferences=[fast])
    for quick, slow in (("cheap/m1", "dear/m1"), ("dear/m1", "cheap/m1")):
        again = decided(of, live=live_state((), {quick: 10, slow: 900}))
        assert routes(again) == [quick, slow]


@pytest.mark.parametrize(("tokens", "rounded"), [(0, 0), (1, 1), (15, 15), (16, 16), (17, 18), (1_000, 1_024), (100_000, 106_496)])
def test_coarse(tokens: int, rounded: int) -> None:
    assert coarse(tokens) == rounded


@settings(derandomize=True, database=None)
@given(st.integers(0, 10_000_000))
def test_coarse_rounds_up_by_an_eighth_at_most_and_only_once(tokens: int) -> None:
    assert tokens <= coarse(tokens) <= tokens * 9 / 8
    assert coarse(coarse(tokens)) == coarse(tokens)


@settings(derandomize=True, database=None)
@given(st.lists(st.integers(1, 4), max_size=4), st.integers(0, 100))
def test_spread_turns_each_tier_and_keeps_all(sizes: list[int], draw: int) -> None:
    tiers, count = [], 0
    for size in sizes:
        tiers.append(tuple(range(count, count + size)))
        count += size
    order = spread(tuple(tiers), draw)
    assert sorted(order) == list(range(count))
    for tier in tiers:
        found = [index for index in order if index in tier]
        assert found == list(tier[draw % len(tier) :] + tier[: draw % len(tier)])
        assert order.index(found[0]) == tier[0]
    kept = Order(tuple(tiers), decided(world([place(f"e{n}") for n in range(count)] or [place()])).view.routes)
    for _ in range(2):  # put together, and remembered
        assert tuple(route.index for route in kept.routes(draw)) == order
