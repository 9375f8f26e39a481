"""A budget that others spend is seen by a worker that nobody asks for it; one that nobody spends is let go again."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from inprocess import run
from limited import Limited, world
from valkey_plain import PlainStore, Server

from gateway.core.accounts import Book, Bucket, Slots, Terms
from gateway.core.budgets import TOKENS, Budget
from gateway.core.limits import budgets_of_holders
from gateway.state.accounts.keeping import LeasedAccounts
from gateway.state.accounts.leased import BEAT_S, CHECK_S, IDLE_S, Leased
from gateway.state.accounts.port import Said
from gateway.state.limits import AccountLimiter
from gateway.state.store.port import WAIT_S, Asked
from gateway.worker import LOOK_AGAIN_S

NOW = 1_800_000_000.0
PATIENCE_S = 10.0


def raised(error: BaseException) -> None:
    raise error


def accounts(server: Server, name: str, moment: list[float]) -> LeasedAccounts:
    loop = asyncio.get_running_loop()
    return LeasedAccounts(PlainStore(server), name, lambda: moment[0], loop, defect=raised, store_now=lambda: repr(moment[0]))


async def until(said: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not said():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def test_what_others_have_spent_is_seen_without_a_request(server: Server) -> None:
    async def main() -> None:
        found = world(key=Limited(budgets=(Budget(TOKENS, 1000, "day"),)))
        names = [limit.terms.id for limit in budgets_of_holders(found.access)]
        assert len(names) > 1
        moment = [NOW]
        spender, looker = accounts(server, "w-1", moment), accounts(server, "w-2", moment)
        limiter = AccountLimiter(looker, found, NOW)
        while limiter.open_more(1):
            pass
        assert [row["id"] for row in limiter.rows(NOW)] == []
        await until(lambda: not limiter.rows(NOW) and not limiter.looked_at)  # nobody has spent anything: all are let go
        terms = next(limit.terms for limit in budgets_of_holders(found.access) if limit.terms.id == names[0])
        account = spender.open(terms)
        if account.take(400, NOW) is not Said.YES:
            assert await account.ask(400, NOW)
        account.settle(400, 400, NOW)
        await spender.close()
        moment[0] += LOOK_AGAIN_S
        await until(lambda: limiter.open_more(len(names) + 1) or limiter.rows(NOW))  # looks again and again, as a worker does
        assert [(row["id"], row["left"]) for row in limiter.rows(NOW)] == [(names[0], 600)]
        await until(lambda: limiter.looked_at == 1)
        await looker.close()

    run(main)


def test_budgets_that_nobody_uses_are_looked_at_in_turn(server: Server) -> None:
    async def main() -> None:
        moment, many = [NOW], 300
        found = accounts(server, "w-1", moment)
        store = found._store
        assert isinstance(store, PlainStore)
        kept = [found.open(Terms(f"budget/key/k-{number}/tokens-day", Book(1000, "day"))) for number in range(many)]
        await until(lambda: all(account.untouched for account in kept))
        moment[0] += IDLE_S + BEAT_S
        await until(lambda: not found._awake)  # each has been looked at once more, and sleeps
        before = store.asked
        moment[0] += BEAT_S
        await until(lambda: store.asked > before + 1)
        assert store.asked - before <= many / 10
        await found.close()

    run(main)


class Watching(PlainStore):
    """Looks at something while each message is under way: it is sent, and its answer not heard."""

    def __init__(self, server: Server, look: Callable[[], None]) -> None:
        super().__init__(server)
        self.look = look

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        answers = await super().run_all(asked, wait_s)
        self.look()
        return answers


def test_what_is_given_back_or_owed_counts_while_it_is_being_said(server: Server) -> None:
    async def main() -> None:
        moment, looked = [NOW], dict[str, set[int]]()

        def look() -> None:
            for account in kept:
                looked.setdefault(account.terms.id, set()).add(account.left(NOW))

        loop, kept = asyncio.get_running_loop(), list[Leased]()
        store, now = Watching(server, look), lambda: moment[0]
        accounts = LeasedAccounts(store, "w-1", now, loop, defect=raised, store_now=lambda: repr(NOW))
        used_up: tuple[Bucket | Book, ...] = Bucket(100, 60), Book(100, "day")
        for of, used in ((Slots(100), 0), *product(used_up, (0, 10, 30))):
            account = accounts.open(Terms(f"any/lab/{type(of).__name__}-{used}", of))
            assert account.take(10, NOW) is Said.ASK and await account.ask(10, NOW)
            account.settle(10, used, NOW)
            kept.append(account)

        def idle() -> bool:
            moment[0] += CHECK_S  # by the worker's clock alone, or buckets would refill
            return len(looked) == len(kept) and all(not account.lease.free and account.quiet(moment[0]) for account in kept)

        await until(idle)
        assert looked == {account.terms.id: {100 - int(account.terms.id.rpartition("-")[2])} for account in kept}
        await accounts.close()

    run(main)
