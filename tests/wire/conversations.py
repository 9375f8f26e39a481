"""What clients may say to a connection, piece by piece, and how that leaves it: for tests that hear the same in two ways."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, cast

from small_world import key_text
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.core.bounds import Bounds
from gateway.wire.plane import Plane
from gateway.wire.protocol import DataPlane

BOUNDS = Bounds(body_bytes_max=1_000, header_bytes_max=1_000)
NARROW = Bounds(body_bytes_max=50, header_bytes_max=250)  # after a reload

Pieces = list[tuple[bytes, int]]
"""What comes in one read, and how many turns of the loop go by after it."""


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[object] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.written.append("eof")

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.written.append("closed")

    def abort(self) -> None:
        self.written.append("aborted")


# --- what is said --------------------------------------------------------------------------------------------------------

LINES = [
    ["content-type: application/json"],
    ["x-gateway-region: DE"],
    ["X-Gateway-Region: FR"],
    ["x-gateway-data-class: public"],
    ["x-request-id: mine"],
    ["x-request-id: " + "m" * 140],
    ["X-Session-Affinity: chat-7"],
    ["cache-control: no-store"],
    ["x-strength: 7"],
    ["X-Content-Length: 3"],
    ["connection: keep-alive"],
    ["x-long: " + "y" * 500],
]
ODD_LINES = [
    *[["connection: close"]] * 3,
    ["expect: 100-continue"],
    ["expect: nothing"],
    ["connection: upgrade", "upgrade: h2c"],
    ["transfer-encoding: chunked"],
    ["content-length: 3"],
    ["host: another"],
    ["content-encoding: gzip"],
    ["authorization: Bearer " + key_text("clerk")],
]
BODIES = [1, 5, 30, 99, 100, 400] * 5 + [0, 1_001]
BETWEEN = [b""] * 30 + [b"\r\n", b"\x00"]
LENGTHS = ["content-length: {}", "Content-Length: {}", "CONTENT-LENGTH: {}"]
ODD_LENGTHS = [
    "content-length:{}", "content-length: {} ", "content-length: 0{}", "content-length: +{}", "content-length: 1{}", "x: y",
]


@dataclass(frozen=True)
class Manner:
    """Of what heads are made, and bodies by `say`."""

    say: "Say"
    methods: tuple[str, ...] = ("POST", "POST", "PUT")
    paths: tuple[str, ...] = ("/v1/chat/completions", "/other")
    keys: tuple[str, ...] = (key_text("ward"), key_text("ward"), key_text("clerk"), "rg_live_ward_0", "no key")


def head_of(dice: Random, manner: Manner) -> tuple[str, ...]:
    """The lines of a head; `{}` stands where its length goes. Most are what an SDK would send."""
    lines = [line for block in dice.sample(LINES, dice.randrange(4)) for line in block]
    if dice.random() < 0.1:
        lines += dice.choice(ODD_LINES)
    lines += ["host: gateway", f"authorization: Bearer {dice.choice(manner.keys)}"]
    lines.append(dice.choice(ODD_LENGTHS if dice.random() < 0.1 else LENGTHS))
    dice.shuffle(lines)
    version = "1.0" if dice.random() < 0.1 else "1.1"
    return (f"{dice.choice(manner.methods)} {dice.choice(manner.paths)} HTTP/{version}", *lines)


def said(head: tuple[str, ...], length: int) -> bytes:
    """A request with that head, and a body that looks like one."""
    whole = "".join(f"{line}\r\n" for line in head).format(length).encode() + b"\r\n"
    return whole + (whole + b"and more " * 200)[:length]


def asked(head: tuple[str, ...], length: int) -> bytes:
    """The same, where the body is a chat request whose prompt looks like a request; if it is long enough for that."""
    whole = said(head, length)
    begin, end = b'{"model":"auto","messages":[{"role":"user","content":"', b'"}]}'
    room = length - len(begin) - len(end)
    if room < 1:
        return whole
    prompt = (whole.replace(b"\r\n", b"\\r\\n") + b"and more " * 200)[:room].removesuffix(b"\\")
    return whole[:-length] + begin + prompt.ljust(room) + end


Say = Callable[[tuple[str, ...], int], bytes]
"""A request with that head, and a body of so many bytes."""


ANY: Final = Manner(said)
CHATS: Final = Manner(asked, ("POST",), ("/v1/chat/completions",), (*[key_text("ward")] * 5, "no key"))
"""Mostly what a whole plane answers."""


def conversation(seed: int, manner: Manner = ANY) -> tuple[list[bytes], Pieces]:
    """Requests for a plane to learn from, each on a connection of its own; then pieces."""
    dice = Random(seed)
    say = manner.say
    known = [head_of(dice, manner) for _ in range(3)]
    lessons = [say(head, dice.choice([1, 5, 20])) for head in known]
    if dice.random() < 0.1:
        return lessons, [(say(known[0], 5) * 12, 0)]
    if dice.random() < 0.3:  # short and plain: one thing is odd at the most
        first_line, key = f"POST {manner.paths[0]} HTTP/1.1", f"authorization: Bearer {key_text('ward')}"
        usual = (first_line, "host: gateway", key, "content-length: {}")
        first, once = say(usual, 9), say((*usual, *dice.choice([*LINES, *ODD_LINES])), 9)
        return [first, once], dice.choice([[(once[:-9], 4), (once[-9:] + once, 4)], [(first + once * 2, 4)]])
    data = b""
    for _ in range(dice.randint(1, 6)):
        head = dice.choice(known) if dice.random() < 0.8 else head_of(dice, manner)
        if dice.random() < 0.05:
            at = dice.randrange(len(head))
            head = (*head[:at], head[at].swapcase() if dice.random() < 0.5 else head[at] + "z", *head[at + 1 :])
        data += say(head, dice.choice(BODIES)) + dice.choice(BETWEEN)
    pieces = []
    whole = dice.random() < 0.5
    while data:
        cut = data.find(b"\r\n\r\n") + 4 if dice.random() < 0.3 else 5_000 if whole else dice.choice([1, 30, 200, 1_000])
        pieces.append((data[:cut], dice.choice([0, 0, 4])))
        data = data[cut:]
    return lessons, pieces


async def hear(plane: Plane, of: type[DataPlane], pieces: Pieces, before: Callable[[bytes], object] = len) -> list[object]:
    """What a connection to `plane` answers to `pieces`, and how it is left. `before` is told of each piece before it comes."""
    state, wire = ServerState(), Wire()
    state.default_headers = []
    connection = of(plane, Config(app=""), state, cast(Any, {}), asyncio.get_running_loop())
    connection.connection_made(wire)
    for piece, turns in pieces:
        before(piece)
        connection.data_received(piece)
        for _ in range(turns):
            await asyncio.sleep(0)
    for _ in range(40):
        await asyncio.sleep(0)
    standing = connection._reading.name, connection.keep_alive, connection._barren_bytes, connection.deadline == float("inf")
    connection.connection_lost(None)
    return [*wire.written, *standing]
