"""Several workers at one real server, on good days and bad ones: what is settled is what the books say, nobody waits, all heals."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from inprocess import run
from store_servers import Server, cluster, eventually, opened, single
from valkey_plain import PlainStore
from valkey_plain import Server as Plain

from gateway.core.accounts import Book, Bucket, Slots, Terms, WhenLost
from gateway.ledger.charges import charges
from gateway.ledger.reading import chains
from gateway.ledger.segments import Chain
from gateway.state.accounts.keeping import LeasedAccounts
from gateway.state.accounts.leased import LEASE_S
from gateway.state.accounts.local import LocalAccounts
from gateway.state.accounts.port import Account, Said
from gateway.state.accounts.recovering import Recovering, since, summed
from gateway.state.store.cluster import slot_of
from gateway.state.store.port import WAIT_S, Asked, Store, StoreLost

BUDGET = Terms("budget/tenant/lab/usd-1h", Book(3_000, "rolling", 3600), WhenLost.REFUSE)
HELD = 30
SLACK_S = 0.2  # of a loop that shares two cores with other tests


def no_defect(error: BaseException) -> None:
    raise error


class Cut:
    """A store that a killed worker can't reach any more, though its objects are still about."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cut = False

    @property
    def up(self) -> bool:
        return self._store.up and not self.cut

    async def run(self, asked: Asked, wait_s: float = WAIT_S) -> Any:
        return (await self.run_all((asked,), wait_s))[0]

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        if self.cut:
            raise StoreLost
        return await self._store.run_all(asked, wait_s)

    async def publish(self, channel: str, message: bytes) -> None:
        raise NotImplementedError

    def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        raise NotImplementedError

    def on_back(self, back: Callable[[], None]) -> None:
        self._store.on_back(lambda: None if self.cut else back())


async def taken(account: Account, amount: int) -> bool:
    now = time.time()
    said = account.take(amount, now)
    return await account.ask(amount, now) if said is Said.ASK else said is Said.YES


@dataclass(eq=False)
class Life:
    """One life of a worker: its accounts, and its ledger."""

    chain: Chain
    store: Cut
    accounts: LeasedAccounts
    account: Account

    @classmethod
    def begun(cls, store: Store, ledger: Path) -> "Life":
        chain, cut = Chain(ledger, "worker-0", time.time), Cut(store)
        accounts = LeasedAccounts(cut, chain.name, time.time, asyncio.get_running_loop(), workers=4, defect=no_defect)
        return cls(chain, cut, accounts, accounts.open(BUDGET))

    def settle(self, used: int, *, dies: bool) -> None:
        """First the line, then the account: and a worker may die in between."""
        now = time.time()
        line = {"kind": "settled", "ended": now, "charged": {BUDGET.id: used}}
        self.chain.append(orjson.dumps(line))
        if dies:
            self.store.cut = True
        else:
            self.account.settle(HELD, used, now)


def in_ledger(ledger: Path) -> int:
    return sum(sum(charged.values()) for segments in chains(ledger).values() for _, charged in charges(segments, 0))


def in_store(server: Server) -> int:
    return int(server.ask("HGET", f"rg:{{{BUDGET.id}}}:3600s:book", "sum") or 0)


def recover(recovering: Recovering, ledger: Path, life: Life) -> None:
    books = [BUDGET]
    found = charges(chains(ledger)[life.chain.name], since(books, time.time()))
    recovering.add(life.chain.name, summed(books, found))


@asynccontextmanager
async def running(recovering: Recovering) -> AsyncIterator[None]:
    task = asyncio.create_task(recovering.run())
    try:
        yield
    finally:
        task.cancel()


