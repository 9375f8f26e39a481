"""How many workers there are on all machines: heard of at once, believed gone with care, and kept while the store is lost."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_store import FakeStore
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run
from store_servers import Server, eventually, opened, single

from gateway.core.overshoot import crowding
from gateway.core.pricing import even_share
from gateway.crew import BEAT_S, FILE, KEY, LEASE_S, SAY, Crew
from gateway.state.store.port import Asked, Store, StoreLost

ROOM = 48


class World:
    """Time, as machines and the store see it, and what machines say."""

    def __init__(self, folder: Path) -> None:
        self.time = 1_800_000_000.0
        self.folder = folder
        self.events: list[tuple[str, dict[str, Any]]] = []

    def machine(self, store: Any, name: str, workers: int = 1, kind: type[Crew] = Crew) -> "Machine":
        state = self.folder / name
        state.mkdir(parents=True, exist_ok=True)
        return Machine(self, store, name, workers, state, kind)


class Machine:
    """A machine whose requests never end, and that begins as many as it may whenever it is told so."""

    def __init__(self, world: World, store: Any, name: str, workers: int, state: Path, kind: type[Crew]) -> None:
        self.told: list[int | None] = []
        self.workers = workers
        self.store = store
        self.crew = kind(
            store, name, workers, state, self.told.append, self.log, now=lambda: world.time, store_now=lambda: repr(world.time)
        )
        self._world = world

    def log(self, event: str, **fields: Any) -> None:
        self._world.events.append((event, fields))

    @property
    def under_way(self) -> int:
        """Requests that it has sent to an endpoint with ROOM."""
        return self.workers * max(even_share(ROOM, known) for known in self.told)


class OnServer(FakeStore):
    """Asks a real server, by a client that blocks."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def answer(self, asked: Asked) -> Any:
        return self._server.ask("EVAL", asked.script.text, len(asked.keys), *asked.keys, *asked.args)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with single() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, server: Server) -> World:
    server.ask("FLUSHALL")
    return World(tmp_path)


def beats(*machines: Machine) -> None:
    async def main() -> None:
        for machine in machines:
            await machine.crew.beat()

    run(main)


def pass_time(world: World, seconds: float, *alive: Machine) -> None:
    """Let it pass, with a beat of each that is alive every BEAT_S."""
    until = world.time + seconds
    while world.time < until:
        world.time = min(until, world.time + BEAT_S)
        beats(*alive)


def test_one_that_comes_knows_of_all_at_once_and_they_of_it_with_their_next_beat(world: World, server: Server) -> None:
    one, other = world.machine(OnServer(server), "one"), world.machine(OnServer(server), "other", workers=3)
    assert one.told == [None], "nobody was ever heard of"
    beats(one)
    assert one.told == [None, 1]
    beats(other)
    assert (one.crew.workers, other.crew.workers) == (1, 4)
    beats(one, other, one)
    assert one.told == [None, 1, 4] and other.told == [None, 4]
    assert world.events[-1] == ("workers_sharing", {"workers": 4, "before": 1})


def test_one_that_ends_is_gone_with_the_next_beat_and_one_that_dies_after_its_lease(world: World, server: Server) -> None:
    store = OnServer(server)
    one, other, third = world.machine(store, "one"), world.machine(store, "other"), world.machine(store, "third")
    beats(one, other, third, one, other)
    pass_time(world, LEASE_S, one, other, third)
    run(third.crew.end)
    beats(third)  # a beat that was already under way says nothing any more
    beats(one, other)
    assert one.crew.workers == other.crew.workers == 2
    pass_time(world, LEASE_S - 1, one)
    assert one.crew.workers == 2
    pass_time(world, 2, one)
    assert one.crew.workers == 1


def test_while_the_store_is_lost_the_number_stays_over_restarts_too(world: World, server: Server) -> None:
    store = OnServer(server)
    one, other = world.machine(store, "one"), world.machine(store, "other", workers=2)
    beats(one, other, one)
    store.lost = True
    pass_time(world, 10 * LEASE_S, one, other)
    assert one.crew.workers == other.crew.workers == 3
    again = world.machine(store, "one", workers=4)
    beats(again)
    assert again.told == [6], "its own four, and two elsewhere"
    store.lost = False
    beats(other)  # the store has forgotten everybody
    pass_time(world, LEASE_S + BEAT_S, other, again)
    assert again.crew.workers == other.crew.workers == 6


