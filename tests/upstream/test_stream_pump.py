"""The pump takes what the parser and the templates would have passed, and nothing else, however chunks and reads are cut.

A real connection is fed by hand: bytes of HTTP/1.1, chunks and all. What a client gets is compared with what the same events come
to without any framing; and pumps with bugs planted in them are noticed.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relaying import FakeClient, chunk, decided, deployment, play, request, sse, upstreams
from streams import SCRIPTS, Script
from test_stream_chunking import by_events, relayed

from gateway.core.bounds import Bounds
from gateway.core.exchange import Attempt, Outcome
from gateway.upstream.address import Address
from gateway.upstream.call import Call, Sink
from gateway.upstream.connection import Connection
from gateway.upstream.pump import Tally, pump
from gateway.upstream.response import ResponseReader, Shortcut
from gateway.upstream.sse import Splitter
from gateway.upstream.template import Template, template

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Silent:
    """A transport whose other end says what the test does."""

    def __init__(self) -> None:
        self.closed = False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.1", 443), "socket": self}.get(name)

    def fileno(self) -> int:
        raise OSError("there is none")

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.closed = True

    close = abort


class OneLine:
    """As much of the transport as one connection needs, and the connection."""

    bounds = Bounds()

    def __init__(self) -> None:
        self.freed = 0
        self.connection: Connection | None = None
        self.by_pump = 0

    def start(self, address: Address, payload: bytes, sink: Sink) -> Call:
        self.connection = Connection(self, address)
        self.connection.connection_made(cast("asyncio.Transport", Silent()))
        call = Call(self, sink, 0.0)
        self.connection.carry(call, payload, 0.0)
        return call

    def read(self, data: bytes) -> None:
        """The connection reads `data`, if it is open."""
        connection = self.connection
        assert connection is not None
        if connection.is_open and connection.reader is not None:
            parsed = connection.reader.feed
            fed: list[bytes] = []

            def feed(piece: bytes) -> None:
                fed.append(piece)
                parsed(piece)

            connection.reader.feed = feed
            connection.data_received(data)
            if connection.reader is not None:
                connection.reader.feed = parsed
            self.by_pump += not fed

    def made(self, connection: Connection) -> None: ...

    def free(self, connection: Connection) -> None:
        self.freed += 1

    def lost(self, connection: Connection) -> None: ...

    def over(self, call: Call) -> None: ...

    def now(self) -> float:
        return 0.0


async def over_a_line(dialect: str, reads: Iterable[bytes], reader: Any = None) -> tuple[bytes, Outcome, OneLine]:
    """What a client gets of an answer that is read in such pieces. `reader` is told of the connection's once there is one."""
    line, to = OneLine(), deployment(dialect)
    decision = decided(to)
    call = upstreams(line, to).open(decision, Attempt(1, to), request(stream=True))
    if reader is not None:
        reader(cast("Connection", line.connection))
    client = FakeClient()
    relay: asyncio.Task[Outcome] | None = None
    for data in reads:
        line.read(data)
        if relay is None and call.result is call:
            relay = asyncio.create_task(call.relay(client))
            await asyncio.sleep(0)
    if line.connection is not None and line.connection.reader is not None:
        line.connection.eof_received()
    found = await call.wait(None)
    if isinstance(found, Outcome):
        return b"", found, line
    return client.text, await (relay or call.relay(client)), line


def framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def oddly(piece: bytes, dice: random.Random) -> bytes:
    """A chunk as a server may frame it that is of another make than ours."""
    ways = (b"%X\r\n", b"0%x\r\n", b"%x;odd=yes\r\n")
    return dice.choice(ways) % len(piece) + piece + b"\r\n"


def chunked(raw: bytes, dice: random.Random) -> Iterator[bytes]:
    """The chunks of a stream: mostly an event each; now and then two in one, a part of one, or framed in another way."""
    events = list(by_events(raw))
    while events:
        piece = events.pop(0)
        match dice.choice("eeeeeeeetpo"):
            case "t" if events:
                yield framed(piece + events.pop(0))
            case "p" if len(piece) > 1:
                at = dice.randrange(1, len(piece))
                yield framed(piece[:at])
                yield framed(piece[at:])
            case "o":
                yield oddly(piece, dice)
            case _:
                yield framed(piece)


