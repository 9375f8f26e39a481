"""Every way in which a call can fail, each by a real peer that does it; and that no limit can be slept through.

Time is given to `Transport.sweep` where a limit is long; one test lets the real timer do it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from descriptors_left import nothing_to_open
from loops import Runner
from raw_peers import CHUNKED, OK, Heard, Names, Peer, Wire, listening, post, transport, until

from gateway.core.bounds import Bounds
from gateway.core.policy import Tls
from gateway.upstream.dial import SystemResolver
from gateway.upstream.http import CODES, Address, Failure, Resolver

Behaviour = Callable[[Wire, Peer], Awaitable[None]]


def sends(data: bytes, *, then: str = "waits") -> Behaviour:
    """Reads a request, sends `data`, and then waits for us to close, closes, or resets."""

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(data)
        if then == "waits":
            await wire.gone()
        elif then == "resets":
            await wire.writer.drain()
            wire.reset()

    return script


async def failing(script: Behaviour, bounds: Bounds | None = None) -> Failure:
    async with listening(script) as peer, transport(bounds) as http:
        heard = Heard()
        http.start(peer.address(), post(), heard)
        failure = await heard.failed()
        assert http.stats.idle == 0
        assert failure.code in CODES
        return failure


# --- no connection ---


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def deaf_listener() -> Iterator[int]:
    """A port at which connections neither open nor are refused: its queue is full and nobody takes from it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


async def not_connecting(address: Address, bounds: Bounds, resolver: Resolver | None = None) -> Failure:
    async with transport(bounds, resolver) as http:
        heard = Heard()
        call = http.start(address, post(), heard)
        failure = await heard.failed()
        assert call.peer == ""
        assert not failure.sent
        return failure


def place(port: int, host: str = "127.0.0.1", scheme: str = "http") -> Address:
    return Address("e", scheme, host, port, (), Tls(), "")


class Threads:
    """An event loop's look-ups, which end when a test says so."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Future[list[tuple[Any, ...]]]] = []

    async def getaddrinfo(self, host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:
        self.under_way.append(asyncio.get_running_loop().create_future())
        return await self.under_way[-1]


def test_a_name_is_looked_up_once_for_all_who_want_it_at_a_time(run: Runner) -> None:
    async def main() -> None:
        threads = Threads()
        resolver = SystemResolver(threads)
        asking = [asyncio.create_task(resolver.resolve("slow.example", 443)) for _ in range(20)]
        await until(lambda: threads.under_way)
        other = asyncio.create_task(resolver.resolve("slow.example", 80))
        await until(lambda: len(threads.under_way) == 2)
        threads.under_way[0].set_result([(2, 1, 6, "", ("192.0.2.1", 443))])
        assert await asyncio.gather(*asking) == [["192.0.2.1"]] * 20
        again = asyncio.create_task(resolver.resolve("slow.example", 443))
        await until(lambda: len(threads.under_way) == 3)  # and anew for who comes later
        for one in (other, again):
            one.cancel()
        await asyncio.gather(other, again, return_exceptions=True)
        for thread in threads.under_way[1:]:
            thread.set_exception(OSError("nobody answers"))  # and nobody waits for it
        await asyncio.sleep(0)

    run(main)


def test_connect_refused(run: Runner) -> None:
    failure = run(lambda: not_connecting(place(unused_port()), Bounds()))
    assert failure.code == "connect_refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_machine_without_a_descriptor_left_is_not_taken_for_an_upstream_that_is_down(run: Runner, host: str) -> None:
    port = unused_port()

    async def main() -> Failure:
        await asyncio.to_thread(str)  # the thread that looks names up is there already
        with nothing_to_open():
            return await not_connecting(place(port, host), Bounds())

    failure = run(main)
    assert failure.code == "no_socket"
    assert "too many open files" in failure.detail.lower()


def test_connect_timeout_of_tcp(run: Runner) -> None:
    with deaf_listener() as port:
        failure = run(lambda: not_connecting(place(port), Bounds(connect_s_max=0.1)))
    assert failure.code == "connect_timeout"


def test_connect_timeout_of_tls(run: Runner) -> None:
    async def silent(wire: Wire, peer: Peer) -> None:
        await wire.gone()

    async def main() -> Failure:
        async with listening(silent) as peer:
            return await not_connecting(peer.address(scheme="https"), Bounds(connect_s_max=0.1))

    assert run(main).code == "connect_timeout"


def test_each_address_of_a_name_gets_its_share_of_the_limit(run: Runner) -> None:
    async def main() -> None:
        with deaf_listener() as port:
            names = Names(**{"two.example": ["127.0.0.1", "127.0.0.2"]})
            async with listening(host="127.0.0.2", port=port) as peer, transport(Bounds(connect_s_max=0.4), names) as http:
                heard = Heard()
                call = http.start(peer.address(host="two.example"), post(), heard)
                await heard.ok()
                assert call.peer == f"127.0.0.2:{port}"

    run(main)


class Sluggish:
    """A resolver that never answers."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize(
    ("host", "resolver"),
    [("gone.example", Names()), ("empty.example", Names(**{"empty.example": []})), ("slow.example", Sluggish()), ("a..b", None)],
    ids=["no such name", "a name without addresses", "no answer", "no name at all"],
)
def test_dns(run: Runner, host: str, resolver: Resolver | None) -> None:
    failure = run(
        lambda: not_connecting(place(1, host), Bounds(connect_s_max=0.1 if isinstance(resolver, Sluggish) else 3.0), resolver)
    )
    assert failure.code == "dns"
    assert host in failure.detail


