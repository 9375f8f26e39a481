"""Who takes and settles by the numbers of a lease leaves the same behind as who calls the account each time."""

from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limited import Desk, Limited, asking, world
from small_world import NOW

from gateway.core.accounts import Terms, WhenLost
from gateway.core.budgets import MONEY, TOKENS, Budget
from gateway.core.rates import Rate, Rates
from gateway.state.accounts.book import LeasedBook
from gateway.state.accounts.kinds import account_of
from gateway.state.accounts.leased import Leased
from gateway.state.accounts.port import Lease
from gateway.state.holding import AccountHold
from gateway.state.limits import AccountLimiter

BUDGETS = Budget(TOKENS, 200_000, "day"), Budget(MONEY, 5_000_000, "rolling", 7_200)
FOUND = world(key=Limited(Rates(Rate(400, 60), Rate(90_000, 60), 40), BUDGETS))


@dataclass
class Accounts:
    """Keeps accounts as a worker does, for a store that is never asked and always answers."""

    at: float = NOW
    all: dict[str, Leased] = field(default_factory=dict)
    shared = True
    incarnation = "w-1"
    store_now = ""
    workers = 1

    def now(self) -> float:
        return self.at

    def open(self, terms: Terms) -> Leased:
        account, _ = account_of(terms, self, self.all.get(terms.id))
        self.all[terms.id] = account
        return account

    def mark(self, account: Leased) -> None:
        if not account.marked:
            account.marked = True
            account.ease()

    def urge(self, account: Leased) -> None:
        self.mark(account)

    def flush(self) -> None:
        for account in self.all.values():
            account.marked = False
            account.prepare(self.at)
            account.hear((0, 1_000, -1, b"born", 0), self.at)
            # room for some requests either way before there is something to be done
            account.lease.free, account.lease.least, account.lease.most = 2_000, 500, 3_000


class Side:
    """One worker. `fast`: it may go by the numbers of leases; else they always seem to be in need of a call."""

    def __init__(self, *, fast: bool) -> None:
        self.accounts = Accounts()
        self.desk = Desk(AccountLimiter(self.accounts, FOUND, NOW), FOUND)
        self.holds: list[AccountHold] = []
        self.admit(0)
        if not fast:
            shut = Lease()
            shut.least = float("inf")
            caller = self.holds[0]._caller
            caller.takes = tuple((shut, take, at) for _, take, at in caller.takes)
            caller.buckets = tuple((shut, settle, at) for _, settle, at in caller.buckets)
            caller.books = tuple((shut, settle, at, name) for _, settle, at, name in caller.books)
        self.flush(0)

    def admit(self, size: int) -> None:
        hold = self.desk.hold(asking(size, size, began=self.accounts.at))
        assert isinstance(hold, AccountHold)
        said = hold.admit(self.accounts.at)
        if isinstance(said, CoroutineType):  # there is nobody to ask
            said.close()
        self.holds.append(hold)

    def settle(self, size: int) -> None:
        if self.holds:
            hold = self.holds.pop(0)
            asked = asking(size, size, began=self.accounts.at)
            self.desk.settled(hold, asked, self.desk.tried("one/alpha", 2 * size), now=self.accounts.at)

    def flush(self, _size: int) -> None:
        self.accounts.flush()

    def wait(self, size: int) -> None:
        self.accounts.at += size * 20.0

    def stands(self) -> dict[str, Any]:
        """All that a request can change, and what the ledger is to add up to."""
        found = {}
        for name, account in self.accounts.all.items():
            lease = account.lease
            totals = None
            if isinstance(account, LeasedBook):
                account._add_up()
                totals = dict(account._totals), set(account._unsaid)
            found[name] = lease.free, lease.held, lease.taken, lease.last, account.marked, totals
        return found


WHAT = st.sampled_from(["admit", "admit", "settle", "settle", "flush", "wait"])
STEPS = st.lists(st.tuples(WHAT, st.integers(0, 400)), max_size=60)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_the_fast_way_does_what_calls_would_have_done(steps: list[tuple[str, int]]) -> None:
    fast, called = Side(fast=True), Side(fast=False)
    for what, size in steps:
        for side in (fast, called):
            getattr(side, what)(size)
        assert fast.stands() == called.stands(), what


def test_a_budget_whose_store_is_lost_is_named_and_no_rate_that_was_not_asked() -> None:
    budget = Budget(TOKENS, 200_000, "day", when_lost=WhenLost.REFUSE)
    found, accounts = world(key=Limited(Rates(requests=Rate(400, 60)), (budget,))), Accounts()
    here = Desk(AccountLimiter(accounts, found, NOW), found)
    here.hold(asking())
    accounts.all["budget/key/ward/tokens-day"].lose(NOW)
    problem = here.refused(asking())
    assert (problem.code, problem.retry_after_s, problem.should_retry) == ("insufficient_quota", 1.0, None)


@pytest.mark.parametrize(
    ("limited", "name", "code", "says"),
    [
        (Limited(budgets=(Budget(TOKENS, 200_000, "day", when_lost=WhenLost.REFUSE),)), "budget/key/ward/tokens-day",
         "insufficient_quota", "200,000 tokens per day"),
        (Limited(Rates(requests=Rate(400, 60), when_lost=WhenLost.REFUSE)), "rate/key/ward/requests", "rate_limit_exceeded",
         "400 requests per minute"),
        (Limited(Rates(concurrency=4, when_lost=WhenLost.REFUSE)), "rate/key/ward/concurrency", "rate_limit_exceeded",
         "4 requests at once"),
    ],
)  # fmt: skip
def test_who_is_refused_for_a_lost_store_is_told_of_it(limited: Limited, name: str, code: str, says: str) -> None:
    found, accounts = world(key=limited), Accounts()
    here = Desk(AccountLimiter(accounts, found, NOW), found)
    here.hold(asking())
    accounts.all[name].lose(NOW)
    problem = here.refused(asking())
    assert (problem.status, problem.code, problem.retry_after_s, problem.should_retry) == (429, code, 1.0, None)
    assert problem.message == (
        f"how much the key `ward` has left of {says} can't be told now, for the store that counts it does not answer; "
        "nothing begins then: come back in 1s"
    )
