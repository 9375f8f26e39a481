"""One connection to an upstream: writes one request at a time, reads its answer, and is closed at the first doubt.

Rule 1: it carries another request only if the last answer was complete and said keep-alive, its last byte was the last byte read,
        its request had been written whole, reading was not paused, and nobody had aborted.
Rule 2: a byte or an end that comes while nothing is asked closes it. Before each use `is_quiet` asks the kernel for it, too.
Rule 3: once a request has been written it is never sent again from here. What looks like a connection gone stale may be a server
        that died while working on it, so the failure says `sent`, and whoever knows about money decides.
"""

import asyncio
import contextlib
import select
import ssl
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol, cast

import httptools

from gateway.core.bounds import Bounds
from gateway.upstream.address import Address
from gateway.upstream.call import Call, Failure
from gateway.upstream.guard import real_ip
from gateway.upstream.response import BODY, CHUNK_END, DONE, REFUSED, ResponseReader, report

_SOMETHING_CAME: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)  # errors and hang-ups are always reported


class Owner(Protocol):
    """Who a connection reports to."""

    bounds: Bounds

    def made(self, connection: "Connection") -> None:
        """The connection is open; `lost` will be called for it."""
        ...

    def free(self, connection: "Connection") -> None:
        """An exchange is over and the connection is fit for another one."""
        ...

    def lost(self, connection: "Connection") -> None:
        """The connection is closed."""
        ...


