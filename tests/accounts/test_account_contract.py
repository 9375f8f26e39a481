"""What every account promises, whoever keeps it: in the store, or here alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf

import pytest
from valkey_plain import PlainStore, Server

from gateway.core.accounts import Book, Bucket, Slots, Terms, WhenLost
from gateway.state.accounts.book import SOON_S
from gateway.state.accounts.keeping import LeasedAccounts
from gateway.state.accounts.local import LocalAccounts
from gateway.state.accounts.port import Account, Accounts, Said

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
MINUTE, DAY = 60, 86_400


class Time:
    """Stands still until it is moved; the store's clock is the same one."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    def text(self) -> str:
        return repr(self.at)


def no_defect(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def leased(server: Server, time: Time) -> AsyncIterator[Accounts]:
    loop = asyncio.get_running_loop()
    accounts = LeasedAccounts(PlainStore(server), "w-1", time.now, loop, defect=no_defect, store_now=time.text)
    yield accounts
    await accounts.close()


@asynccontextmanager
async def local(server: Server, time: Time) -> AsyncIterator[Accounts]:
    yield LocalAccounts(time.now)


@pytest.fixture(params=[leased, local], ids=["leased", "local"])
def within(request: pytest.FixtureRequest, server: Server) -> Callable[[Callable[[Accounts, Time], Awaitable[None]]], None]:
    """Runs a test with accounts of one implementation."""

    def run(test: Callable[[Accounts, Time], Awaitable[None]]) -> None:
        async def inside() -> None:
            time = Time()
            async with request.param(server, time) as accounts:
                await test(accounts, time)

        asyncio.run(inside())

    return run


async def taken(account: Account, amount: int, now: float) -> bool:
    """Take `amount`, asking if need be."""
    said = account.take(amount, now)
    return await account.ask(amount, now) if said is Said.ASK else said is Said.YES


async def all_taken(account: Account, now: float, amount: int = 1, most: int = 10_000) -> int:
    """How often `amount` can be taken until it can't; and once more after what is known is old."""
    count = 0
    while count < most and await taken(account, amount, now):
        count += 1
    return count


Within = Callable[[Callable[[Accounts, Time], Awaitable[None]]], None]


@pytest.mark.parametrize("of", [Bucket(100, MINUTE), Slots(100), Book(100, "day"), Book(100, "month"), Book(100, "rolling", 3600)])
def test_exactly_the_amount_can_be_taken(within: Within, of: Bucket | Slots | Book) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("any/lab/it", of))
        assert account.left(time.at) == 100 and account.wait_s(100, time.at) == 0 and account.reset_s(time.at) == 0
        assert await all_taken(account, time.at) == 100
        assert account.left(time.at) == 0
        assert account.take(1, time.at) is not Said.YES
        assert 0 < account.wait_s(1, time.at) < inf and account.reset_s(time.at) > 0
        assert account.wait_s(101, time.at) == inf and account.take(101, time.at) is Said.NO
        assert await account.ask(101, time.at) is False

    within(test)


def test_what_is_larger_than_the_rest_is_refused_and_the_rest_stays(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("budget/lab/usd", Book(1000, "day")))
        assert await taken(account, 700, time.at)
        assert not await taken(account, 400, time.at)
        assert await taken(account, 300, time.at)
        assert not await taken(account, 1, time.at)

    within(test)


def test_for_what_is_only_held_one_need_not_wait_until_the_window_ends(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("budget/lab/usd", Book(1000, "day")))
        assert await taken(account, 600, time.at)
        assert not await taken(account, 500, time.at)
        assert account.wait_s(500, time.at) == SOON_S  # most requests use less than they hold
        account.settle(600, 100, time.at)
        assert account.wait_s(500, time.at) == 0
        assert await taken(account, 600, time.at)
        account.settle(600, 600, time.at)
        assert not await taken(account, 500, time.at)
        assert account.wait_s(500, time.at) == account.reset_s(time.at)

    within(test)


def test_nor_for_what_another_worker_holds_or_for_a_store_that_is_lost(server: Server) -> None:
    async def test() -> None:
        time, store, loop = Time(), PlainStore(server), asyncio.get_running_loop()
        terms = Terms("budget/lab/usd", Book(1000, "rolling", 3600), WhenLost.REFUSE)
        both = [LeasedAccounts(store, name, time.now, loop, defect=no_defect, store_now=time.text) for name in ("w-1", "w-2")]
        one, other = (accounts.open(terms) for accounts in both)
        assert await taken(one, 600, time.at)
        assert not await taken(other, 500, time.at)
        assert other.wait_s(500, time.at) == SOON_S
        one.settle(600, 600, time.at)
        await both[0].close()  # which says so
        assert not await taken(other, 500, time.at)
        time.at += 1  # what is known is older than that a NO may be said without asking
        assert not await taken(other, 500, time.at)
        assert other.wait_s(500, time.at) > 3000
        other.lose(time.at)
        assert not await taken(other, 1, time.at)
        assert other.wait_s(1, time.at) == SOON_S
        await both[1].close()

    asyncio.run(test())


