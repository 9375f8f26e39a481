"""What the next route is tried for and what not, and what the client is told: each way to end, at each place."""

from dataclasses import replace

import pytest
from courses import BROKEN_ENDPOINT, CUT_SHORT, FAILED, REJECTED, THROTTLED, UNREACHABLE, Course, Tap, Trip, complaints, travel
from fake_ports import BODY, DONE, EVENT, SERVED, USAGE, Script

from gateway.core.exchange import Ended, Fault, Outcome, Scope
from gateway.pipeline import KEEPALIVE, exchange

ROUTES = ["one/alpha", "one/beta", "two/alpha", "two/beta", "three/alpha"]  # of the clinic, by price; four are tried at most
EXHAUSTED = Outcome(Ended.EXHAUSTED, Fault.OURS, Scope.ENDPOINT, 429, "plan_exhausted", retry_after_s=3_600.0)
UNKNOWN = Outcome(Ended.UNKNOWN, Fault.UPSTREAM, Scope.DEPLOYMENT, 418, "unknown")
NO_BALANCE = Outcome(Ended.EXHAUSTED, Fault.OURS, Scope.ENDPOINT, 429, "no_balance", permanent=True)


def go(*scripts: Script, stream: bool = False, asked: str = "auto") -> Trip:
    trip = travel(exchange, Course("", stream, scripts, asked=asked), Tap())
    assert list(complaints(trip)) == []
    assert trip.answer is not None
    return trip


def told(trip: Trip) -> tuple[int, str]:
    """Status and code: of the answer, or of the event that ended the stream."""
    assert trip.answer is not None
    problem = trip.client.ends[0] if trip.answer.streamed else trip.answer.problem
    return (trip.answer.status, "") if problem is None else (problem.status, problem.code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("outcome", "tried"),
    [
        pytest.param(THROTTLED, ["one/alpha", "one/beta"], id="throttled"),
        pytest.param(FAILED, ["one/alpha", "one/beta"], id="failed"),
        pytest.param(UNKNOWN, ["one/alpha", "one/beta"], id="unknown"),
        pytest.param(replace(FAILED, scope=Scope.REQUEST), ["one/alpha", "one/beta"], id="says nothing of the route"),
        pytest.param(EXHAUSTED, ["one/alpha", "two/alpha"], id="exhausted, with all of its endpoint"),
        pytest.param(BROKEN_ENDPOINT, ["one/alpha", "two/alpha"], id="our key refused"),
        pytest.param(UNREACHABLE, ["one/alpha", "two/alpha"], id="unreachable"),
    ],
)
def test_the_next_route_serves(outcome: Outcome, tried: list[str], stream: bool) -> None:
    trip = go(Script(refuses=outcome), stream=stream)
    assert trip.upstream.names == trip.begun == tried
    assert told(trip) == (200, "")
    (settlement,) = trip.settlements
    assert [one.outcome.ended for one in settlement.tried] == [outcome.ended, Ended.SERVED]
    assert [name for name, _ in trip.live.reports] == tried
    assert settlement.usage == USAGE
    if stream:
        assert trip.client.written == [EVENT, EVENT, DONE]
    else:
        assert trip.answer is not None
        assert trip.answer.body == BODY


@pytest.mark.parametrize("stream", [False, True])
def test_when_failovers_are_too_many_the_failure_is_answered_and_counted(stream: bool) -> None:
    trip = travel(exchange, Course("", stream, (Script(refuses=FAILED),), failovers=0), Tap())
    assert list(complaints(trip)) == []
    assert trip.upstream.names == ROUTES[:1]
    assert told(trip) == (502, "upstream_failed")
    assert trip.meter.refused_failovers == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_last_route_is_no_failover_that_was_refused(stream: bool) -> None:
    trip = go(*[Script(refuses=FAILED)] * 9, stream=stream)
    assert len(trip.upstream.names) == 4
    assert trip.meter.refused_failovers == 0


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_own_fault_is_passed_on_and_nothing_else_is_tried(stream: bool) -> None:
    for before in ((), (Script(refuses=THROTTLED),), (Script(refuses=FAILED), Script(refuses=THROTTLED))):
        trip = go(*before, Script(refuses=REJECTED), stream=stream)
        assert trip.upstream.names == ROUTES[: len(before) + 1]
        assert trip.answer is not None
        problem = trip.answer.problem
        assert problem is not None
        assert (problem.status, problem.code, problem.param) == (422, "bad_tool", "tools")
        assert (problem.message, problem.should_retry) == ("`tools[0]` is no tool", False)
        assert not trip.client.head  # a stream that had not begun is refused by its status


@pytest.mark.parametrize("status", [401, 403, 408, 409, 429, 200, 500, 0])
def test_a_rejection_is_never_told_by_a_status_that_is_our_own_affair(status: int) -> None:
    assert told(go(Script(refuses=replace(REJECTED, status=status))))[0] == 400


def test_what_all_say_of_when_they_will_be_back_is_told() -> None:
    away = replace(FAILED, status=503, retry_after_s=9.0)
    for others, wait_s in ((replace(away, retry_after_s=40.0), 9.0), (replace(THROTTLED, retry_after_s=0.2), 1.0), (FAILED, None)):
        trip = go(Script(refuses=away), *[Script(refuses=others)] * 4)
        assert told(trip) == (502, "upstream_failed")
        assert trip.answer is not None
        assert trip.answer.problem is not None
        assert trip.answer.problem.retry_after_s == wait_s


