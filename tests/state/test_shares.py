"""Shares of calls: exact over the window that begins with the oldest bad one, whatever came when."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.state.shares import KEPT_MAX, Share

WINDOW_S = 30.0
COURSE = st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=80)


@given(COURSE)
def test_a_share_is_what_counting_all_calls_finds(course: list[tuple[float, bool]]) -> None:
    share, now, good = Share(), 0.0, 0
    calls: list[tuple[float, bool]] = []
    for pass_s, bad in course:
        now += pass_s
        calls.append((now, bad))
        if not bad:
            good += 1
            continue
        found = share.found(now, good, WINDOW_S)
        oldest = next(place for place, (when, was_bad) in enumerate(calls) if was_bad and when > now - WINDOW_S)
        window = calls[oldest:]
        assert found == (sum(was_bad for _, was_bad in window), len(window))


def test_what_is_kept_is_bounded() -> None:
    share = Share()
    for _ in range(KEPT_MAX * 3):
        found = share.found(1.0, 7, WINDOW_S)
    assert found == (KEPT_MAX, KEPT_MAX)
