"""Bytes that wait: requests longer than any buffer, answers faster than their reader, answers that come too soon, and aborts."""

import asyncio
import contextlib
import gc
import ssl
import time

import pytest
from httptools import HttpResponseParser
from loops import Authority, Runner
from raw_peers import CHUNKED, OK, Heard, Peer, Wire, answering, listening, post, transport, until

from gateway.core.bounds import Bounds
from gateway.core.policy import Tls
from gateway.upstream.http import Call
from gateway.upstream.response import ResponseReader

MEGABYTE = 1 << 20
IN_FLIGHT_MAX = 24 * MEGABYTE
"""What both kernels' buffers (6 MB and 4 MB at most by default) and those of both ends' loops hold together, with room to spare."""


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest, authority: Authority) -> tuple[str, ssl.SSLContext | None, Tls]:
    """Scheme, the peer's context, our settings."""
    if request.param == "plain":
        return "http", None, Tls()
    return "https", authority.server("127.0.0.1"), Tls(ca_file=authority.ca_file)


def test_a_request_of_20_megabytes_arrives_whole(run: Runner, secured: tuple[str, ssl.SSLContext | None, Tls]) -> None:
    scheme, context, tls = secured
    body = bytes(range(256)) * 80_000

    async def main() -> None:
        async with listening(tls=context) as peer, transport() as http:
            for _ in range(2):  # the second one on the same connection
                heard = Heard()
                http.start(peer.address(scheme=scheme, tls=tls), post(body), heard)
                await heard.ok()
            assert peer.requests == [post(body), post(body)]
            assert peer.accepts == 1

    run(main)


class Flood:
    """A peer that answers with a body without end, as fast as it is taken, and tells whether it is still getting rid of it."""

    def __init__(self) -> None:
        self.sent = 0
        self._progress = asyncio.Event()

    async def script(self, wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(CHUNKED)
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while not wire.writer.is_closing():
                wire.send(chunk)
                await wire.writer.drain()
                self.sent += len(chunk)
                self._progress.set()
                await asyncio.sleep(0)

    async def moves(self) -> bool:
        """Whether anything more is taken of it within a time in which loopback carries gigabytes."""
        self._progress.clear()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._progress.wait(), 0.25)
        return False

    async def stalled(self) -> None:
        while await self.moves():
            pass


def test_a_pause_makes_the_upstream_wait(run: Runner, secured: tuple[str, ssl.SSLContext | None, Tls]) -> None:
    scheme, context, tls = secured

    async def main() -> None:
        flood = Flood()
        async with listening(flood.script, tls=context) as peer, transport() as http:
            heard = Heard()
            call = http.start(peer.address(scheme=scheme, tls=tls), post(), heard)
            await heard.holds(1)
            call.pause()
            call.pause()
            at_pause = len(heard.body)
            await flood.stalled()
            assert len(heard.body) == at_pause  # the test, too, ran between reads
            assert flood.sent < IN_FLIGHT_MAX
            call.resume()
            await heard.holds(at_pause + IN_FLIGHT_MAX)
            assert await flood.moves()
            call.abort()

    run(main)


def test_a_pause_from_within_stops_after_the_read_at_hand(run: Runner) -> None:
    class Pausing(Heard):
        call: Call

        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            self.call.pause()

    async def main() -> None:
        flood = Flood()
        async with listening(flood.script) as peer, transport() as http:
            heard = Pausing()
            heard.call = http.start(peer.address(), post(), heard)
            await heard.holds(1)
            await flood.stalled()
            assert len(heard.body) <= MEGABYTE  # one read: 256 kB at most on both loops

    run(main)


def test_a_pause_before_there_is_a_connection_holds(run: Runner) -> None:
    async def main() -> None:
        flood = Flood()
        async with listening(flood.script) as peer, transport() as http:
            heard = Heard()
            call = http.start(peer.address(), post(), heard)
            call.pause()
            await flood.stalled()
            assert flood.sent < IN_FLIGHT_MAX
            assert not heard.status
            call.resume()
            await heard.holds(IN_FLIGHT_MAX)

    run(main)


def test_an_answer_that_ends_while_paused_is_told_after_it_and_its_connection_is_not_kept(run: Runner) -> None:
    class Pausing(Heard):
        call: Call

        def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().on_head(status, headers)
            self.call.pause()

    async def main() -> None:
        async with listening() as peer, transport() as http:
            heard = Pausing()
            heard.call = http.start(peer.address(), post(), heard)
            await heard.ok()
            assert http.stats.idle == 0
            heard.call.resume()  # fine after the end

    run(main)


# --- answers that come too soon ---


@pytest.mark.parametrize("then", ["closes", "resets", "waits"])
def test_an_answer_before_the_request_was_read_is_heard(run: Runner, then: str) -> None:
    """What a server does that refuses a body for its length. The rest of the body is thrown away, and so is the connection."""

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await wire.writer.drain()
        if then == "resets":
            await asyncio.sleep(0)
            wire.reset()
        elif then == "waits":
            await asyncio.Event().wait()  # and reads no more

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(bytes(20_000_000)), heard)
            assert await heard.end() is None
            assert (heard.status, heard.body) == (413, b"no")
            assert http.stats.idle == 0
            await until(lambda: http.stats.open == 0)

    run(main)


