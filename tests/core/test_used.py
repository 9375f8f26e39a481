"""How much of each limit is used, by what workers report of it."""

from decimal import Decimal

import pytest

from gateway.core.accounts import Book, Terms
from gateway.core.budgets import Budget
from gateway.core.charging import Unit
from gateway.core.limits import Limit, kind_of
from gateway.core.used import used

NAME = "budget/tenant/lab/tokens-day"
LIMIT = Limit(
    Terms(NAME, Book(100, "day")),
    Unit.TOKENS,
    "the tenant `lab`",
    "100 tokens per day",
    Budget("tokens", 100, "day", 0, (Decimal("0.8"),)),
)


def row(left: int, *, alone: bool = False) -> dict[str, object]:
    return {"id": NAME, "left": left, "reset_s": 5.0, "alone": alone}


@pytest.mark.parametrize(
    ("rows", "left", "alone", "past"),
    [
        ([], 100, False, 0),
        ([row(20)], 20, False, 1),
        ([row(21)], 21, False, 0),
        ([row(90), row(20)], 20, False, 1),
        ([row(10, alone=True), row(15, alone=True)], 25, True, 0),
        ([row(10, alone=True), row(70)], 70, False, 0),
        ([row(200)], 100, False, 0),
        ([row(-3)], 0, False, 1),
    ],
    ids=["untouched", "past", "not yet", "least", "shares", "who knows", "too much", "none"],
)
def test_what_is_left_among_all(rows: list[dict[str, object]], left: int, alone: bool, past: int) -> None:
    (found,) = used({NAME: LIMIT}, [{"limits": [one]} for one in rows] or [{}])
    assert (found.left, found.alone, len(found.past)) == (left, alone, past)


def test_what_no_policy_has_is_not_told() -> None:
    assert not list(used({}, [{"limits": [row(1)]}]))


def test_kinds() -> None:
    def kind(name: str) -> tuple[str, str]:
        return kind_of(Limit(Terms(name, Book(1, "day")), Unit.TOKENS, "", ""))

    assert kind(NAME) == ("tenant", "budget")
    assert kind("rate/key/a/b/requests") == ("key", "requests")
    assert kind("quota/0123456789ab/5h") == ("plan", "quota")