class Connection(asyncio.Protocol):
    """`opened_for` never changes: a connection belongs to one address for life."""

    __slots__ = (
        "_call",
        "_closed",
        "_owner",
        "_poll",
        "_transport",
        "_writing",
        "fate",
        "idle_since",
        "opened_for",
        "peer",
        "peer_ip",
        "reader",
        "requests",
    )

    def __init__(self, owner: Owner, opened_for: Address) -> None:
        self.opened_for = opened_for
        self.peer = ""  # "ip:port"
        self.peer_ip: IPv4Address | IPv6Address | None = None
        self.reader: ResponseReader | None = None  # of the answer under way
        self.requests = 0  # carried so far
        self.idle_since = 0.0  # the loop's time
        self.fate: Failure | None = None  # why it closed while nothing was asked
        self._owner = owner
        self._call: Call | None = None
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._writing = False  # part of the request is still here and not with the kernel
        self._closed = False

    # --- for the transport ---

    @property
    def is_open(self) -> bool:
        return not self._closed and self._transport is not None and not self._transport.is_closing()

    def is_quiet(self) -> bool:
        """Whether the kernel too holds nothing that was sent to it: no byte, no end, no reset. Costs half a microsecond.

        An end or a stray byte may have arrived that the event loop has not got round to. Written over, the end would cost a request
        that can't be repeated; the byte would be read as the beginning of the next answer, which may be another tenant's.
        """
        return self.is_open and self._poll is not None and not self._poll.poll(0)

    def carry(self, call: Call, payload: bytes, now: float) -> None:
        """Write a whole request, and read its answer for `call`. Only on an open connection that carries nothing."""
        assert self._transport is not None and self._call is None
        self.requests += 1
        self._call = call
        sink = call.carried_by(self, now)
        self.reader = ResponseReader(sink, self._owner.bounds.upstream_head_bytes_max, bodiless=payload.startswith(b"HEAD "))
        self._transport.write(payload)

    def drop(self) -> None:
        """Close now: what is unsent and unread is thrown away. Idempotent."""
        self._detach()
        if not self._closed and self._transport is not None:
            self._transport.abort()

    def retire(self) -> None:
        """Close in good order. Only while nothing is under way."""
        if not self._closed and self._transport is not None:
            self._transport.close()

    def forsake(self) -> None:
        """Whoever opens it has given up, for want of time or because the call is over.

        It may be open by then: uvloop closes it without a word to us, and who waited for its end would wait for ever.
        """
        if self._transport is not None and not self._closed:
            self._transport.abort()
            self.connection_lost(None)

    def pause_reading(self) -> None:
        if self.is_open and self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.is_open and self._transport is not None:
            self._transport.resume_reading()

    # --- what the event loop calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # at 0 `pause_writing` means: not all is with the kernel. (TLS in the standard library pauses for good at 0, hence 1.)
        self._transport.set_write_buffer_limits(high=0 if transport.get_extra_info("ssl_object") is None else 1)
        name = transport.get_extra_info("peername")
        handle = transport.get_extra_info("socket")
        with contextlib.suppress(TypeError, ValueError, IndexError, OSError):  # it may be gone already; then it has no peer
            self.peer_ip = real_ip(name[0])
            self.peer = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
            self._poll = select.poll()
            self._poll.register(handle.fileno(), _SOMETHING_CAME)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        reader = self.reader
        if reader is None:
            self._unasked(Failure("protocol_error", False, "the upstream sent bytes that nothing had asked for"))
            return
        if reader.between:
            if reader.shortcut(data):  # type: ignore[misc]  # it is there
                reader.heard = True
                return
            reader.between = False
        try:
            reader.feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._misread(reader, error)
            return
        if reader.brought and reader.stage == BODY:
            reader.brought = False
            # what follows a chunk is the next one's line; where it is not whole yet, it does not end like this
            reader.between = reader.chunk_over and reader.shortcut is not None and data.endswith(CHUNK_END)
        else:
            self._turn(reader, data)

    def eof_received(self) -> bool:
        reader = self.reader
        if reader is None:
            self._unasked(Failure("closed_early", False, "the upstream closed the connection before anything was asked"))
        elif reader.ends_with_connection:
            self._complete(reusable=False)
        else:  # at once: closing by itself, the loop would first wait until the rest of a long request is written
            self._fail(self._why_lost(reader, None))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._poll = None
        call, reader = self._call, self.reader
        if call is not None and reader is not None:
            self._fail(self._why_lost(reader, exc))
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._writing = True

    def resume_writing(self) -> None:
        self._writing = False

    # --- ends ---

    def _turn(self, reader: ResponseReader, data: bytes) -> None:
        """A read that did not just bring more of the body."""
        if self._call is None:
            return  # aborted from within
        if not reader.brought and reader.stage < DONE:
            reader.count_unproductive(len(data))
        if reader.stage == DONE:
            self._complete(reusable=reader.keep_alive and reader.ended_within(data))
        elif reader.stage == REFUSED:
            code, detail = reader.refusal
            self._fail(Failure(code, True, detail))
        elif reader.brought:
            reader.brought = False

    def _misread(self, reader: ResponseReader, error: Exception) -> None:
        if isinstance(error, httptools.HttpParserCallbackError):  # not the upstream's doing: a sink raised
            cause = error.__context__ or error
            report(cause)
            self._fail(Failure("aborted", True, f"whoever listened to the answer failed: {type(cause).__name__}"))
        elif self._call is None:
            return  # aborted from within
        elif reader.stage == DONE:  # what follows the answer is the matter, not the answer
            self._complete(reusable=False)
        elif reader.stage == REFUSED:
            code, detail = reader.refusal
            self._fail(Failure(code, True, detail))
        else:
            reason = error.args[0] if error.args and isinstance(error.args[0], str) else "a change of protocol"
            self._fail(Failure("protocol_error", True, f"not HTTP/1.1: {reason}"))

    def _complete(self, *, reusable: bool) -> None:
        call = self._call
        if call is None:
            return
        fit = reusable and not self._writing and not call.paused and self.is_open
        self._detach()
        if fit:
            self._owner.free(self)
        elif self._writing:
            self.drop()  # answered before it read the request: nobody wants the rest of it
        else:
            self.retire()
        call.end()

    def _fail(self, failure: Failure) -> None:
        call = self._call
        if call is not None:
            self.drop()
            call.fail(failure)

    def _unasked(self, fate: Failure) -> None:
        if self.fate is None:
            self.fate = fate
        self.drop()

    def _detach(self) -> None:
        """Let go of the call: nothing more reaches it from here, though the read in progress may hold more."""
        self._call = None
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def _why_lost(self, reader: ResponseReader, exc: Exception | None) -> Failure:
        if isinstance(exc, ssl.SSLError) and self.requests == 1 and not reader.answered and _refuses_client(exc):
            # TLS 1.3: we may write before the server has looked at our certificate; refusing it, it has read nothing
            return Failure("tls", False, f"the upstream refused our certificate: {exc.reason}")
        if self._writing:
            return Failure("write_failed", True, f"the connection broke while the request was being written{_told(exc)}")
        if reader.answered:
            return Failure("closed_early", True, f"the connection ended in mid-answer{_told(exc)}")
        again = ", which had been used before" if self.requests > 1 else ""
        return Failure("closed_early", True, f"the connection{again} ended without an answer{_told(exc)}")


def _told(exc: Exception | None) -> str:
    return "" if exc is None else f": {type(exc).__name__}"


def _refuses_client(error: ssl.SSLError) -> bool:
    """Whether the peer's alert is about our certificate, which it judges before it reads any request."""
    reason = error.reason or ""
    return "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE"))
