"""What was read before: weighed by what it saves, and otherwise only among equals."""

from typing import Any

import pytest
from worlds import decided, live_state, place, routes, world

from gateway.core.exchange import Needs
from gateway.core.explain import as_json, as_text
from gateway.core.live import LiveState
from gateway.core.rank import coarse_below

COST = {"id": "cost", "when": {}, "rank": {"cost": 1.0}}
LONG = Needs("chat", prompt_tokens=8_192, output_tokens=10)


def warm(**tokens: int) -> LiveState:
    """Live state in which these places, by endpoint, have read so much."""
    return live_state(warm={f"{name}/m1": count for name, count in tokens.items()})


def order(places: list[Any], live: LiveState, draw: int = 0, **more: Any) -> list[str]:
    of = world(places, **{"preferences": [COST], **more})
    return [name.removesuffix("/m1") for name in routes(decided(of, needs=LONG, live=live, draw=draw))]


def test_a_place_whose_cache_makes_it_the_cheaper_one_comes_first() -> None:
    cheap, dear = place("cheap", price=(1.0, 1.0)), place("dear", price=(1.5, 1.5, 0.15))
    assert order([cheap, dear], warm()) == ["cheap", "dear"]
    assert order([cheap, dear], warm(dear=6_144)) == ["dear", "cheap"]
    assert order([cheap, dear], warm(dear=1_024)) == ["cheap", "dear"], "too little of it is cached"


def test_a_cheap_cold_place_beats_a_dear_warm_one() -> None:
    cheap, dear = place("cheap", price=(1.0, 1.0)), place("dear", price=(15.0, 15.0, 1.5))
    assert order([cheap, dear], warm(dear=8_192)) == ["cheap", "dear"]


def test_no_more_is_saved_than_there_is_to_read() -> None:
    cheap, dear = place("cheap", price=(1.0, 1.0)), place("dear", price=(15.0, 15.0, 1.5))
    assert order([cheap, dear], warm(dear=10**9)) == ["cheap", "dear"]


@pytest.mark.parametrize("price", ["capacity", "plan"])
@pytest.mark.parametrize("draw", range(3))
def test_among_places_that_are_paid_for_anyway_the_warmest_comes_first(price: str, draw: int) -> None:
    places = [place(name, price=price) for name in ("a", "b", "c")]
    assert order(places, warm(b=2_048, c=4_096), draw) == ["c", "b", "a"]
    assert order(places, warm(b=2_048, c=4_096), draw, preferences=[])[0] == "c"


def test_equally_warm_places_share_the_load() -> None:
    places = [place(name, price="capacity") for name in ("a", "b", "c")]
    assert {order(places, warm(a=2_048, b=2_048), draw)[0] for draw in range(4)} == {"a", "b"}


def test_a_place_without_a_price_for_cached_input_saves_nothing() -> None:
    places = [place(name, price=(1.0, 1.0)) for name in ("a", "b")]
    assert {order(places, warm(a=8_192), draw)[0] for draw in range(2)} == {"a", "b"}


def test_preferences_come_first() -> None:
    ours = {"id": "ours", "when": {}, "prefer": [{"provider": {"ours"}}]}
    places = [place("ours", provider="ours", price="capacity"), place("theirs", price="capacity")]
    assert order(places, warm(theirs=8_192), preferences=[ours]) == ["ours", "theirs"]


def test_what_is_warm_and_down_is_no_route() -> None:
    places = [place(name, price="capacity") for name in ("a", "b")]
    assert order(places, live_state(["b/m1"], warm={"b/m1": 8_192})) == ["a"]


def test_an_explanation_tells_what_was_warm_and_what_that_did() -> None:
    of = world([place(name, price="capacity") for name in ("a", "b")], preferences=[COST])
    decision = decided(of, needs=LONG, live=warm(b=4_096))
    text = as_text(decision)
    assert "about 4,096 tokens of the prompt were read there a short while ago" in text
    assert "by warmth: 4,096 tokens to read, less is better; so ahead of a/m1" in text
    deployments: Any = as_json(decision)["deployments"]
    assert {told["deployment"]: told["warm"] for told in deployments} == {"a/m1": 0, "b/m1": 4_096}
    assert "warmth" not in as_text(decided(of, needs=LONG))


def test_counts_are_rounded_down_to_few_values() -> None:
    for tokens in range(1, 5_000):
        assert tokens * 7 / 8 < coarse_below(tokens) <= tokens
    assert len({coarse_below(tokens) for tokens in range(1_024, 2_048)}) == 8
