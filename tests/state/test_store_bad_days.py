"""Bad days of a real server: whatever happens to it, nobody waits, nobody gets another's answer, and it heals by itself."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from inprocess import run
from store_servers import Server, cluster, cut_off, eventually, free_port, opened, sentinels, single

from gateway.core.terms import STORE_FAILURES
from gateway.state.store.link import FAIR_S, LATE_MAX, PENDING_MAX
from gateway.state.store.port import WAIT_S, Asked, Script, Store, StoreLost

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
ECHO = Script("echo", "return ARGV[1]")
KEEP = Script("keep", "return redis.call('SET', KEYS[1], ARGV[1])")
READ = Script("read", "return redis.call('STRLEN', KEYS[1])")
ONE = Asked(COUNT, ("rg:{a}:n",), (1,))


async def outcome(store: Store, asked: Asked = ONE) -> Any:
    """The answer, or the word of why there is none; never later than promised."""
    asking, patience = asyncio.ensure_future(store.run(asked)), asyncio.ensure_future(promised())
    try:
        await asyncio.wait((asking, patience), return_when=asyncio.FIRST_COMPLETED)
        assert asking.done(), "it was waited for longer than promised"
        lost = asking.exception()
        assert lost is None or (isinstance(lost, StoreLost) and str(lost) in STORE_FAILURES)
        return asking.result() if lost is None else str(lost)
    finally:
        patience.cancel()


async def promised() -> None:
    """As long as anybody may wait, and a moment. In turns of the loop, so that a machine that stands still proves nothing."""
    await asyncio.sleep(WAIT_S)
    for _ in range(5):
        await asyncio.sleep(0.005)


async def lost(store: Store) -> None:
    """Ask until the breaker has opened, which takes a few questions; from then on asking costs nothing."""
    for _ in range(LATE_MAX + 1):
        assert await outcome(store) in STORE_FAILURES
    assert not store.up
    began = time.monotonic()
    for _ in range(100):
        assert await outcome(store) == "down"
    assert time.monotonic() - began < 10 * WAIT_S  # for all hundred; where each waits it is ten times as long


@asynccontextmanager
async def healing(store: Store) -> AsyncIterator[None]:
    """After what is done inside, the store is back by itself, and whoever asked to hear of that has heard."""
    backs: list[bool] = []
    store.on_back(lambda: backs.append(store.up))
    await eventually(lambda: backs or not store.up)
    backs.clear()
    yield
    await eventually(lambda: backs)
    assert all(backs)
    assert isinstance(await outcome(store), int)


def on_a_server(main: Callable[[Server, Store], Any], *settings: str) -> None:
    async def opened_main() -> None:
        async with opened(server.url) as store:
            await main(server, store)

    with single(*settings) as server:
        run(opened_main)


def test_it_does_not_answer() -> None:
    async def main(server: Server, store: Store) -> None:
        assert await outcome(store) == 1
        async with healing(store):
            server.pause()
            await lost(store)
            server.resume()

    on_a_server(main)


def test_it_stops_answering_while_nobody_asks() -> None:
    async def main(server: Server, store: Store) -> None:
        server.pause()
        await eventually(lambda: not store.up)
        assert await outcome(store) == "down"
        server.resume()
        await eventually(lambda: store.up)

    on_a_server(main)


def test_it_is_slow_for_a_moment_and_nobody_gets_an_answer_that_was_for_another() -> None:
    async def main(server: Server, store: Store) -> None:
        asked = [Asked(ECHO, ("rg:{a}",), (f"{number}",)) for number in range(8)]
        assert [await outcome(store, one) for one in asked] == [b"%d" % number for number in range(8)]
        server.pause()
        assert await outcome(store, asked[0]) == await outcome(store, asked[1]) == "late"
        server.resume()  # the two answers are on their way now, and nobody waits for them
        assert [await outcome(store, one) for one in asked[2:]] == [b"%d" % number for number in range(2, 8)]
        assert store.up

    on_a_server(main)


def test_it_is_killed_and_comes_back_empty() -> None:
    async def main(server: Server, store: Store) -> None:
        assert [await outcome(store) for _ in range(3)] == [1, 2, 3]
        async with healing(store):
            server.kill()
            await eventually(lambda: not store.up)
            assert await outcome(store) == "down"
            server.start()
        assert server.ask("GET", "rg:{a}:n") == b"1"

    on_a_server(main)


def test_it_is_killed_in_the_midst_of_questions() -> None:
    async def main(server: Server, store: Store) -> None:
        server.pause()
        asking = [asyncio.ensure_future(outcome(store)) for _ in range(50)]
        await asyncio.sleep(0)
        server.kill()
        assert set(await asyncio.gather(*asking)) == {"lost"}
        assert isinstance((await asyncio.gather(store.run_all([ONE]), return_exceptions=True))[0], StoreLost)

    on_a_server(main)


def test_it_refuses_what_it_must_not_do_while_it_follows_another() -> None:
    async def main(server: Server, store: Store) -> None:
        async with healing(store):
            server.ask("REPLICAOF", "127.0.0.1", free_port())
            assert await outcome(store) == "refused"
            assert not store.up
            server.ask("REPLICAOF", "NO", "ONE")

    on_a_server(main)


def test_it_is_full() -> None:
    async def main(server: Server, store: Store) -> None:
        large = Asked(KEEP, ("rg:{a}:large",), (b"x" * 500_000,))
        assert await outcome(store, large) == b"OK"
        used = dict(line.split(b":", 1) for line in server.ask("INFO", "memory").splitlines() if b":" in line)[b"used_memory"]
        server.ask("CONFIG", "SET", "maxmemory", used)
        assert await outcome(store, Asked(KEEP, ("rg:{a}:more",), (b"x" * 500_000,))) == "full"
        assert await outcome(store, Asked(READ, ("rg:{a}:large",))) == 500_000  # what does not write is answered,
        assert store.up  # and that is no reason to stop asking
        assert server.ask("DEL", "rg:{a}:large") == 1
        assert await outcome(store, ONE) == 1

    on_a_server(main, "--maxmemory-policy", "noeviction")


def test_it_can_not_be_reached_from_one_worker_only() -> None:
    async def main(server: Server, store: Store) -> None:
        async with cut_off(server) as proxy, opened(proxy.url) as other:
            assert await outcome(other) == 1
            async with healing(other):
                proxy.block()
                await lost(other)
                assert await outcome(store) == 2  # what the other asked last has not arrived
                proxy.unblock()
            assert store.up

    on_a_server(main)


def test_its_sentinels_have_another_take_its_place() -> None:
    async def main(servers: Any) -> None:
        async with opened(servers.url) as store:
            heard: list[bytes] = []
            store.listen("rg:news", heard.append)
            assert await outcome(store) == 1
            async with healing(store):
                await asyncio.to_thread(servers.fail_over)
            assert servers.replica.ask("ROLE")[0] == b"master"

            async def told() -> None:
                while not heard:
                    await store.publish("rg:news", b"still here")
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(told(), 10)

    with sentinels() as servers:
        run(lambda: main(servers))


@pytest.mark.parametrize(
    ("form", "odd"),
    [
        ("sentinel", b"*2\r\n$4\r\na..b\r\n$4\r\n6379\r\n"),
        ("sentinel", b":1\r\n"),
        ("cluster", b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$4\r\na..b\r\n:6379\r\n"),
        ("cluster", b"*1\r\n:1\r\n"),
    ],
    ids=["a name that is none", "no name", "a server that is none", "no range"],
)
def test_it_heals_from_odd_answers_of_those_who_say_where_it_is(form: str, odd: bytes) -> None:
    """At first nobody can be where they say; then they say where it is."""

    async def main(server: Server) -> None:
        there = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(server.port)), server.port)
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % server.port
        answers = [odd, odd]
        asked = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65_536):
                writer.write(answers.pop() if answers else there if form == "sentinel" else slots)
                asked.set()
            writer.close()

        guide = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = guide.sockets[0].getsockname()[1]
        path = "/limits" if form == "sentinel" else ""
        async with guide, opened(f"redis+{form}://127.0.0.1:{port}{path}", up=False) as store:
            await asked.wait()
            await eventually(lambda: not store.why)
            assert await outcome(store) == 1

    with single(port=free_port()) as server:
        run(lambda: main(server))


@pytest.mark.parametrize("form", ["redis://{}", "redis+sentinel://{}/limits", "redis+cluster://{}"])
def test_a_host_that_can_not_be_is_told(form: str) -> None:
    async def main() -> None:
        async with opened(form.format("a..b"), up=False) as store:
            await eventually(lambda: store.why != "it has not answered yet")

    run(main)


def test_one_of_a_cluster_is_gone_and_the_others_go_on() -> None:
    async def main(servers: Any) -> None:
        async with opened(servers.url) as store:
            everywhere = [Asked(COUNT, (f"rg:{{{tag}}}:n",), (1,)) for tag in ("a", "b", "c", "foo", "bar", "hello")]
            assert await store.run_all(everywhere) == [1] * 6
            servers.servers[2].pause()
            answers = await store.run_all(everywhere)
            assert {str(answer) for answer in answers} == {"2", "late"}
            for _ in range(LATE_MAX):
                answers = await store.run_all(everywhere)
            began = time.monotonic()
            answers = await store.run_all(everywhere)
            assert time.monotonic() - began < WAIT_S
            assert "down" in {str(answer) for answer in answers} and 6 in answers
            assert store.up and store.why
            servers.servers[2].resume()
            await eventually(lambda: not store.why)
            assert all(isinstance(answer, int) for answer in await store.run_all(everywhere))

    with cluster() as servers:
        run(lambda: main(servers))


def test_who_has_hardly_any_time_left_to_wait_says_nothing_of_the_store() -> None:
    async def main(server: Server, store: Store) -> None:
        server.pause()
        for _ in range(2 * LATE_MAX):
            with pytest.raises(StoreLost, match="late"):
                await store.run(Asked(COUNT, ("rg:{a}:n",), (1,)), FAIR_S / 10)
        assert store.up
        await lost(store)
        async with healing(store):
            server.resume()

    on_a_server(main)


def test_too_much_on_its_way_is_refused_and_not_kept() -> None:
    async def main(server: Server, store: Store) -> None:
        server.pause()
        answers = await asyncio.gather(*(outcome(store) for _ in range(PENDING_MAX + 100)))
        assert set(answers) <= {"busy", "late", "lost"}
        assert answers.count("busy") == 99
        server.resume()

    on_a_server(main)


def test_a_loop_that_stood_still_does_not_blame_the_store() -> None:
    async def main(server: Server, store: Store) -> None:
        assert await store.run(ONE) == 1
        asking = asyncio.ensure_future(store.run(ONE))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it is on its way
        time.sleep(3 * WAIT_S)  # noqa: ASYNC251 - as a large JSON would
        assert await asking == 2

    on_a_server(main)


def test_one_who_leaves_takes_no_answer_along() -> None:
    async def main(server: Server, store: Store) -> None:
        server.pause()
        leaving = asyncio.ensure_future(store.run(Asked(ECHO, ("rg:{a}",), ("theirs",))))
        await asyncio.sleep(0)
        leaving.cancel()
        staying = asyncio.ensure_future(store.run(Asked(ECHO, ("rg:{a}",), ("ours",))))
        server.resume()
        assert await staying == b"ours"
        with pytest.raises(asyncio.CancelledError):
            await leaving

    on_a_server(main)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_everybody_gets_their_own_answer_or_none(seed: int) -> None:
    dice = random.Random(seed)

    async def main(server: Server, store: Store) -> None:
        numbers, served, over = itertools.count(), 0, False

        async def client() -> None:
            nonlocal served
            while not over:
                own = str(next(numbers))
                found = await outcome(store, Asked(ECHO, ("rg:{a}",), (own,)))
                if isinstance(found, bytes):
                    assert found == own.encode()
                    served += 1
                await asyncio.sleep(0.001)

        clients = [asyncio.ensure_future(client()) for _ in range(8)]
        for _ in range(12):
            match dice.choice(["pause", "forget", "kill", "wait"]):
                case "pause":
                    server.pause()
                    await asyncio.sleep(dice.uniform(0.01, 0.2))
                    server.resume()
                case "forget":
                    server.ask("SCRIPT", "FLUSH")
                case "kill":
                    server.kill()
                    await asyncio.to_thread(server.start)
                case "wait":
                    await asyncio.sleep(dice.uniform(0.01, 0.1))
        before = served
        await eventually(lambda: store.up and served > before)
        over = True
        await asyncio.gather(*clients)

    on_a_server(main)
