"""A small HTTP/1.1 server on asyncio and httptools, with nothing between it and the socket.

A simulator must be able to do what a good server never does: stop in the middle of a chunk, reset, send bytes after
the end. So this one hands each request to a handler that gets a `Connection`, which writes bytes, waits while the
client is slow to read, and knows at once when the client has gone.

Rule 1: one request at a time on a connection, in order, pipelined or not.
Rule 2: when the client goes away, the handler is cancelled, and learns it as `ClientGone`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, cast

import httptools

BODY_MAX = 256 * 1024 * 1024
"""The largest request body: more than any gateway under test should send, less than what would swap a small machine."""

HEAD_MAX = 1024 * 1024
"""The largest request head: sixteen times what servers usually take, since what is sent too much is a finding."""

BUFFER_HIGH = 64 * 1024
"""Bytes waiting for a slow client before writing pauses, asyncio's own default."""


class ClientGone(ConnectionError):
    """The client closed its side before the answer was complete."""


@dataclass(frozen=True)
class Request:
    """A whole request. Header names in lower case, values as they came; `connection` counts from 1."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    keep_alive: bool
    connection: int


Handler = Callable[[Request, "Connection"], Awaitable[bool]]
"""Answers a request; returns whether the connection is kept."""


class Connection(asyncio.Protocol):
    """One client's connection. `on_open`, `on_close` and `on_malformed` tell the journal."""

    def __init__(
        self,
        number: int,
        handler: Handler,
        on_open: Callable[[Connection], None],
        on_close: Callable[[Connection], None],
        on_malformed: Callable[[str], None],
    ) -> None:
        self.number = number
        self._handler = handler
        self._on_open = on_open
        self._on_close = on_close
        self._on_malformed = on_malformed
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._headers: list[tuple[str, str]] = []
        self._url = b""
        self._body = bytearray()
        self._head_size = 0
        self._expects = False
        self.gone = False
        self.cut_here = False
        """Whether this side ended the connection, so that its end is not taken for the client's doing."""

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour, not by class
        self._transport.set_write_buffer_limits(high=BUFFER_HIGH)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse("an upgrade was asked for")
        except httptools.HttpParserError as bad:
            self._refuse(f"{type(bad).__name__}: {bad}")

    def eof_received(self) -> bool:
        return False  # a client that has half closed is treated as gone: no real client waits like that

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._writable.set()
        if self._task is not None:
            self._task.cancel("client gone")
        self._on_close(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._headers, self._url, self._body = [], b"", bytearray()
        self._head_size, self._expects = 0, False

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self._expects = True

    def on_headers_complete(self) -> None:
        if self._expects and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > BODY_MAX:
            self._refuse(f"a body of more than {BODY_MAX} bytes", status=413)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        request = Request(
            self._parser.get_method().decode("ascii"),
            path,
            query,
            tuple(self._headers),
            bytes(self._body),
            self._parser.should_keep_alive(),
            self.number,
        )
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    # -- the handler's side

    async def write(self, data: bytes) -> None:
        """Send `data`, and wait while more than BUFFER_HIGH bytes wait to be sent. Raises ClientGone."""
        if self.gone or self._transport is None or self._transport.is_closing():
            raise ClientGone
        if data:
            self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self.gone:
                raise ClientGone

    def cut(self, how: Literal["fin", "rst"]) -> None:
        """End the connection: `fin` after what was written, `rst` at once, with a TCP reset."""
        transport = self._transport
        self.cut_here = True
        if transport is None:
            return
        if how == "fin":
            transport.close()
            return
        given = transport.get_extra_info("socket")
        if given is not None:
            # Options belong to the socket, not to the descriptor, so a duplicate sets them under any event loop.
            with socket.socket(fileno=os.dup(given.fileno())) as twin:
                twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def _serve(self) -> None:
        try:
            while self._waiting:
                request = self._waiting.popleft()
                kept = await self._handler(request, self)
                if not kept or not request.keep_alive:
                    self.cut("fin")
                    return
        except ClientGone:
            pass
        finally:
            self._task = None

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_MAX:
            self._refuse(f"a head of more than {HEAD_MAX} bytes", status=431)

    def _refuse(self, why: str, status: int = 400) -> None:
        self._on_malformed(why)
        if self._transport is not None and not self._transport.is_closing():
            text = f"simulator: {why}\n".encode()
            head = f"HTTP/1.1 {status} Bad Request\r\nconnection: close\r\ncontent-length: {len(text)}\r\n\r\n"
            self._transport.write(head.encode() + text)
            self._transport.close()