def test_a_resolver_that_breaks_is_a_defect_of_ours_and_no_call_hangs(run: Runner) -> None:
    class Broken:
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            raise ZeroDivisionError

    async def main() -> None:
        failure = await not_connecting(place(1, "x.example"), Bounds(), Broken())
        assert failure.code == "aborted"
        assert [type(error) for error in run.take_reported()] == [ZeroDivisionError]

    run(main)


def test_a_peer_that_closes_at_once(run: Runner) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        """Nothing: the connection is closed when a script is over."""

    assert run(lambda: failing(script)).code in {"closed_early", "write_failed"}


# --- no answer, or not a whole one ---


@pytest.mark.parametrize("then", ["closes", "resets"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        CHUNKED + b"2\r\nok\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["nothing", "half a head", "short of its length", "no last chunk", "an interim answer only"],
)
def test_closed_early(run: Runner, answer: bytes, then: str) -> None:
    failure = run(lambda: failing(sends(answer, then=then)))
    assert (failure.code, failure.sent) == ("closed_early", True)


def test_a_reset_does_not_end_a_body_that_ends_with_the_connection(run: Runner) -> None:
    failure = run(lambda: failing(sends(b"HTTP/1.1 200 OK\r\n\r\nok", then="resets")))
    assert failure.code == "closed_early"


def test_write_failed(run: Runner) -> None:
    """The peer goes away while a request is being written that no kernel's buffer holds whole."""

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.reader.readexactly(100)
        wire.reset()

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(bytes(20_000_000)), heard)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("write_failed", True)

    run(main)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
        CHUNKED + b"two\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
        b"HTTP/1.1 099 What\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_protocol_error(run: Runner, garbage: bytes) -> None:
    failure = run(lambda: failing(sends(garbage)))
    assert (failure.code, failure.sent) == ("protocol_error", True)


def test_a_peer_that_speaks_first_speaks_no_http(run: Runner) -> None:
    """Whether its bytes are here before our request has gone or just after can't be told, and makes no difference."""

    async def script(wire: Wire, peer: Peer) -> None:
        wire.send(b"220 mail.example ESMTP\r\n")
        await wire.gone()

    assert run(lambda: failing(script)).code == "protocol_error"


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"x: %b\r\n" % (b"y" * 100)),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: y\r\n\r\n"),
        (CHUNKED + b"2\r\nok\r\n0\r\nx: ", b"y" * 1000),
        (CHUNKED + b"2\r\nok\r\n2;", b"y" * 1000),
    ],
    ids=[
        "a header without end",
        "headers without end",
        "interim answers without end",
        "a trailer without end",
        "an extension without end",
    ],
)
def test_head_too_large(run: Runner, first: bytes, repeated: bytes) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(first)
        with contextlib.suppress(ConnectionError):
            while not wire.writer.is_closing():
                wire.send(repeated)
                await wire.writer.drain()
                await asyncio.sleep(0)  # drain alone does not let anybody else run

    failure = run(lambda: failing(script, Bounds(upstream_head_bytes_max=8_192)))
    assert (failure.code, failure.sent) == ("head_too_large", True)


def test_a_head_too_large_in_one_read(run: Runner) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + b"x: y\r\n" * 400 + b"\r\nok"
    assert run(lambda: failing(sends(head), Bounds(upstream_head_bytes_max=2_000))).code == "head_too_large"


