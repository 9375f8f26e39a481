"""Bad days over a real socket: what is too long, too slow, too much, or no HTTP; what hangs up, and what stops reading."""

import asyncio
import socket

import pytest
from fake_ports import DONE, EVENT, FakeUpstream, Script
from served import Caller, Served, chat, post, request, run, serving

from gateway.core.bounds import Bounds
from gateway.wire.protocol import LINGER_BYTES_MAX, PIPELINED_MAX

QUICK = 0.05  # seconds, for limits that are meant to pass
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"


def chunked(data: bytes, size: int, *more: str) -> bytes:
    """A chat request whose body comes in chunks of `size`."""
    head = request("POST", "/v1/chat/completions", b"", "transfer-encoding: chunked", *more)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- sizes ----------------------------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_413_and_its_sender_can_read_that() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(body_bytes_max=100_000)) as gateway:
            fits = b'{"model":"alpha","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 99_000)
            for good in (request(body=fits), chunked(fits, 10_000), chunked(fits, 7)):
                assert (await gateway.ask(good)).status == 200
            much = b"x" * 3_000_000
            # told by its length before a byte of it came, and by counting; either way all of it is sent before anything is read
            for bad in (request(body=much), chunked(much, 50_000), request(body=much[:100_001])):
                caller = await gateway.connect()
                caller.send(bad)
                await caller.writer.drain()
                reply = await caller.reply()
                assert reply.told == (413, "body_too_large")
                assert reply.header("connection") == "close"
                await caller.closed()

    run(main)


def test_a_body_over_the_limit_that_was_announced_is_never_asked_for() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(body_bytes_max=1_000)) as gateway:
            caller = await gateway.connect()
            caller.send(request("POST", "/v1/chat/completions", b"", "expect: 100-continue", "content-length: 1001"))
            assert (await caller.reply()).told == (413, "body_too_large")
            body = request(body=chat())
            head, _, rest = body.partition(b"\r\n\r\n")
            caller = await gateway.connect()
            caller.send(head + b"\r\nexpect: 100-Continue\r\n\r\n")
            assert (await caller.reply()).status == 100
            caller.send(rest)
            assert (await caller.reply()).status == 200

    run(main)


def test_whoever_goes_on_sending_after_the_answer_is_cut_off() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(body_bytes_max=1_000)) as gateway:
            caller = await gateway.connect()
            caller.send(request("POST", "/v1/chat/completions", b"", "content-length: 999999999"))
            assert (await caller.reply()).told == (413, "body_too_large")
            with pytest.raises(ConnectionError):
                for _ in range(2 * LINGER_BYTES_MAX // 1_000_000):
                    caller.send(b"x" * 1_000_000)
                    await caller.writer.drain()

    run(main)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"a: " + b"x" * 20_000 + b"\r\n\r\n", id="one line"),
        pytest.param(b"a: b\r\n" * 4_000 + b"\r\n", id="many lines"),
        pytest.param(b"a: " + b"x" * 20_000, id="a line without end"),
        pytest.param(b"a" * 20_000, id="a name without end"),
    ],
)
def test_headers_over_the_limit_are_431(head: bytes) -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(header_bytes_max=16_384)) as gateway:
            for piece in (len(head), 1_000):
                caller = await gateway.connect()
                caller.send(HEAD)
                await caller.writer.drain()
                for at in range(0, len(head), piece):
                    caller.send(head[at : at + piece])
                    await asyncio.sleep(0)
                assert (await caller.reply()).told == (431, "headers_too_large")
                await caller.closed()

    run(main)


def test_headers_below_the_limit_pass_in_however_many_pieces() -> None:
    async def main() -> None:
        async with serving(bounds=Bounds(header_bytes_max=16_384)) as gateway:
            good = post("a: " + "x" * 15_000)
            caller = await gateway.connect()
            for at in range(0, len(good), 4_000):
                caller.send(good[at : at + 4_000])
                await caller.writer.drain()
                await asyncio.sleep(0)
            assert (await caller.reply()).status == 200
            assert (await gateway.ask(request("GET", "/" + "a" * 20_000))).told == (431, "headers_too_large")

    run(main)


