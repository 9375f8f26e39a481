"""One client connection: bytes to requests, answers to bytes. uvicorn's server runs it (`http=`); there is no ASGI in between.

Promises: one exchange at a time, in order; every read has a limit and a deadline; a client that hangs up cancels its exchange at
once; an answer is either whole or ends in a way that the client can see. The connection is the exchange's `Client` port, so that an
upstream's bytes go straight from one transport to the other.

Two things go on side by side: an exchange may be under way (`_task`), and bytes are read (`_reading`). Reading never pauses, since
that is how a hang-up is heard; what comes too early waits, within limits, and what comes after an error is thrown away.
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

from gateway.core.answer import DEFECT, Answer, Problem, stopping
from gateway.core.memo import Memo
from gateway.ports import Callback, Flow
from gateway.wire import errors, heads
from gateway.wire.declared import PREFIX
from gateway.wire.heads import DIGITS_MAX, Head, Mark, names_a_length
from gateway.wire.plane import Incoming, Plane

PIPELINED_MAX: Final = 8  # requests waiting behind the one under way; no SDK pipelines at all
LINGER_S: Final = 2.0  # after an early error: how long a client may go on sending before we hang up, so that it reads the answer
LINGER_BYTES_MAX: Final = 33_554_432  # thrown away meanwhile; a client that sends a body over the limit has sent most of it by then
FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "content-encoding", "expect"})
KEPT: Final = FRAMING | heads.KEPT | {"authorization"}
TOGETHER_BYTES_MAX: Final = 262_144  # of an answer that is put together with its head; copying 40 MB would hold the loop for 20 ms
NAME_BYTES_MAX: Final = 64  # of a header's name that is remembered
STATUS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Reading(Enum):
    """Where the parser stands. Each has a deadline while no exchange is under way."""

    IDLE = "between requests"
    HEAD = "in a head"
    BODY = "in a body"
    DEAF = "nothing more is understood; what still comes is thrown away"


class Stream(Enum):
    """How far the event stream of the exchange under way is."""

    NONE = "not begun"
    OPEN = "begun"
    ENDED = "ended properly"


class DataPlane(asyncio.Protocol):
    """The protocol class that uvicorn makes one of for each connection."""

    def __init__(
        self,
        plane: Plane,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.plane = plane
        self.loop = _loop or asyncio.get_running_loop()
        self.bounds = self.plane.world.bounds
        self.state = server_state
        self._connections = cast("set[object]", server_state.connections)  # uvicorn's union of its own protocol classes
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.deadline = self.loop.time() + self.bounds.client_head_s_max
        self.keep_alive = True
        self._gone = False
        self._unsent_head = b""  # of a stream
        # the request that is being read
        self._reading = Reading.IDLE
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._hosts = 0
        self._head_bytes = 0  # of its lines, as far as they are complete
        self._barren_bytes = 0  # read since anything of it was complete: lines without end, trailers, chunk extensions
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._expects = False
        self._asks_first = False  # its head has an `expect`, which must be heard each time
        self._length = -1  # as the parser's head says it
        self._digest = b""  # of that head, if it can be recognised the next time
        self._recognised: Head | None = None  # read without the parser
        self._lacking_bytes = 0  # of its body
        # the exchange under way, and requests that came early
        self._runner: asyncio.Task[None] | None = None  # runs all exchanges of this connection
        self._task: asyncio.Task[None] | None = None  # the runner, while there is an exchange
        self._turn: asyncio.Future[None]  # what the runner waits for between them
        self._up: Incoming | None = None  # whose turn it is
        self._waiting: deque[Incoming] = deque()
        self._chunked = True
        self._bodiless = False
        self._stream = Stream.NONE
        self._dated: list[tuple[bytes, bytes]] = []  # uvicorn's list, a new one each second, and as lines
        self._date = b""
        self._on_gone: Callback | None = None
        self._on_writable: Flow | None = None
        # a client that does not read
        self._paused = False
        self._unsent_bytes = 0  # when we last looked

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
        if self._on_gone is not None and self._task is not None:
            self._on_gone()
        elif self._runner is not None:
            self._runner.cancel()

    def eof_received(self) -> bool:
        return False  # a client that half-closes has gone: no SDK does so and still reads

    def shutdown(self) -> None:
        """Called by uvicorn when the worker drains: idle connections close, the others after their answer."""
        self.keep_alive = False
        if self._task is None and self._reading is Reading.IDLE:
            self._close()

    def tick(self, now: float) -> None:
        """Called about twice a second by the server: acts on a deadline that has passed. `now` is loop time."""
        if now < self.deadline:
            return
        if self._task is None and self._reading in (Reading.HEAD, Reading.BODY):
            what = self._reading.name.lower()
            self._refuse(Problem(408, "request_timeout", f"the {what} of the request took too long to arrive"))
            return
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:  # it reads, if slowly
            self._unsent_bytes = unsent_bytes
            self.deadline = now + self.bounds.client_stall_s_max
        else:
            self.transport.abort()

    def _set_deadline(self) -> None:
        """For what is being waited for now. An exchange has its own limits; the rest is up to the client."""
        bounds = self.bounds
        if self._paused:
            wait_s = bounds.client_stall_s_max
        elif self._task is not None:
            wait_s = float("inf")
        elif self._reading is Reading.IDLE:
            wait_s = bounds.client_idle_s_max
        elif self._reading is Reading.HEAD:
            wait_s = bounds.client_head_s_max
        elif self._reading is Reading.BODY:
            wait_s = bounds.client_body_s_max
        else:
            wait_s = LINGER_S
        self.deadline = self.loop.time() + wait_s

    # --- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        before = self._reading
        self._barren_bytes += len(data)
        if before is Reading.DEAF:
            if self._barren_bytes > LINGER_BYTES_MAX:
                self.transport.abort()
            return
        while data and self._reading is not Reading.DEAF:
            data = self._read(data)
        if self._barren_bytes > self.bounds.header_bytes_max:
            self._refuse(self._too_long())
        if self._reading is not before and self._task is None:
            self._set_deadline()

    def _read(self, data: bytes) -> bytes:
        """Take in what `data` begins with; returns the rest. Between requests, a head may be recognised: see `wire.heads`."""
        if self._recognised is not None:
            return self._read_body(self._recognised, data)
        if self._reading is Reading.IDLE and self.keep_alive and (seen := self.plane.heads.mark(data)) is not None:
            digest, size, length, _ = seen
            head = self.plane.heads.get(digest)
            if head is None:
                return self._learn(seen, data)
            if length <= self.bounds.body_bytes_max and head.size_max <= self.bounds.header_bytes_max:
                self._reading, self._barren_bytes = Reading.BODY, 0
                self._body, self._body_bytes, self._expects = [], 0, False
                self._recognised, self._lacking_bytes = head, length
                return self._read_body(head, data[size:])
        self._feed(data)
        return b""

    def _read_body(self, head: Head, data: bytes) -> bytes:
        """Take in the body of a request that the parser has not seen; returns what comes behind it."""
        lacking = self._lacking_bytes
        piece = data[:lacking]
        self._body.append(piece)
        self._barren_bytes, self._lacking_bytes = 0, lacking - len(piece)
        if self._lacking_bytes == 0:
            self._recognised = None
            try:
                self._complete(head)
            except Problem as problem:
                self._refuse(problem)
        return data[lacking:]

    def _learn(self, seen: Mark, data: bytes) -> bytes:
        """Feed the parser the head that `data` seems to begin with; returns the rest.

        If it took just this for the whole of one head, and a body must follow, the head may be recognised the next time.
        """
        digest, size, length, at = seen
        self._asks_first, self._length = False, -1
        self._feed(data[:size])
        whole = self._reading is Reading.BODY and not self._body
        if whole and not self._asks_first and self._length == length and names_a_length(data, at):
            self._digest = digest
        return data[size:]

    def _feed(self, data: bytes) -> None:
        behind_upgrade: bytes | None = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            behind_upgrade = data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:  # raised by one of the callbacks below
            if isinstance(error.__context__, Problem):
                self._refuse(error.__context__)
            else:
                self.plane.world.defect(error.__context__ or error)
                self._refuse(DEFECT)
        except httptools.HttpParserError:
            self._refuse(self._invalid())
        if behind_upgrade is not None:  # not while the exception is handled: the next one's context would be this one
            self._ignore_upgrade(behind_upgrade)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read on as if there had been no `upgrade` header, where the parser stops: Java's own client offers h2c all the time."""
        if self.parser.get_method() == b"CONNECT":
            self._refuse(Problem(405, "method_not_allowed", "this server is no proxy"))
            return
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self._url, self.parser.get_http_version().encode())
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers).encode("latin-1")
        self.parser = httptools.HttpRequestParser(self)
        self._feed(line + head + b"\r\n" + rest)

    def on_message_begin(self) -> None:
        self._reading = Reading.HEAD
        self._url, self._headers, self._hosts, self._head_bytes = b"", [], 0, 0
        self._body, self._body_bytes, self._expects = [], 0, False
        self._digest = b""

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not Reading.HEAD:
            return  # a trailer: what counts is said before the body
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.bounds.header_bytes_max:
            raise self._too_long()
        kept = _kept.get(name)
        if kept is None:
            kept = _kept_name(name)
        if kept:
            self._headers.append((kept, value.decode("latin-1").strip()))
            if kept in FRAMING:
                self._check_framing(kept, value.lower())

    def _check_framing(self, name: str, value: bytes) -> None:
        if name == "host":
            self._hosts += 1
        # lengths are judged by the parser: one, in digits, and none beside a transfer coding
        if name == "content-length":
            self._length = int(value)
            if self._length > self.bounds.body_bytes_max:
                raise self._too_large()
        if name == "transfer-encoding" and value != b"chunked":
            raise self._invalid()
        if name == "content-encoding" and value != b"identity":
            raise Problem(415, "encoding_not_supported", "send the body without a content-encoding")
        if name == "expect":
            self._asks_first, self._expects = True, value == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._head_bytes > self.bounds.header_bytes_max:
            raise self._too_long()
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):  # RFC 9112, section 3.2
            raise Problem(400, "invalid_http", f"an HTTP/1.1 request has one `host` header, and this one has {self._hosts}")
        if not self.parser.should_upgrade():
            self._reading = Reading.BODY
            self._barren_bytes = 0
            self._expects = self._expects and self.parser.get_http_version() == "1.1"
            self._invite()

    def _invite(self) -> None:
        """Say that the body may come, if the client waits for that and no other answer is under way."""
        if self._expects and self._task is None:
            self._expects = False
            self.transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        self._barren_bytes = 0
        if self._body_bytes > self.bounds.body_bytes_max:
            raise self._too_large()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # once more, without the upgrade
        chunked = self.parser.get_http_version() == "1.1"
        keep_alive = chunked and self.parser.should_keep_alive()  # HTTP/1.0 would have to be told that it is kept alive
        head = Head(
            self.parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            self._headers,
            keep_alive=keep_alive,
            chunked=chunked,
            digest=self._digest if keep_alive else b"",  # behind the others, the parser takes nothing more
            size_max=self._head_bytes + DIGITS_MAX,
        )
        self._headers = []
        self._complete(head)

    def _complete(self, head: Head) -> None:
        """A request is whole. Raises Problem where too many are."""
        self._reading = Reading.IDLE
        incoming = Incoming(head, self._body[0] if len(self._body) == 1 else b"".join(self._body))
        self._body, self._barren_bytes, self._expects = [], 0, False
        if self._task is None:
            self._start(incoming)
            return
        early_bytes = sum(len(early.body) for early in self._waiting) + len(incoming.body)
        if len(self._waiting) >= PIPELINED_MAX or early_bytes > self.bounds.body_bytes_max:
            raise Problem(429, "too_many_requests", "too much was sent without waiting for answers")  # never told: see `_refuse`
        self._waiting.append(incoming)

    def _invalid(self) -> Problem:
        return Problem(400, "invalid_http", "this is not a valid HTTP request")

    def _too_long(self) -> Problem:
        return Problem(431, "headers_too_large", f"the headers are over the limit of {self.bounds.header_bytes_max} bytes")

    def _too_large(self) -> Problem:
        return Problem(413, "body_too_large", f"the body is over the limit of {self.bounds.body_bytes_max} bytes")

    # --- exchanges ----------------------------------------------------------------------------------------------------

    def _start(self, incoming: Incoming) -> None:
        head = incoming.head
        self.keep_alive = self.keep_alive and head.keep_alive
        self._chunked, self._bodiless = head.chunked, head.method == "HEAD"
        self._up = incoming
        if self._runner is None:
            self._runner = self.loop.create_task(self._run())
            self._runner.add_done_callback(self._ended)
        else:
            self._turn.set_result(None)
        self._task = self._runner
        self.state.tasks.add(self._runner)
        if not self._paused:
            self.deadline = float("inf")

    async def _run(self) -> None:
        """The exchanges of this connection, one after another: a task for each would take 5 µs more, to make and to watch."""
        while True:
            self._turn = self.loop.create_future()
            await self._exchange()
            if self._task is None and (self._gone or not self.keep_alive or self.transport.is_closing()):
                return
            await self._turn

    async def _exchange(self) -> None:
        incoming, self._up = self._up, None  # nor is it kept by who waits for the next one
        assert incoming is not None
        try:
            answer = await self.plane.handle(incoming, self)
        except asyncio.CancelledError:
            if self._gone:
                raise
            answer = self._cut_off()  # the worker stops and its patience is over: say so, then stop
        assert self._task is not None
        self.state.tasks.discard(self._task)
        self._task = None
        if self._gone:
            return
        if not answer.status or self._stream is not (Stream.ENDED if answer.streamed else Stream.NONE):
            self.transport.abort()  # half an answer: hanging up is how the client sees it
            return
        if not answer.streamed:
            self._write(answer)
        self._next()

    def _cut_off(self) -> Answer:
        self.keep_alive = False
        problem = stopping()
        if self._stream is Stream.OPEN:
            self.end_stream(problem)
        return Answer(problem.status, problem=problem, streamed=self._stream is not Stream.NONE)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Called when the last exchange has ended, and where one was cancelled before it began."""
        self.state.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.plane.world.defect(error)
            self.transport.abort()

    def _next(self) -> None:
        """The answer is written: take the next request, wait for one, or close."""
        self._stream = Stream.NONE
        self._on_gone = self._on_writable = None
        if not self.keep_alive:
            if self._reading is Reading.IDLE and not self._waiting:
                self._close()
            else:
                self._linger()
        elif self._waiting:
            self._start(self._waiting.popleft())
        else:
            self._set_deadline()
            self._invite()

    def _refuse(self, problem: Problem) -> None:
        """Answer what can't be read any further, and hang up. Behind a request under way: finish that one, then hang up."""
        self.keep_alive = False
        self._waiting.clear()
        if self._task is not None:
            self._reading = Reading.DEAF
        elif self._reading is not Reading.DEAF:
            self._write(Answer(problem.status, problem=problem))
            self._linger()

    def _linger(self) -> None:
        """Hang up once the client had a chance to read the answer: closing on bytes unread would take it back."""
        self._reading = Reading.DEAF
        self._barren_bytes = 0
        self._body.clear()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._hang_up_in(LINGER_S)

    def _close(self) -> None:
        self._reading = Reading.DEAF
        self.transport.close()
        self._hang_up_in(self.bounds.client_stall_s_max)

    def _hang_up_in(self, wait_s: float) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self.deadline = self.loop.time() + wait_s

    # --- writing ------------------------------------------------------------------------------------------------------

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        dated = self.state.default_headers
        if dated is not self._dated:
            self._dated, self._date = dated, b"".join([b"%b: %b\r\n" % pair for pair in dated])
        values = "".join(headers.values())
        if not (values.isascii() and values.isprintable()):
            headers = {name: _printable(value) for name, value in headers.items()}
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
        first = STATUS.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
        return first + self._date + lines + (b"" if self.keep_alive else b"connection: close\r\n")

    def _write(self, answer: Answer) -> None:
        body, headers = answer.body, answer.headers
        if answer.problem is not None:
            body, headers = errors.body(answer.problem), {**headers, **errors.headers(answer.problem)}
        head = self._head(answer.status, headers) + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        if self._bodiless:
            self.transport.write(head)
        elif len(body) <= TOGETHER_BYTES_MAX:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

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
        if callback is not None and self._paused:
            callback(False)

    def pause_writing(self) -> None:
        self._paused = True
        self._hang_up_in(self.bounds.client_stall_s_max)
        if self._on_writable is not None:
            self._on_writable(False)

    def resume_writing(self) -> None:
        self._paused = False
        self._set_deadline()
        if self._on_writable is not None:
            self._on_writable(True)

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        self._stream = Stream.OPEN
        # HTTP/1.0 knows no chunks: the end of the connection is the end of the stream
        coding = b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"
        self._unsent_head = self._head(200, headers) + STREAM + coding  # goes with what follows at once: each write is a packet

    def write(self, events: bytes) -> None:
        self._send(self._framed(events))

    def forward(self, chunk: bytes, begin: int) -> None:
        data = chunk if self._chunked else chunk[begin:-2]
        if self._unsent_head or self._gone:
            self._send(data)
        else:
            self.transport.write(data)

    def end_stream(self, problem: Problem | None) -> None:
        said = b"" if problem is None else self._framed(errors.event(problem))
        self._send(said + (b"0\r\n\r\n" if self._chunked else b""))
        self._stream = Stream.ENDED

    def _framed(self, events: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events

    def _send(self, data: bytes) -> None:
        if self._unsent_head:
            data, self._unsent_head = self._unsent_head + data, b""
        if data and not self._gone:  # a transport that is closed raises
            self.transport.write(data)


_kept: Memo[bytes, str] = Memo()
"""Names of headers as they were spelt, and as we do; "" for those that nobody here looks at."""


def _kept_name(name: bytes) -> str:
    found = name.lower().decode("latin-1")
    kept = found if found in KEPT or found.startswith(PREFIX) else ""
    return _kept.keep(name, kept) if len(name) <= NAME_BYTES_MAX else kept


def _printable(value: str) -> str:
    """A header value that can't begin another header, whatever was put into it."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(char if " " <= char <= "~" else "?" for char in value)
