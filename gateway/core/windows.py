"""The slices that a book's window is made of, so that it can begin anew piece by piece.

A day and a month (of UTC) are one slice each, numbered by the calendar. A rolling window is SLICES of them and moves by one at a
time, so it looks back up to a 60th further than it says: that takes away, and never gives. In the store, lua.py says the same.
"""

from typing import Final

from gateway.core.accounts import Book

SLICES: Final = 60  # of a rolling window: 5 h move by 5 min, a week by 2.8 h; each is a field for each worker in the store
DAY_S: Final = 86_400


def slice_s(book: Book) -> int:
    """How long a slice of a rolling window is, in seconds."""
    return max(1, -(-book.per_s // SLICES))


def slice_of(book: Book, at: float) -> int:
    """The number of the slice that `at` (UTC seconds) lies in."""
    match book.window:
        case "day":
            return int(at // DAY_S)
        case "month":
            return _month_of(int(at // DAY_S))
        case _:
            return int(at // slice_s(book))


def oldest_of(book: Book, now: float) -> int:
    """The number of the oldest slice that still counts at `now`."""
    return slice_of(book, now - book.per_s) if book.window == "rolling" else slice_of(book, now)


def begins(book: Book, number: int) -> float:
    """When slice `number` begins (UTC seconds); it ends when the next begins."""
    match book.window:
        case "day":
            return number * DAY_S
        case "month":
            return _first_day(number) * DAY_S
        case _:
            return number * slice_s(book)


def leaves(book: Book, number: int) -> float:
    """When slice `number` no longer counts (UTC seconds)."""
    return begins(book, number + 1) + (book.per_s if book.window == "rolling" else 0)


# Howard Hinnant's calendar, counted from 0000-03-01, so that a leap day is a year's last. Months are numbered from year 0 on.


def _month_of(days: int) -> int:
    era, day = divmod(days + 719_468, 146_097)  # of 400 years
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    month = (5 * (day - (365 * year + year // 4 - year // 100)) + 2) // 153  # 0: March
    return 12 * (year + 400 * era) + month + 2


def _first_day(month: int) -> int:
    era, rest = divmod(month - 2, 4800)
    year, month = divmod(rest, 12)
    return era * 146_097 + 365 * year + year // 4 - year // 100 + (153 * month + 2) // 5 - 719_468