def test_two_hundred_at_once_and_workers_that_are_killed(tmp_path: Path) -> None:
    async def main(server: Server) -> None:
        dice = random.Random(4711)
        async with opened(server.url) as store:
            recovering = Recovering(store, lambda: [BUDGET], time.time)
            lives = [Life.begun(store, tmp_path) for _ in range(4)]
            dead: list[Life] = []
            settled = itertools.count()

            async def task(number: int) -> None:
                for _ in range(8):
                    life = lives[number % 4]
                    if not await taken(life.account, HELD) or life.store.cut:
                        continue
                    await asyncio.sleep(dice.random() * 0.01)
                    if not life.store.cut:
                        life.settle(dice.randrange(HELD + 1), dies=next(settled) % 40 == 9)
                        if life.store.cut:
                            dead.append(life)
                            lives[number % 4] = Life.begun(store, tmp_path)

            async with running(recovering):
                await asyncio.gather(*(task(number) for number in range(200)))
                assert dead, "nobody died"
                assert 0 < in_ledger(tmp_path) <= 3_000
                for life in dead:
                    recover(recovering, tmp_path, life)
                await eventually(lambda: in_store(server) == in_ledger(tmp_path))
                for life in dead:  # another time: nothing changes
                    recover(recovering, tmp_path, life)
                for life in lives:
                    await life.accounts.close()
                await eventually(lambda: server.ask("HLEN", f"rg:{{{BUDGET.id}}}:3600s:holds") == 0)
                assert in_store(server) == in_ledger(tmp_path)

                server.ask("FLUSHALL")  # all that is left to know it is the ledger
                dead += lives
                for life in dead:
                    recover(recovering, tmp_path, life)
                await eventually(lambda: in_store(server) == in_ledger(tmp_path))

    with single() as server:
        run(lambda: main(server))


def paused(server: Server) -> Callable[[], object]:
    server.pause()
    return server.resume


def killed(server: Server) -> Callable[[], object]:
    server.kill()
    return server.start


def emptied(server: Server) -> Callable[[], object]:
    server.ask("FLUSHALL")
    return lambda: None


def without_scripts(server: Server) -> Callable[[], object]:
    server.ask("SCRIPT", "FLUSH")
    return lambda: None


