"""What `explain` says of how far a limit can be overshot, against workers that try."""

import asyncio

import pytest
from inprocess import run
from valkey_plain import Server

from gateway.core.accounts import Book, Bucket, Slots, Terms, WhenLost
from gateway.core.overshoot import STANDING, overshoot
from gateway.state.accounts.kinds import account_of
from gateway.state.accounts.leased import Leased
from gateway.state.accounts.port import Said

AMOUNT = 600


class Hand:
    """A worker whose messages are sent when the test says so."""

    def __init__(self, name: str, workers: int, moment: list[float], server: Server, terms: Terms) -> None:
        self.incarnation = name
        self.workers = workers
        self._moment = moment
        self._server = server
        self.account, _ = account_of(terms, self, None)

    @property
    def store_now(self) -> str:
        return repr(self._moment[0])

    def now(self) -> float:
        return self._moment[0]

    def mark(self, account: Leased) -> None: ...

    def urge(self, account: Leased) -> None: ...

    async def flush(self) -> None:
        asked = self.account.prepare(self.now())
        answer = self._server.run(asked)  # without a turn of the loop: on a busy machine whoever waits would give the store up
        self.account.hear(answer, self.now())

    async def all_it_can(self, most: int = AMOUNT) -> int:
        """Takes one after the other, asking wherever that may help."""
        count = 0
        while count < most:
            said = self.account.take(1, self.now())
            if said is Said.ASK:
                asking = asyncio.ensure_future(self.account.ask(1, self.now()))
                await asyncio.sleep(0)
                await self.flush()
                said = Said.YES if await asking else Said.NO
            if said is not Said.YES:
                break
            count += 1
        return count


def crowd(server: Server, workers: int, terms: Terms) -> tuple[list[Hand], list[float]]:
    moment = [1_800_000_000.0]
    return [Hand(f"w-{n}", workers, moment, server, terms) for n in range(workers)], moment


@pytest.mark.parametrize("workers", [1, 2, 4, 12])
@pytest.mark.parametrize("per_s", [1, 60, 3600])
def test_a_bucket_holds_at_most_so_much_more(server: Server, workers: int, per_s: int) -> None:
    """All workers lease ahead as if they were busy, then nobody does anything for a second, then all take what they can."""

    async def main() -> None:
        terms = Terms("rate/lab/requests", Bucket(AMOUNT, per_s))
        hands, moment = crowd(server, workers, terms)
        for _ in range(40):
            for hand in hands:
                await hand.all_it_can(1)
                await hand.flush()
            moment[0] += 0.02
        moment[0] += 1.0
        count = 0
        for hand in hands:
            count += await hand.all_it_can(2 * AMOUNT)
        bound = overshoot(terms, workers)
        assert 0 < count <= AMOUNT + bound.answering
        assert bound.answering < AMOUNT

    run(main)


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("of", [Slots(AMOUNT), Book(AMOUNT, "day"), Bucket(AMOUNT, 60)], ids=["slots", "book", "bucket"])
@pytest.mark.parametrize("first", [0, 250, AMOUNT])
def test_while_the_store_is_lost_at_most_so_much_more_begins(
    server: Server, of: Slots | Book | Bucket, workers: int, first: int
) -> None:
    async def main() -> None:
        for when in (WhenLost.SHARE, WhenLost.REFUSE):
            server.client.flushall()
            terms = Terms("any/lab/it", of, when)
            hands, moment = crowd(server, workers, terms)
            for hand in hands:
                await hand.flush()
            count = began = await hands[0].all_it_can(first)
            assert first - STANDING * workers <= began <= first  # the others have a little leased ahead
            moment[0] += 1.0
            for hand in hands:
                hand.account.lose(moment[0])
            for hand in hands:
                count += await hand.all_it_can()
            bound = overshoot(terms, workers)
            assert bound.lost is not None
            assert count <= AMOUNT + bound.answering + bound.lost
            assert when is not WhenLost.REFUSE or count == began

    run(main)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("of", [Slots(AMOUNT), Book(AMOUNT, "day"), Bucket(AMOUNT, 60)], ids=["slots", "book", "bucket"])
def test_far_from_a_limit_nobody_is_refused_because_the_store_is_lost(
    server: Server, of: Slots | Book | Bucket, workers: int
) -> None:
    """Not even what began before that was known."""

    async def main() -> None:
        hands, moment = crowd(server, workers, Terms("any/lab/it", of))
        for _ in range(2):
            for hand in hands:
                await hand.flush()
                assert await hand.all_it_can(2) == 2
        for hand in hands:
            hand.account.lose(moment[0] + 0.05)
            assert await hand.all_it_can(AMOUNT // workers // 2) == AMOUNT // workers // 2

    run(main)


def test_a_worker_that_keeps_what_lies_idle_is_found_out(server: Server) -> None:
    """And so is one that goes by the whole of a lost limit, and not by its share."""

    async def begun(*, keeps: bool, workers: int) -> int:
        server.client.flushall()
        of = Bucket(AMOUNT, 60) if keeps else Slots(AMOUNT)
        hands, moment = crowd(server, workers, Terms("any/lab/it", of))
        for _ in range(40 if keeps else 1):
            for hand in hands:
                await hand.flush()
                if keeps:
                    hand.account.lease.free += hand.account._ahead  # what it gives back it has, too
                    await hand.all_it_can(1)
            moment[0] += 0.02
        if not keeps:
            for hand in hands:
                hand.workers = 1
                hand.account.lose(moment[0])
        return sum([await hand.all_it_can(2 * AMOUNT) for hand in hands])

    async def main() -> None:
        bucket, slots = (overshoot(Terms("any/lab/it", of), 4) for of in (Bucket(AMOUNT, 60), Slots(AMOUNT)))
        assert await begun(keeps=True, workers=4) > AMOUNT + bucket.answering
        assert bucket.answering < AMOUNT
        assert slots.lost is not None
        assert await begun(keeps=False, workers=4) > AMOUNT + slots.lost

    run(main)


def test_what_it_says() -> None:
    for terms, workers, says in (
        (Terms("a", Book(9, "day"), WhenLost.REFUSE), 4, "not at all; nothing begins while the store is lost"),
        (Terms("a", Slots(8)), 1, "not at all; while the store is lost its only worker goes on"),
        (Terms("a", Bucket(9, 60), WhenLost.ADMIT), 4, "by at most 6 beyond a full bucket; without bound while the store is lost"),
    ):
        assert overshoot(terms, workers).says == says
    assert overshoot(Terms("a", Slots(2)), 8).lost == 7