def read_in(chunks: Iterable[bytes], dice: random.Random) -> Iterator[bytes]:
    """How they are read: mostly one by one; now and then with the first bytes of the next, or in parts."""
    held = HEAD
    for piece in (*chunks, END):
        match dice.choice("wwwwwwab"):
            case "a":
                at = dice.randrange(1, len(piece))
                yield held + piece[:at]
                held = piece[at:]
            case "b":
                held += piece
            case _:
                if held:
                    yield held
                yield piece
                held = b""
    if held:
        yield held


MORE = (
    Script(
        "one make", "openai", sse(*(chunk({"content": f"word {n}"}) for n in range(12))) + sse(chunk({}, "stop")) + sse(b"[DONE]")
    ),
    Script(
        "of several lines",
        "openai",
        sse(chunk({"content": "a"}), chunk({"content": "b"}))
        + b": a comment\n\n"
        + sse(chunk({"content": "c"})).replace(b'"}', b'x\ndata: y"}', 1)
        + sse(chunk({"content": "d"})),
    ),
    Script("a break", "openai", sse(*(chunk({"content": "word"}) for _ in range(4)))),
)


@settings(max_examples=150, deadline=None)
@given(script=st.sampled_from((*SCRIPTS, *MORE)), seed=st.integers(0, 2**32))
def test_however_it_is_framed_and_read_the_client_gets_the_same(script: Script, seed: int) -> None:
    dice = random.Random(seed)
    wanted = play(relayed(script.dialect, by_events(script.raw)))
    text, outcome, _ = play(over_a_line(script.dialect, read_in(chunked(script.raw, dice), dice)))
    assert (text, outcome) == wanted


@pytest.mark.parametrize("rename", [True, False], ids=["renamed", "as it is"])
@pytest.mark.parametrize("padding", ["", "p", "obfuscation"])
def test_a_stream_of_one_make_is_pumped(rename: bool, padding: str) -> None:
    more = {} if rename else {"model": "our-model"}
    words = [{**chunk({"content": "word " * n}), **more} for n in range(1, 40)]
    padded = [{**word, padding: "x" * (n % 7)} for n, word in enumerate(words)] if padding else words
    raw = sse(*padded, {**chunk({}, "stop"), **more}, b"[DONE]")
    reads = [HEAD, *(framed(event) for event in by_events(raw)), END]
    text, outcome, line = play(over_a_line("openai", reads))
    assert (text, outcome) == play(relayed("openai", by_events(raw)))
    # the first word opens the stream, and the next one is what the pump learns from; an empty padding is of another make
    assert line.by_pump >= (len(words) - 2) * 6 // 7 - 2
    assert line.freed == 1


@pytest.mark.parametrize("with_the_chunk_before", [True, False])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_it_stands_aside_until_the_parser_is_between_two_chunks(digits: int, with_the_chunk_before: bool) -> None:
    """A chunk's line in two reads, the second of which looks like a chunk of its own and is the beginning of a longer one."""
    word = sse(chunk({"content": "word"}))
    within = framed(sse(chunk({"content": "in"})))
    size = int(b"1" * digits + within.partition(b"\r\n")[0], 16)
    body = within.partition(b"\r\n")[2]
    body += b"x" * (size - len(body))
    first = framed(word)
    ones = b"1" * digits
    reads = [
        HEAD,
        first,
        first,
        *([first + ones] if with_the_chunk_before else [first, ones]),
        within,
        body[len(within) - 4 :] + b"\r\n",
        END,
    ]
    text, outcome, _ = play(over_a_line("openai", reads))
    assert (text, outcome) == play(relayed("openai", [word, word, word, body]))


