"""One book among several workers, driven by hand: messages are lost, answered to nobody, late and repeated, workers are killed and
recovered, and the store forgets everything. Beside it a plain list of what was settled, and what is held.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

from hypothesis import strategies as st
from valkey_plain import Server

from gateway.core.accounts import Book, Terms, WhenLost
from gateway.core.windows import oldest_of, slice_of
from gateway.state.accounts.book import HEAL_S, LeasedBook, recovered
from gateway.state.accounts.kinds import account_of
from gateway.state.accounts.leased import LEASE_S, Leased
from gateway.state.accounts.port import Said
from gateway.state.store.port import Asked, Script

AMOUNT = 100
BEGAN = 1_800_000_000.0
SAFE_S = LEASE_S - 5.0  # nobody is silent for longer than that, or its hold would rightly end
WHATS = ("works", "works", "works", "works", "takes", "settles", "flushes", "passes", "is late", "goes wrong")
HOWS = ("", "", "unsaid", "lost", "deaf", "late", "forgets")
HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(WHATS), st.integers(0, 2), st.integers(1, 20), st.sampled_from(HOWS)), min_size=20, max_size=60
)
BOOKS = (Book(AMOUNT, "rolling", 60), Book(AMOUNT, "day"))


@dataclass(eq=False)
class Worker:
    """One life of a worker, and what its ledger says."""

    incarnation: str
    model: "BooksModel"
    heard: float
    workers: int = 3
    held: list[int] = field(default_factory=list)
    ledger: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        account, _ = account_of(self.model.terms, self, None)
        assert isinstance(account, LeasedBook)
        self.account = account

    @property
    def store_now(self) -> str:
        return repr(self.model.now)

    def now(self) -> float:
        return self.model.now

    def mark(self, account: Leased) -> None:
        """The test flushes when it likes."""

    def urge(self, account: Leased) -> None:
        """The test flushes when it likes."""

    def totals(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for at, used in self.ledger:
            number = slice_of(self.model.book, at)
            found[number] = found.get(number, 0) + used
        return found


class BooksModel:
    """`planted` is a change to the store's script."""

    def __init__(self, server: Server, book: Book, planted: Callable[[str], str] = lambda text: text) -> None:
        server.client.flushall()
        self.server = server
        self.planted = planted
        self.book = book
        self.terms = Terms("budget/tenant/lab/usd", book, WhenLost.REFUSE)
        self.loop = asyncio.new_event_loop()
        self.now = BEGAN
        self.lives = 0
        self.dead: list[Worker] = []
        self.late: list[Asked] = []
        self.living = [self.born() for _ in range(3)]

    def go(self, happenings: list[tuple[str, int, int, str]]) -> None:
        """Have all of them happen, and look after each."""
        try:
            for what, which, amount, how in happenings:
                match what:
                    case "works":
                        self.take(which, amount)
                        self.settle(which, amount)
                        if how != "unsaid":
                            self.flush(self.living[which], how)
                    case "takes":
                        self.take(which, amount)
                    case "settles":
                        self.settle(which, amount // 2)
                    case "flushes":
                        self.flush(self.living[which])
                    case "passes":
                        self.passes((0.02, 1.5, 9.0, 45.0)[amount % 4])
                    case "is late":
                        self.arrives_late()
                    case _:
                        self.goes_wrong(which, how)
                self.never_more_than_the_amount()
            self.exact()
            self.all_is_there()
        finally:
            self.loop.close()

    def born(self) -> Worker:
        self.lives += 1
        return Worker(f"worker-{self.lives}", self, self.now)

    def run(self, asked: Asked) -> list[object]:
        script = asked.script
        answer = self.server.run(replace(asked, script=Script(script.name, self.planted(script.text))))
        assert isinstance(answer, list)
        return answer

    def flush(self, worker: Worker, fault: str = "") -> None:
        asked = worker.account.prepare(self.now)
        if fault == "late":
            self.late.append(asked)
        if fault in ("lost", "late", "forgets"):
            worker.account.miss(self.now)
            return
        answer = self.run(asked)
        worker.heard = self.now
        if fault == "deaf":
            worker.account.miss(self.now)
        else:
            worker.account.hear(answer, self.now)

    # --- what happens -------------------------------------------------------------------------------------------------

    def take(self, which: int, amount: int) -> None:
        worker = self.living[which]
        said = worker.account.take(amount, self.now)
        if said is Said.ASK:

            async def ask() -> bool:
                asking = asyncio.ensure_future(worker.account.ask(amount, self.now))
                await asyncio.sleep(0)
                self.flush(worker)
                return await asking

            said = Said.YES if self.loop.run_until_complete(ask()) else Said.NO
        if said is Said.YES:
            worker.held.append(amount)

    def settle(self, which: int, most: int) -> None:
        worker = self.living[which]
        if worker.held:
            held = worker.held.pop()
            used = min(held, most)
            worker.ledger.append((self.now, used))
            worker.account.settle(held, used, self.now)

    def arrives_late(self) -> None:
        if self.late:
            asked = self.late.pop(0)
            self.run(asked)
            self.run(asked)

    def passes(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + SAFE_S / 2)
            for worker in self.living:
                if self.now - worker.heard > SAFE_S / 2:
                    self.flush(worker)
            for worker in self.dead:
                if self.now - worker.heard > SAFE_S / 2:
                    self.recover(worker)

    def goes_wrong(self, which: int, what: str) -> None:
        match what:
            case "lost" | "deaf" | "late":
                self.flush(self.living[which], what)
            case "unsaid":
                self.dead.append(self.living[which])
                self.living[which] = self.born()
            case "":
                for worker in self.dead:
                    self.recover(worker)
            case _:  # and comes back: all hear of it, and say again what they know, within HEAL_S
                self.server.client.flushdb()
                for worker in self.living:
                    worker.account.returned(self.now)
                for worker in self.living:
                    self.flush(worker)
                for worker in self.dead:
                    self.recover(worker)

    def recover(self, worker: Worker) -> None:
        worker.heard = inf  # nothing of it ends any more
        self.run(recovered(self.terms, worker.incarnation, worker.totals(), repr(self.now)))

    # --- what must hold -----------------------------------------------------------------------------------------------

    def counted(self) -> int:
        oldest = oldest_of(self.book, self.now)
        lives = [*self.living, *self.dead]
        return sum(total for worker in lives for number, total in worker.totals().items() if number >= oldest)

    def never_more_than_the_amount(self) -> None:
        held = sum(sum(worker.held) for worker in self.living)
        assert self.counted() + held <= AMOUNT, (self.counted(), held)

    def exact(self) -> None:
        """When all have said what they know, the store has what the ledgers say, worker by worker."""
        for worker in self.dead:
            self.recover(worker)
        for _ in range(3):
            for worker in self.living:
                self.flush(worker)
            self.now += HEAL_S
        for worker in self.living:
            self.flush(worker)
        window = f"{self.book.per_s}s" if self.book.window == "rolling" else self.book.window
        kept = self.server.client.hgetall(f"rg:{{{self.terms.id}}}:{window}:book")
        oldest = oldest_of(self.book, self.now)
        found = {field.decode(): int(value) for field, value in kept.items() if isinstance(field, bytes) and b" " in field}
        wanted = {
            f"{number} {worker.incarnation}": total
            for worker in (*self.living, *self.dead)
            for number, total in worker.totals().items()
            if number >= oldest and total
        }
        assert {name: value for name, value in found.items() if int(name.split()[0]) >= oldest} == wanted
        assert found == wanted, "slices that have left the window are still there"
        assert int(kept[b"sum"]) == sum(wanted.values())

    def all_is_there(self) -> None:
        """When all who live have ended what they do, and one is dead for longer than a lease, nothing is held by anybody."""
        self.take(0, 5)
        self.flush(self.living[0])
        self.dead.append(self.living[0])  # of a machine that nobody recovers
        self.living[0] = self.born()
        self.now += LEASE_S + 1
        for worker in self.living:
            for held in worker.held:
                worker.account.settle(held, 0, self.now)
            worker.held.clear()
            worker.account.part()
            self.flush(worker)
        last = self.born()
        self.flush(last)
        assert last.account.left(self.now) == AMOUNT - self.counted()
