"""How many requests an endpoint of our own works on at once: never more, whatever is opened and ends in which order."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from fake_ports import FakeClock, FakeUpstream
from hypothesis import given
from hypothesis import strategies as st
from small_world import NOW, snapshot
from test_live import STREAM, facts

from gateway.core.bounds import Bounds
from gateway.core.decide import decide
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Scope
from gateway.core.live import ALL_WELL
from gateway.core.overshoot import crowding
from gateway.core.policy import Deployment
from gateway.core.pricing import Capacity, Tariff, even_share
from gateway.core.view import View
from gateway.state.live import FULL, LocalLive
from gateway.state.watching import Watched

SERVED = Outcome(Ended.SERVED, status=200)
DOWN = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, code="connect_failed")


def world(concurrency: int) -> dict[str, Deployment]:
    """The small one, where the endpoint `one` has that much room."""
    tariff = Tariff(capacity=Capacity(Decimal(0), concurrency))
    found = {deployment.id: deployment for deployment in snapshot().policy.deployments}
    return {name: replace(d, tariff=tariff) if d.endpoint.id == "one" else d for name, d in found.items()}


def live(concurrency: int, workers: int = 1) -> tuple[LocalLive, dict[str, Deployment]]:
    deployments = world(concurrency)
    return LocalLive(Bounds(breaker_failures=3), deployments.values(), workers), deployments


def test_a_full_endpoint_is_no_route_until_one_of_its_requests_ends() -> None:
    state, deployments = live(2)
    alpha, beta = Attempt(1, deployments["one/alpha"]), Attempt(1, deployments["one/beta"])
    state.opened(alpha, NOW)
    assert state.read(NOW) is ALL_WELL
    state.opened(beta, NOW)
    assert {name: why.word for name, why in state.read(NOW).blocked.items()} == {"one/alpha": "full", "one/beta": "full"}
    assert state.rows(NOW)["one/beta"]["word"] == "full"
    state.report(alpha, SERVED, NOW, None)
    assert state.read(NOW).blocked == {}
    assert state.in_flight == {"one": 1}
    state.report(beta, DOWN, NOW, None)
    assert state.in_flight == {"one": 0}


def test_workers_share_it_and_have_one_at_the_least() -> None:
    for concurrency, workers, room in ((4, 2, 2), (3, 2, 1), (1, 4, 1)):
        state, deployments = live(concurrency, workers)
        for _ in range(room):
            assert state.read(NOW) is ALL_WELL
            state.opened(Attempt(1, deployments["one/alpha"]), NOW)
        assert state.read(NOW).blocked


def test_another_number_of_workers_counts_for_what_begins_next() -> None:
    state, deployments = live(6, 2)
    attempt = Attempt(1, deployments["one/alpha"])
    for _ in range(3):
        state.opened(attempt, NOW)
    assert state.read(NOW).blocked
    state.share(1)
    assert state.read(NOW).blocked == {}
    state.share(3)
    assert state.read(NOW).blocked and state.in_flight == {"one": 3}, "what is under way goes on"
    for under_way in (2, 1):
        assert state.read(NOW).blocked
        state.report(attempt, SERVED, NOW, None)
        assert state.in_flight == {"one": under_way}
    assert state.read(NOW).blocked == {}
    state.share(None)  # nobody knows how many there are
    assert state.read(NOW).blocked
    state.report(attempt, SERVED, NOW, None)
    assert state.read(NOW).blocked == {}
    state.adopt(Bounds(), world(600).values())
    state.opened(attempt, NOW)
    assert state.read(NOW).blocked, "a reload knows no better"


def go_by_shares(state: LocalLive, deployments: dict[str, Deployment], steps: Sequence[str | int | None]) -> None:
    """Calls are opened wherever there is room, and end; between them the number of workers changes. Nothing begins beyond the
    share of the moment, and everything that is within it may."""
    attempt, workers, under_way = Attempt(1, deployments["one/alpha"]), 1, 0
    for step in steps:
        if step == "open":
            has_room = state.has_room(attempt)
            assert has_room == (under_way < even_share(6, workers)) == ("one/alpha" not in state.read(NOW).blocked)
            if has_room:
                state.opened(attempt, NOW)
                under_way += 1
        elif step == "end":
            if under_way:
                state.report(attempt, SERVED, NOW, None)
                under_way -= 1
        else:
            workers = step  # type: ignore[assignment]
            state.share(workers)
        assert state.in_flight.get("one", 0) == under_way


@given(st.lists(st.one_of(st.sampled_from(["open", "open", "end"]), st.sampled_from([1, 2, 3, 9, None])), max_size=60))
def test_nothing_begins_beyond_the_share_of_the_moment(steps: list[Any]) -> None:
    go_by_shares(*live(6), steps)


@pytest.mark.parametrize(("concurrency", "workers"), [(48, 1), (48, 2), (48, 5), (7, 3), (2, 4)])
def test_workers_that_come_one_by_one_send_as_much_as_explain_says(concurrency: int, workers: int) -> None:
    def fill(state: LocalLive, deployments: dict[str, Deployment]) -> int:
        attempt = Attempt(1, deployments["one/alpha"])
        while state.has_room(attempt):
            state.opened(attempt, NOW)
        return state.in_flight["one"]

    steady = sum(fill(*live(concurrency, workers)) for _ in range(workers))
    assert max(0, steady - concurrency) == crowding(concurrency, workers, among_machines=False).answering
    come = sum(fill(*live(concurrency, known)) for known in range(1, workers + 1))
    assert come == concurrency + crowding(concurrency, workers, among_machines=True).answering


class Deaf(LocalLive):
    """Goes by the number that it was started with."""

    def share(self, workers: int | None) -> None: ...


class Late(LocalLive):
    """Learns of its share with the next reload."""

    def share(self, workers: int | None) -> None:
        self._workers = workers


class Generous(LocalLive):
    """Takes a number that nobody knows for one worker."""

    def share(self, workers: int | None) -> None:
        super().share(workers or 1)


class Stays(LocalLive):
    """Lets nobody in before a call has ended, though there is room now."""

    def _fill(self) -> None:
        self._full |= {name: FULL for name, room in self._room.items() if self.in_flight.get(name, 0) >= room}


@pytest.mark.source_only
@pytest.mark.parametrize(
    ("planted", "steps"),
    [
        (Deaf, [2, *["open"] * 4]),
        (Late, [2, *["open"] * 4]),
        (Generous, [None, "open", "open"]),
        (Stays, [3, "open", "open", 1, "open"]),
    ],
)
def test_who_shares_wrongly_is_found_out(planted: type[LocalLive], steps: list[Any]) -> None:
    deployments = world(6)
    go_by_shares(LocalLive(Bounds(), deployments.values()), deployments, steps)
    with pytest.raises(AssertionError):
        go_by_shares(planted(Bounds(), deployments.values()), deployments, steps)


def test_what_became_full_since_the_decision_is_not_opened_and_is_no_bad_mark() -> None:
    state, deployments = live(1)
    upstream: Any = FakeUpstream()
    watched = Watched(upstream, state, FakeClock())
    attempt = Attempt(2, deployments["one/alpha"])
    state.opened(Attempt(1, deployments["one/beta"]), NOW)
    decision = decide(View(snapshot(), NOW), facts(), STREAM.needs, ALL_WELL, 0)
    outcome = asyncio.run(watched.open(decision, attempt, STREAM).wait(None))
    assert isinstance(outcome, Outcome)
    assert (outcome.ended, outcome.code, outcome.sent, outcome.tries_next) == (Ended.THROTTLED, "no_room", False, True)
    assert upstream.calls == []
    state.report(attempt, outcome, NOW, None)
    assert state.in_flight == {"one": 1}
    state.report(Attempt(1, deployments["one/beta"]), SERVED, NOW, None)
    assert state.read(NOW).blocked == {}


def test_a_broken_endpoint_stays_shut_when_it_has_room_again() -> None:
    state, deployments = live(1)
    attempt = Attempt(1, deployments["one/alpha"])
    for _ in range(3):
        state.opened(attempt, NOW)
        state.report(attempt, DOWN, NOW, None)
    assert state.read(NOW).blocked["one/alpha"].word == "breaker"


def test_a_reload_that_gives_more_room_opens_it_and_one_that_takes_some_shuts_it() -> None:
    state, deployments = live(1)
    state.opened(Attempt(1, deployments["one/alpha"]), NOW)
    state.adopt(Bounds(), world(2).values())
    assert state.read(NOW).blocked == {}
    state.adopt(Bounds(), world(1).values())
    assert state.read(NOW).blocked["one/alpha"].word == "full"
    state.report(Attempt(1, deployments["one/alpha"]), SERVED, NOW, None)
    assert state.read(NOW).blocked == {}


@given(room=st.integers(1, 4), steps=st.lists(st.one_of(st.just("open"), st.integers(0, 9)), max_size=60))
def test_it_is_never_more_than_there_is_room_for(room: int, steps: list[Any]) -> None:
    state, deployments = live(room)
    attempt = Attempt(1, deployments["one/alpha"])
    under_way = 0
    for step in steps:
        if step == "open":
            blocked = "one/alpha" in state.read(NOW).blocked
            assert blocked == (under_way >= room) == (not state.has_room(attempt))
            if not blocked:
                state.opened(attempt, NOW)
                under_way += 1
        elif under_way:
            state.report(attempt, SERVED if step % 2 else Outcome(Ended.CLIENT_GONE, Fault.CLIENT), NOW, None)
            under_way -= 1
        assert state.in_flight.get("one", 0) == under_way <= room


def test_a_cordoned_endpoint_gets_nothing_until_it_is_cordoned_no_more() -> None:
    state, deployments = live(2)
    attempt = Attempt(1, deployments["one/alpha"])
    state.opened(attempt, NOW)
    state.cordon(frozenset({"one", "nowhere"}))
    assert {name: why.word for name, why in state.read(NOW).blocked.items()} == {"one/alpha": "cordoned", "one/beta": "cordoned"}
    assert not state.has_room(attempt)
    state.report(attempt, DOWN, NOW, None)
    assert state.read(NOW + 1e6).blocked["one/alpha"].word == "cordoned"  # time does not mend it
    state.adopt(Bounds(), world(2).values(), ["one"])
    assert state.read(NOW).blocked["one/alpha"].word == "cordoned"
    state.cordon(frozenset())
    assert state.read(NOW).blocked == {}
    assert state.has_room(attempt)
