"""Views: what holds when, to the instant."""

from worlds import EEA, LATER, NOW, PAST, Engine, keeper, place, request_facts, routes, rule, world

from gateway.core.decide import decide
from gateway.core.exchange import Needs
from gateway.core.live import ALL_WELL
from gateway.core.view import Timeline, View, edges

ENGINE = Engine()
DPA = [rule("require", {"assurances": {"dpa"}}, "dpa", region=EEA)]
ENDING = world([place(assurances={"dpa"}, stale={"dpa": LATER})], DPA, gateway=keeper(assurances={"dpa"}))


def routed(view: View) -> list[str]:
    return routes(decide(view, request_facts(), Needs("chat"), ALL_WELL, 0))


def test_every_end_of_a_label_is_an_edge() -> None:
    of = world(
        [place(assurances={"dpa"}, stale={"processed_in": 1.0, "operated_under": 2.0, "origin": 3.0, "dpa": 4.0})],
        gateway=keeper(stale={"processed_in": 5.0}),
        stores={"cache": keeper(assurances={"dpa"}, stale={"dpa": 6.0})},
        sinks={"ledger": keeper(stale={"operated_under": 7.0})},
    )
    assert sorted(edges(ENGINE.snapshot(of))) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_view_holds_until_the_next_edge_and_not_at_it() -> None:
    snapshot = ENGINE.snapshot(ENDING)
    before, last, at = View(snapshot, NOW), View(snapshot, LATER - 0.001), View(snapshot, LATER)
    assert before.valid_until == last.valid_until == LATER
    assert at.valid_until == float("inf")
    assert routed(before) == routed(last) == ["e/m1"]
    assert routed(at) == []


def test_an_edge_that_has_passed_is_none() -> None:
    view = View(ENGINE.snapshot(world([place(stale={"processed_in": PAST})])), NOW)
    assert view.valid_until == float("inf")


def test_a_timeline_makes_a_view_for_each_stretch() -> None:
    timeline = Timeline(ENGINE.snapshot(ENDING))
    first = timeline.at(NOW)
    assert timeline.at(NOW + 10) is first
    assert timeline.at(LATER - 0.001) is first
    second = timeline.at(LATER)
    assert second is not first
    assert timeline.at(LATER + 1e9) is second


def test_a_clock_that_steps_back_changes_nothing() -> None:
    timeline = Timeline(ENGINE.snapshot(ENDING))
    assert routed(timeline.at(LATER)) == []
    assert routed(timeline.at(NOW)) == [], "what has ended does not come back"


def test_the_gateways_own_labels_go_stale_too() -> None:
    of = world([place(assurances={"dpa"})], DPA, gateway=keeper(assurances={"dpa"}, stale={"dpa": LATER}))
    snapshot = ENGINE.snapshot(of)
    assert routed(View(snapshot, NOW)) == ["e/m1"]
    assert routed(View(snapshot, LATER)) == []


def test_a_ledger_that_may_no_longer_keep_records_stops_the_traffic() -> None:
    of = world(
        [place(assurances={"dpa"})],
        DPA,
        gateway=keeper(assurances={"dpa"}),
        sinks={"ledger": keeper(assurances={"dpa"}, stale={"dpa": LATER})},
        stores={"cache": keeper()},
    )
    snapshot = ENGINE.snapshot(of)
    assert routed(View(snapshot, NOW)) == ["e/m1"], "a store that may not keep it is passed by"
    assert routed(View(snapshot, LATER)) == []
