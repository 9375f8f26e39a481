"""However often a request asks the shared store, all of its waits together take no longer than one may."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from math import inf

import pytest
from limited import Desk, Limited, asking, world
from small_world import NOW

from gateway.core.accounts import Slots, Terms
from gateway.core.rates import Rate, Rates
from gateway.state.accounts.local import LocalAccounts
from gateway.state.accounts.port import Lease, Said
from gateway.state.accounts.slots import LeasedSlots
from gateway.state.holding import AccountHold
from gateway.state.limits import AccountLimiter
from gateway.state.store.port import WAIT_S

RATES = Rates(Rate(400, 60), Rate(90_000, 60))
SLOW_S = 0.02


@dataclass
class SlowAccount:
    """Gives whatever it is asked for, after a while; `given` is how long it was told that it may take."""

    terms: Terms
    given: list[float]
    lease: Lease = field(default_factory=Lease)
    alone = untouched = False

    def __post_init__(self) -> None:
        self.lease.least = inf

    def take(self, _amount: int, _now: float) -> Said:
        return Said.ASK

    async def ask(self, _amount: int, _now: float, wait_s: float = WAIT_S) -> bool:
        self.given.append(wait_s)
        await asyncio.sleep(min(wait_s, SLOW_S))
        return True

    def settle(self, held: int, used: int, now: float) -> None:
        """Nothing is kept."""

    def wait_s(self, _amount: int, _now: float) -> float:
        return 0.0

    def left(self, _now: float) -> int:
        return self.terms.of.amount

    def reset_s(self, _now: float) -> float:
        return 0.0

    def standing(self, _now: float) -> tuple[int, float]:
        return self.terms.of.amount, 0.0


@dataclass
class SlowAccounts:
    given: list[float] = field(default_factory=list)
    shared = True

    def open(self, terms: Terms) -> SlowAccount:
        return SlowAccount(terms, self.given)


def test_each_wait_takes_from_those_that_follow() -> None:
    rates = Rates(Rate(500, 60))

    async def main() -> list[float]:
        found = world(key=Limited(RATES), endpoint={name: {"rates": rates} for name in ("one", "two", "three")})
        accounts = SlowAccounts()
        here = Desk(AccountLimiter(accounts, found, NOW), found)
        hold = here.hold(asking())
        assert isinstance(hold, AccountHold)
        said = hold.admit(NOW)
        assert isinstance(said, Awaitable)
        assert await said is None
        for name in ("one/alpha", "two/alpha", "three/alpha"):
            begun = hold.attempt(here.attempt(name), NOW)
            assert isinstance(begun, Awaitable)
            assert await begun is None
        return accounts.given

    requests, tokens, first, second, third = asyncio.run(main())
    assert requests == tokens == WAIT_S  # both are asked at once
    assert first <= WAIT_S - SLOW_S
    assert second <= WAIT_S - 2 * SLOW_S
    assert third == 0  # and then all limits do as they say for a store that is lost


@pytest.mark.parametrize("wait_s", [0.0, 0.004])
def test_slots_are_not_asked_a_second_time_by_who_has_no_time_left(wait_s: float) -> None:
    class Empty(LocalAccounts):
        asked = 0

        def urge(self, account: object) -> None:
            assert account is slots
            self.asked += 1
            slots.prepare(NOW)
            slots.hear((0, 0, 0, 0), NOW)

    accounts = Empty(lambda: NOW)
    slots = LeasedSlots(Terms("rate/tenant/lab/concurrency", Slots(8)), accounts)
    assert not asyncio.run(slots.ask(1, NOW, wait_s))
    assert accounts.asked == 1
    assert not asyncio.run(slots.ask(1, NOW))
    assert accounts.asked == 3
