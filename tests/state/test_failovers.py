"""The budget of failovers: never more than its share, and never none where few ask."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.bounds import Bounds
from gateway.state.failovers import Failovers

BOUNDS = Bounds(failovers_share=0.2, failovers_free_per_s=2, failovers_window_s=10.0)
FREE = BOUNDS.failovers_free_per_s * BOUNDS.failovers_window_s
COURSE = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 300), st.integers(0, 300)), max_size=40)


@given(COURSE)
def test_they_are_at_most_a_share_and_a_few(course: list[tuple[float, int, int]]) -> None:
    """Over any half of a window, as over the whole: counted against all requests of two halves, and what is free."""
    budget, now, begun = Failovers(), 0.0, 0
    made: list[float] = []
    asked: list[tuple[float, int]] = []
    for pass_s, requests, failovers in course:
        now += pass_s
        begun += requests
        budget.turn(now, begun - requests, BOUNDS)
        asked.append((now, requests))
        for _ in range(failovers):
            if budget.spend(now, begun, BOUNDS):
                made.append(now)
        half_s = BOUNDS.failovers_window_s / 2
        recent = sum(1 for when in made if when > now - half_s)
        window = sum(count for when, count in asked if when > now - 3 * half_s)
        assert recent <= BOUNDS.failovers_share * window + FREE + 1e-9


@given(st.floats(1e9, 2e9), st.integers(0, 10**9))
def test_where_few_ask_each_may(now: float, begun: int) -> None:
    budget = Failovers()
    assert all(budget.spend(now, begun, BOUNDS) for _ in range(int(FREE)))
    assert not budget.spend(now, begun, BOUNDS)
    assert budget.spend(now + BOUNDS.failovers_window_s + 1, begun, BOUNDS)


def test_a_storm_ends_with_its_share() -> None:
    """100 requests a second of which all fail: a fifth of them is tried again, and what is free."""
    budget, made = Failovers(), 0
    for begun in range(6_000):
        now = 1e9 + begun / 100
        budget.turn(now, begun, BOUNDS)
        made += budget.spend(now, begun, BOUNDS)
    assert 6_000 * 0.2 <= made <= 6_000 * 0.2 + FREE * 6 + 100
