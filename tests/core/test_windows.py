"""Slices and the calendar: against Python's own."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.accounts import Book
from gateway.core.windows import begins, leaves, oldest_of, slice_of, slice_s

INSTANTS = st.floats(0, 32_503_680_000, allow_nan=False)  # until the year 3000
DAY, MONTH = Book(1, "day"), Book(1, "month")


@given(INSTANTS)
def test_days_and_months_are_those_of_the_calendar(at: float) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(at))
    day = moment.replace(hour=0, minute=0, second=0)
    month = day.replace(day=1)
    following = (month + timedelta(days=32)).replace(day=1)
    assert begins(DAY, slice_of(DAY, at)) == day.timestamp()
    assert begins(MONTH, slice_of(MONTH, at)) == month.timestamp()
    assert leaves(DAY, slice_of(DAY, at)) == day.timestamp() + 86_400
    assert leaves(MONTH, slice_of(MONTH, at)) == following.timestamp()
    assert slice_of(MONTH, at) == 12 * moment.year + moment.month - 1


@given(INSTANTS, st.integers(1, 2_000_000), st.floats(0, 1))
def test_a_rolling_window_looks_back_as_far_as_it_says_and_a_slice_more_at_most(at: float, per_s: int, part: float) -> None:
    book = Book(1, "rolling", per_s)
    assert slice_of(book, at - part * per_s) >= oldest_of(book, at)
    assert slice_of(book, at - per_s - slice_s(book)) <= oldest_of(book, at)
    number = slice_of(book, at)
    assert begins(book, number) <= at < begins(book, number + 1)
    assert per_s <= leaves(book, number) - at <= per_s + slice_s(book)
    assert slice_s(book) < per_s / 60 + 1


@pytest.mark.parametrize("at", [951_782_400.0, 951_868_800.0, 4_107_542_400.0])  # 29 February 2000, 1 March 2000, 1 March 2100
def test_leap_years(at: float) -> None:
    moment = datetime.fromtimestamp(at, UTC)
    assert slice_of(MONTH, at) == 12 * moment.year + moment.month - 1
