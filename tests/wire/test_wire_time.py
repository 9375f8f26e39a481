"""Clients that send slowly, or read slowly, or stop doing either."""

import asyncio
import socket

from fake_ports import FakeUpstream, Script
from served import Caller, Served, post, run, serving

from gateway.core.bounds import Bounds

QUICK = 0.05  # seconds, for limits that are meant to pass
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"


def test_a_slow_head_or_body_is_408_and_an_idle_connection_is_closed() -> None:
    async def slow(gateway: Served, data: bytes) -> Caller:
        caller = await gateway.connect()
        caller.send(data)
        return caller

    async def main() -> None:
        async with serving(bounds=Bounds(client_head_s_max=QUICK, client_body_s_max=QUICK, client_idle_s_max=QUICK)) as gateway:
            for data, what in ((b"G", "head"), (HEAD, "head"), (HEAD + b"a", "head"), (post()[:-1], "body")):
                caller = await slow(gateway, data)
                reply = await caller.reply()
                assert reply.told == (408, "request_timeout")
                assert what in reply.error["message"]
                await caller.closed()
            for data in (b"", b"\r\n"):
                await (await slow(gateway, data)).closed()
            caller = await slow(gateway, post())
            assert (await caller.reply()).status == 200
            await caller.closed()

    run(main)


def test_a_head_that_trickles_in_gets_no_more_time_than_one_that_stalls() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(client_head_s_max=QUICK)) as gateway:
            caller = await gateway.connect()
            caller.send(HEAD)
            answered = asyncio.ensure_future(caller.reply())
            while not answered.done():
                caller.send(b"a")
                await asyncio.wait([answered], timeout=QUICK / 10)
            assert answered.result().told == (408, "request_timeout")

    run(main)


async def stalled(gateway: Served, data: bytes) -> socket.socket:
    """A client that sends `data` and reads nothing, with as little room as the kernel gives."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", gateway.port))
    await loop.sock_sendall(sock, data)
    return sock


def test_a_reader_that_stalls_is_dropped_and_its_upstream_call_closed() -> None:
    async def main() -> None:
        async with serving(FakeUpstream([Script(flood=b"x" * 100_000)]), Bounds(client_stall_s_max=QUICK)) as gateway:
            sock = await stalled(gateway, post(stream=True))
            call = await gateway.upstream.call()
            await call.closed.wait()
            assert (await gateway.ledger.settlement()).result == "client gone"
            assert call.paused  # it was told to wait, and did
            assert call.relayed < 20_000_000
            sock.close()

    run(main)


def test_a_reader_that_stalls_is_dropped_when_all_is_said_too() -> None:
    async def main() -> None:
        for header in ("a: b", "connection: close"):
            async with serving(FakeUpstream([Script(body=b"x" * 8_000_000)]), Bounds(client_stall_s_max=QUICK)) as gateway:
                sock = await stalled(gateway, post(header))
                assert (await gateway.ledger.settlement()).result == "served"
                gateway.server.drain()
                async with asyncio.timeout(5.0):
                    await gateway.running
                sock.close()

    run(main)


def test_a_reader_that_is_slow_gets_all_of_it() -> None:
    async def main() -> None:
        body = b"x" * 8_000_000
        bounds = Bounds(client_stall_s_max=10 * QUICK, client_idle_s_max=10 * QUICK)
        async with serving(FakeUpstream([Script(body=body)]), bounds) as gateway:
            sock = await stalled(gateway, post())
            loop = asyncio.get_running_loop()
            began, got = loop.time(), 0
            while got < len(body):  # three times as long as a stalled reader has, at an even pace
                found = len(await loop.sock_recv(sock, 65_536))
                assert found, f"cut off after {got} bytes and {loop.time() - began:.1f} s"
                got += found
                ahead = began + 30 * QUICK * got / len(body) - loop.time()
                if ahead > 0:
                    await asyncio.sleep(ahead)
            sock.close()

    run(main)


def test_a_reader_that_is_told_to_wait_before_it_began_is_not_flooded() -> None:
    """An answer that nobody has read yet stands before the stream: the pump must learn of that when it begins."""

    async def main() -> None:
        scripts = [Script(body=b"x" * 8_000_000), Script(flood=b"x" * 100_000)]
        async with serving(FakeUpstream(scripts), Bounds(client_stall_s_max=4 * QUICK)) as gateway:
            sock = await stalled(gateway, post() + post(stream=True))
            call = await gateway.upstream.call(2)
            await call.closed.wait()
            assert call.relayed == 0
            sock.close()

    run(main)