# --- planted bugs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.source_only
def test_checks_notice_a_reader_that_takes_any_read_for_a_beginning() -> None:
    class Hasty(ResponseReader):
        def on_chunk_header(self) -> None: ...

    word, within = sse(chunk({"content": "word"})), sse(chunk({"content": "in"}))
    outer = framed(framed(within))
    line = b"%x\r\n" % len(framed(within))
    reads = [HEAD, framed(word), framed(word), framed(word) + line, outer[len(line) :][:-2], outer[-2:], END]

    def hasty(connection: Connection) -> None:
        assert connection.reader is not None
        connection.reader = Hasty(connection.reader.sink, 65_536)

    right, _, _ = play(over_a_line("openai", reads))
    wrong, _, _ = play(over_a_line("openai", reads, hasty))
    assert right != wrong


def like(event: bytes) -> Template:
    made = template(event, event, copied=True)
    assert made is not None
    return made


def pumped(shortcut: Shortcut, out: list[bytes], *reads: bytes) -> list[bytes]:
    """What `shortcut` passed on, and for what it did not take b""."""
    found = []
    for data in reads:
        out.clear()
        found.append(out[0] if shortcut(data) and out else b"")
    return found


@dataclass(frozen=True)
class Chunk:
    """A read, and what there is besides: a chunk in every way, but for what a case makes otherwise."""

    line: bytes = b"%x\r\n"
    off: int = 0
    tail: bytes = b"\r\n"
    room: int = 10_000
    under_way: bytes = b""


OTHERWISE = (
    *(Chunk(line=line) for line in (b"%X\r\n", b"0%x\r\n", b"+%x\r\n", b"0x%x\r\n", b"%x\n", b" %x\r\n", b"")),
    *(Chunk(off=off) for off in (1, -1, 16)),
    *(Chunk(tail=tail) for tail in (b"\n\n", b"\r\nx", b"\r\n0\r\n\r\n", b"")),
    Chunk(room=100),
    Chunk(under_way=b": a comment "),
)


@pytest.mark.parametrize("case", [Chunk(), *OTHERWISE], ids=str)
@pytest.mark.parametrize("padding", [{}, {"p": "abc"}], ids=["plain", "padded"])
@given(text=st.one_of(st.text("ab\\nr ", max_size=8).map(str.encode), st.binary(max_size=8)))
@settings(max_examples=25, deadline=None)
def test_it_takes_whole_chunks_of_its_own_make_alone(case: Chunk, padding: dict[str, str], text: bytes) -> None:
    event = sse(chunk({"content": "@"}, **padding))
    made = like(event)
    splitter, tally, out = Splitter(10_000), Tally(case.room), list[bytes]()
    splitter.rest += case.under_way
    shortcut = pump(made, splitter, tally, lambda data, at: out.append(data[at:-2]))
    piece = event.replace(b"@", text)
    data = (case.line % (len(piece) + case.off) if case.line else b"") + piece + case.tail
    fits = made.fits(piece) == piece and (
        case == Chunk() or data == framed(piece)
    )  # a line of digits alone is the same in capitals
    fits = fits and not case.under_way and len(data) <= case.room
    assert shortcut(data) is fits
    assert out == ([piece] if fits else [])
    assert (tally.events, tally.bytes, tally.room) == ((1, len(piece), case.room - len(data)) if fits else (0, 0, case.room))


def test_every_length_of_a_chunk_is_told_by_its_line() -> None:
    event = sse(chunk({"content": "@"}))
    out: list[bytes] = []
    shortcut = pump(like(event), Splitter(1 << 20), Tally(1 << 40), lambda data, at: out.append(data[at:-2]))
    for size in (*range(300), *range(3_700, 4_200), *range(65_000, 65_800)):
        piece = event.replace(b"@", b"x" * size)
        assert pumped(shortcut, out, framed(piece)) == [piece], size


def test_one_that_is_over_is_never_asked_again() -> None:
    """After the client has gone or the end was said, what comes is judged as ever: as something after the end."""
    word, last = sse(chunk({"content": "word"})), sse(chunk({}, "stop")) + sse(b"[DONE]")
    reads = [HEAD, *[framed(word)] * 4, framed(last), framed(word), END]
    text, _, line = play(over_a_line("openai", reads))
    assert text.endswith(b"data: [DONE]\n\n")
    assert line.freed == 0  # it talks on, so nobody else is given its connection
