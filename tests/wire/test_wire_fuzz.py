"""Whatever bytes come, in whatever pieces: well-formed answers, then the end of the connection; never a hang, a crash or a leak."""

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from served import chat, parse_head, post, request, run, serving

from gateway.core.bounds import Bounds

QUICK = 0.02
BOUNDS = Bounds(
    client_head_s_max=QUICK, client_body_s_max=QUICK, client_idle_s_max=QUICK, header_bytes_max=2_000, body_bytes_max=2_000
)  # fmt: skip

FRAGMENTS = st.sampled_from(
    [
        post(),
        post(stream=True),
        post(model="none"),
        post(key=None),
        post("expect: 100-continue"),
        post("connection: close"),
        post("connection: upgrade", "upgrade: h2c"),
        request("GET", "/v1/models"),
        request("GET", "/"),
        request("PUT", "/v1/models"),
        request(version="1.0"),
        request("POST", "/v1/chat/completions", b"", "transfer-encoding: chunked"),
        request(body=b"[" * 1_500),
        request(body=chat(user="u" * 2_000)),
        b"POST /v1/chat/completions HTTP/1.1\r\n",
        b"content-length: 5\r\n",
        b"content-length: 1999\r\n",
        b"transfer-encoding: chunked\r\n",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"x-gateway-region: CN\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"fffffff\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"{}",
        b"\x00",
        b"a" * 500,
        b"GET ",
    ]
)
PIECES = st.lists(st.one_of(FRAGMENTS, FRAGMENTS, st.binary(max_size=30)), min_size=1, max_size=6)
CUTS = st.lists(st.integers(1, 400), max_size=8)


def well_formed(data: bytes) -> None:
    """That `data` is a sequence of whole answers."""
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        assert separator, f"half a head: {head!r}"
        status, headers = parse_head(head + separator)
        fields = dict(headers)
        if status == 100:
            data = rest
        elif fields.get("transfer-encoding") == "chunked":
            data = after_chunks(rest)
        elif "content-length" in fields:
            length = int(fields["content-length"])
            assert len(rest) >= length
            data = rest[length:]
        else:
            assert fields["connection"] == "close"
            return


def after_chunks(data: bytes) -> bytes:
    while True:
        size, separator, rest = data.partition(b"\r\n")
        assert separator
        assert re.fullmatch(b"[0-9a-f]+", size)
        count = int(size, 16)
        assert rest[count : count + 2] == b"\r\n"
        data = rest[count + 2 :]
        if not count:
            return data


@settings(max_examples=80)
@given(PIECES, CUTS)
def test_any_bytes_at_all(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)

    async def main() -> None:
        async with serving(bounds=BOUNDS, tick_s=QUICK / 4) as gateway:
            caller = await gateway.connect()
            at = 0
            for cut in (*cuts, len(data)):
                caller.send(data[at : at + cut])
                at += cut
                await asyncio.sleep(0)
            async with asyncio.timeout(10.0):
                well_formed(await caller.rest())

    run(main)


@settings(max_examples=40)
@given(PIECES, st.integers(0, 400))
def test_a_client_that_leaves_in_the_middle_of_anything(pieces: list[bytes], cut: int) -> None:
    data = b"".join(pieces)

    async def main() -> None:
        async with serving() as gateway:  # which asserts that nothing is left behind
            caller = await gateway.connect()
            caller.send(data[:cut])
            await asyncio.sleep(0)
            caller.send(data[cut:])
            caller.close()

    run(main)
