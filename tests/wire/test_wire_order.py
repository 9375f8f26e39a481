"""Several requests on one connection: one exchange at a time, in order, and nothing of one in another."""

import asyncio

import pytest
from fake_ports import DONE, EVENT, FakeUpstream, Script
from served import chat, post, request, run, serving

from gateway.core.bounds import Bounds
from gateway.wire.protocol import PIPELINED_MAX

QUICK = 0.05  # seconds, for limits that are meant to pass


def test_several_requests_in_one_packet_are_answered_in_order() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with serving(FakeUpstream([Script(gate=gate), Script(body=b'{"n":2}')])) as gateway:
            caller = await gateway.connect()
            caller.send(post(stream=True) + post() + request("GET", "/nothing") + post(model="none")[:-5])
            first = [await gateway.upstream.call(), await caller.head()]
            assert first
            assert len(gateway.upstream.calls) == 1  # one exchange at a time
            gate.set()
            assert [await caller.chunk() for _ in range(4)] == [EVENT, EVENT, DONE, b""]
            assert (await caller.reply()).body == b'{"n":2}'
            assert (await caller.reply()).told == (404, "unknown_path")
            caller.send(post(model="none")[-5:])  # what had begun meanwhile goes on
            assert (await caller.reply()).told == (404, "model_not_found")

    run(main)


def test_a_head_that_began_behind_another_request_has_its_own_time() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        bounds = Bounds(client_head_s_max=QUICK, client_body_s_max=QUICK, client_idle_s_max=60.0)
        for early in (b"GET /v1/mod", request(body=chat())[:-5]):
            async with serving(FakeUpstream([Script(gate=gate)]), bounds) as gateway:
                caller = await gateway.connect()
                caller.send(post(stream=True) + early)
                await gateway.upstream.call()
                gate.set()
                assert (await caller.reply()).body.endswith(DONE)
                assert (await caller.reply()).told == (408, "request_timeout")

    run(main)


def test_a_body_is_invited_only_when_its_turn_comes() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with serving(FakeUpstream([Script(gate=gate)])) as gateway:
            caller = await gateway.connect()
            whole = post("expect: 100-continue")
            caller.send(post(stream=True) + whole[:-5])
            await gateway.upstream.call()
            gate.set()
            assert (await caller.reply()).body == EVENT + EVENT + DONE
            assert (await caller.reply()).status == 100
            caller.send(whole[-5:])
            assert (await caller.reply()).status == 200

    run(main)


def test_too_much_ahead_of_its_turn_is_thrown_away_and_the_one_under_way_is_answered() -> None:
    async def main() -> None:
        for ahead in (request("GET", "/v1/models") * (PIPELINED_MAX + 1), post(user="u" * 70_000) * 2, b"\x00garbage"):
            gate = asyncio.Event()
            async with serving(FakeUpstream([Script(gate=gate)]), Bounds(body_bytes_max=100_000)) as gateway:
                caller = await gateway.connect()
                caller.send(post(stream=True))
                await caller.head()
                caller.send(ahead)
                caller.send(b"and more " * 1_000)
                gate.set()
                assert [await caller.chunk() for _ in range(4)] == [EVENT, EVENT, DONE, b""]
                await caller.closed()
                assert len(gateway.upstream.calls) == 1

    run(main)


@pytest.mark.parametrize(("version", "header"), [("1.0", "a: b"), ("1.0", "connection: keep-alive"), ("1.1", "connection: close")])
def test_whoever_does_not_keep_the_connection_gets_one_answer(version: str, header: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            for stream in (False, True):
                caller = await gateway.connect()
                caller.send(request("POST", "/v1/chat/completions", chat(stream=stream), header, version=version))
                reply = await caller.reply()
                assert reply.status == 200
                assert reply.header("connection") == "close"
                assert reply.header("transfer-encoding") == ("chunked" if stream and version == "1.1" else None)
                assert not stream or reply.body == EVENT + EVENT + DONE
                await caller.closed()

    run(main)
