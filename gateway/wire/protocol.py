"""One client connection: bytes to requests, answers to bytes. uvicorn's server runs it (`http=`); there is no ASGI in between.

Promises: one exchange at a time, in order; every read has a limit and a deadline; a client that hangs up cancels its exchange at
once; an answer is either whole or ends in a way that the client can see. The connection is the exchange's `Client` port, so that an
upstream's bytes go straight from one transport to the other.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.core.answer import Answer, Problem
from gateway.ports import Callback, Flow
from gateway.wire import errors
from gateway.wire.plane import Incoming, Plane

PIPELINED_MAX: Final = 8  # requests waiting behind the one under way; no SDK pipelines at all
LINGER_S: Final = 2.0  # after an early error: how long a client may go on sending before we hang up, so that it reads the answer
LINGER_BYTES_MAX: Final = 1_048_576
KEPT: Final = frozenset({b"authorization", b"x-request-id", b"content-encoding"})
STATUS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"


class Now(Enum):
    """What a connection is doing. Each but BUSY has a deadline."""

    IDLE = "waiting for a request"
    HEAD = "reading a head"
    BODY = "reading a body"
    BUSY = "an exchange is under way"
    LINGERING = "answered; what still comes is thrown away"


class DataPlane(asyncio.Protocol):
    """The protocol class that uvicorn makes one of for each connection."""

    plane: Plane  # set on a subclass by `wire.server`

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.bounds = self.plane.world.bounds
        self.state = server_state
        self._connections = cast("set[object]", server_state.connections)  # uvicorn's union of its own protocol classes
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.now = Now.IDLE
        self.deadline = self.loop.time() + self.bounds.client_head_s_max
        self.keep_alive = True
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._expects = False
        self._waiting: deque[tuple[Incoming, bool, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._gone = False
        self._on_gone: Callback | None = None
        self._on_writable: Flow | None = None
        self._chunked = True
        self._streaming = False

    # --- connection ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        if len(self._connections) > self.bounds.connections_max:
            self._refuse(Problem(503, "overloaded", "this worker has as many connections as it may", retry_after_s=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._gone = True
        self._waiting.clear()
        if self._on_gone is not None:
            self._on_gone()
        elif self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        return False  # a client that half-closes has gone: no SDK does so and still reads

    def shutdown(self) -> None:
        """Called by uvicorn when the worker drains: idle connections close, the others after their answer."""
        self.keep_alive = False
        if self.now is Now.IDLE:
            self.transport.close()

    def tick(self, now: float) -> None:
        """Called about once a second by the server: acts on a deadline that has passed. `now` is loop time."""
        if now < self.deadline:
            return
        match self.now:
            case Now.HEAD | Now.BODY:
                what = "head" if self.now is Now.HEAD else "body"
                self._refuse(Problem(408, "request_timeout", f"the {what} of the request took too long to arrive"))
            case Now.IDLE | Now.LINGERING | Now.BUSY:  # BUSY has a deadline only while the client does not read
                self.transport.abort()

    # --- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.now is Now.LINGERING:
            self._head_bytes += len(data)
            if self._head_bytes > LINGER_BYTES_MAX:
                self.transport.abort()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Problem(400, "upgrade_not_supported", "this server speaks HTTP/1.1 only; send no `upgrade` header"))
        except httptools.HttpParserCallbackError as error:  # raised from one of the callbacks below
            problem = error.__context__ if isinstance(error.__context__, Problem) else None
            self._refuse(problem or Problem(400, "invalid_http", "this is not a valid HTTP request"))
        except httptools.HttpParserError:
            self._refuse(Problem(400, "invalid_http", "this is not a valid HTTP request"))
        else:
            if self.now is Now.HEAD:
                self._head_bytes += len(data)  # a header line without end never reaches on_header
                self._check_head()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._head_bytes = b"", [], 0
        self._body, self._body_bytes, self._expects = [], 0, False
        if self.now is Now.IDLE:
            self.now, self.deadline = Now.HEAD, self.loop.time() + self.bounds.client_head_s_max

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        name = name.lower()
        if name in KEPT or name.startswith(b"x-gateway-"):
            self._headers.append((name.decode("latin-1"), value.decode("latin-1").strip()))
        elif name == b"expect":
            self._expects = value.lower() == b"100-continue"
        elif name == b"content-length" and value.isdigit() and int(value) > self.bounds.body_bytes_max:
            raise self._too_large()

    def on_headers_complete(self) -> None:
        self._head_bytes += len(self._url)
        self._check_head()
        if self.now is Now.HEAD:
            self.now, self.deadline = Now.BODY, self.loop.time() + self.bounds.client_body_s_max
            if self._expects:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self.bounds.body_bytes_max:
            raise self._too_large()

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        incoming = Incoming(self.parser.get_method().decode("latin-1"), self._url.decode("latin-1"), self._headers, body)
        self._body = []
        waiting = (incoming, self.parser.should_keep_alive(), self.parser.get_http_version() == "1.1")
        if self._task is None:
            self._start(*waiting)
        elif len(self._waiting) < PIPELINED_MAX:
            self._waiting.append(waiting)
        else:  # whoever sends so many without waiting for answers gets those under way, and no more
            self.keep_alive = False
            self.transport.pause_reading()

    def _check_head(self) -> None:
        if self._head_bytes > self.bounds.header_bytes_max:
            raise Problem(431, "headers_too_large", f"the headers are over the limit of {self.bounds.header_bytes_max} bytes")

    def _too_large(self) -> Problem:
        return Problem(413, "body_too_large", f"the body is over the limit of {self.bounds.body_bytes_max} bytes")

    # --- exchanges ----------------------------------------------------------------------------------------------------

    def _start(self, incoming: Incoming, keep_alive: bool, chunked: bool) -> None:
        self.keep_alive = self.keep_alive and keep_alive
        self._chunked = chunked
        self.now, self.deadline = Now.BUSY, float("inf")
        self._task = task = self.loop.create_task(self._exchange(incoming))
        self.state.tasks.add(task)

    async def _exchange(self, incoming: Incoming) -> None:
        try:
            for name, value in incoming.headers:
                if name == "content-encoding" and value != "identity":
                    raise Problem(415, "encoding_not_supported", "send the body without a content-encoding")
            answer = await self.plane.handle(incoming, self)
        except Problem as problem:
            answer = Answer(problem.status, problem=problem)
        except asyncio.CancelledError:
            if self._gone:
                raise
            answer = self._cut_off()  # the worker stops and its patience is over: say so, then stop
        finally:
            if self._task is not None:
                self.state.tasks.discard(self._task)
                self._task = None
        if not self._gone:
            if not answer.streamed:
                self._write(answer)
            self._next()

    def _cut_off(self) -> Answer:
        problem = Problem(503, "shutting_down", "the gateway is stopping; try again", retry_after_s=1.0)
        self.keep_alive = False
        if self._streaming:
            self.end_stream(problem)
        return Answer(503, problem=problem, streamed=not self.transport.is_closing() and self._streaming)

    def _next(self) -> None:
        """The answer is written: take the next request, wait for one, or close."""
        self._streaming = False
        self._on_gone = self._on_writable = None
        if not self.keep_alive:
            self.transport.close()
        elif self._waiting:
            self._start(*self._waiting.popleft())
        else:
            self.now, self.deadline = Now.IDLE, self.loop.time() + self.bounds.client_idle_s_max

    # --- writing ------------------------------------------------------------------------------------------------------

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        lines = [STATUS[status]]
        lines += [b"%b: %b\r\n" % pair for pair in self.state.default_headers]
        lines += [f"{name}: {_printable(value)}\r\n".encode("latin-1") for name, value in headers.items()]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        return b"".join(lines)

    def _write(self, answer: Answer) -> None:
        body, headers = answer.body, answer.headers
        if answer.problem is not None:
            body, headers = errors.body(answer.problem), {**headers, **errors.headers(answer.problem)}
        length = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(self._head(answer.status, headers) + length + body)

    def _refuse(self, problem: Problem) -> None:
        """Answer what can't be read any further, and hang up once the client had a chance to read the answer."""
        if self.now in (Now.BUSY, Now.LINGERING):  # garbage behind a request under way: finish that one, then close
            self.keep_alive = False
            self._waiting.clear()
            self.transport.pause_reading()
            return
        self.keep_alive = False
        self._write(Answer(problem.status, problem=problem))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.now, self.deadline, self._head_bytes = Now.LINGERING, self.loop.time() + LINGER_S, 0

    # --- the Client port ----------------------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        return self._gone

    def on_gone(self, callback: Callback | None) -> None:
        self._on_gone = callback
        if callback is not None and self._gone:
            callback()

    def on_writable(self, callback: Flow | None) -> None:
        self._on_writable = callback

    def pause_writing(self) -> None:
        self.deadline = self.loop.time() + self.bounds.client_stall_s_max
        if self._on_writable is not None:
            self._on_writable(False)

    def resume_writing(self) -> None:
        if self.now is Now.BUSY:
            self.deadline = float("inf")
        if self._on_writable is not None:
            self._on_writable(True)

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        if not self._chunked:
            self.keep_alive = False  # HTTP/1.0: the end of the connection is the end of the stream
        coding = b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"
        self._streaming = True
        self.transport.write(self._head(200, headers) + STREAM + coding)

    def write(self, events: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events)

    def end_stream(self, problem: Problem | None) -> None:
        if problem is not None:
            self.write(errors.event(problem))
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")


def _printable(value: str) -> str:
    """A header value that can't begin another header, whatever was put into it."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(char if " " <= char <= "~" else "?" for char in value)
