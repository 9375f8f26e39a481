"""Clients that hang up, workers that stop, and answers that a bug of ours has spoilt."""

import asyncio
import socket

import pytest
from fake_ports import DONE, EVENT, FakeUpstream, Script
from served import Caller, post, request, run, serving

from gateway.core.answer import Answer
from gateway.core.bounds import Bounds
from gateway.ports import Client
from gateway.wire.plane import Incoming, Plane

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"


# --- hanging up ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_while_it_waits_closes_the_upstream_call(how: str, stream: bool) -> None:
    async def main() -> None:
        async with serving(FakeUpstream([Script(hangs=True)])) as gateway:
            caller = await gateway.connect()
            caller.send(post(stream=stream))
            call = await gateway.upstream.call()
            leave(caller, how)
            async with asyncio.timeout(1.0):
                await call.closed.wait()
            settlement = await gateway.ledger.settlement()
            assert (settlement.result, settlement.status, settlement.tried[0].attempt.deployment.id) == (
                "client gone",
                0,
                "one/alpha",
            )

    run(main)


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_hangs_up_in_mid_stream_closes_the_upstream_call(how: str) -> None:
    async def main() -> None:
        async with serving(FakeUpstream([Script(gate=asyncio.Event())])) as gateway:
            caller = await gateway.connect()
            caller.send(post(stream=True))
            await caller.head()
            assert await caller.chunk() == EVENT
            call = await gateway.upstream.call()
            leave(caller, how)
            async with asyncio.timeout(1.0):
                await call.closed.wait()
            settlement = await gateway.ledger.settlement()
            assert (settlement.result, settlement.status) == ("client gone", 0)
            assert settlement.cost.usd > 0  # what was used is paid for

    run(main)


def leave(caller: Caller, how: str) -> None:
    match how:
        case "close":
            caller.close()
        case "reset":
            sock = caller.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            caller.close()
        case "half":
            caller.writer.write_eof()


def test_a_client_that_hangs_up_before_or_after_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with serving() as gateway:
            for data in (b"", b"POST", HEAD, post()[:-1], post(), post(stream=True), post() * 3, b"\x00"):
                for how in ("close", "reset", "half"):
                    caller = await gateway.connect()
                    caller.send(data)
                    leave(caller, how)
                    await caller.rest()
            gateway.server.drain()
            async with asyncio.timeout(5.0):
                await gateway.running

    run(main)


def test_a_client_that_hangs_up_behind_garbage_is_still_heard() -> None:
    async def main() -> None:
        async with serving(FakeUpstream([Script(hangs=True)])) as gateway:
            caller = await gateway.connect()
            caller.send(post() + b"\x00garbage")
            call = await gateway.upstream.call()
            caller.close()
            async with asyncio.timeout(1.0):
                await call.closed.wait()

    run(main)


# --- defects of ours -------------------------------------------------------------------------------------------------------


class Half(Plane):
    """Answers as only a plane with a bug would: the path says which."""

    async def handle(self, incoming: Incoming, client: Client) -> Answer:
        if incoming.head.path == "/raises":
            raise RuntimeError("a bug")
        if incoming.head.path == "/nothing":
            return Answer(0)
        client.begin_stream({})
        client.write(EVENT)
        return Answer(200, streamed=incoming.head.path == "/no-end")


@pytest.mark.source_only
@pytest.mark.parametrize("path", ["/raises", "/nothing", "/no-end", "/another-answer"])
def test_half_an_answer_is_seen_to_be_half(path: str) -> None:
    async def main() -> None:
        async with serving(plane_type=Half, defects=path == "/raises") as gateway:
            caller = await gateway.connect()
            caller.send(request("GET", path) * 2)
            heard = await caller.rest()
            assert heard.count(b"HTTP/1.1 ") <= 1
            assert not heard.endswith(b"0\r\n\r\n")

    run(main)


# --- how many, and how it stops --------------------------------------------------------------------------------------------


def test_one_connection_too_many_is_503_and_the_others_go_on() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(connections_max=2)) as gateway:
            callers = [await gateway.connect() for _ in range(2)]
            for caller in callers:
                caller.send(post())
                assert (await caller.reply()).status == 200
            extra = await gateway.connect()
            extra.send(post())
            assert (await extra.reply()).told == (503, "overloaded")
            await extra.closed()
            callers[0].send(post())
            assert (await callers[0].reply()).status == 200

    run(main)


def test_a_drain_closes_what_is_idle_and_lets_the_others_finish() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with serving(FakeUpstream([Script(), Script(gate=gate)])) as gateway:
            idle, streaming, sending = [await gateway.connect() for _ in range(3)]
            idle.send(post())
            assert (await idle.reply()).status == 200
            streaming.send(post(stream=True))
            await streaming.head()
            whole = post()
            sending.send(whole[:-1])
            await asyncio.sleep(0)
            gateway.server.drain()
            await idle.closed()
            assert not gateway.running.done()
            sending.send(whole[-1:])
            reply = await sending.reply()
            assert (reply.status, reply.header("connection")) == (200, "close")
            await sending.closed()
            gate.set()
            assert [await streaming.chunk() for _ in range(4)] == [EVENT, EVENT, DONE, b""]
            await streaming.closed()
            await gateway.running
            assert [settlement.result for settlement in gateway.ledger.settlements] == ["served"] * 3

    run(main)


def test_a_drain_that_has_waited_long_enough_says_so_and_settles() -> None:
    async def main() -> None:
        async with serving(FakeUpstream([Script(gate=asyncio.Event()), Script(hangs=True)]), Bounds(drain_s_max=0)) as gateway:
            streaming, waiting = await gateway.connect(), await gateway.connect()
            streaming.send(post(stream=True))
            await streaming.head()
            assert await streaming.chunk() == EVENT
            waiting.send(post())
            await gateway.upstream.call(2)
            gateway.server.drain()
            reply = await waiting.reply()
            assert reply.told == (503, "shutting_down")
            assert reply.header("retry-after") == "1"
            await waiting.closed()
            assert await streaming.chunk() == EVENT
            assert b'"code":"shutting_down"' in await streaming.chunk()
            assert await streaming.chunk() == b""
            await streaming.closed()
            await gateway.running
            assert all(call.aborted for call in gateway.upstream.calls)
            told = {(s.status, s.code, s.tried[0].outcome.code) for s in gateway.ledger.settlements}
            assert told == {(200, "shutting_down", "shutting_down"), (503, "shutting_down", "shutting_down")}

    run(main)


def test_a_request_whose_client_has_gone_before_it_began_holds_up_no_drain() -> None:
    async def main() -> None:
        async with serving() as gateway:
            for _ in range(20):
                caller = await gateway.connect()
                caller.send(post())
                caller.writer.transport.abort()
            gateway.server.drain()
            async with asyncio.timeout(5.0):
                await gateway.running

    run(main)
