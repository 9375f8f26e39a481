"""Live state: it only takes away, it is the client's fault never the route's, and one probe tries what broke."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fake_ports import FakeClock, FakeUpstream, Script
from hypothesis import given
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.bounds import Bounds
from gateway.core.decide import decide
from gateway.core.exchange import Attempt, Ended, Fault, Needs, Outcome, Request, Scope
from gateway.core.facts import NO, RequestFacts
from gateway.core.live import ALL_WELL
from gateway.core.policy import Deployment
from gateway.core.view import View
from gateway.state.live import LocalLive
from gateway.state.watching import Watched

BOUNDS = Bounds(breaker_failures=3, breaker_open_s=15.0)
WORLD = snapshot()
DEPLOYMENTS = {deployment.id: deployment for deployment in WORLD.policy.deployments}
ONE = DEPLOYMENTS["one/alpha"]

SERVED = Outcome(Ended.SERVED, status=200)
GONE = Outcome(Ended.CLIENT_GONE, Fault.CLIENT)
REJECTED = Outcome(Ended.REJECTED, Fault.CLIENT, status=400, code="invalid_request")
DOWN = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, code="connect_failed")
BROKEN = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.DEPLOYMENT, status=500, code="upstream_error")
CUT = Outcome(Ended.CUT_SHORT, Fault.UPSTREAM, Scope.DEPLOYMENT, code="connection_lost")
DEFECT = Outcome(Ended.FAILED, Fault.OURS, Scope.REQUEST, code="internal_error")
THROTTLED = Outcome(Ended.THROTTLED, Fault.OURS, Scope.DEPLOYMENT, status=429, code="rate_limited")
LATER = replace(THROTTLED, retry_after_s=60.0)
NO_BALANCE = Outcome(Ended.EXHAUSTED, Fault.OURS, Scope.ENDPOINT, status=402, code="no_balance", permanent=True)
NO_KEY = Outcome(Ended.FAILED, Fault.OURS, Scope.ENDPOINT, status=401, code="credentials_refused", permanent=True)
ODD = Outcome(Ended.UNKNOWN, Fault.UPSTREAM, Scope.DEPLOYMENT, status=599)
OUTCOMES = (SERVED, GONE, REJECTED, DOWN, BROKEN, CUT, DEFECT, THROTTLED, LATER, NO_BALANCE, NO_KEY, ODD)


def live() -> LocalLive:
    return LocalLive(BOUNDS, DEPLOYMENTS.values())


def attempt(deployment: Deployment = ONE) -> Attempt:
    return Attempt(1, deployment)


def tell(state: LocalLive, *outcomes: Outcome, at: float = NOW, of: Deployment = ONE) -> None:
    for outcome in outcomes:
        state.report(attempt(of), outcome, at, None)


def facts(**changed: Any) -> RequestFacts:
    plain = {name: frozenset({"x"}) for name in ("tenant", "group", "key", "task", "tag", "language")}
    sets = {"region": {"DE", "CN"}, "data_class": {"public"}, "asked": {"auto"}, "api": {"chat"}}
    known = {name: frozenset(values) for name, values in sets.items()}
    empty = {"categories": frozenset[str](), "ability": frozenset[str](), "stream": NO, "prompt_tokens": 10}
    return RequestFacts(**plain | known | empty | changed)  # type: ignore[arg-type]


STREAM = Request("rg-1", "", "chat", "auto", facts(), Needs("chat"), {}, 2, True, False, frozenset(), NOW)


def test_reading_is_free_while_all_is_well() -> None:
    state = live()
    assert state.read(NOW) is ALL_WELL
    tell(state, SERVED, GONE, REJECTED, DEFECT)
    assert state.read(NOW + 1e6) is ALL_WELL


@pytest.mark.parametrize("outcome", [GONE, REJECTED, DEFECT, replace(DOWN, fault=Fault.CLIENT)])
def test_what_a_client_did_never_counts_against_a_route(outcome: Outcome) -> None:
    state = live()
    tell(state, *[outcome] * 100)
    assert state.read(NOW) is ALL_WELL


BLOCKS = [
    ([DOWN] * 2, None, set[str](), 0.0),
    ([DOWN] * 3, "breaker", {"one/alpha", "one/beta"}, 15.0),
    ([DOWN, DOWN, SERVED, DOWN], None, set[str](), 0.0),
    ([BROKEN] * 3, "breaker", {"one/alpha"}, 15.0),
    ([CUT, ODD, BROKEN], "breaker", {"one/alpha"}, 15.0),
    ([THROTTLED], "throttled", {"one/alpha"}, 5.0),
    ([LATER], "throttled", {"one/alpha"}, 60.0),
    ([replace(LATER, scope=Scope.ENDPOINT)], "throttled", {"one/alpha", "one/beta"}, 60.0),
    ([replace(NO_BALANCE, permanent=False, retry_after_s=600.0)], "exhausted", {"one/alpha", "one/beta"}, 600.0),
    ([NO_BALANCE], "exhausted", {"one/alpha", "one/beta"}, 300.0),
    ([NO_KEY], "breaker", {"one/alpha", "one/beta"}, 300.0),
]


@pytest.mark.parametrize(("outcomes", "word", "blocked", "for_s"), BLOCKS)
def test_what_is_blocked_for_how_long(outcomes: list[Outcome], word: str, blocked: set[str], for_s: float) -> None:
    state = live()
    tell(state, *outcomes)
    found = state.read(NOW).blocked
    assert set(found) == blocked
    for why in found.values():
        assert (why.word, why.until, why.detail) == (word, NOW + for_s, outcomes[-1].code)
    assert state.read(NOW + for_s - 0.01) is state.read(NOW)
    assert not state.read(NOW + for_s).blocked


def test_an_endpoint_that_is_throttled_and_broken_is_back_when_both_are_over() -> None:
    state = live()
    tell(state, LATER, *[DOWN] * 3)
    assert state.read(NOW + 20).blocked.keys() == {"one/alpha"}
    assert not state.read(NOW + 60).blocked


def watched() -> tuple[LocalLive, Watched, FakeUpstream, FakeClock]:
    state, upstream, clock = live(), FakeUpstream(), FakeClock()
    return state, Watched(upstream, state, clock), upstream, clock


def opening(upstream: Watched, state: LocalLive, clock: FakeClock, names: tuple[str, ...]) -> tuple[Attempt, Any]:
    """Decide, and open the first of `names` that is a route, as the pipeline does: without an await in between."""
    decision = decide(View(WORLD, NOW), facts(), Needs("chat", prompt_tokens=10), state.read(clock.now()), 0)
    route = next(route for name in names for route in decision.routes if route.deployment.id == name)
    trying = Attempt(1, route.deployment)
    return trying, upstream.open(decision, trying, STREAM)


def test_one_probe_tries_what_broke_and_its_outcome_decides() -> None:
    state, upstream, _, clock = watched()
    tell(state, *[DOWN] * 3)
    clock.time = NOW + 15
    opening(upstream, state, clock, ("far/alpha",))  # a request that goes elsewhere takes nobody's turn
    assert not state.read(clock.time).blocked
    probe, _ = opening(upstream, state, clock, ("one/beta",))
    assert set(state.read(clock.time).blocked) == {"one/alpha", "one/beta"}
    tell(state, SERVED, DOWN, at=clock.time)  # of requests from before
    assert set(state.read(clock.time).blocked) == {"one/alpha", "one/beta"}
    state.report(probe, DOWN, clock.time, None)
    assert state.read(clock.time).blocked["one/alpha"].until == clock.time + 30
    clock.time += 30
    probe, _ = opening(upstream, state, clock, ("one/alpha",))
    state.report(probe, SERVED, clock.time, 0.1)
    assert not state.read(clock.time).blocked


def test_a_probe_whose_client_goes_lets_the_next_one_try() -> None:
    state, upstream, _, clock = watched()
    tell(state, NO_KEY)
    clock.time = NOW + 300
    probe, _ = opening(upstream, state, clock, ("one/alpha",))
    assert state.read(clock.time).blocked
    state.report(probe, GONE, clock.time, None)
    assert not state.read(clock.time).blocked
    opening(upstream, state, clock, ("one/alpha",))
    assert state.read(clock.time).blocked


def test_a_probe_that_brings_content_opens_the_place_before_its_end() -> None:
    state, upstream, fake, clock = watched()
    fake.otherwise = Script(silent=1)
    tell(state, *[DOWN] * 3)
    clock.time = NOW + 15
    _, call = opening(upstream, state, clock, ("one/alpha",))

    async def wait() -> None:
        assert await call.wait(1.0) is None
        assert state.read(clock.time).blocked
        assert await call.wait(1.0) is not None
        assert not state.read(clock.time).blocked

    asyncio.run(wait())
    call.abort()
    assert fake.calls[0].aborted and call.address == "127.0.0.1:1"


def test_a_probe_that_brings_content_too_late_mends_nothing() -> None:
    state, upstream, fake, clock = watched()
    fake.otherwise = Script(silent=1)
    tell(state, *[BROKEN] * 3)
    clock.time = NOW + 15
    probe, call = opening(upstream, state, clock, ("one/alpha",))

    async def wait() -> None:
        await call.wait(1.0)
        clock.time += BOUNDS.slow_first_content_s
        assert await call.wait(1.0) is not None

    asyncio.run(wait())
    assert state.read(clock.time).blocked["one/alpha"].detail == "slow_first_content"
    state.report(probe, SERVED, clock.time, BOUNDS.slow_first_content_s, True)
    assert state.read(clock.time).blocked["one/alpha"].until == clock.time + 30


def test_a_place_that_fails_every_other_call_is_shut_though_no_two_failures_are_in_a_row() -> None:
    state = live()
    for number in range(9):
        tell(state, BROKEN, SERVED, at=NOW + number)
    assert state.read(NOW + 9) is ALL_WELL  # 18 calls: too few to say
    tell(state, BROKEN, SERVED, at=NOW + 9)
    assert state.read(NOW + 9) is ALL_WELL
    tell(state, BROKEN, at=NOW + 10)
    assert state.read(NOW + 10).blocked["one/alpha"].word == "breaker"
    assert set(state.read(NOW + 10).blocked) == {"one/alpha"}


def test_an_endpoints_share_counts_what_each_of_its_deployments_served() -> None:
    state, beta = live(), DEPLOYMENTS["one/beta"]
    for _ in range(30):
        tell(state, SERVED)
        tell(state, DOWN, SERVED, of=beta)
    assert state.read(NOW) is ALL_WELL  # a third of the endpoint's
    for _ in range(60):
        tell(state, DOWN)
        tell(state, SERVED, of=beta)
        tell(state, DOWN)
    assert set(state.read(NOW).blocked) == {"one/alpha", "one/beta"}


def test_streams_that_begin_slowly_shut_a_deployment_and_answers_that_take_long_do_not() -> None:
    state, slow_s = live(), BOUNDS.slow_first_content_s
    for _ in range(100):
        state.report(attempt(), SERVED, NOW, slow_s * 2, False)
    assert not state.read(NOW).blocked
    for _ in range(10):
        state.report(attempt(), SERVED, NOW, slow_s, True)
        state.report(attempt(), SERVED, NOW, 0.1, True)
        assert not state.read(NOW).blocked
    state.report(attempt(), SERVED, NOW, slow_s, True)
    assert {name: (why.word, why.detail) for name, why in state.read(NOW).blocked.items()} == {
        "one/alpha": ("breaker", "slow_first_content")
    }
    for _ in range(50):  # of streams that were under way
        state.report(attempt(), SERVED, NOW, slow_s, True)
    assert state.read(NOW).blocked["one/alpha"].until == NOW + 15


def test_a_share_of_long_ago_is_forgotten() -> None:
    state = live()
    for number in range(40):
        tell(state, BROKEN, SERVED, SERVED if number < 10 else BROKEN, at=NOW + number * BOUNDS.breaker_window_s)
        tell(state, SERVED, at=NOW + number * BOUNDS.breaker_window_s)
    assert not state.read(NOW + 40 * BOUNDS.breaker_window_s).blocked


def test_failovers_are_a_share_of_the_requests_and_one_that_was_never_sent_is_free() -> None:
    state = live()
    for _ in range(1_001):  # the first began a window
        state.read(NOW)
    free = BOUNDS.failovers_free_per_s * BOUNDS.failovers_window_s
    may = int(BOUNDS.failovers_share * 1_000 + free)
    full = replace(THROTTLED, code="no_room", sent=False)
    assert [state.may_fail_over(DOWN, NOW) for _ in range(may + 2)] == [True] * may + [False] * 2
    assert state.may_fail_over(full, NOW)
    assert not state.may_fail_over(DOWN, NOW + 1)
    state.read(NOW + 10)
    assert state.may_fail_over(DOWN, NOW + 10)


def test_a_probe_that_is_never_heard_of_is_given_up() -> None:
    state, upstream, _, clock = watched()
    tell(state, *[DOWN] * 3)
    clock.time = NOW + 15
    opening(upstream, state, clock, ("one/alpha",))
    assert state.read(clock.time + BOUNDS.total_s_max - 1).blocked
    assert not state.read(clock.time + BOUNDS.total_s_max).blocked


def test_where_nobody_tells_of_openings_reading_lets_one_through() -> None:
    state = live()
    tell(state, *[DOWN] * 3)
    assert not state.read(NOW + 15).blocked
    assert set(state.read(NOW + 15).blocked) == {"one/alpha", "one/beta"}
    assert not state.read(NOW + 16).blocked  # the first may have gone elsewhere
    assert state.read(NOW + 16).blocked
    tell(state, SERVED, at=NOW + 16)
    assert state.read(NOW + 16) == ALL_WELL
    assert state.read(NOW + 99) is state.read(NOW + 16)


def test_latencies_are_published_in_steps() -> None:
    state = live()
    state.report(attempt(), SERVED, NOW, 0.5)
    first = state.read(NOW)
    assert first.latency_ms == {"one/alpha": 500}
    for _ in range(50):
        state.report(attempt(), SERVED, NOW, 0.55)
    assert state.read(NOW) is first
    for _ in range(50):
        state.report(attempt(), SERVED, NOW + 1, 1.0)
    second = state.read(NOW + 1)
    assert 500 < second.latency_ms["one/alpha"] < 850
    state.report(attempt(), SERVED, NOW + 1.9, 1.0)
    assert state.read(NOW + 1.9) is second  # not more than once a second, unless a deployment is new
    state.report(attempt(DEPLOYMENTS["two/alpha"]), SERVED, NOW + 1.95, 0.2)
    assert state.read(NOW + 1.95).latency_ms["two/alpha"] == 200
    state.report(attempt(), SERVED, NOW + 2, 1.2)
    assert 850 < state.read(NOW + 2).latency_ms["one/alpha"] < 1_100
    assert second.blocked is first.blocked


COURSE = st.lists(
    st.tuples(
        st.sampled_from(sorted(DEPLOYMENTS)),
        st.sampled_from(OUTCOMES),
        st.floats(0, 100),
        st.none() | st.floats(0, 10),
        st.booleans(),
    ),
    max_size=40,
)


@given(COURSE, st.booleans())
def test_live_state_only_takes_away(course: list[Any], is_watched: bool) -> None:
    """Whatever happened, a decision has no route that it would not have if all were well; and no place is shut for ever."""
    state, now, view = live(), NOW, View(WORLD, NOW)
    state.watched = is_watched
    needs = Needs("chat", prompt_tokens=10)
    whole = {route.index for route in decide(view, facts(), needs, ALL_WELL, 0).routes}
    for name, outcome, pass_s, first_content_s, opens in course:
        now += pass_s
        found = state.read(now)
        assert {route.index for route in decide(view, facts(), needs, found, 0).routes} <= whole
        assert all(why.until is not None for why in found.blocked.values())
        trying = attempt(DEPLOYMENTS[name])
        if opens:
            state.opened(trying, now)
        state.report(trying, outcome, now, first_content_s)
    assert not state.read(now + BOUNDS.throttle_s_max).blocked


@given(COURSE)
def test_at_most_one_probe_is_under_way_at_a_place(course: list[Any]) -> None:
    state, now = live(), NOW
    state.watched = True
    probes: dict[str, Attempt] = {}
    for name, outcome, pass_s, _, opens in course:
        now += pass_s
        deployment = DEPLOYMENTS[name]
        blocked = state.read(now).blocked
        trying = attempt(deployment)
        if opens and name not in blocked and state.opened(trying, now):
            assert deployment.id in state.read(now).blocked
            probes[name] = trying
        else:
            state.report(probes.pop(name, trying), outcome, now, None)


def test_rows_are_for_people() -> None:
    state = live()
    tell(state, *[DOWN] * 3)
    state.report(attempt(DEPLOYMENTS["two/alpha"]), SERVED, NOW, 0.2)
    rows = state.rows(NOW)
    assert rows["one"] == rows["one/beta"]
    assert rows["one"] == {"phase": "open", "failures": 3, "word": "breaker", "detail": "connect_failed", "until": NOW + 15}
    assert rows["two/alpha"] == {"phase": "closed", "failures": 0, "latency_ms": 200}
    assert "far" not in rows
    assert state.rows(NOW + 15)["one"]["phase"] == "half open"


def test_deployments_that_nobody_told_of_are_learned() -> None:
    state = LocalLive(BOUNDS)
    tell(state, *[DOWN] * 3)
    assert set(state.read(NOW).blocked) == {"one/alpha"}
    tell(state, GONE, of=DEPLOYMENTS["one/beta"])
    tell(state, NO_KEY)
    assert set(state.read(NOW).blocked) == {"one/alpha", "one/beta"}