def test_a_peer_that_ends_its_side_in_mid_request_ends_the_call(run: Runner) -> None:
    """At once: it would take nothing more of the request, and an event loop would wait until it did before it closed."""

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        wire.writer.write_eof()
        await asyncio.Event().wait()

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(bytes(20_000_000)), heard)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("write_failed", True)

    run(main)


def test_an_answer_that_streams_while_the_request_is_still_being_written(run: Runner) -> None:
    async def script(wire: Wire, peer: Peer) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        wire.send(CHUNKED + b"1\r\no\r\n")
        await wire.reader.readexactly(20_000_000)
        wire.send(b"1\r\nk\r\n0\r\n\r\n")
        await answering(wire, peer)

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard, again = Heard(), Heard()
            http.start(peer.address(), post(bytes(20_000_000)), heard)
            await heard.ok()
            http.start(peer.address(), post(), again)  # the request had been written whole by then, so the connection is fit
            await again.ok()
            assert peer.accepts == 1

    run(main)


# --- aborts ---


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + b"2\r\nok\r\n", CHUNKED + b"9\r\nok"])
def test_an_abort_closes_the_connection_within_milliseconds_and_nothing_more_is_heard(
    run: Runner, answer: bytes, secured: tuple[str, ssl.SSLContext | None, Tls]
) -> None:
    scheme, context, tls = secured

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(answer)
        await wire.writer.drain()
        await wire.gone()

    async def main() -> None:
        async with listening(script, tls=context) as peer, transport() as http:
            heard = Heard()
            call = http.start(peer.address(scheme=scheme, tls=tls), post(), heard)
            wire = await peer.accepted()
            await wire.asked.wait()
            began = time.monotonic()
            call.abort()
            call.abort()
            await wire.gone()
            assert time.monotonic() - began < 0.5  # a millisecond, and what a busy machine adds
            assert not heard.over
            assert http.stats.calls == 0
            call.resume()
            call.pause()

    run(main)


def test_an_abort_while_connecting_opens_nothing(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer, transport() as http:
            heard = Heard()
            call = http.start(peer.address(), post(), heard)
            call.abort()
            other = Heard()
            http.start(peer.address(), post(b"other"), other)
            await other.ok()
            assert not heard.over and call.peer == ""
            assert peer.requests == [post(b"other")]
            assert http.stats.open == 1

    run(main)


@pytest.mark.parametrize("where", ["on_head", "on_data"])
def test_an_abort_from_within_silences_the_rest_of_the_read(run: Runner, where: str) -> None:
    class Aborting(Heard):
        call: Call

        def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().on_head(status, headers)
            if where == "on_head":
                self.call.abort()

        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            self.call.abort()

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n" + OK)  # all in one read
        await wire.gone()

    async def main() -> None:
        async with listening(script) as peer, transport() as http:
            heard = Aborting()
            heard.call = http.start(peer.address(), post(), heard)
            wire = await peer.accepted()
            await wire.asked.wait()
            await wire.gone()
            assert heard.body == (b"" if where == "on_head" else b"a")
            assert not heard.over
            assert http.stats.idle == 0

    run(main)


def test_an_abort_after_the_end_leaves_the_connection_to_whoever_has_it_now(run: Runner) -> None:
    gates: list[asyncio.Event] = []

    async def script(wire: Wire, peer: Peer) -> None:
        await wire.request()
        wire.send(OK)
        await wire.request()
        await gates[0].wait()
        wire.send(OK)
        await wire.gone()

    async def main() -> None:
        gates.append(asyncio.Event())
        async with listening(script) as peer, transport() as http:
            first, second = Heard(), Heard()
            call = http.start(peer.address(), post(), first)
            await first.ok()
            http.start(peer.address(), post(), second)
            call.abort()
            call.pause()
            gates[0].set()
            await second.ok()
            assert peer.accepts == 1

    run(main)


def test_bounds_may_be_replaced_while_running(run: Runner) -> None:
    async def silent(wire: Wire, peer: Peer) -> None:
        await wire.gone()

    async def main() -> None:
        async with listening(silent) as peer, transport() as http:
            heard = Heard()
            http.start(peer.address(), post(), heard)
            await peer.accepted()
            http.bounds = Bounds(first_byte_s_max=0.01)
            assert (await heard.failed()).code == "first_byte_timeout"

    run(main)


def test_nothing_is_left_for_the_garbage_collector(run: Runner) -> None:
    """A request's objects go when it ends; at thousands a second a collector's pauses would show in every stream."""

    async def main() -> None:
        async with listening() as peer, transport() as http:
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    heard = Heard()
                    call = http.start(peer.address(), post(), heard)
                    await heard.ok()
                del heard, call
                await asyncio.sleep(0)
                left = [each for each in gc.get_objects() if isinstance(each, (Heard, Call, ResponseReader, HttpResponseParser))]
                assert left == []
            finally:
                gc.enable()

    run(main)