@pytest.mark.parametrize("stream", [False, True])
def test_all_throttled_is_503_with_the_shortest_wait(stream: bool) -> None:
    waits = [40.0, 12.0, 90.0]
    scripts = [Script(refuses=replace(THROTTLED, retry_after_s=wait)) for wait in waits]
    trip = go(*scripts, Script(refuses=EXHAUSTED), stream=stream)
    assert trip.upstream.names == ROUTES[:4]
    assert trip.answer is not None
    assert told(trip) == (503, "no_route_available")
    assert trip.answer.problem is not None
    assert trip.answer.problem.retry_after_s == 12.0
    untold = go(*[Script(refuses=replace(THROTTLED, retry_after_s=None))] * 5, stream=stream)
    assert untold.answer is not None
    assert untold.answer.problem is not None
    assert untold.answer.problem.retry_after_s == 30.0


@pytest.mark.parametrize(
    ("outcomes", "status", "should_retry"),
    [
        pytest.param([FAILED] * 5, 502, None, id="failed"),
        pytest.param([THROTTLED, FAILED, FAILED, FAILED], 502, None, id="throttled and failed"),
        pytest.param([UNREACHABLE] * 5, 504, None, id="unreachable"),
        pytest.param([BROKEN_ENDPOINT] * 5, 502, False, id="our keys refused: no retry mends that"),
        pytest.param([BROKEN_ENDPOINT, BROKEN_ENDPOINT, FAILED], 502, None, id="our keys refused, but for one"),
        pytest.param([NO_BALANCE] * 3, 503, None, id="no balance anywhere"),
    ],
)
def test_all_failed_says_what_was_tried_and_nothing_of_where(
    outcomes: list[Outcome], status: int, should_retry: bool | None
) -> None:
    trip = go(*[Script(refuses=outcome) for outcome in outcomes])
    assert trip.answer is not None
    problem = trip.answer.problem
    assert problem is not None
    assert (problem.status, problem.should_retry) == (status, should_retry)
    assert "tried" in problem.message
    assert not any(name in problem.message for name in ("one", "two", "three", "alpha", "127.0.0.1"))


def test_no_more_than_so_many_are_tried() -> None:
    assert go(*[Script(refuses=FAILED)] * 9).upstream.names == ROUTES[:4]


def test_silence_gets_comments_then_another_route_then_content() -> None:
    trip = go(Script(silent=None), Script(silent=2, refuses=FAILED), Script(silent=1), stream=True)
    assert trip.upstream.names == ["one/alpha", "one/beta", "two/alpha"]
    assert trip.client.written == [KEEPALIVE] * (6 + 2 + 1) + [EVENT, EVENT, DONE]
    assert trip.client.ends == [None]
    assert [one.outcome.code for one in trip.settlements[0].tried] == ["first_content_timeout", "server_error", ""]
    assert trip.client.head is not None
    assert "x-gateway-decision" in trip.client.head


def test_what_it_waited_for_room_of_ours_is_not_the_places_silence() -> None:
    trip = go(Script(silent=5 + 5, queued=5), stream=True)
    assert trip.upstream.names == ["one/alpha"]
    assert trip.client.written == [KEEPALIVE] * (5 + 5) + [EVENT, EVENT, DONE]
    trip = go(Script(silent=None, queued=5), stream=True)
    assert trip.upstream.names == ["one/alpha", "one/beta"]
    assert trip.client.written[:-3] == [KEEPALIVE] * (5 + 6)


def test_silence_everywhere_ends_in_an_error_event() -> None:
    trip = go(*[Script(silent=None)] * 5, stream=True)
    assert told(trip) == (504, "upstream_failed")
    assert trip.answer is not None
    assert (trip.answer.status, trip.settlements[0].status, trip.settlements[0].code) == (200, 200, "upstream_failed")


def test_after_content_there_is_no_other_route_and_no_silent_end() -> None:
    trip = go(Script(outcome=CUT_SHORT), stream=True)
    assert trip.upstream.names == ["one/alpha"]
    assert trip.client.written == [EVENT, EVENT]
    assert told(trip) == (502, "upstream_cut_short")
    assert (trip.settlements[0].code, trip.settlements[0].result) == ("upstream_cut_short", "cut short")


def test_a_ledger_that_can_not_be_written_sends_nothing() -> None:
    for stream in (False, True):
        place = travel(exchange, Course("", stream), Tap()).tap.calls.index("begun")
        trip = travel(exchange, Course("", stream), Tap(place, kind=OSError))
        assert list(complaints(trip)) == []
        assert trip.upstream.calls == []
        assert trip.answer is not None
        assert trip.answer.problem is not None
        assert (trip.answer.status, trip.answer.problem.code) == (503, "ledger_unavailable")
        assert trip.meter.failures


def test_a_ledger_that_fails_at_the_second_route_keeps_the_stream_honest() -> None:
    """The client has had comments, so the trouble must come as an event."""
    course = Course("", True, (Script(silent=1, refuses=FAILED), Script()))
    place = [at for at, name in enumerate(travel(exchange, course, Tap()).tap.calls) if name == "begun"][1]
    trip = travel(exchange, course, Tap(place, kind=OSError))
    assert list(complaints(trip)) == []
    assert trip.upstream.names == ["one/alpha"]
    assert told(trip) == (503, "ledger_unavailable")


def test_what_was_used_in_vain_is_charged_only_where_it_was_reported() -> None:
    in_vain = replace(FAILED, usage=replace(USAGE, reported=True))
    guessed = replace(FAILED, usage=replace(USAGE, reported=False))
    alone = go(Script(refuses=FAILED), Script(outcome=SERVED)).settlements[0]
    with_guess = go(Script(refuses=guessed), Script(outcome=SERVED)).settlements[0]
    with_report = go(Script(refuses=in_vain), Script(outcome=SERVED)).settlements[0]
    assert with_guess.cost == alone.cost
    assert with_report.cost.usd > alone.cost.usd
