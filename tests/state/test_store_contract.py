"""What port.py asks of a store, asked of each kind of server. Keys are each test's own, for the servers are not."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import run
from store_servers import (
    MAY,
    MAY_BEHIND_SENTINELS,
    MAY_IN_A_CLUSTER,
    PASSWORD,
    PATIENCE_S,
    USER,
    Server,
    cluster,
    eventually,
    external,
    opened,
    sentinels,
    single,
)

from gateway.state.store.port import Asked, Script, Store, StoreLost

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
ECHO = Script("echo", "return {ARGV[1], #ARGV[1], false, {KEYS[1]}}")
WRONG = Script("wrong", "return redis.call('NO-SUCH-COMMAND')")

KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "unix": single,
    "tls and a user": external,
    "sentinel": sentinels,
    "cluster": cluster,
}


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with KINDS[request.param]() as servers:
        yield servers.url


def test_a_script_runs_and_says_what_it_returns(url: str) -> None:
    async def main() -> None:
        async with opened(url) as store:
            assert await store.run(Asked(COUNT, ("rg:{a}:n",), (5,))) == 5
            assert await store.run(Asked(COUNT, ("rg:{a}:n",), ("2",))) == 7
            raw = bytes(range(256)) * 4096
            assert await store.run(Asked(ECHO, ("rg:{a}:n",), (raw,)), 1.0) == [raw, len(raw), None, [b"rg:{a}:n"]]
            with pytest.raises(StoreLost, match="refused"):
                await store.run(Asked(WRONG, ("rg:{a}:n",)))

    run(main)


def test_many_in_one_pipeline_keep_their_order_and_fail_alone(url: str) -> None:
    async def main() -> None:
        async with opened(url) as store:
            asked = [Asked(COUNT, (f"rg:{{{number}}}:many",), (number,)) for number in range(1, 200)]
            asked.insert(3, Asked(WRONG, ("rg:{x}:n",)))
            answers = await store.run_all(asked, 1.0)
            assert isinstance(answers.pop(3), StoreLost)
            assert answers == list(range(1, 200))
            assert await store.run_all([]) == []
            with pytest.raises(StoreLost):
                await store.run_all([Asked(WRONG, ("rg:{x}:n",))] * 2)

    run(main)


def test_many_at_once_each_get_their_own_answer(url: str) -> None:
    async def main() -> None:
        async with opened(url) as store:
            tags = [f"rg:{{{number}}}" for number in range(500)]
            found = await asyncio.gather(*(store.run(Asked(ECHO, (tag,), (tag,)), 2.0) for tag in tags))
            assert [answer[0].decode() for answer in found] == tags

    run(main)


def test_keys_of_two_slots_are_our_own_mistake_wherever_it_runs(url: str) -> None:
    async def main() -> None:
        async with opened(url) as store:
            with pytest.raises(ValueError, match="`echo`"):
                await store.run(Asked(ECHO, ("rg:{a}:n", "rg:{b}:n"), ("",)))

    run(main)


def test_what_is_published_is_heard_by_all_who_listen(url: str) -> None:
    async def main() -> None:
        async with opened(url) as one, opened(url) as other:
            heard: list[tuple[str, bytes]] = []
            one.listen("rg:news", lambda message: heard.append(("one", message)))
            other.listen("rg:news", lambda message: heard.append(("other", message)))
            other.listen("rg:more", lambda message: heard.append(("more", message)))
            await told_until(lambda: {name for name, _ in heard} == {"one", "other"}, lambda: one.publish("rg:news", b"\0\xff"))
            await told_until(lambda: ("more", b"!") in heard, lambda: one.publish("rg:more", b"!"))
            assert set(heard) == {("one", b"\0\xff"), ("other", b"\0\xff"), ("more", b"!")}

    run(main)


def test_scripts_that_a_server_has_forgotten_are_told_again() -> None:
    async def main(server: Server) -> None:
        async with opened(server.url) as store:
            for number in range(1, 5):
                assert await store.run(Asked(COUNT, ("rg:{a}:n",), (1,))) == number
                server.ask("SCRIPT", "FLUSH")
            assert await store.run_all([Asked(COUNT, ("rg:{a}:n",), (1,))] * 3) == [5, 6, 7]

    with single() as server:
        run(lambda: main(server))


def test_a_slot_that_moves_is_followed() -> None:
    async def main(servers: Any) -> None:
        async with opened(servers.url) as store:
            one = Asked(COUNT, ("rg:{foo}:n",), (1,))  # slot 12182: the third's
            assert await store.run(one) == 1
            first, _, third = servers.servers
            ids = {server: server.ask("CLUSTER", "MYID") for server in servers.servers}
            assert first.ask("CLUSTER", "SETSLOT", 12182, "IMPORTING", ids[third]) == b"OK"
            assert third.ask("CLUSTER", "SETSLOT", 12182, "MIGRATING", ids[first]) == b"OK"
            assert third.ask("MIGRATE", "127.0.0.1", first.port, "rg:{foo}:n", 0, 1000) == b"OK"
            assert await store.run(one) == 2  # ASK
            for server in servers.servers:
                assert server.ask("CLUSTER", "SETSLOT", 12182, "NODE", ids[first]) == b"OK"
            assert await store.run(one) == 3  # MOVED
            third.kill()
            assert await answered(store, one) == 4  # the map was looked at again: nobody has to be sent on any more

    with cluster() as servers:
        run(lambda: main(servers))


def test_who_asks_too_early_is_told_at_once_and_who_waits_is_told_when() -> None:
    async def main(server: Server) -> None:
        server.kill()
        async with opened(server.url, up=False) as store:
            assert not store.up and store.why
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

    with single() as server:
        run(lambda: main(server))


def test_who_is_not_let_in_is_told_why_without_the_password() -> None:
    async def main(url: str, why: str) -> None:
        async with opened(url, up=False) as store:
            await eventually(lambda: why in store.why)
            assert not store.up
            assert PASSWORD not in store.why

    with external() as server:
        run(lambda: main(server.url.replace("app:", "ape:"), "WRONGPASS to AUTH"))
        run(lambda: main(server.url.partition("?")[0], "certificate is not to be trusted"))
        run(lambda: main(server.url.replace("localhost", "127.0.0.1"), "certificate is not to be trusted"))  # another name
        server.ask("ACL", "SETUSER", USER, "-time")  # what scripts need shows when connecting, and not in what comes of limits
        run(lambda: main(server.url, "NOPERM to TIME"))


async def answered(store: Store, asked: Asked) -> Any:
    """The answer, once there is one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(StoreLost):
                return await store.run(asked)
            await asyncio.sleep(0.01)


async def told_until(done: Callable[[], bool], tell: Callable[[], Awaitable[None]]) -> None:
    """Publish until it was heard: when others begin to listen can't be seen from here."""
    while not done():
        await tell()
        await asyncio.sleep(0.01)


def test_the_readme_says_what_a_user_of_the_store_needs() -> None:
    told = (Path(__file__).parents[2] / "README.md").read_text().splitlines()
    for url, needs in (
        ("redis://", " ".join(MAY)),
        ("redis+sentinel://", MAY_BEHIND_SENTINELS),
        ("redis+cluster://", MAY_IN_A_CLUSTER.replace("|", r"\|")),
    ):
        (row,) = [line for line in told if line.startswith(f"| `{url}")]
        assert f"`{needs}`" in row
