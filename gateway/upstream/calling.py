"""One call to an upstream, from its start to its first content: what streams and whole answers have in common.

A `Calling` is three things in turn, and one object, so that nothing is handed over: the sink that the transport feeds, the Opening
that the pipeline waits for, and the Opened that it takes the answer from. No task runs here: the transport's callbacks settle a
result, and whoever waits is woken through a future. A cancellation at any await aborts the call.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.core.bounds import Bounds
from gateway.core.exchange import Ended, Fault, Outcome, Request
from gateway.core.usage import Usage
from gateway.ports import Client, Clock, Opened
from gateway.upstream import outcomes, usage
from gateway.upstream.call import Failure
from gateway.upstream.dialects import Dialect
from gateway.upstream.outcomes import Headers, Origin
from gateway.upstream.response import Shortcut


class Handle(Protocol):
    """What a call asks of the transport's own."""

    peer: str
    sent: bool  # whether the request has gone out

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def take_by(self, shortcut: Shortcut | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Setting:
    """All that stays the same from call to call of one deployment."""

    dialect: Dialect
    origin: Origin
    model: str  # the catalogue's name, which answers show
    bounds: Bounds
    clock: Clock
    loop: asyncio.AbstractEventLoop


class _NotStarted:
    """Stands in until the transport has returned a handle, and where nothing was ever started."""

    peer = ""
    sent = False

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def take_by(self, shortcut: Shortcut | None) -> None: ...


NOT_STARTED: Final = _NotStarted()
ABORTED: Final = Outcome(Ended.FAILED, Fault.NOBODY, code="aborted")


class Calling:
    """The base of AnswerCall and StreamCall, which say what a good answer is.

    `first_content` is when it was there, in UTC seconds; 0 before.
    """

    def __init__(self, setting: Setting, request: Request, dropped: tuple[str, ...]) -> None:
        self.setting = setting
        self.request = request
        self.dropped = dropped
        self.queued_s = 0.0  # a call waits for no room
        self.handle: Handle = NOT_STARTED
        self.result: Opened | Outcome | None = None
        self.first_content = 0.0
        self._bounds = setting.bounds
        self._waiter: asyncio.Future[None] | None = None
        self._refused = False  # the head says that the body is an error
        self._status = 0
        self._headers: Headers = ()
        self._pieces: list[bytes] = []  # of a body that is read whole
        self._size = 0

    # --- for the pipeline: Opening ---

    @property
    def address(self) -> str:
        return self.handle.peer

    async def wait(self, timeout_s: float | None) -> "Opened | Outcome | None":
        """The first content, or how it ended, or None when `timeout_s` passed first (the call goes on)."""
        if self.result is None:
            loop = self.setting.loop
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _wake, waiter) if timeout_s is not None else None
            try:
                await waiter
            except asyncio.CancelledError:
                self.abort()
                raise
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        return self.result

    def used(self) -> Usage | None:
        """What it has used so far: before anything is known of an answer, our estimate of a prompt that was sent. It was read."""
        if not self.handle.sent or self._refused:
            return None
        return usage.estimate(self.request.needs.prompt_tokens, 0, 0)

    def abort(self) -> None:
        """Close the call's connection now. Idempotent; fine after the end."""
        self.handle.abort()
        self._settle(ABORTED)
        self._let_go()

    def _let_go(self) -> None:
        """Nobody takes the answer any more. A call that refers to itself would wait for the garbage collector, bodies and all."""
        if self.result is self:
            self.result = ABORTED

    # --- for the pipeline: Opened. One of the two kinds answers each ---

    @property
    def body(self) -> bytes:
        raise TypeError("the answer of a stream has no body; use `relay`")

    def outcome(self) -> Outcome:
        raise TypeError("a stream has no outcome before its end; `relay` returns it")

    async def relay(self, client: Client) -> Outcome:
        raise TypeError("an answer that is not a stream can't be relayed; use `body`")

    # --- for the transport: Sink ---

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        if 200 <= status < 300:
            self._on_accepted(headers)
        else:
            self._refused = True
            self._headers = headers

    def on_data(self, data: bytes) -> None:
        self._guarded(self._on_error_body if self._refused else self._on_body, data)

    def on_end(self) -> None:
        self._guarded(self._settle_refused if self._refused else self._on_complete)

    def on_failed(self, failure: Failure) -> None:
        if self._refused:
            self._settle_refused()  # the status says enough
        else:
            self._guarded(self._on_broken, failure)

    def _guarded(self, act: Callable[..., None], *given: object) -> None:
        """Nobody waits for ever: a defect of ours ends the call, and then goes on to the transport, which reports it."""
        try:
            act(*given)
        except Exception:
            self.abort()
            raise

    def _on_error_body(self, data: bytes) -> None:
        if self.result is None:
            self._pieces.append(data)
            self._size += len(data)
            if self._size > self._bounds.error_bytes_max:  # what it says, it has said by now
                self.handle.abort()
                self._settle_refused()

    def _on_accepted(self, headers: Headers) -> None:
        """The status is good."""

    def _on_body(self, data: bytes) -> None:
        raise NotImplementedError

    def _on_complete(self) -> None:
        raise NotImplementedError

    def _on_broken(self, failure: Failure) -> None:
        raise NotImplementedError

    # --- shared ---

    def _settle(self, result: "Opened | Outcome") -> None:
        """Say once what `wait` returns."""
        if self.result is None:
            self.result = result
            self._wake()

    def _wake(self) -> None:
        """Have `wait` go on."""
        if self._waiter is not None:
            _wake(self._waiter)

    def _settle_refused(self) -> None:
        if self.result is None:
            body = self._gathered()[: self._bounds.error_bytes_max]
            now = self.setting.clock.now()
            self._settle(outcomes.refused(self.setting.origin, self._status, self._headers, body, now))

    def _gathered(self) -> bytes:
        """The body that was read whole. Another time there is nothing."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return body

    def _gather(self, data: bytes) -> bool:
        """Keep a piece of a body that is read whole. False: it is too long, and the call is over."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size <= self._bounds.answer_bytes_max:
            return True
        self._pieces.clear()
        self.handle.abort()
        self._settle(outcomes.spoilt("answer_too_large", self._status))
        return False


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Refusal(Calling):
    """A call that was never made: `wait` returns `outcome` at once. No byte was sent."""

    def __init__(self, setting: Setting, request: Request, outcome: Outcome) -> None:
        super().__init__(setting, request, ())
        self.result = outcome
