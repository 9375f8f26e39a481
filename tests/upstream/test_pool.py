"""Which connections are used again, which are not, and for how long they are kept. Real sockets: what counts is what a peer sees.

The raw listeners here are not on the event loop, so that a peer can do something that the kernel knows and the loop does not yet.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from loops import Authority, Runner
from raw_peers import CHUNKED, OK, Heard, Peer, Wire, listening, post, transport, until

from gateway.core.bounds import Bounds
from gateway.core.policy import Tls
from gateway.upstream.address import Address, fingerprint


class OffLoop:
    """A listener without an event loop: it does something only when the test calls it, and it has done it when the call returns."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.taken: list[socket.socket] = []
        self.port = int(listener.getsockname()[1])

    async def take(self) -> socket.socket:
        """The next connection."""
        connection, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        self.taken.append(connection)
        return connection

    def address(self) -> Address:
        return Address("e", "http", "127.0.0.1", self.port, (), Tls(), "")


async def asked(connection: socket.socket) -> bytes:
    """A whole request; those of this file fit into one read."""
    connection.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(connection, 65_536)


@pytest.fixture
def off_loop() -> Iterator[OffLoop]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        made = OffLoop(listener)
        yield made
        for connection in made.taken:
            connection.close()


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def speak(connection: socket.socket) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")


def murmur(connection: socket.socket) -> None:
    connection.send(b"\r\n")


Act = Callable[[socket.socket], None]


@pytest.mark.parametrize("act", [close, reset, speak, murmur])
@pytest.mark.parametrize("seen", [False, True], ids=["before the loop has seen it", "after"])
def test_a_connection_on_which_anything_happened_while_idle_is_not_used_again(
    run: Runner, off_loop: OffLoop, act: Act, seen: bool
) -> None:
    """Whether the loop knows it or only the kernel: the request goes out on another connection, once, and is answered there."""

    async def main() -> None:
        async with transport() as http:
            first, second = Heard(), Heard()
            http.start(off_loop.address(), post(b"1"), first)
            old = await off_loop.take()
            await asked(old)
            old.send(OK)
            await first.ok()
            assert http.stats.idle == 1
            act(old)
            if seen:
                await until(lambda: http.stats.open == 0)
            call = http.start(off_loop.address(), post(b"2"), second)
            assert call.peer == ""  # a new connection: it is not there yet
            new = await off_loop.take()
            assert await asked(new) == post(b"2")
            new.send(OK)
            await second.ok()
            assert http.stats.stale == ({} if seen else {"e": 1})
            if act in (speak, murmur):  # and nothing of the second request went to where the first one had been
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.get_running_loop().sock_recv(old, 65_536) == b""

    run(main)


def test_after_the_write_there_is_no_second_try(run: Runner, off_loop: OffLoop) -> None:
    """The peer takes the second request and dies. It may have worked on it, so it is not sent again; the failure says so."""

    async def main() -> None:
        async with transport() as http:
            first, second = Heard(), Heard()
            http.start(off_loop.address(), post(b"1"), first)
            peer = await off_loop.take()
            await asked(peer)
            peer.send(OK)
            await first.ok()
            http.start(off_loop.address(), post(b"2"), second)
            await asked(peer)
            peer.close()
            failure = await second.failed()
            assert (failure.code, failure.sent) == ("closed_early", True)
            assert "used before" in failure.detail
            with pytest.raises(BlockingIOError):
                off_loop.listener.accept()

    run(main)


def test_of_several_stale_ones_all_are_passed_over(run: Runner, off_loop: OffLoop) -> None:
    async def main() -> None:
        async with transport() as http:
            heards = [Heard() for _ in range(5)]
            peers = []
            for heard in heards:
                http.start(off_loop.address(), post(), heard)
                peers.append(await off_loop.take())
            for peer, heard in zip(peers, heards, strict=True):
                await asked(peer)
                peer.send(OK)
                await heard.ok()
            for peer in peers[1:]:
                peer.close()
            last = Heard()
            call = http.start(off_loop.address(), post(b"last"), last)
            assert call.peer  # found the one that is left, at once
            assert await asked(peers[0]) == post(b"last")
            peers[0].send(OK)
            await last.ok()
            assert http.stats.stale == {"e": 4}

    run(main)


@pytest.mark.parametrize("tail", [b"\r\n", OK, b"x"])
def test_bytes_that_come_after_the_end_but_apart_close_the_connection(run: Runner, off_loop: OffLoop, tail: bytes) -> None:
    async def main() -> None:
        async with transport() as http:
            heard = Heard()
            http.start(off_loop.address(), post(), heard)
            peer = await off_loop.take()
            await asked(peer)
            peer.send(OK)
            await heard.ok()
            peer.send(tail)
            await until(lambda: http.stats.open == 0)
            with contextlib.suppress(ConnectionError):
                assert await asked(peer) == b""

    run(main)


