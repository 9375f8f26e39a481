"""One request on its way to an upstream, as its caller holds it, and how it can fail.

Rule 1: a sink hears exactly one of `on_end` and `on_failed`, exactly once; after that, and after `Call.abort()`, it hears nothing.
Rule 2: a sink hears nothing before `Transport.start` has returned, and always on the event loop.
Rule 3: `Failure.sent` is False only where surely no byte of the request reached a connection that could have processed it.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from gateway.core.bounds import Bounds
from gateway.upstream.response import HEAD, ResponseReader, Shortcut, report


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed. `detail` is for operators: no content, no credentials.

    `code` is one of CODES.
    """

    code: str
    sent: bool
    detail: str


CODES: Final = {
    "connect_refused": "no TCP connection could be opened",
    "no_socket": "this machine has no descriptor, memory or port left to open a connection with",
    "connect_timeout": "TCP and TLS were not up within the limit",
    "dns": "the host's name did not resolve, or not within the limit",
    "address_refused": "the name or the connection leads outside the endpoint's networks",
    "tls": "the handshake failed, on either side, or the settings are unusable",
    "write_failed": "the connection broke while the request was being written",
    "first_byte_timeout": "no answer began within the limit",
    "silence_timeout": "an answer stopped bringing bytes for longer than the limit",
    "total_timeout": "the whole exchange took longer than the limit",
    "closed_early": "the connection ended before the answer was complete",
    "protocol_error": "what came is not one well-formed HTTP/1.1 answer",
    "head_too_large": "the answer's head, or what stands between its body bytes, exceeds the limit",
    "aborted": "the gateway itself ended the call: it is stopping, or a defect",
}
"""Every code, and what it means."""


class Sink(Protocol):
    """Who listens to one answer. Callbacks are synchronous, on the event loop. An exception from the first two ends the call as
    `aborted`; one from the others is told to the loop's exception handler, like any.
    """

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The final status and headers, names in lower case. Interim (1xx) answers are not passed."""
        ...

    def on_data(self, data: bytes) -> None:
        """Some bytes of the body, transfer coding removed; never empty. Pieces are as they came, and mean nothing."""
        ...

    def on_end(self) -> None:
        """The answer is complete."""
        ...

    def on_failed(self, failure: Failure) -> None:
        """The answer will never be complete."""
        ...


class Line(Protocol):
    """What a call asks of the connection it is on."""

    @property
    def peer(self) -> str: ...

    @property
    def reader(self) -> ResponseReader | None: ...

    def drop(self) -> None:
        """Close now, whatever is under way."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Dial(Protocol):
    """What a call asks of the task that opens its connection."""

    def cancel(self) -> object: ...


class Calls(Protocol):
    """What a call tells the transport."""

    def over(self, call: "Call") -> None: ...

    def now(self) -> float: ...


class _Nobody:
    """Listens to a call that is over."""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failed(self, failure: Failure) -> None: ...


NOBODY: Final = _Nobody()


class Call:
    """A request under way. Callers use `peer`, `abort`, `pause` and `resume`; the rest belongs to the transport."""

    __slots__ = ("_calls", "_line", "_mark", "_over", "_sink", "began", "dial", "paused", "peer", "sent")

    def __init__(self, calls: Calls, sink: Sink, now: float) -> None:
        self.peer = ""  # "ip:port" really contacted; "" before
        self.began = now
        self.paused = False
        self.sent = False
        self.dial: Dial | None = None
        self._calls = calls
        self._sink: Sink = sink
        self._line: Line | None = None
        self._mark = now  # when the wait that is being measured began
        self._over = False

    # --- for callers ---

    def abort(self) -> None:
        """Close the connection now; the sink hears nothing more. Idempotent, and fine after the end."""
        if (line := self._leave()) is not None:
            line.drop()

    def pause(self) -> None:
        """Stop reading from this upstream, so that it has to wait. What is read already, one read at most, is still passed."""
        if not self.paused:
            self.paused = True
            if self._line is not None:
                self._line.pause_reading()

    def resume(self) -> None:
        """Go on reading. The time of a pause counts as nobody's silence."""
        if self.paused:
            self.paused = False
            self._mark = self._calls.now()
            if self._line is not None:
                self._line.resume_reading()

    def take_by(self, shortcut: Shortcut | None) -> None:
        """Have `shortcut` asked of what comes in chunks of their own, before the sink is told; None: ask none."""
        if self._line is not None and (reader := self._line.reader) is not None:
            reader.take_by(shortcut)

    # --- for the transport ---

    @property
    def is_over(self) -> bool:
        """Whether the sink has heard its last."""
        return self._over

    def carried_by(self, line: Line, now: float) -> Sink:
        """The request goes out on `line`; returns who listens to the answer."""
        self._line = line
        self.dial = None
        self.peer = line.peer
        self.sent = True
        self._mark = now
        if self.paused:
            line.pause_reading()
        return self._sink

    def end(self) -> None:
        """The answer is complete and its connection has been dealt with."""
        if not self._over:
            sink = self._sink
            self._leave()
            try:
                sink.on_end()
            except Exception as error:  # noqa: BLE001 - the connection may carry another's request by now, and must not suffer
                report(error)

    def fail(self, failure: Failure) -> None:
        """End the call, and its connection with it. Nothing if it is over already."""
        if not self._over:
            sink, line = self._sink, self._leave()
            if line is not None:
                line.drop()
            try:
                sink.on_failed(failure)
            except Exception as error:  # noqa: BLE001 - as above; and a sweep over all calls must not end at one sink's defect
                report(error)

    def overdue(self, now: float, bounds: Bounds) -> Failure | None:
        """The limit that the call exceeds at `now`, if any. Asked at each tick, and only then: nothing is timed per chunk."""
        if now - self.began > bounds.total_s_max:
            return Failure("total_timeout", self.sent, f"not complete after {bounds.total_s_max:g} s")
        if self._line is None or (reader := self._line.reader) is None:
            return None  # connecting, which has its own limit
        if self.paused or reader.heard:
            self._mark, reader.heard = now, False
        elif reader.stage == HEAD:  # also what stops a head that comes byte by byte, and a peer that doesn't read the request
            if now - self._mark > bounds.first_byte_s_max:
                return Failure("first_byte_timeout", True, f"no answer began within {bounds.first_byte_s_max:g} s")
        elif now - self._mark > bounds.silence_s_max:
            return Failure("silence_timeout", True, f"no byte of the body came for {bounds.silence_s_max:g} s")
        return None

    def _leave(self) -> Line | None:
        """Be over: let go of task and connection, and return the connection, which whoever ends the call early must drop."""
        if self._over:
            return None
        self._over = True
        self._sink = NOBODY  # call and sink know each other: let go, or both wait for the garbage collector, bodies and all
        self._calls.over(self)
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None
        line, self._line = self._line, None
        return line