def test_time_fills_a_bucket_again(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("rate/lab/requests", Bucket(60, MINUTE)))
        assert await all_taken(account, time.at) == 60
        assert 0.9 < account.wait_s(1, time.at) <= 1
        assert 9 <= account.wait_s(10, time.at) <= 10 and 59 <= account.reset_s(time.at) <= 60
        time.at += 10
        assert await all_taken(account, time.at) == 10
        time.at += 1000
        assert await all_taken(account, time.at) == 60

    within(test)


def test_what_was_held_and_not_used_is_there_again(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        for of in (Bucket(1000, MINUTE), Book(1000, "day"), Slots(1000)):
            account = accounts.open(Terms(f"any/lab/{type(of).__name__}", of))
            assert await taken(account, 1000, time.at)
            assert not await taken(account, 1, time.at)
            account.settle(1000, 0 if isinstance(of, Slots) else 400, time.at)
            time.at += 0.06  # what is known is older than that a NO may be said without asking
            left = 1000 if isinstance(of, Slots) else 600
            assert left <= account.left(time.at) <= left + 1
            assert await taken(account, left, time.at)

    within(test)


def test_more_may_be_used_than_was_held(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        bucket = accounts.open(Terms("rate/lab/tokens", Bucket(60, MINUTE)))
        book = accounts.open(Terms("budget/lab/tokens", Book(60, "day")))
        for account in (bucket, book):
            assert await taken(account, 10, time.at)
            account.settle(10, 90, time.at)
            assert account.left(time.at) == 0
            assert not await taken(account, 1, time.at)
        time.at += 40  # 30 of which pay back what was overdrawn
        assert await all_taken(bucket, time.at) == 10
        assert not await taken(book, 1, time.at)

    within(test)


@pytest.mark.parametrize(("window", "ends"), [("day", NOW + 57_600), ("month", NOW + 57_600 + 16 * DAY)])
def test_a_window_begins_anew_when_its_time_has_come(within: Within, window: str, ends: float) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("budget/lab/usd", Book(100, window)))
        assert await taken(account, 90, time.at)
        account.settle(90, 100, time.at)
        assert not await taken(account, 1, time.at)
        assert account.wait_s(1, time.at) == ends - time.at == account.reset_s(time.at)
        time.at = ends - 1
        assert not await taken(account, 1, time.at)
        time.at = ends
        assert await taken(account, 100, time.at)

    within(test)


def test_a_rolling_window_moves_by_a_sixtieth(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("quota/plan/1h", Book(100, "rolling", 3600)))
        for amount in (30, 70):
            assert await taken(account, amount, time.at)
            account.settle(amount, amount, time.at)
            time.at += 600
        assert not await taken(account, 1, time.at)
        wait_s = account.wait_s(1, time.at)
        assert 2400 - 1 <= wait_s <= 2400 + 60
        time.at += wait_s - 61
        assert not await taken(account, 1, time.at)
        time.at += 61
        assert await taken(account, 30, time.at)
        assert not await taken(account, 1, time.at)

    within(test)


def test_other_terms_leave_used_what_was_used(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        for of, more, less in (
            (Bucket(100, MINUTE), Bucket(150, MINUTE), Bucket(50, MINUTE)),
            (Slots(100), Slots(150), Slots(50)),
            (Book(100, "day"), Book(150, "day"), Book(50, "day")),
        ):
            name = f"any/lab/{type(of).__name__}"
            account = accounts.open(Terms(name, of))
            assert await all_taken(account, time.at) == 100
            assert accounts.open(Terms(name, more)) is account and account.terms.of == more
            assert await all_taken(account, time.at) == 50
            accounts.open(Terms(name, less))
            assert not await taken(account, 1, time.at) and account.left(time.at) == 0

    within(test)


def test_terms_of_another_kind_are_another_account(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        one = accounts.open(Terms("any/lab/it", Bucket(1, MINUTE)))
        other = accounts.open(Terms("any/lab/it", Book(1, "day")))
        assert one is not other and await taken(one, 1, time.at) and await taken(other, 1, time.at)

    within(test)


def test_an_id_is_one_account(within: Within) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        terms = Terms("rate/lab/requests", Bucket(5, MINUTE), WhenLost.SHARE)
        assert accounts.open(terms) is accounts.open(terms)

    within(test)


@pytest.mark.parametrize("of", [Bucket(10, MINUTE), Slots(10), Book(10, "day")], ids=["bucket", "slots", "book"])
def test_how_it_stands_is_what_is_left_and_when_all_of_it_is_there(within: Within, of: Bucket | Slots | Book) -> None:
    async def test(accounts: Accounts, time: Time) -> None:
        account = accounts.open(Terms("any/lab/it", of))
        for taking in (1, 4, 5):
            now = time.now()
            assert account.standing(now) == (account.left(now), pytest.approx(account.reset_s(now)))
            assert await taken(account, taking, now)
            time.at += 0.3
        account.settle(5, 15, time.now())
        assert account.standing(time.now()) == (account.left(time.now()), pytest.approx(account.reset_s(time.now())))
        time.at += 10 * MINUTE
        assert account.standing(time.now()) == (account.left(time.now()), pytest.approx(account.reset_s(time.now())))

    within(test)
