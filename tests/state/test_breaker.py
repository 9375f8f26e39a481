"""The breaker as a table: what follows from each phase, for each event and for time."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.bounds import Bounds
from gateway.state.breaker import DOUBLINGS_MAX, HALF_OPEN, WELL, Breaker, Event, News, Phase

NOW = 1_000.0
BOUNDS = Bounds(
    breaker_failures=3, breaker_open_s=15.0, breaker_open_s_max=300.0, throttle_s=5.0, throttle_s_max=3_600.0, total_s_max=900.0
)
OPEN = WELL.after(News(Event.REFUSED, "credentials_refused"), NOW - 1, BOUNDS)
THROTTLED = WELL.after(News(Event.THROTTLED, "rate_limited", 60.0), NOW - 1, BOUNDS)
PROBING = HALF_OPEN.probed(NOW - 1, BOUNDS.total_s_max)

TABLE = [
    (WELL, Event.GOOD, Phase.CLOSED, None),
    (WELL, Event.NEUTRAL, Phase.CLOSED, None),
    (WELL, Event.BAD, Phase.CLOSED, None),
    (replace(WELL, failures=2), Event.BAD, Phase.OPEN, 15.0),
    (replace(WELL, failures=2), Event.GOOD, Phase.CLOSED, None),
    (WELL, Event.REFUSED, Phase.OPEN, 300.0),
    (WELL, Event.THROTTLED, Phase.OPEN, 5.0),
    (WELL, Event.EXHAUSTED, Phase.OPEN, 5.0),
    (OPEN, Event.GOOD, Phase.OPEN, 299.0),  # of a request that was under way: how things were
    (OPEN, Event.NEUTRAL, Phase.OPEN, 299.0),
    (OPEN, Event.BAD, Phase.OPEN, 299.0),
    (OPEN, Event.THROTTLED, Phase.OPEN, 299.0),
    (OPEN, Event.REFUSED, Phase.OPEN, 300.0),  # known anew
    (THROTTLED, Event.REFUSED, Phase.OPEN, 300.0),
    (THROTTLED, Event.THROTTLED, Phase.OPEN, 59.0),
    (HALF_OPEN, Event.GOOD, Phase.CLOSED, None),
    (HALF_OPEN, Event.NEUTRAL, Phase.HALF_OPEN, None),
    (HALF_OPEN, Event.BAD, Phase.OPEN, 15.0),
    (HALF_OPEN, Event.REFUSED, Phase.OPEN, 300.0),
    (HALF_OPEN, Event.THROTTLED, Phase.OPEN, 5.0),
    (PROBING, Event.GOOD, Phase.CLOSED, None),
    (PROBING, Event.NEUTRAL, Phase.HALF_OPEN, None),  # the client went, so another one may try
    (PROBING, Event.BAD, Phase.OPEN, 15.0),
    (replace(PROBING, openings=2), Event.BAD, Phase.OPEN, 60.0),
    (replace(PROBING, openings=99), Event.BAD, Phase.OPEN, 300.0),
    (PROBING, Event.EXHAUSTED, Phase.OPEN, 5.0),
]


@pytest.mark.parametrize(("before", "event", "phase", "for_s"), TABLE)
def test_what_follows_from_an_event(before: Breaker, event: Event, phase: Phase, for_s: float | None) -> None:
    after = before.after(News(event, "why"), NOW, BOUNDS)
    assert after.phase is phase
    if for_s is None:
        assert after.until == inf and after.blocked is None
    else:
        assert after.until == NOW + for_s
        assert after.blocked is not None and after.blocked.until == after.until


@pytest.mark.parametrize(
    ("before", "phase"),
    [
        (WELL, Phase.CLOSED),
        (OPEN, Phase.HALF_OPEN),
        (THROTTLED, Phase.CLOSED),
        (HALF_OPEN, Phase.HALF_OPEN),
        (PROBING, Phase.HALF_OPEN),
    ],
)
def test_what_follows_from_time(before: Breaker, phase: Phase) -> None:
    assert before.at(before.until - 0.001 if before.until < inf else NOW) == before
    if before.until < inf:
        assert before.at(before.until).phase is phase
        assert before.at(before.until).blocked is None


@pytest.mark.parametrize(("said", "for_s"), [(0.0, 1.0), (-5.0, 1.0), (7.5, 7.5), (86_400.0, 3_600.0)])
def test_a_retry_after_is_believed_within_reason(said: float, for_s: float) -> None:
    assert WELL.after(News(Event.THROTTLED, "rate_limited", said), NOW, BOUNDS).until == NOW + for_s


@pytest.mark.parametrize(("said", "for_s"), [(0.0, 1.0), (-5.0, 1.0), (9.0, 9.0), (86_400.0, 300.0)])
def test_a_failure_that_says_when_to_come_back_is_asked_no_earlier_and_then_once(said: float, for_s: float) -> None:
    shut = WELL.after(News(Event.BAD, "unavailable", said), NOW, BOUNDS)
    assert (shut.phase, shut.until, shut.failures) == (Phase.OPEN, NOW + for_s, 1)
    assert shut.at(shut.until).phase is Phase.HALF_OPEN
    later = shut.after(News(Event.BAD, "unavailable", 20.0), NOW, BOUNDS)  # one that was under way
    assert later.until == NOW + max(for_s, 20.0)
    assert later.after(News(Event.BAD, "unavailable"), NOW, BOUNDS) == later
    assert shut.after(News(Event.GOOD), NOW, BOUNDS) == shut


def test_a_failure_that_would_have_us_back_soon_shortens_no_breaker() -> None:
    breaker = replace(WELL, failures=BOUNDS.breaker_failures - 1)
    assert breaker.after(News(Event.BAD, "unavailable", 2.0), NOW, BOUNDS).until == NOW + BOUNDS.breaker_open_s
    assert HALF_OPEN.after(News(Event.BAD, "unavailable", 2.0), NOW, BOUNDS).until >= NOW + BOUNDS.breaker_open_s


def test_throttles_in_a_row_double_and_a_good_outcome_starts_afresh() -> None:
    breaker, now, waits = WELL, NOW, []
    for _ in range(12):
        breaker = breaker.after(News(Event.THROTTLED), now, BOUNDS)
        for _ in range(3):  # others that were under way are told the same
            breaker = breaker.after(News(Event.THROTTLED), now, BOUNDS)
        waits.append(breaker.until - now)
        now = breaker.until
        breaker = breaker.at(now)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]
    breaker = breaker.after(News(Event.GOOD), now, BOUNDS).after(News(Event.THROTTLED), now, BOUNDS)
    assert breaker.until == now + 5


def test_failures_must_be_in_a_row() -> None:
    breaker = WELL
    for event in (Event.BAD, Event.BAD, Event.GOOD, Event.BAD, Event.NEUTRAL, Event.BAD):
        breaker = breaker.after(News(event), NOW, BOUNDS)
        assert breaker.phase is Phase.CLOSED
    assert breaker.after(News(Event.BAD), NOW, BOUNDS).phase is Phase.OPEN


@given(st.lists(st.tuples(st.sampled_from(Event), st.floats(0, 500), st.none() | st.floats(-1, 1e6), st.booleans()), max_size=60))
def test_nothing_stays_shut_for_ever(course: list[tuple[Event, float, float | None, bool]]) -> None:
    breaker, now = WELL, NOW
    longest_s = max(BOUNDS.throttle_s_max, BOUNDS.breaker_open_s_max, BOUNDS.total_s_max)
    for event, pass_s, retry_after_s, probe in course:
        now += pass_s
        breaker = breaker.at(now)
        if probe:
            breaker = breaker.probed(now, BOUNDS.total_s_max)
        breaker = breaker.after(News(event, "why", retry_after_s), now, BOUNDS)
        assert (breaker.blocked is not None) == (breaker.phase in (Phase.OPEN, Phase.PROBING))
        assert breaker.blocked is None or breaker.until <= now + longest_s
        assert breaker.at(now + longest_s).blocked is None
        assert breaker._doubled <= 1 << DOUBLINGS_MAX