def test_a_long_body_in_small_pieces_is_no_large_head(run: Runner) -> None:
    """Only what brings no byte of the body counts, and only in a row: a chunk's size may come in a read of its own."""

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.writer.transport.set_write_buffer_limits(high=0)
        for piece in [CHUNKED, *([b"1\r\n", b"x\r\n"] * 500), b"0\r\n\r\n"]:
            wire.send(piece)
            await wire.writer.drain()
            await asyncio.sleep(0)

    async def main() -> None:
        async with listening(script) as peer, transport(Bounds(upstream_head_bytes_max=400)) as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            await heard.ok(b"x" * 500)

    run(main)


# --- limits ---


def test_the_timer_enforces_limits_by_itself(run: Runner) -> None:
    failure = run(lambda: failing(sends(b""), Bounds(first_byte_s_max=0.05)))
    assert (failure.code, failure.sent) == ("first_byte_timeout", True)


def test_first_byte_timeout_is_not_put_off_by_a_head_that_drips(run: Runner) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(ConnectionError):
            while not wire.writer.is_closing():
                wire.send(b"x")
                await asyncio.sleep(0.001)

    assert run(lambda: failing(script, Bounds(first_byte_s_max=0.1))).code == "first_byte_timeout"


def test_silence_timeout(run: Runner) -> None:
    async def main() -> None:
        async with listening(sends(CHUNKED + b"2\r\nok\r\n")) as peer, transport(tick_s=1000) as http:
            heard, now = Heard(), asyncio.get_running_loop().time()
            http.start(peer.address(), post(), heard)
            await heard.holds(2)
            http.sweep(now + 500)  # something came: silence is counted from here, since nobody looked before
            http.sweep(now + 500 + 119)
            assert not heard.over
            http.sweep(now + 500 + 121)
            assert (await heard.failed()).code == "silence_timeout"
            await peer.wires[0].gone()

    run(main)


def test_silence_is_counted_from_the_head_and_not_from_the_request(run: Runner) -> None:
    gate: list[asyncio.Event] = []

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        await gate[0].wait()
        wire.send(CHUNKED)
        await wire.gone()

    async def main() -> None:
        gate.append(asyncio.Event())
        async with listening(script) as peer, transport(Bounds(total_s_max=9_999), tick_s=1000) as http:
            heard, now = Heard(), asyncio.get_running_loop().time()
            http.start(peer.address(), post(), heard)
            await (await peer.accepted()).asked.wait()
            http.sweep(now + 299)
            gate[0].set()
            await heard.begun()
            http.sweep(now + 299)
            http.sweep(now + 299 + 119)
            assert not heard.over
            http.sweep(now + 299 + 121)
            assert (await heard.failed()).code == "silence_timeout"

    run(main)


def test_a_chunk_now_and_then_is_no_silence_and_the_first_byte_is_not_asked_for_again(run: Runner) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(CHUNKED)
        for _ in range(5):
            await wire.reader.readexactly(1)  # the test says when
            wire.send(b"1\r\nx\r\n")
        wire.send(b"0\r\n\r\n")
        await wire.gone()

    async def main() -> None:
        async with (
            listening(script) as peer,
            transport(Bounds(first_byte_s_max=1, silence_s_max=100, total_s_max=9_999), tick_s=1000) as http,
        ):
            heard, now = Heard(), asyncio.get_running_loop().time()
            http.start(peer.address(), post() + b"#####", heard)  # five bytes that are no request: what the script waits for
            for turn in range(1, 6):
                await heard.holds(turn)
                http.sweep(now + 90 * turn)
            assert await heard.end() is None

    run(main)


def test_a_pause_is_not_the_upstreams_silence(run: Runner) -> None:
    async def main() -> None:
        bounds = Bounds(silence_s_max=10, total_s_max=99_999)
        async with listening(sends(CHUNKED + b"2\r\nok\r\n")) as peer, transport(bounds, tick_s=1000) as http:
            heard, now = Heard(), asyncio.get_running_loop().time()
            call = http.start(peer.address(), post(), heard)
            await heard.holds(2)
            call.pause()
            http.sweep(now + 1_000)
            http.sweep(now + 2_000)
            assert not heard.over
            call.resume()
            http.sweep(now + 9)
            assert not heard.over
            http.sweep(now + 11)
            assert (await heard.failed()).code == "silence_timeout"

    run(main)