@pytest.mark.parametrize(
    "junk",
    [b"1;" + b"x" * 70_000, b"0\r\na: " + b"x" * 70_000, b"0\r\n" + b"a: b\r\n" * 20_000],
    ids=["extension", "trailer", "trailers"],
)
def test_what_stands_between_the_bytes_of_a_body_has_a_limit_too(junk: bytes) -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            caller.send(request("POST", "/v1/chat/completions", b"", "transfer-encoding: chunked"))
            for at in range(0, len(junk), 1_000):
                caller.send(junk[at : at + 1_000])
                await asyncio.sleep(0)
            assert (await caller.reply()).told == (431, "headers_too_large")

    run(main)


def test_a_trailer_says_nothing() -> None:
    async def main() -> None:
        async with serving() as gateway:
            body = request(body=chat()).partition(b"\r\n\r\n")[2]
            good = chunked(body, 50)[: -len(b"\r\n")]
            reply = await gateway.ask(good + b"x-gateway-region: FR\r\nx-request-id: trailing\r\n\r\n")
            assert reply.status == 200
            assert reply.header("x-request-id") != "trailing"
            assert gateway.upstream.calls[0].request.facts.region == {"DE"}

    run(main)


# --- what is no HTTP, or could be taken in two ways -----------------------------------------------------------------------

SMUGGLING = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "two lengths in one": HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + b"content-length: +2\r\n\r\n{}",
    "a length in hex": HEAD + b"content-length: 0x2\r\n\r\n{}",
    "an endless length": HEAD + b"content-length: 99999999999999999999999999\r\n\r\n{}",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip in chunks": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, then gzip": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "nearly chunked": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": HEAD + b"transfer-encoding: identity\r\n\r\n{}",
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "a folded line": HEAD + b"a: b\r\n c\r\n\r\n",
    "a line end without CR": b"GET / HTTP/1.1\nhost: gateway\n\n",
    "a bare CR": HEAD + b"a: b\rc: d\r\n\r\n",
    "a NUL": HEAD + b"a: b\x00c\r\n\r\n",
    "a chunk without its end": HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "an endless chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    "a version of its own": b"GET / HTTP/1.7\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING)
def test_what_two_readers_could_take_in_two_ways_is_400_and_the_end(data: bytes) -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            caller.send(data + request("GET", "/v1/models"))
            assert (await caller.reply()).told == (400, "invalid_http")
            await caller.closed()  # and nothing behind it was taken for a request

    run(main)


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "zstd"])
def test_a_body_in_a_coding_is_415(coding: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            assert (await gateway.ask(post(f"content-encoding: {coding}"))).told == (415, "encoding_not_supported")
            assert (await gateway.ask(post("content-encoding: Identity"))).status == 200

    run(main)


def test_an_upgrade_is_not_taken_and_the_request_is_served() -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAA")
            caller.send(post(*offer))  # as Java's client sends each first request
            assert (await caller.reply()).status == 200
            whole = post(*offer, "expect: 100-continue")
            caller.send(whole[:-20])
            assert (await caller.reply()).status == 100
            caller.send(whole[-20:] + request("GET", "/v1/models", None, *offer) + post(*offer))  # one upgrade behind another
            assert [(await caller.reply()).status for _ in range(3)] == [200, 200, 200]
            caller.send(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
            assert (await caller.reply()).told == (405, "method_not_allowed")
            await caller.closed()

    run(main)


# --- order ----------------------------------------------------------------------------------------------------------------


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


# --- time -----------------------------------------------------------------------------------------------------------------


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


# --- hanging up -----------------------------------------------------------------------------------------------------------


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


# --- how many, and how it stops -------------------------------------------------------------------------------------------


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
            assert told == {(503, "shutting_down", "shutting_down")}

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