def test_the_one_used_last_is_taken_first(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            heards = [Heard() for _ in range(3)]
            for heard in heards:
                http.start(peer.address(), post(), heard)
            await asyncio.gather(*(heard.ok() for heard in heards))
            assert http.stats.idle == 3
            for _ in range(5):
                heard = Heard()
                http.start(peer.address(), post(b"again"), heard)
                await heard.ok()
            again = [wire for wire in peer.wires if wire.requests.count(post(b"again"))]
            assert [wire.requests.count(post(b"again")) for wire in again] == [5]

    run(main)


def test_only_so_many_are_kept(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, listening() as other, transport(Bounds(pool_idle_per_endpoint_max=2)) as http:
            heards = [Heard() for _ in range(10)]
            for number, heard in enumerate(heards):
                http.start((peer if number < 5 else other).address(endpoint=str(number // 5)), post(), heard)
            await asyncio.gather(*(heard.ok() for heard in heards))
            assert http.stats.idle_by_endpoint == {"0": 2, "1": 2}  # each address by itself
            await until(lambda: http.stats.open <= 4)

    run(main)


def test_only_so_long(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport(tick_s=1000) as http:
            heard, now = Heard(), asyncio.get_running_loop().time()
            http.start(peer.address(), post(), heard)
            await heard.ok()
            http.sweep(now + 49)
            assert http.stats.idle == 1
            http.sweep(now + 51)
            assert http.stats.idle == 0
            await peer.wires[0].over.wait()

    run(main)


def test_the_timer_closes_idle_connections_by_itself_and_then_rests(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport(Bounds(pool_idle_s_max=0.02)) as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            await heard.ok()
            await peer.wires[0].over.wait()
            await until(lambda: http.stats.open == 0)
            assert http.rests

    run(main)


def test_one_that_is_too_old_is_not_taken_even_if_nobody_has_swept(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport(Bounds(pool_idle_s_max=0), tick_s=1000) as http:
            for _ in range(2):
                heard = Heard()
                http.start(peer.address(), post(), heard)
                await heard.ok()
            assert peer.accepts == 2

    run(main)


def test_each_part_of_an_address_keeps_connections_apart(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            one = peer.address()
            others = [
                replace(one, endpoint="other"),
                replace(one, credential=fingerprint("secret")),
                replace(one, credential=fingerprint("another")),
                peer.address(resolves_to=["127.0.0.0/8"]),
                replace(one, tls=Tls(ca_file="/nowhere")),
                replace(one, host="localhost"),
            ]
            for number, address in enumerate([one, *others], 1):
                heard = Heard()
                http.start(address, post(), heard)
                await heard.ok()
                assert peer.accepts == number
            heard = Heard()
            http.start(replace(one), post(), heard)  # equal, and not the same object
            await heard.ok()
            assert peer.accepts == len(others) + 1

    run(main)


def test_the_fingerprint_of_a_secret_is_stable_and_is_not_the_secret() -> None:
    assert fingerprint("s3cret") == fingerprint("s3cret") != fingerprint("s3cres")
    assert "s3cret" not in fingerprint("s3cret")


# --- reload ---


def test_retire_closes_the_idle_connections_of_other_addresses(run: Runner) -> None:
    async def main() -> None:
        async with listening() as kept, listening() as gone, transport() as http:
            for peer in (kept, gone):
                heard = Heard()
                http.start(peer.address(), post(), heard)
                await heard.ok()
            assert http.retire([kept.address()]) == 1
            await gone.wires[0].over.wait()
            assert http.stats.idle == 1

    run(main)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_under_way_at_a_reload_ends_well_and_its_connection_closes_then(run: Runner, fails: bool) -> None:
    gate: list[asyncio.Event] = []

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(CHUNKED + b"1\r\no\r\n")
        await gate[0].wait()
        if not fails:
            wire.send(b"1\r\nk\r\n0\r\n\r\n")
            await wire.gone()

    async def main() -> None:
        gate.append(asyncio.Event())
        async with listening(script) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            await heard.holds(1)
            assert http.retire([]) == 0
            gate[0].set()
            if fails:
                assert (await heard.failed()).code == "closed_early"
            else:
                await heard.ok()
            await peer.wires[0].over.wait()
            assert http.stats.idle == 0

    run(main)


def test_a_connection_that_is_being_opened_at_a_reload_is_not_kept_either(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            http.retire([])
            await heard.ok()
            assert http.stats.idle == 0
            await peer.wires[0].over.wait()

    run(main)


def test_an_address_that_comes_back_pools_again(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            for keep, idle in (([], 0), ([peer.address()], 1)):
                http.retire(keep)
                heard = Heard()
                http.start(peer.address(), post(), heard)
                await heard.ok()
                assert http.stats.idle == idle

    run(main)


def test_idle_tls_connections_close_too(run: Runner, authority: Authority) -> None:
    """TLS says goodbye before it closes, and does not wait for an answer for long."""

    async def main() -> None:
        async with listening(tls=authority.server("127.0.0.1")) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(scheme="https", tls=Tls(ca_file=authority.ca_file)), post(), heard)
            await heard.ok()
            assert http.retire([]) == 1
            await peer.wires[0].over.wait()
            await until(lambda: http.stats.open == 0)

    run(main)
