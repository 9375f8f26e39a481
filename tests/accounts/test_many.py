"""Tens of thousands of accounts in one worker: what becomes of the store is told to all of them, and nobody stands still for it."""

import asyncio
import weakref
from collections.abc import Sequence
from typing import Any

from fake_store import FakeStore

from gateway.core.accounts import Bucket, Terms
from gateway.state.accounts.keeping import AT_ONCE, LeasedAccounts
from gateway.state.accounts.leased import Leased
from gateway.state.store.port import WAIT_S, Asked

NOW = 1_800_000_000.0
MANY = 5 * AT_ONCE + 7
PATIENCE_S = 20.0
TRIES = 3


def raised(error: BaseException) -> None:
    raise error


class Full(FakeStore):
    """Grants what is asked for, and has as much left."""

    def answer(self, asked: Asked) -> Any:
        amount, *_, need, _, ahead, _ = asked.args
        return [int(need) + int(ahead), int(amount)]

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        await asyncio.sleep(0)
        return await super().run_all(asked, wait_s)


async def at_a_time(accounts: Sequence[Leased], *, alone: bool) -> int:
    """The most that heard, in one turn of the loop, that they are `alone` or not; once all have."""
    most = before = 0
    async with asyncio.timeout(PATIENCE_S):
        while before < len(accounts):
            await asyncio.sleep(0)
            heard = sum(account.alone is alone for account in accounts)
            most, before = max(most, heard - before), heard
    return most


def test_a_store_that_goes_and_comes_back_is_told_to_a_few_at_a_time() -> None:
    async def main() -> None:
        store = Full()
        loop = asyncio.get_running_loop()
        keeper = LeasedAccounts(store, "w-1", lambda: NOW + loop.time(), loop, defect=raised)
        accounts = [keeper.open(Terms(f"rate/key/k{number}/requests", Bucket(600, 60))) for number in range(MANY)]
        (first, *_) = accounts
        assert await first.ask(1, NOW)
        for _ in range(2):
            store.up, store.lost = False, True
            assert await first.ask(500, NOW)  # whoever asks is told at once, by what stands here
            assert first.alone
            assert await at_a_time(accounts, alone=True) <= AT_ONCE
            store.up, store.lost = True, False
            for back in store.backs:
                back()
            assert await at_a_time(accounts, alone=False) <= AT_ONCE
        await keeper.close()

    asyncio.run(main())


def test_who_has_not_heard_yet_of_an_answer_that_was_late_need_not() -> None:
    async def main() -> bool:
        store = Full()
        loop = asyncio.get_running_loop()
        keeper = LeasedAccounts(store, "w-1", lambda: NOW + loop.time(), loop, defect=raised)
        accounts = [keeper.open(Terms(f"rate/key/k{number}/requests", Bucket(600, 60))) for number in range(MANY)]
        first, *_, last = accounts
        store.lost = True
        assert await first.ask(500, NOW)
        store.lost = False
        assert await last.ask(1, NOW)
        assert first.alone
        in_time = not last.alone
        if in_time:
            await at_a_time(accounts, alone=False)  # nobody stays so
        store.up = False
        await at_a_time(accounts, alone=True)  # and all hear of it when it really goes
        await keeper.close()
        return in_time

    # a machine that stands still for WAIT_S has the last one go by itself
    assert any(asyncio.run(main()) for _ in range(TRIES)), "it heard"


def test_what_nobody_has_is_gone_and_what_somebody_has_is_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        keeper = LeasedAccounts(Full(), "w-1", lambda: NOW + loop.time(), loop, defect=raised)
        terms = [Terms(f"rate/key/k{number}/requests", Bucket(600, 60)) for number in range(MANY)]
        kept = keeper.open(terms[0])
        seen = [weakref.ref(keeper.open(each)) for each in terms]
        assert [ref() for ref in seen] == [kept] + [None] * (MANY - 1)
        accounts = [keeper.open(each) for each in terms]
        assert accounts[0] is kept and not any(account.marked for account in accounts)
        await keeper.close()

    asyncio.run(main())
