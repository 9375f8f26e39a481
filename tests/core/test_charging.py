"""What an exchange charges to books: each unit, whatever the attempts ended with."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.accounts import Book, Terms
from gateway.core.charging import Counted, Unit, charged, micro_usd, ticket
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Tried
from gateway.core.usage import Usage

SERVED = Outcome(Ended.SERVED, status=200, usage=Usage(uncached=80, cached=20, output=7, reported=True))
THROTTLED = Outcome(Ended.THROTTLED, Fault.UPSTREAM, status=429)
UNSENT = Outcome(Ended.FAILED, Fault.UPSTREAM, code="connect_timeout", sent=False)
ONE, TWO = snapshot().policy.deployments[:2]


def book(unit: Unit, **weights: int) -> Counted:
    named = {name: weights[word] for name, word in ((ONE.id, "one"), (TWO.id, "two")) if word in weights}
    return Counted(Terms(f"budget/tenant/lab/{unit}", Book(1000, "day")), unit, named)


def tried(*outcomes: Outcome) -> tuple[Tried, ...]:
    places = (ONE, TWO, ONE)
    return tuple(Tried(Attempt(n + 1, places[n]), outcome, NOW, NOW) for n, outcome in enumerate(outcomes))


def test_each_unit_is_charged_and_what_is_not_touched_is_left_out() -> None:
    books = [book(Unit.REQUESTS), book(Unit.TOKENS), book(Unit.MICRO_USD), book(Unit.TICKETS, one=3000)]
    assert charged(books, SERVED.usage, Decimal("0.00042"), tried(SERVED)) == (
        ("budget/tenant/lab/requests", 1),
        ("budget/tenant/lab/tokens", 107),
        ("budget/tenant/lab/micro_usd", 420),
        ("budget/tenant/lab/tickets", 3000),
    )
    assert charged(books, None, Decimal(0), ()) == ()
    assert charged(books, None, Decimal(0), tried(UNSENT)) == ()


@pytest.mark.parametrize(
    ("outcome", "taken"),
    [
        (SERVED, 500),
        (Outcome(Ended.CUT_SHORT, Fault.UPSTREAM, status=200), 500),
        (Outcome(Ended.CLIENT_GONE, Fault.CLIENT), 500),
        (Outcome(Ended.FAILED, Fault.UPSTREAM, code="first_content_timeout"), 500),  # it may have been counted there
        (Outcome(Ended.UNKNOWN, Fault.UPSTREAM, status=418), 500),
        (THROTTLED, 0),
        (Outcome(Ended.EXHAUSTED, Fault.OURS, status=429), 0),
        (Outcome(Ended.REJECTED, Fault.CLIENT, status=400), 0),
        (Outcome(Ended.FAILED, Fault.UPSTREAM, status=503), 0),
        (UNSENT, 0),
    ],
)
def test_a_ticket_is_taken_unless_the_place_said_no(outcome: Outcome, taken: int) -> None:
    assert ticket(500, outcome) == taken


def test_every_attempt_takes_a_ticket_of_its_own_credential() -> None:
    plan = book(Unit.TICKETS, one=3000)
    assert charged([plan], SERVED.usage, Decimal(0), tried(SERVED, SERVED, SERVED)) == ((plan.terms.id, 6000),)
    assert charged([plan], SERVED.usage, Decimal(0), tried(THROTTLED, SERVED)) == ()


@given(st.decimals(min_value=0, max_value=10_000, places=12))
def test_money_is_rounded_up_by_less_than_a_millionth(usd: Decimal) -> None:
    assert 0 <= Decimal(micro_usd(usd)) - usd * 1_000_000 < 1