def full(server: Server) -> Callable[[], object]:
    server.ask("CONFIG", "SET", "maxmemory", "1")
    return lambda: server.ask("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize("day", [paused, killed, emptied, without_scripts, full])
def test_on_a_bad_day_nobody_waits_each_limit_does_as_it_says_and_all_heals(day: Callable[[Server], Callable[[], object]]) -> None:
    async def main(server: Server) -> None:
        loop = asyncio.get_running_loop()
        waits: list[float] = []

        async def timed(account: Account, amount: int) -> bool:
            began = loop.time()
            held = await taken(account, amount)
            waits.append(loop.time() - began)
            return held

        async with opened(server.url) as store:
            accounts = LeasedAccounts(store, "w-1", time.time, loop, workers=4, defect=no_defect)
            share, admit, refuse = (
                accounts.open(Terms(f"budget/tenant/{when}/usd-1h", Book(1_000, "rolling", 3600), when)) for when in WhenLost
            )
            slots = accounts.open(Terms("rate/tenant/lab/concurrency", Slots(8)))
            bucket = accounts.open(Terms("rate/tenant/lab/requests", Bucket(400, 3600)))
            for account in (share, admit, refuse, slots, bucket):
                assert await timed(account, 1)
            used = dict.fromkeys((share, admit, refuse), 0)
            over = day(server)
            gone = day in (paused, killed, full)
            if gone:
                await eventually(lambda: not store.up or day is full)
                for account in (share, admit, refuse, slots, bucket):
                    await timed(account, 1)  # whoever is first may find out
                    account.settle(1, 1 if account in used else 0, time.time())
                    if account in used:
                        used[account] += 1
                # as soon as it is known, each does what its terms say
                await eventually(lambda: refuse.take(1, time.time()) is Said.NO)
                count = 0
                while await timed(share, 10) and count < 100:
                    count += 1
                assert 20 <= count <= 26, "a fourth of what was left, and what was leased"
                assert all([await timed(admit, 100) for _ in range(15)])
                count = 0
                while await timed(slots, 1) and count < 100:
                    count += 1
                assert count <= 2
                while await timed(bucket, 10) and count < 100:
                    count += 1
                assert count <= 12
            over()
            await eventually(lambda: store.up)

            async def again(account: Account) -> bool:
                return await timed(account, 1)

            async with asyncio.timeout(10):
                while not await again(refuse):  # noqa: ASYNC110 - what is seen from outside has no event
                    await asyncio.sleep(0.02)
            refuse.settle(1, 1, time.time())
            await accounts.close()
            assert max(waits) < WAIT_S + SLACK_S
            assert int(server.ask("HGET", "rg:{budget/tenant/refuse/usd-1h}:3600s:book", "sum")) >= 1

    with single() as server:
        run(lambda: main(server))


def test_where_one_of_a_cluster_is_gone_only_what_it_kept_is_lost() -> None:
    downs: list[str] = []

    def budget(part: int) -> Terms:
        """One that is kept by the server of that third of the slots."""
        names = (f"budget/tenant/t{number}/usd-1h" for number in itertools.count())
        name = next(name for name in names if slot_of(f"{{{name}}}") * 3 // 16384 == part)
        return Terms(name, Book(1_000, "rolling", 3600), WhenLost.REFUSE)

    async def main(servers: Any) -> None:
        for server in servers.servers:
            server.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        loop = asyncio.get_running_loop()
        async with opened(servers.url, failed=downs.append) as store:
            accounts = LeasedAccounts(store, "w-1", time.time, loop, defect=no_defect)
            here, there = accounts.open(budget(0)), accounts.open(budget(2))
            await eventually(lambda: not here.alone and not there.alone)  # once all servers have been heard of
            assert await taken(here, 1) and await taken(there, 1)
            servers.servers[2].kill()
            await eventually(lambda: store.why and there.alone)
            await eventually(lambda: not here.alone)
            since = len(downs)
            await eventually(lambda: here.alone or downs[since:].count("down") >= 4)
            assert not here.alone and await taken(here, 1)
            assert not await taken(there, 1)
            await accounts.close()

    with cluster() as servers:
        run(lambda: main(servers))


def many(server: Plain, workers: int, store: Callable[[], Store], moment: list[float]) -> list[LeasedAccounts]:
    loop = asyncio.get_running_loop()
    return [
        LeasedAccounts(
            store(), f"w-{n}", lambda: moment[0], loop, workers=workers, defect=no_defect, store_now=lambda: repr(moment[0])
        )
        for n in range(workers)
    ]


@asynccontextmanager
async def two(server: Plain, terms: Terms, *, killed: bool = False) -> AsyncIterator[tuple[list[float], Account, Account]]:
    """One account as two workers have it, and the time, which is a test's to move. `killed`: the first one never says goodbye."""
    moment = [1_800_000_000.0]
    one, other = many(server, 2, lambda: PlainStore(server), moment)
    yield moment, one.open(terms), other.open(terms)
    if not killed:
        await one.close()
    await other.close()


OFS = (Bucket(500, 60), Slots(500), Book(500, "day"))


@pytest.mark.parametrize("of", OFS, ids=["bucket", "slots", "book"])
def test_many_workers_never_take_more_than_there_is(server: Plain, of: Bucket | Slots | Book) -> None:
    async def main() -> None:
        moment = [1_800_000_000.0]
        crowd = many(server, 12, lambda: PlainStore(server), moment)
        accounts = [one.open(Terms("any/lab/it", of)) for one in crowd]

        async def some(account: Account) -> int:
            count = 0
            for _ in range(100):
                said = account.take(1, moment[0])
                count += await account.ask(1, moment[0]) if said is Said.ASK else said is Said.YES
                await asyncio.sleep(0)
            return count

        assert sum(await asyncio.gather(*map(some, accounts))) <= 500
        moment[0] += 0.9  # less than refills one bucket's request
        await asyncio.gather(*map(some, accounts))
        for one in crowd:
            await one.close()

    asyncio.run(main())


@pytest.mark.parametrize("of", OFS, ids=["bucket", "slots", "book"])
@pytest.mark.parametrize("workers", [1, 3, 12])
def test_the_shares_of_all_workers_are_no_more_than_the_whole(of: Bucket | Slots | Book, workers: int) -> None:
    accounts = [LocalAccounts(lambda: 1_800_000_000.0, workers).open(Terms("any/lab/it", of)) for _ in range(workers)]
    count = 0
    for account in accounts:
        while account.take(1, 1_800_000_000.0) is Said.YES:
            count += 1
    assert 500 - workers < count <= 500


async def at_once_most(server: Plain, kind: type[LeasedAccounts]) -> int:
    """How many pipelines of a busy keeper were on their way at once."""
    store = PlainStore(server)
    store.lasts_s = 0.004
    accounts = kind(store, "w-1", time.time, asyncio.get_running_loop(), defect=no_defect)
    account = accounts.open(Terms("rate/lab/requests", Bucket(10_000, 3600)))

    async def some() -> None:
        for _ in range(20):
            await taken(account, 7)
            await asyncio.sleep(0.0005)

    await asyncio.gather(*(some() for _ in range(20)))
    await accounts.close()
    return store.at_once_most


def test_one_pipeline_at_a_time(server: Plain) -> None:
    assert asyncio.run(at_once_most(server, LeasedAccounts)) == 1


@pytest.mark.source_only
def test_a_keeper_that_sends_another_while_one_is_on_its_way_is_found_out(server: Plain) -> None:
    class Twice(LeasedAccounts):
        def _schedule(self) -> None:
            self._flushing = None
            super()._schedule()

    # whether two meet is up to the machine
    assert any(asyncio.run(at_once_most(server, Twice)) > 1 for _ in range(20)), "nobody noticed"


@pytest.mark.parametrize("amount", [1, 2, 3])
def test_a_slot_that_was_the_last_is_for_whoever_asks_next(server: Plain, amount: int) -> None:
    """Who lets one request end before the next begins is never told that these are too many, whichever workers they meet."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        crowd = [LeasedAccounts(PlainStore(server), f"w-{n}", time.time, loop, defect=no_defect) for n in range(4)]
        accounts = [one.open(Terms("rate/lab/concurrency", Slots(amount))) for one in crowd]
        for turn in range(40):
            account = accounts[turn * 3 % 4 if turn < 30 else turn % 2]
            assert await taken(account, 1), turn
            account.settle(1, 0, time.time())
        for one in crowd:
            await one.close()

    asyncio.run(main())


def test_a_killed_workers_slots_are_free_again_after_its_lease(server: Plain) -> None:
    async def main() -> None:
        async with two(server, Terms("rate/lab/concurrency", Slots(5)), killed=True) as (moment, first, second):
            for _ in range(5):
                assert first.take(1, moment[0]) is Said.YES or await first.ask(1, moment[0])
            assert not await second.ask(1, moment[0])
            moment[0] += LEASE_S - 1
            assert not await second.ask(1, moment[0])
            moment[0] += 2
            assert all([second.take(1, moment[0]) is Said.YES or await second.ask(1, moment[0]) for _ in range(5)])

    asyncio.run(main())


def test_what_a_killed_worker_held_of_a_budget_is_free_again_and_what_it_settled_is_not(server: Plain) -> None:
    async def main() -> None:
        async with two(server, Terms("budget/lab/usd-day", Book(100, "day")), killed=True) as (moment, mine, others):
            assert await mine.ask(10, moment[0])
            mine.settle(10, 10, moment[0])
            assert await mine.ask(70, moment[0])  # with this, what was settled is said; then it is killed
            assert not await others.ask(30, moment[0])
            moment[0] += LEASE_S - 1
            assert not await others.ask(30, moment[0])
            moment[0] += 2
            assert not await others.ask(91, moment[0])
            assert await others.ask(90, moment[0])

    asyncio.run(main())


def test_what_is_idle_is_given_back_and_what_nobody_uses_is_forgotten(server: Plain) -> None:
    async def main() -> None:
        async with two(server, Terms("budget/lab/usd-day", Book(100, "day"))) as (moment, mine, others):
            assert await mine.ask(10, moment[0])
            mine.settle(10, 0, moment[0])

            def all_is_there() -> bool:
                moment[0] += 0.02
                return others.left(moment[0]) == 100

            await eventually(all_is_there)
            assert await others.ask(100, moment[0])
            others.settle(100, 0, moment[0])

    asyncio.run(main())


def test_slots_that_others_had_are_seen_to_be_free_though_nobody_asks_for_any(server: Plain) -> None:
    async def main() -> None:
        async with two(server, Terms("rate/lab/concurrency", Slots(40))) as (moment, mine, others):
            assert await mine.ask(30, moment[0])
            assert await others.ask(1, moment[0])
            others.settle(1, 0, moment[0])
            assert others.left(moment[0]) <= 10
            mine.settle(30, 0, moment[0])

            def all_are_there() -> bool:
                moment[0] += 0.05
                return mine.left(moment[0]) == others.left(moment[0]) == 40

            await eventually(all_are_there)

    asyncio.run(main())


def test_a_request_that_goes_while_it_waits_holds_nothing(server: Plain) -> None:
    async def main() -> None:
        store = PlainStore(server)
        accounts = LeasedAccounts(store, "w-1", time.time, asyncio.get_running_loop(), defect=no_defect)
        account = accounts.open(Terms("rate/lab/concurrency", Slots(1)))
        for turns in range(12):  # cancelled at every step on the way
            asking = asyncio.create_task(account.ask(1, time.time()))
            for _ in range(turns):
                await asyncio.sleep(0.0004)
            asking.cancel()
            held = (await asyncio.gather(asking, return_exceptions=True))[0]
            if held is True:
                account.settle(1, 0, time.time())
        assert account.take(1, time.time()) is Said.YES or await account.ask(1, time.time())
        await accounts.close()

    asyncio.run(main())