def test_a_machine_that_never_heard_of_any_takes_as_little_as_it_can_and_says_so_once(world: World, server: Server) -> None:
    store = OnServer(server)
    store.lost = True
    one = world.machine(store, "one", workers=2)
    beats(one, one)
    assert one.told == [None] and one.under_way == 2
    assert [event for event, _ in world.events] == ["workers_sharing_unknown"]
    store.lost = False
    beats(one)
    assert one.told == [None, 2]


def test_a_store_that_comes_back_empty_makes_nobody_look_alone(world: World, server: Server) -> None:
    store = OnServer(server)
    one, other = world.machine(store, "one"), world.machine(store, "other")
    beats(one, other, one)
    pass_time(world, LEASE_S, one, other)
    server.ask("FLUSHALL")
    for back in store.backs:
        back()
    beats(one)
    assert one.crew.workers == 2
    pass_time(world, LEASE_S - BEAT_S, one)
    assert one.crew.workers == 2
    pass_time(world, 2 * BEAT_S, one)
    assert one.crew.workers == 1, "the other has had time enough to say that it is there"


def test_one_that_alone_loses_the_store_keeps_its_share_and_only_if_all_do_in_turns_each_has_all(
    world: World, server: Server
) -> None:
    one, other = world.machine(OnServer(server), "one"), world.machine(OnServer(server), "other")
    beats(one, other, one)
    other.store.lost = True
    pass_time(world, LEASE_S + BEAT_S, one, other)
    assert (one.crew.workers, other.crew.workers) == (1, 2)
    assert one.under_way + other.under_way == ROOM + crowding(ROOM, 2, among_machines=True).answering
    one.store.lost, other.store.lost = True, False
    pass_time(world, 2 * LEASE_S + BEAT_S, one, other)
    assert one.under_way + other.under_way == 2 * ROOM
    one.store.lost = False
    beats(one, other)
    assert one.crew.workers == other.crew.workers == 2


@pytest.mark.parametrize("answer", [None, b"3", [3], -1, 0, 10**9, "3"])
def test_an_answer_that_is_none_changes_nothing(tmp_path: Path, answer: Any) -> None:
    class Odd(FakeStore):
        def answer(self, asked: Asked) -> Any:
            return answer

    one = World(tmp_path).machine(Odd(), "one")
    beats(one)
    assert one.told == [None]


@pytest.mark.parametrize("odd", ["", "x", "-1 9e99", "1", "99999999999 0"])
def test_what_else_lies_in_the_store_counts_for_nothing(world: World, server: Server, odd: str) -> None:
    server.ask("HSET", KEY, "odd", odd)
    one = world.machine(OnServer(server), "one")
    beats(one)
    assert one.crew.workers == 1
    assert server.ask("HEXISTS", KEY, "odd") == 0
    assert 0 < server.ask("TTL", KEY) <= 2 * LEASE_S


@pytest.mark.parametrize("kept", ["", "x", "-1", "1.5", "9" * 20, "²"])
def test_a_file_that_is_none_is_as_good_as_none(tmp_path: Path, kept: str) -> None:
    world = World(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / FILE).write_text(kept)
    assert world.machine(FakeStore(), "one").told == [None]


def test_a_number_that_cant_be_kept_is_gone_by_and_told_once(world: World, server: Server) -> None:
    store = OnServer(server)
    one, other = world.machine(store, "one"), world.machine(store, "other")
    (world.folder / "one").rmdir()
    beats(other, one, one, one)
    assert one.crew.workers == 2
    assert [event for event, _ in world.events].count("workers_sharing_not_kept") == 1


# --- whatever happens -------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["end", "die", "restart"]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["time", "lost", "empty"]), st.integers(1, 12)),
    ),
    max_size=25,
)


