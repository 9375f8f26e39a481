"""The smallest possible client: bytes to a socket, bytes from it. A library would hide what these tests look for."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvloop

from gateway.simulators import Simulator

TIMEOUT_SECONDS = 10.0

SAY = [{"role": "user", "content": "[[say:one two three four]]"}]
"""A message whose answer is four tokens."""


def run(coroutine: Any, *, loop: str = "asyncio") -> Any:
    """Run a test's coroutine on a loop of that kind, with an end to its patience."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


def body(**fields: Any) -> dict[str, Any]:
    """A chat request, with `fields` on top."""
    return {"model": "m", "messages": SAY, **fields}


def prompted(**fields: Any) -> dict[str, Any]:
    """A request for text completions, with `fields` on top."""
    return {"model": "m", "prompt": "[[say:one two three four]]", **fields}


def embedded(**fields: Any) -> dict[str, Any]:
    """A request for embeddings, with `fields` on top."""
    return {"model": "m", "input": ["good morning", "good night"], **fields}


@dataclass
class Got:
    """An answer as read from the socket: `raw` is everything, `ended` how the reading ended."""

    raw: bytes
    ended: str

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.decode("latin-1").partition(": ") for line in self.head.split(b"\r\n")[1:])
        return {name.lower(): value for name, _, value in pairs}

    @property
    def payload(self) -> bytes:
        """The body, taken out of chunks as far as they are whole."""
        rest = self.raw.partition(b"\r\n\r\n")[2]
        if self.headers.get("transfer-encoding") != "chunked":
            return rest
        out = b""
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            try:
                length = int(size, 16)
            except ValueError:
                break
            out, rest = out + rest[:length], rest[length + 2 :]
        return out

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def events(self) -> list[Any]:
        """The whole events of a stream, each a document or `[DONE]`, comments left out."""
        blocks = self.payload.decode().split("\n\n")[:-1]
        payloads = [b[6:] for b in blocks if b.startswith("data: ")]
        return [p if p == "[DONE]" else json.loads(p) for p in payloads]


class Client:
    """One connection to a simulator."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, prefix: str) -> None:
        self.reader, self.writer, self.prefix = reader, writer, prefix

    async def post(
        self, fields: dict[str, Any] | bytes, headers: dict[str, str] | None = None, path: str = "/chat/completions"
    ) -> None:
        """Send a chat request, or another with its `path`; the answer is read with `read`."""
        data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        await self.send("POST", self.prefix + path, data, headers)

    async def send(self, method: str, path: str, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send any request."""
        lines = [f"{method} {path} HTTP/1.1", "host: simulator", f"content-length: {len(data)}"]
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
        await self.writer.drain()

    async def read(self, *, until: bytes | None = None) -> Got:
        """Read one whole message; or until bytes appear; or until the connection ends."""
        raw, ended = b"", "whole"
        while not (until in raw if until is not None else self._whole(raw)):
            try:
                data = await asyncio.wait_for(self.reader.read(65536), TIMEOUT_SECONDS)
            except ConnectionResetError:
                return Got(raw, "reset")
            if not data:
                return Got(raw, "closed")
            raw += data
        return Got(raw, ended)

    async def rest(self) -> Got:
        """Read until the connection ends."""
        return await self.read(until=b"\0 never \0")

    async def ask(
        self, fields: dict[str, Any], headers: dict[str, str] | None = None, path: str = "/chat/completions"
    ) -> Got:
        """A chat request, or another with its `path`, and its whole answer."""
        await self.post(fields, headers, path)
        return await self.read()

    async def close(self) -> None:
        self.writer.close()

    @staticmethod
    def _whole(raw: bytes) -> bool:
        head, separator, rest = raw.partition(b"\r\n\r\n")
        if not separator:
            return False
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return rest.endswith(b"0\r\n\r\n")
        length = int(lower.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        return len(rest) >= length


@asynccontextmanager
async def connect(simulator: Simulator, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """A connection to a simulator, closed at the end."""
    reader, writer = await asyncio.open_connection(simulator.host, simulator.port, ssl=tls)
    try:
        yield Client(reader, writer, urlsplit(simulator.base_url).path)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def simulated(dialect: str = "mistral", **settings: Any) -> AsyncIterator[tuple[Simulator, Client]]:
    """A simulator and one connection to it."""
    async with Simulator(dialect, **settings) as simulator, connect(simulator) as client:
        yield simulator, client
