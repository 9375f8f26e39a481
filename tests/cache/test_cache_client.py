"""The cache as a client meets it: OpenAI's own, on a socket, with simulators behind the gateway and a real server for the store."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from inprocess import InProcess, in_process, run
from store_servers import Server, eventually, opened, single

from gateway.core.bounds import Bounds
from gateway.core.caching import tenant_scope
from gateway.core.exchange import Recall
from gateway.core.policy import Caching
from gateway.state.cache.purging import purge
from gateway.state.store.remote import RemoteStore

ALL = Caching("all", (), 3600)
MESSAGES: Any = [{"role": "user", "content": "Good morning"}]
LEASE_S = 0.5
HELD = {name: [{"fault": {"kind": "hold", "at": "before_head"}}] for name in ("one", "two", "three", "far")}
STALLED = {name: [{"fault": "stall"}] for name in ("one", "two", "three", "far")}


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


@dataclass
class Asking:
    """A gateway with a cache, and whoever asks it."""

    gateway: InProcess
    store: RemoteStore
    clients: dict[str, openai.AsyncOpenAI]

    async def ask(self, *, key: str = "audit", content: str = "Good morning", control: str = "", **more: Any) -> Any:
        """The raw response to a plain request."""
        headers = {"cache-control": control} if control else {}
        body = {"model": "alpha", "messages": [{"role": "user", "content": content}], **more}
        return await self.clients[key].chat.completions.with_raw_response.create(**body, extra_headers=headers)

    async def stream(self, **more: Any) -> tuple[Any, list[Any]]:
        """The raw response to a request for a stream, and its chunks."""
        raw = await self.ask(stream=True, **more)
        return raw, [chunk async for chunk in raw.parse()]

    async def kept(self) -> None:
        """Wait until what was served is kept."""
        assert self.gateway.cache is not None
        await self.gateway.cache.idle()

    @property
    def calls(self) -> int:
        return sum(len(simulator.journal.entries) for simulator in self.gateway.simulators.values())

    @property
    def in_line(self) -> int:
        """How many wait for what another one gets."""
        assert self.gateway.cache is not None
        return sum(len(flight.line) for flight in self.gateway.cache.flights._flights.values())

    @property
    def words(self) -> list[str]:
        return ["" if s.recalled is None else str(s.recalled.how) for s in self.gateway.ledger.settlements]


@asynccontextmanager
async def asking(server: Server, caching: tuple[Caching, ...] = (ALL,), **more: Any) -> AsyncIterator[Asking]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened(server.url))
        gateway = await stack.enter_async_context(in_process(caching=caching, store=store, **more))
        clients = {}
        for name in ("audit", "ward", "notebook"):
            client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key(name), max_retries=0)
            clients[name] = await stack.enter_async_context(client)
        yield Asking(gateway, store, clients)


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_second_is_given_what_the_first_was_and_costs_nothing(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a:
            first = await a.ask()
            assert first.headers["x-gateway-cache"] == "miss"
            assert "age" not in first.headers
            await a.kept()
            second = await a.ask()
            assert second.headers["x-gateway-cache"] == "hit"
            assert second.headers["x-gateway-endpoint"] == first.headers["x-gateway-endpoint"] == "one"
            assert second.headers["x-gateway-attempts"] == "0"
            assert int(second.headers["age"]) <= 5
            assert second.text == first.text
            assert a.calls == 1
            miss, hit = a.gateway.ledger.settlements
            assert (miss.cost.usd > 0, miss.avoided.usd, hit.cost.usd, hit.avoided.usd) == (True, 0, 0, miss.cost.usd)
            assert (hit.result, hit.status, hit.tried, hit.usage) == ("served", 200, (), None)
            assert hit.recalled is not None and hit.recalled.kept is not None
            assert hit.recalled.kept.made_by == miss.request.id
            assert len(a.gateway.ledger.begun_lines) == 1
            assert a.gateway.meter.keeps == ["kept"]

    run(main)


@pytest.mark.parametrize("dialect", ["llamacpp", "mistral", "openai", "vllm", "zai"])
def test_answers_of_every_dialect_are_kept(server: Server, dialect: str) -> None:
    async def main() -> None:
        async with asking(server, dialects={"one": dialect}) as a:
            await a.ask()
            await a.stream(content="Good evening")
            await a.kept()
            assert a.gateway.meter.keeps == ["kept", "kept"]
            assert (await a.ask()).headers["x-gateway-cache"] == "hit"

    run(main)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_and_a_whole_answer_are_kept_as_one(server: Server, first: bool, usage: bool) -> None:
    async def main() -> None:
        async with asking(server) as a:
            if first:
                _, chunks = await a.stream()
                said = text_of(chunks)
            else:
                said = (await a.ask()).parse().choices[0].message.content
            await a.kept()
            more = {"stream_options": {"include_usage": True}} if usage else {}
            raw, chunks = await a.stream(**more)
            assert raw.headers["x-gateway-cache"] == "hit"
            assert text_of(chunks) == said
            assert chunks[-1 - usage].choices[0].finish_reason == "stop"
            assert {chunk.model for chunk in chunks} == {"alpha"}
            assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - usage) + [True] * usage
            plain = await a.ask()
            assert plain.headers["x-gateway-cache"] == "hit"
            answer = plain.parse()
            assert answer.choices[0].message.content == said
            assert answer.choices[0].finish_reason == "stop"
            assert answer.usage is not None and answer.usage.completion_tokens > 0
            assert a.calls == 1

    run(main)


def test_tools_come_back_as_they_were(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}

    async def main() -> None:
        async with asking(server) as a:
            asked: Any = {"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "weather"}}}
            first = (await a.ask(**asked)).parse()
            await a.kept()
            again = await a.ask(**asked)
            assert again.headers["x-gateway-cache"] == "hit"
            assert again.parse() == first
            _, chunks = await a.stream(**asked)
            calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
            said = first.choices[0].message.tool_calls or ()
            assert [call.function.name for call in calls] == [call.function.name for call in said] == ["weather"]
            assert a.calls == 1

    run(main)


def test_what_differs_in_anything_is_asked_anew(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a:
            for more in ({}, {"temperature": 0.5}, {"user": "u1"}, {"user": "u2"}, {"seed": 1}, {"max_tokens": 500}):
                assert (await a.ask(**more)).headers["x-gateway-cache"] == "miss"
                await a.kept()
            assert (await a.ask(content="Good evening")).headers["x-gateway-cache"] == "miss"
            assert a.calls == 7
            await a.kept()
            assert (await a.ask(user="u1")).headers["x-gateway-cache"] == "hit"
            assert (await a.ask(seed=None, user="u1")).headers["x-gateway-cache"] == "hit"  # null is as good as not there

    run(main)


def test_tenants_are_apart_and_the_keys_of_one_are_not(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a:
            await a.ask(key="ward")
            await a.kept()
            await a.ask(key="notebook")  # the lab's
            await a.kept()
            assert a.words == ["miss", "miss"]
            assert a.calls == 2
            assert (await a.ask(key="audit")).headers["x-gateway-cache"] == "hit"

    run(main)


def test_a_scope_is_shared_only_where_the_same_is_allowed(server: Server) -> None:
    async def main() -> None:
        async with asking(server, (Caching("all", (), 3600, "everybody"),)) as a:
            await a.ask(key="notebook")  # made in China
            await a.kept()
            await a.ask(key="ward")
            await a.kept()
            assert a.words == ["miss", "miss"]
            assert [s.tried[0].attempt.deployment.endpoint.id for s in a.gateway.ledger.settlements] == ["far", "one"]
            await a.ask(key="audit")
            assert a.words[-1] == "hit"

    run(main)


def test_what_a_request_wishes(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a:
            with pytest.raises(openai.APIStatusError) as found:
                await a.ask(control="only-if-cached")
            assert (found.value.status_code, found.value.code) == (504, "not_cached")
            assert found.value.response.headers["x-should-retry"] == "false"  # else the SDK would ask twice more
            assert a.calls == 0
            await a.ask(control="no-store")
            await a.kept()
            await a.ask()
            await a.kept()
            assert (await a.ask(control="only-if-cached")).headers["x-gateway-cache"] == "hit"
            assert (await a.ask(control="max-age=600")).headers["x-gateway-cache"] == "hit"
            assert (await a.ask(control="no-store")).headers["x-gateway-cache"] == "bypassed"
            assert (await a.ask(control="max-age=0")).headers["x-gateway-cache"] == "miss"
            await a.kept()
            before = (await a.ask()).headers["x-gateway-cache"], a.calls
            assert before == ("hit", 4)
            assert (await a.ask(control="no-cache")).headers["x-gateway-cache"] == "bypassed"
            await a.kept()
            assert a.calls == 5
            assert [s.result for s in a.gateway.ledger.settlements].count("not cached") == 1

    run(main)


def test_without_a_policy_nothing_is_kept_nor_given(server: Server) -> None:
    async def main() -> None:
        async with asking(server, ()) as a:
            for _ in range(2):
                assert "x-gateway-cache" not in (await a.ask()).headers
            assert a.calls == 2
            assert a.words == ["", ""]
            assert server.ask("DBSIZE") == 0

    run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_equal_requests_at_the_same_moment_cost_one_call(server: Server, stream: bool) -> None:
    async def main() -> None:
        async with asking(server, scripts=HELD) as a:
            asked = [asyncio.ensure_future(a.stream() if stream else a.ask()) for _ in range(12)]
            await eventually(lambda: a.in_line == 11)  # however slow the machine is, all come before there is an answer
            await a.gateway.simulators["one"].holding()
            a.gateway.simulators["one"].release()
            answers = await asyncio.gather(*asked)
            assert a.calls == 1
            texts = {text_of(chunks) for _, chunks in answers} if stream else {raw.text for raw in answers}
            assert len(texts) == 1
            assert sorted(a.words) == ["joined"] * 11 + ["miss"]

    run(main)


def test_gateways_that_share_a_store_cost_one_call_together(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as one, asking(server) as other:
            answers = await asyncio.gather(*(a.ask() for a in (one, other) for _ in range(4)))
            assert one.calls + other.calls == 1
            assert len({raw.text for raw in answers}) == 1
            await one.kept()
            await other.kept()
            await other.ask()
            assert one.calls + other.calls == 1

    run(main)


def test_who_takes_what_is_kept_waits_for_nobody_who_wants_it_newer(server: Server) -> None:
    """Three that want it newer cost one call, here and at another gateway; all others are given what is there meanwhile."""

    async def main() -> None:
        async with asking(server, scripts=HELD) as one, asking(server) as other:
            await other.ask()
            await other.kept()
            newer = [asyncio.ensure_future(one.ask(control="max-age=0")) for _ in range(3)]
            await one.gateway.simulators["one"].holding()
            newer += [asyncio.ensure_future(other.ask(control="max-age=0")) for _ in range(3)]
            await eventually(lambda: one.in_line == other.in_line == 2 and waits(server))
            for a in (one, other):
                for control in ("", "max-age=600", "only-if-cached"):
                    assert (await a.ask(control=control)).headers["x-gateway-cache"] == "hit"
            assert not any(task.done() for task in newer)
            one.gateway.simulators["one"].release()
            answers = await asyncio.gather(*newer)
            assert len({raw.text for raw in answers}) == 1
            assert (one.calls, other.calls) == (1, 1)
            assert sorted(one.words) == ["hit"] * 3 + ["joined"] * 2 + ["miss"]
            await one.kept()
            assert (await other.ask()).text == answers[0].text
            assert (one.calls, other.calls) == (1, 1)

    run(main)


def test_who_wants_it_newer_and_comes_while_others_look_is_not_left_alone(server: Server) -> None:
    """Of requests that stand in line for one look-up some take what is found, and the others cost one call."""

    async def main() -> None:
        async with asking(server) as a:
            await a.ask()
            await a.kept()
            server.pause()
            asked = [asyncio.ensure_future(a.ask(control=control)) for control in ("", "max-age=0", "", "max-age=0", "max-age=0")]
            await eventually(lambda: a.in_line == 4)
            server.resume()
            answers = await asyncio.gather(*asked)
            words = [raw.headers["x-gateway-cache"] for raw in answers]
            if "lost" not in words:  # where the machine stood still for longer than anybody waits for a store
                assert (words[0], words[2]) == ("hit", "hit")
                assert sorted(words[1::2] + words[4:]) == ["joined", "joined", "miss"]
                assert a.calls == 2

    run(main)


def test_one_that_wants_it_newer_and_leaves_hands_on_to_the_next(server: Server) -> None:
    async def main() -> None:
        async with asking(server, scripts=STALLED) as a:
            for simulator in a.gateway.simulators.values():
                simulator.set_script([])
            await a.ask()
            await a.kept()
            for name, simulator in a.gateway.simulators.items():
                simulator.set_script(STALLED[name])
            leader = asyncio.ensure_future(a.ask(control="max-age=0"))
            await eventually(lambda: a.calls == 2)
            others = [asyncio.ensure_future(a.ask(control="max-age=0")) for _ in range(2)]
            await eventually(lambda: a.in_line == 2)
            for simulator in a.gateway.simulators.values():
                simulator.set_script([])
            leader.cancel()
            answers = await asyncio.gather(*others)
            assert len({raw.text for raw in answers}) == 1
            assert a.calls == 3
            await a.kept()
            assert not [key for key in server.ask("KEYS", "rg:*:leases") if server.ask("HLEN", key.decode())]

    run(main)


@pytest.mark.parametrize("why", ["large", "full", "purged"])
def test_nobody_waits_elsewhere_for_an_answer_that_is_not_kept(server: Server, why: str) -> None:
    async def main() -> None:
        bounds = Bounds(cache_tenant_bytes_max=100 if why == "large" else 1_000_000)
        more: Any = {"bounds": bounds, "cache_lease_s": 60.0}  # and those who wait look again after half of it
        async with asking(server, scripts=HELD, **more) as one, asking(server, **more) as other:
            first = asyncio.ensure_future(one.ask())
            await one.gateway.simulators["one"].holding()
            second = asyncio.ensure_future(other.ask())
            await eventually(lambda: other.gateway.plane.in_flight == 1 and waits(server))
            if why == "full":
                server.ask("CONFIG", "SET", "maxmemory", "1")
            if why == "purged":
                assert await purge(one.store, [tenant_scope("clinic")], "", "") == 0
            one.gateway.simulators["one"].release()
            await first
            assert (await second).headers["x-gateway-cache"] in ("miss", "lost")
            assert (one.calls, other.calls) == (1, 1)
            await one.kept()
            assert one.gateway.meter.keeps == [why]

    run(main)


def waits(server: Server) -> bool:
    """Whether somebody waits in the store for what another one gets."""
    return any(
        lease.endswith(b" 1") for key in server.ask("KEYS", "rg:*:leases") for lease in server.ask("HVALS", key.decode())
    )


def test_a_leader_that_leaves_hands_on(server: Server) -> None:
    async def main() -> None:
        async with asking(server, scripts=STALLED) as a:
            leader = asyncio.ensure_future(a.ask())
            await eventually(lambda: a.calls == 1)
            others = [asyncio.ensure_future(a.ask()) for _ in range(3)]
            await eventually(lambda: a.gateway.plane.in_flight == 4)
            for simulator in a.gateway.simulators.values():
                simulator.set_script([])
            leader.cancel()
            answers = await asyncio.gather(*others)
            assert len({raw.text for raw in answers}) == 1
            assert a.calls == 2
            await a.gateway.ledger.settlement(4)

    run(main)


def test_a_gateway_that_dies_is_waited_for_no_longer_than_its_lease(server: Server) -> None:
    async def main() -> None:
        async with asking(server, scripts=STALLED, cache_lease_s=LEASE_S) as dead:
            leader = asyncio.ensure_future(dead.ask())
            await eventually(lambda: dead.calls == 1)
            assert dead.gateway.cache is not None
            await dead.gateway.cache.close()  # it renews nothing any more
            async with asking(server, cache_lease_s=LEASE_S) as other:
                assert (await other.ask()).headers["x-gateway-cache"] == "miss"
                assert other.calls == 1
            leader.cancel()
            await asyncio.wait([leader])

    run(main)


def test_a_store_that_is_gone_or_silent_costs_an_answer_nothing(server: Server) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with asking(server) as a:
            await a.ask()
            await a.kept()
            server.pause()
            began = loop.time()
            assert (await a.ask()).headers["x-gateway-cache"] == "lost"
            first_s = loop.time() - began
            await eventually(lambda: not a.store.up)
            await a.ask(content="another")
            server.resume()
            await eventually(lambda: a.store.up)
            await a.kept()
            assert (await a.ask()).headers["x-gateway-cache"] == "hit"
            server.kill()
            await eventually(lambda: not a.store.up)
            assert (await a.ask()).headers["x-gateway-cache"] == "lost"
            server.start()
            await eventually(lambda: a.store.up)
            assert (await a.ask()).headers["x-gateway-cache"] == "miss"  # it came back empty
            await a.kept()
            assert (await a.ask()).headers["x-gateway-cache"] == "hit"
            assert first_s < 5.0, "it hung"

    run(main)


def test_a_full_store_keeps_nothing_more_and_is_given_room(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a:
            await a.ask()
            await a.kept()
            server.ask("CONFIG", "SET", "maxmemory", "1")
            assert (await a.ask()).headers["x-gateway-cache"] == "hit"
            assert (await a.ask(content="another")).headers["x-gateway-cache"] == "miss"
            await a.kept()
            assert a.gateway.meter.keeps == ["kept", "full"]
            assert (await a.ask()).headers["x-gateway-cache"] == "miss"  # what was there went, so that others have room
            await a.kept()
            server.ask("CONFIG", "SET", "maxmemory", "0")
            assert (await a.ask()).headers["x-gateway-cache"] == "miss"
            await a.kept()
            assert (await a.ask()).headers["x-gateway-cache"] == "hit"

    run(main)


def test_an_error_or_half_a_stream_is_not_kept(server: Server) -> None:
    async def main() -> None:
        broken = {name: [{"fault": {"kind": "error", "status": 500}}] for name in STALLED}
        async with asking(server, scripts=broken) as a:
            with pytest.raises(openai.APIStatusError):
                await a.ask()
            for simulator in a.gateway.simulators.values():
                simulator.set_script([])
            assert (await a.ask()).headers["x-gateway-cache"] == "miss"

    run(main)


def test_no_word_of_the_content_is_in_the_store(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a:
            said = (await a.ask(content="the secret of Mr Mayer")).parse().choices[0].message.content or ""
            await a.kept()
            everything = b"".join(_all(server))
            assert b"Mayer" not in everything
            assert said.encode() not in everything

    run(main)


def _all(server: Server) -> Iterator[bytes]:
    for key in server.ask("KEYS", "*"):
        yield key
        yield server.ask("DUMP", key)


def test_two_headers_are_one_list(server: Server) -> None:
    async def main() -> None:
        async with asking(server) as a, httpx.AsyncClient() as client:
            headers = [("authorization", f"Bearer {a.gateway.key('audit')}"), ("cache-control", "max-age=60")]
            headers.append(("cache-control", "only-if-cached"))
            body = {"model": "alpha", "messages": MESSAGES}
            for _ in range(3):  # a head that was recognised says the same
                answer = await client.post(f"{a.gateway.base_url}/chat/completions", headers=headers, json=body)
                assert answer.status_code == 504
            assert set(a.words) <= {Recall.MISS, Recall.LOST}  # on a busy machine the store may be too late

    run(main)
