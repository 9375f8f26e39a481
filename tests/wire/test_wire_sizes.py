"""What is too long: a body, a head, and what stands between; its sender can read why."""

import asyncio

import pytest
from served import chat, post, request, run, serving

from gateway.core.bounds import Bounds
from gateway.wire.protocol import LINGER_BYTES_MAX

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"


def chunked(data: bytes, size: int, *more: str) -> bytes:
    """A chat request whose body comes in chunks of `size`."""
    head = request("POST", "/v1/chat/completions", b"", "transfer-encoding: chunked", *more)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


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