@pytest.mark.parametrize("answer", [b"", CHUNKED + b"2\r\nok\r\n"], ids=["before the head", "after it"])
def test_total_timeout(run: Runner, answer: bytes) -> None:
    async def main() -> None:
        async with (
            listening(sends(answer)) as peer,
            transport(Bounds(first_byte_s_max=9_999, silence_s_max=9_999), tick_s=1000) as http,
        ):
            heard, now = Heard(), asyncio.get_running_loop().time()
            call = http.start(peer.address(), post(), heard)
            await peer.accepted()
            if answer:
                await heard.begun()
            else:
                await until(lambda: call.peer)
            http.sweep(now + 899)
            assert not heard.over
            http.sweep(now + 901)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("total_timeout", True)

    run(main)


def test_a_body_without_end_is_ended_by_the_total(run: Runner) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(CHUNKED)
        with contextlib.suppress(ConnectionError):
            while not wire.writer.is_closing():
                wire.send(b"1\r\nx\r\n")
                await wire.writer.drain()
                await asyncio.sleep(0)

    assert run(lambda: failing(script, Bounds(total_s_max=0.1))).code == "total_timeout"


def test_total_timeout_while_connecting_sent_nothing(run: Runner) -> None:
    async def main() -> None:
        with deaf_listener() as port:
            failure = await not_connecting(place(port), Bounds(connect_s_max=60, total_s_max=0.05))
            assert failure.code == "total_timeout"

    run(main)


# --- ended by ourselves ---


def test_a_call_that_is_given_up_just_as_its_connection_opens_leaves_none_behind(run: Runner) -> None:
    """The loop has told the connection that it is open, and whoever opens it not yet: uvloop then closes it and tells nobody."""

    async def waits(wire: Wire, _: Peer) -> None:
        await wire.gone()

    async def main() -> None:
        async with listening(waits) as peer, transport() as http:
            for _ in range(3):
                call = http.start(peer.address(), post(), Heard())
                await until(lambda: http.stats.open)  # each turn of the loop is looked at
                call.abort()
                await until(lambda: http.stats.open == 0)

    run(main)


def test_closing_the_transport_aborts_what_is_under_way(run: Runner) -> None:
    async def main() -> None:
        async with listening(sends(CHUNKED)) as peer, transport() as http:
            with deaf_listener() as port:
                answered, connecting, late = Heard(), Heard(), Heard()
                http.start(peer.address(), post(), answered)
                http.start(place(port), post(), connecting)
                await answered.begun()
                await http.close()
                http.start(peer.address(), post(), late)
                assert [(f.code, f.sent) for f in [await h.failed() for h in (answered, connecting, late)]] == [
                    ("aborted", True),
                    ("aborted", False),
                    ("aborted", False),
                ]
                await peer.wires[0].gone()

    run(main)


@pytest.mark.parametrize("where", ["on_head", "on_data"])
def test_a_sink_that_raises_ends_its_own_call_and_is_reported(run: Runner, where: str) -> None:
    class Broken(Heard):
        def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().on_head(status, headers)
            if where == "on_head":
                raise ZeroDivisionError

        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            raise ZeroDivisionError

    async def main() -> None:
        async with listening(sends(OK)) as peer, transport() as http:
            heard = Broken()
            http.start(peer.address(), post(), heard)
            assert (await heard.failed()).code == "aborted"
            assert [type(error) for error in run.take_reported()] == [ZeroDivisionError]
            await peer.wires[0].gone()

    run(main)


def test_a_sink_that_raises_at_the_end_harms_nobody(run: Runner) -> None:
    class Broken(Heard):
        def on_end(self) -> None:
            super().on_end()
            raise ZeroDivisionError

        def on_failed(self, failure: Failure) -> None:
            super().on_failed(failure)
            raise ZeroDivisionError

    async def main() -> None:
        async with listening(sends(OK)) as peer, listening(sends(b"")) as silent, transport(tick_s=1000) as http:
            broken = [Broken() for _ in range(3)]
            http.start(peer.address(), post(), broken[0])
            await broken[0].ok()
            assert http.stats.idle == 1
            calls = [http.start(silent.address(), post(), heard) for heard in broken[1:]]
            await until(lambda: all(call.peer for call in calls))
            http.sweep(asyncio.get_running_loop().time() + 500)
            assert [(await heard.failed()).code for heard in broken[1:]] == ["first_byte_timeout"] * 2
            assert [type(error) for error in run.take_reported()] == [ZeroDivisionError] * 3

    run(main)


def test_details_hold_no_content(run: Runner) -> None:
    async def main() -> None:
        async with listening(sends(b"HTTP/1.1 200 OK\r\nx: y\r\nz secret-answer\r\n\r\n")) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(credential="f00"), post(b"secret-prompt"), heard)
            failure = await heard.failed()
            assert "secret" not in repr(failure) and "f00" not in repr(failure)

    run(main)
