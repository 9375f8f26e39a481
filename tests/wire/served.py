"""The gateway's client side on a real port, with fakes behind it; and a caller that speaks raw bytes.

Every test of this folder ends by looking at all that was ever sent to a client: no key and no prompt may be in it.
"""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop
from fake_ports import FakeClock, FakeLedger, FakeLive, FakeMeter, FakeUpstream
from small_world import SECRET, key_text, snapshot

from gateway.core.bounds import Bounds
from gateway.pipeline import World
from gateway.wire.plane import Plane
from gateway.wire.server import Server

PATIENCE_S = 20.0  # a test that takes longer hangs; all of them take milliseconds
TICK_S = 0.01
PROMPT = "zebra-umbrella-quince"  # the canary: no client, record or error may ever show it


def run(main: Callable[[], Coroutine[Any, Any, None]], loop_factory: Callable[[], Any] = uvloop.new_event_loop) -> None:
    """Run a test on a loop of its own; whatever reaches the loop's exception handler fails it."""
    reported: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        async with asyncio.timeout(PATIENCE_S):
            await main()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(limited())
    assert not reported, reported


@dataclass(frozen=True)
class Reply:
    """One answer, whole. Header names are lower-case, in order, as often as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for found, value in self.headers if found == name]
        assert len(values) < 2, f"`{name}` came {len(values)} times"
        return values[0] if values else None

    @property
    def error(self) -> dict[str, Any]:
        """The error, whose shape is checked: what OpenAI's SDKs take apart."""
        assert self.header("content-type") == "application/json"
        found = json.loads(self.body)
        assert list(found) == ["error"]
        error = found["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert all(type(error[name]) is str and error[name] for name in ("message", "type", "code"))
        assert error["param"] is None or type(error["param"]) is str
        return dict(error)

    @property
    def told(self) -> tuple[int, str]:
        """Status and code of an error."""
        return self.status, self.error["code"]


class Caller:
    """A client connection that sends what it is told to, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
        self.reader, self.writer, self._heard = reader, writer, heard

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, *, to_head: bool = False) -> Reply:
        """The next answer. `to_head`: it has no body, whatever its length says."""
        head = await self._until(b"\r\n\r\n")
        status, headers = parse_head(head)
        if status == 100:
            return Reply(100, headers, b"")
        fields = dict(headers)
        if to_head:
            body = b""
        elif fields.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        elif "content-length" in fields:
            body = await self._exactly(int(fields["content-length"]))
        else:
            body = await self.rest()
        return Reply(status, headers, body)

    async def head(self) -> Reply:
        """The head of the next answer alone."""
        status, headers = parse_head(await self._until(b"\r\n\r\n"))
        return Reply(status, headers, b"")

    async def chunk(self) -> bytes:
        """The next chunk; b"" is the last one."""
        size = int(await self._until(b"\r\n"), 16)
        return (await self._exactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        """Everything until the end of the connection, whether it was closed or reset."""
        found = b""
        try:
            while piece := await self.reader.read(65536):
                found += piece
        except ConnectionError:
            pass
        self._heard += found
        return found

    async def closed(self) -> None:
        """Wait for the end of the connection; nothing more may come before it."""
        assert await self.rest() == b""

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()

    async def _chunks(self) -> bytes:
        found = b""
        while piece := await self.chunk():
            found += piece
        return found

    async def _until(self, end: bytes) -> bytes:
        found = await self.reader.readuntil(end)
        self._heard += found
        return found

    async def _exactly(self, size: int) -> bytes:
        found = await self.reader.readexactly(size)
        self._heard += found
        return found


def parse_head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Status and headers, strictly: what a proxy before us could take in two ways fails here."""
    lines = head.removesuffix(b"\r\n\r\n").decode("ascii").split("\r\n")
    version, status, _phrase = lines[0].split(" ", 2)
    assert version == "HTTP/1.1"
    pairs = [line.split(": ", 1) for line in lines[1:]]
    assert all(name == name.lower() and name.replace("-", "").isalnum() for name, _ in pairs), lines
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a header came twice: {names}"
    return int(status), tuple((name, value) for name, value in pairs)


@dataclass
class Served:
    """A running gateway and all that is behind it."""

    port: int
    server: Server
    plane: Plane
    upstream: FakeUpstream
    ledger: FakeLedger
    live: FakeLive
    meter: FakeMeter
    clock: FakeClock
    running: asyncio.Task[None]
    defects: list[BaseException]
    heard: bytearray = field(default_factory=bytearray)
    callers: list[Caller] = field(default_factory=list)

    async def connect(self, **options: Any) -> Caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        caller = Caller(reader, writer, self.heard)
        self.callers.append(caller)
        return caller

    async def ask(self, data: bytes) -> Reply:
        """One request on a connection of its own."""
        caller = await self.connect()
        caller.send(data)
        reply = await caller.reply()
        caller.close()
        return reply


@asynccontextmanager
async def serving(
    upstream: FakeUpstream | None = None,
    bounds: Bounds | None = None,
    *,
    demo: bool = False,
    defects: int = 0,
    tick_s: float = TICK_S,
    plane_type: type[Plane] = Plane,
) -> AsyncIterator[Served]:
    """A gateway on a free port of this machine; afterwards nothing of it is left, and `defects` bugs of its own were told of."""
    behind = (upstream or FakeUpstream(), FakeLedger(), FakeLive(), FakeMeter(), FakeClock())
    told: list[BaseException] = []
    counter = itertools.count()
    world = World(behind[4], *behind[:4], bounds or Bounds(), lambda: next(counter), told.append)
    plane = plane_type(world, snapshot(bounds=bounds), demo=demo)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(plane, listener, tick_s=tick_s)
    running = asyncio.get_running_loop().create_task(server.run())
    served = Served(listener.getsockname()[1], server, plane, *behind, running, told)
    try:
        yield served
    finally:
        for caller in served.callers:
            caller.reset()
        running.cancel()
        await asyncio.wait([running])
        listener.close()
    assert len(told) == defects, told
    assert plane.in_flight == 0
    assert server.connections == 0
    assert len(served.ledger.settlements) == served.meter.count - served.meter.failures
    assert SECRET.encode() not in served.heard
    assert PROMPT.encode() not in served.heard


def request(
    method: str = "POST",
    path: str = "/v1/chat/completions",
    body: object = None,
    *headers: str,
    key: str | None = "ward",
    version: str = "1.1",
) -> bytes:
    """One request, as bytes. A `body` that is not bytes becomes JSON; None is a good chat request."""
    if body is None and method == "POST":
        body = chat()
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    lines = [f"{method} {path} HTTP/{version}", "host: gateway"]
    if key is not None:
        lines.append(f"authorization: Bearer {key_text(key)}")
    if data:
        lines.append(f"content-length: {len(data)}")
    return "".join(f"{line}\r\n" for line in (*lines, *headers)).encode("latin-1") + b"\r\n" + data


def chat(**more: Any) -> dict[str, Any]:
    """A chat request; `more` replaces fields, and removes those that are set to `...`."""
    body = {"model": "alpha", "messages": [{"role": "user", "content": PROMPT}], **more}
    return {name: value for name, value in body.items() if value is not ...}


def post(*headers: str, key: str | None = "ward", **more: Any) -> bytes:
    """A chat request as bytes, with these headers and fields."""
    return request("POST", "/v1/chat/completions", chat(**more), *headers, key=key)
