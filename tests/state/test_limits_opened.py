"""Which accounts a worker opens, and when: as many as are asked for, and not as many as there are keys times limits."""

from dataclasses import replace

import pytest
from limited import Desk, Limited, asking, world
from small_world import NOW

from gateway.core.accounts import Terms
from gateway.core.budgets import TOKENS, Budget
from gateway.core.policy import Snapshot
from gateway.core.rates import Rate, Rates
from gateway.state.accounts.leased import Leased
from gateway.state.accounts.local import LocalAccounts
from gateway.state.limits import AccountLimiter

MINUTE = 60
KEYS = 500
OWN = {"rate/key/ward/requests", "rate/key/ward/tokens", "budget/key/ward/tokens-day", "rate/tenant/clinic/concurrency"}


class Counting(LocalAccounts):
    """Knows what was opened, and says that there are others."""

    shared = True

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.opened: list[str] = []

    def open(self, terms: Terms) -> Leased:
        self.opened.append(terms.id)
        return super().open(terms)

    def taken(self) -> list[str]:
        """What was opened since the last look."""
        opened, self.opened = self.opened, []
        return opened


def crowded(requests: int = 10) -> Snapshot:
    """The small world with KEYS keys, each with two rates and a budget."""
    rates = Rates(requests=Rate(requests, MINUTE), tokens=Rate(100, MINUTE))
    found = world(key=Limited(rates, (Budget(TOKENS, 1000, "day"),)), tenant=Limited(Rates(concurrency=50)))
    ward = found.access.keys["ward"]
    more = {f"ward-{n}": replace(ward, id=f"ward-{n}") for n in range(KEYS)}
    return replace(found, access=replace(found.access, keys={**found.access.keys, **more}))


@pytest.fixture
def accounts() -> Counting:
    return Counting()


def test_a_snapshot_opens_none_and_a_request_those_that_bind_it(accounts: Counting) -> None:
    found = crowded()
    here = Desk(AccountLimiter(accounts, found, NOW), found)
    assert not accounts.taken()
    here.admitted(asking())
    assert set(accounts.taken()) == OWN
    here.admitted(asking())
    assert not accounts.taken()
    here.limiter.adopt(crowded(), NOW)
    assert not accounts.taken()


def test_a_place_that_was_never_asked_for_is_open_with_its_snapshot(accounts: Counting) -> None:
    AccountLimiter(accounts, world(endpoint={"one": {"rates": Rates(concurrency=3)}}), NOW)
    assert accounts.taken() == ["rate/endpoint/one/concurrency"]


def test_budgets_are_looked_at_a_few_at_a_time_and_rates_are_not(accounts: Counting) -> None:
    limiter = AccountLimiter(accounts, crowded(), NOW)
    seen: list[str] = []
    while more := limiter.open_more(8):
        found = accounts.taken()
        assert len(found) == 8
        seen += found
    seen += accounts.taken()
    assert not more
    assert len(seen) == len(set(seen)) > KEYS
    assert all(name.startswith("budget/") for name in seen)


def test_what_was_used_goes_by_the_terms_in_force_though_nobody_asks_again(accounts: Counting) -> None:
    found = crowded()
    here = Desk(AccountLimiter(accounts, found, NOW), found)
    for _ in range(4):
        here.admitted(asking(1, 1))
    here.limiter.adopt(crowded(6), NOW)
    accounts.taken()
    here.limiter.open_more(1)  # first comes what somebody uses
    assert set(accounts.taken()) == OWN
    rows = {row["id"]: row["left"] for row in here.limiter.rows(NOW)}
    assert rows["rate/key/ward/requests"] == 2
    here.admitted(asking(1, 1))
    here.admitted(asking(1, 1))
    here.refused(asking(1, 1))


def test_accounts_are_told_of_a_few_at_a_time_and_in_turn(accounts: Counting) -> None:
    found = crowded()
    here = Desk(AccountLimiter(accounts, found, NOW), found)
    here.admitted(asking(1, 1))
    whole = here.limiter.rows(NOW)
    assert len(whole) > 2 and here.limiter.some_rows(NOW) == {"rows": whole, "first": True, "last": True}
    for _ in range(2):
        parts = [here.limiter.some_rows(NOW, most=1) for _ in whole]
        assert [row for part in parts for row in part["rows"]] == whole
        assert [(part["first"], part["last"]) for part in parts] == [(one is whole[0], one is whole[-1]) for one in whole]
    here.limiter.some_rows(NOW, most=1)
    here.limiter.adopt(crowded(), NOW)  # nobody has asked for any of them since
    assert here.limiter.some_rows(NOW) == {"rows": [], "first": False, "last": True}


def test_a_request_between_a_snapshot_and_its_turn_goes_by_the_terms_in_force(accounts: Counting) -> None:
    found = crowded()
    here = Desk(AccountLimiter(accounts, found, NOW), found)
    for _ in range(4):
        here.admitted(asking(1, 1))
    here.limiter.adopt(crowded(4), NOW)
    here.refused(asking(1, 1))


def test_who_has_no_limits_is_looked_up_once(accounts: Counting) -> None:
    limiter = AccountLimiter(accounts, world(), NOW)
    for _ in range(2):
        assert limiter.live(asking(), here := Desk(limiter, world()).decided(asking()).live, NOW) is here
    assert not accounts.taken()


def test_alone_no_budget_is_looked_at() -> None:
    limiter = AccountLimiter(LocalAccounts(lambda: NOW), crowded(), NOW)
    assert not limiter.open_more()
    assert not limiter.rows(NOW)
