"""What port.py asks of a store, asked of each kind of server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from inprocess import run
from store_servers import Server, eventually, opened, single

from gateway.state.store.port import Asked, Script, StoreLost

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
ECHO = Script("echo", "return {ARGV[1], #ARGV[1], false, {KEYS[1]}}")
WRONG = Script("wrong", "return redis.call('NO-SUCH-COMMAND')")


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


def test_a_script_runs_and_says_what_it_returns(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url) as store:
            assert await store.run(Asked(COUNT, ("rg:{a}:n",), (5,))) == 5
            assert await store.run(Asked(COUNT, ("rg:{a}:n",), ("2",))) == 7
            raw = bytes(range(256))
            assert await store.run(Asked(ECHO, ("rg:{a}:n",), (raw,))) == [raw, 256, None, [b"rg:{a}:n"]]
            with pytest.raises(StoreLost, match="refused"):
                await store.run(Asked(WRONG, ("rg:{a}:n",)))

    run(main)


def test_many_in_one_pipeline_keep_their_order_and_fail_alone(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url) as store:
            asked = [Asked(COUNT, (f"rg:{{{name}}}:n",), (index,)) for index, name in enumerate("abcdefgh", 1)]
            asked.insert(3, Asked(WRONG, ("rg:{x}:n",)))
            answers = await store.run_all(asked)
            assert isinstance(answers.pop(3), StoreLost)
            assert answers == [1, 2, 3, 4, 5, 6, 7, 8]
            assert await store.run_all([]) == []
            with pytest.raises(StoreLost):
                await store.run_all([Asked(WRONG, ("rg:{x}:n",))] * 2)

    run(main)


def test_what_is_published_is_heard_by_all_who_listen(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url) as one, opened(server.url) as other:
            heard: list[tuple[str, bytes]] = []
            one.listen("rg:news", lambda message: heard.append(("one", message)))
            other.listen("rg:news", lambda message: heard.append(("other", message)))
            other.listen("rg:more", lambda message: heard.append(("more", message)))
            await told_until(lambda: {name for name, _ in heard} == {"one", "other"}, lambda: one.publish("rg:news", b"\0\xff"))
            await told_until(lambda: ("more", b"!") in heard, lambda: one.publish("rg:more", b"!"))
            assert set(heard) == {("one", b"\0\xff"), ("other", b"\0\xff"), ("more", b"!")}

    run(main)


def test_who_asks_too_early_is_told_at_once_and_who_waits_is_told_when(server: Server) -> None:
    async def main() -> None:
        server.kill()
        async with opened(server.url, up=False) as store:
            assert not store.up
            with pytest.raises(StoreLost, match="down"):
                await store.run(Asked(COUNT, ("rg:{a}:n",), (5,)))
            backs: list[bool] = []
            store.on_back(lambda: backs.append(store.up))
            server.start()
            await eventually(lambda: backs)
            assert backs[0] is True
            late: list[bool] = []
            store.on_back(lambda: late.append(True))
            await eventually(lambda: late)

    run(main)


async def told_until(done: Callable[[], bool], tell: Callable[[], Awaitable[None]]) -> None:
    """Publish until it was heard: when others begin to listen can't be seen from here."""
    while not done():
        await tell()
        await asyncio.sleep(0.01)