def goes_well(world: World, server: Server, steps: list[tuple[str, int]], kind: type[Crew] = Crew) -> None:
    """Once all have spoken no machine knows of fewer workers than live; no more requests come together than `explain` says; and
    when all is calm everybody knows how many there are."""
    store, alive, order, heard = OnServer(server), list[Machine](), random.Random(4), True
    server.ask("FLUSHALL")
    for number, (step, many) in enumerate(steps):
        if step == "come":
            alive.append(world.machine(store, f"m{number}", many, kind))
            beats(alive[-1])
        elif step == "time":
            pass_time(world, many, *order.sample(alive, len(alive)))
        elif step == "lost":  # for all of them
            store.lost = True
            pass_time(world, many, *alive)
            store.lost = False
            beats(*alive)
        elif step == "empty":
            server.ask("FLUSHALL")
            for back in store.backs:
                back()
            beats(*order.sample(alive, len(alive)))
        elif alive:
            gone = alive.pop(many % len(alive))
            if step == "end":
                run(gone.crew.end)
            elif step == "restart":
                alive.append(world.machine(store, gone.crew._machine, gone.workers, kind))
        together = sum(machine.workers for machine in alive)
        heard = step == "time" or (heard and step != "come")
        if heard:
            assert all((machine.crew.workers or together) >= together for machine in alive)
        if alive:
            most = ROOM + crowding(ROOM, together, among_machines=True).answering
            assert sum(machine.under_way for machine in alive) <= most
    pass_time(world, 2 * LEASE_S + 2 * BEAT_S, *alive)
    assert all(machine.crew.workers == sum(other.workers for other in alive) for machine in alive)


@settings(max_examples=40)
@given(STEPS)
def test_whatever_happens_to_all_of_them_no_share_is_too_large(
    tmp_path_factory: pytest.TempPathFactory, server: Server, steps: list[tuple[str, int]]
) -> None:
    goes_well(World(tmp_path_factory.mktemp("crew")), server, steps)


class Hasty(Crew):
    """Believes what a store says that has just come back."""

    def _heard(self, others: int) -> None:
        self._unbroken = float("-inf")
        super()._heard(others)


class Alone(Crew):
    """Takes itself to be alone when nobody answers."""

    async def beat(self) -> None:
        try:
            await self._store.run(self._said(self._own))
        except StoreLost:
            self._unbroken = float("-inf")
            self._heard(0)
        else:
            await super().beat()


class Forgets(Crew):
    """Knows nothing of the life before."""

    def _kept(self) -> int | None:
        return 0


class Slow(Crew):
    """Believes in nobody for a while."""

    def _heard(self, others: int) -> None:
        if self._others is None or others < self._others:
            super()._heard(others)


TWO = [("come", 1), ("come", 2), ("time", 12)]
DAYS: dict[type[Crew], list[tuple[str, int]]] = {
    Hasty: [*TWO, ("empty", 1)],
    Alone: [*TWO, ("lost", 3)],
    Forgets: [*TWO, ("lost", 1), ("restart", 0)],
    Slow: [*TWO, ("time", 12)],
}


@pytest.mark.parametrize("planted", DAYS)
def test_who_counts_wrongly_is_found_out(world: World, server: Server, planted: type[Crew]) -> None:
    goes_well(world, server, DAYS[planted])
    with pytest.raises(AssertionError):
        goes_well(World(world.folder / "again"), server, DAYS[planted], planted)


# --- over a real store ------------------------------------------------------------------------------------------------------


def test_two_machines_hear_of_each_other_by_themselves_whatever_becomes_of_the_store(tmp_path: Path) -> None:
    def machine(store: Store, name: str) -> tuple[Crew, list[int | None]]:
        told: list[int | None] = []
        (tmp_path / name).mkdir()
        return Crew(store, name, 2, tmp_path / name, told.append, lambda event, **fields: None), told

    async def main() -> None:
        with single() as server:
            async with opened(server.url) as first, opened(server.url) as second, contextlib.AsyncExitStack() as stack:
                (one, told), (other, other_told) = machine(first, "one"), machine(second, "other")
                for crew in (one, other):
                    task = asyncio.ensure_future(crew.run())
                    stack.callback(task.cancel)
                await eventually(lambda: one.workers == other.workers == 4)
                server.kill()
                await eventually(lambda: not first.up and not second.up)
                server.start()
                await eventually(lambda: server.ask("HLEN", KEY) == 2)
                assert told[-1] == other_told[-1] == 4 and told.count(4) == other_told.count(4) == 1
                assert await first.run(Asked(SAY, (KEY,), ("one", 0, LEASE_S, ""))) == 2

    run(main)
