"""A store that answers, only not in time: one request goes by the terms, and nobody takes it for lost."""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.core.accounts import Book, Bucket, Slots, Terms, WhenLost
from gateway.state.accounts.kinds import account_of
from gateway.state.accounts.leased import Leased
from gateway.state.accounts.port import Said

NOW = 1_800_000_000.0
KINDS = (Bucket(1000, 60), Book(1000, "day"), Slots(1000))
HEARD = {Bucket: (0, 1000), Book: (0, 1000, -1, b"born", 0), Slots: (0, 1000)}


@dataclass
class Keeper:
    """Asks nobody by itself."""

    at: float = NOW
    incarnation = "w-1"
    store_now = ""
    workers = 4

    def now(self) -> float:
        return self.at

    def mark(self, account: Leased) -> None:
        """The test sends what is to be sent."""

    def urge(self, account: Leased) -> None:
        """The same."""


async def asked_in_vain(account: Leased, keeper: Keeper, *amounts: int, heard: bool) -> list[bool]:
    """Ask while an earlier message is on its way, which is answered, if so, while these wait in vain for their own."""
    account.prepare(keeper.at)
    keeper.at += 0.01
    for amount in amounts:
        assert account.take(amount, keeper.at) is Said.ASK
    asking = asyncio.gather(*(account.ask(amount, keeper.at, 0.01) for amount in amounts))
    await asyncio.sleep(0)
    if heard:
        keeper.at += 0.01
        account.hear(HEARD[type(account.terms.of)], keeper.at)
    return await asking


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize(("when", "goes_on"), [(WhenLost.SHARE, True), (WhenLost.ADMIT, True), (WhenLost.REFUSE, False)])
@pytest.mark.parametrize("heard", [True, False])
def test_a_request_goes_by_the_terms_and_a_store_that_has_answered_is_not_lost(
    of: Bucket | Book | Slots, when: WhenLost, goes_on: bool, heard: bool
) -> None:
    keeper = Keeper()
    account, _ = account_of(Terms("limit/lab", of, when), keeper, None)
    assert asyncio.run(asked_in_vain(account, keeper, 100, heard=heard)) == [goes_on]
    assert account.alone != heard
    assert account.lease.held == (100 if goes_on else 0)


@pytest.mark.parametrize("of", KINDS)
def test_a_share_of_what_is_left_is_all_that_may_go_on_so_and_the_store_is_told_of_it(of: Bucket | Book | Slots) -> None:
    keeper = Keeper()
    account, _ = account_of(Terms("limit/lab", of), keeper, None)
    went_on = asyncio.run(asked_in_vain(account, keeper, *[50] * 8, heard=True))
    assert went_on.count(True) == 5, "a fourth of a thousand"
    told = account.prepare(keeper.at).args
    assert told[{Bucket: 3, Book: 6, Slots: 3}[type(of)]] == 250, "owed by a bucket, held of the others"
    assert account.lease.free == 0
