"""One connection to one server, on which everybody asks at once.

Promises: nobody waits past their deadline; answers come in the order of the questions, so a late one is counted and dropped, and
never given to somebody else; what is asked in one turn of the loop leaves in one write; nothing is asked twice.

redis-py's own client takes a connection from a pool for each command, and 140 µs of CPU for one EVALSHA. This takes 6 to 20, on the
same parser (hiredis), and leaves no reply behind that a pool could hand to the next.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis

from gateway.refused import in_words
from gateway.state.store.port import WAIT_S, StoreLost
from gateway.state.store.url import Host, Login

Command = tuple[str | bytes | int, ...]

CONNECT_S_MAX: Final = 2.0  # in the background; nobody waits for it
LATE_MAX: Final = 3  # answers missing in a row: one may be a hiccup, three are a store that is not there
FAIR_S: Final = WAIT_S / 2  # who had less time to wait, having waited before, says nothing of the store by having waited in vain
PENDING_MAX: Final = 4096  # questions on their way: 50 ms of what one server can answer
UNSENT_BYTES_MAX: Final = 16_777_216  # of one connection: more than a server that reads would let wait
STALL_S: Final = 0.005  # our own loop came so late to look: then the answer may lie in the socket, unread
PING: Final[Command] = ("PING",)
TIME: Final[Command] = ("TIME",)  # scripts ask for it, and no category of an ACL has it: a user who may not should be told so
_NOTHING: Final = object()


class Batch:
    """Questions that were asked together, and their answers as they come."""

    __slots__ = ("answers", "asked_at", "due", "fair", "future", "timer", "wanted")

    def __init__(self, future: "asyncio.Future[list[Any]]", wanted: int, asked_at: float, wait_s: float) -> None:
        self.future = future
        self.wanted = wanted
        self.asked_at = asked_at
        self.due = asked_at + wait_s
        self.fair = wait_s >= FAIR_S
        self.answers: list[Any] = []
        self.timer: asyncio.TimerHandle | None = None


class Link(asyncio.Protocol):
    """A connection that has been made. `lost` ends with the reason when it is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Callable[[bytes, bytes], None] | None = None) -> None:
        self._loop = loop
        self._heard = heard
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._pending: deque[Batch] = deque()
        self._unanswered = 0
        self._out: list[bytes] = []
        self._late = 0
        self.known: set[str] = set()  # scripts that this connection has seen
        self.lost: asyncio.Future[str] = loop.create_future()
        self.last_s = 0.0  # how long the last answer took
        self.answered_at = loop.time()

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, commands: Sequence[Command], wait_s: float) -> "asyncio.Future[list[Any]]":
        """Ask all of `commands`; their answers in order, errors among them as hiredis.ReplyError. The future ends in StoreLost
        after `wait_s`, or as soon as the connection does. Raises StoreLost if nothing more can be asked here now."""
        transport = self._transport
        if transport is None or self.lost.done():
            raise StoreLost("lost")
        if self._unanswered > PENDING_MAX or transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise StoreLost("busy")
        loop = self._loop
        now = loop.time()
        batch = Batch(loop.create_future(), len(commands), now, wait_s)
        batch.timer = loop.call_later(wait_s, self._expire, batch)
        if not self._out:
            loop.call_soon(self._flush)
        for command in commands:
            self._out.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub says a tuple of one
        self._pending.append(batch)
        self._unanswered += len(commands)
        return batch.future

    def drop(self, why: str) -> None:
        """End the connection; whoever waits is told StoreLost."""
        if not self.lost.done():
            self.lost.set_result(why)
        if self._transport is not None:
            self._transport.abort()
        while self._pending:
            self._end(self._pending.popleft(), StoreLost("lost"))
        self._out.clear()

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _expire(self, batch: Batch) -> None:
        if batch.future.done():
            return
        loop = self._loop
        if loop.time() - batch.due > STALL_S:  # this process stood still, and not the store: read first, then judge
            batch.due = float("inf")
            batch.timer = loop.call_later(0.001, self._expire, batch)
            return
        self._end(batch, StoreLost("late"))
        self._late += batch.fair
        if self._late >= LATE_MAX:
            self.drop("it does not answer in time")

    @staticmethod
    def _end(batch: Batch, error: StoreLost) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        if not batch.future.done():
            batch.future.set_exception(error)

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, error: Exception | None) -> None:
        self.drop("it ended the connection")

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                self._take(answer)
        except hiredis.ProtocolError:
            self.drop("it does not speak the protocol of Redis")

    def _take(self, answer: Any) -> None:
        if self._heard is not None and isinstance(answer, list) and answer and answer[0] == b"message":
            self._heard(answer[1], answer[2])
            return
        if not self._pending:
            self.drop("it answered what was not asked")
            return
        batch = self._pending[0]
        batch.answers.append(answer)
        self._unanswered -= 1
        if len(batch.answers) < batch.wanted:
            return
        self._pending.popleft()
        self.answered_at = now = self._loop.time()
        self.last_s = now - batch.asked_at
        if not batch.future.done():  # else nobody waits for it any more
            self._late = 0
            batch.future.set_result(batch.answers)
            if batch.timer is not None:
                batch.timer.cancel()


async def connect(
    host: Host,
    login: Login,
    tls: ssl.SSLContext | None,
    wait_s: float,
    *,
    heard: Callable[[bytes, bytes], None] | None = None,
    first: Sequence[Command] = (PING, TIME),
) -> tuple[Link, list[Any]]:
    """A connection on which `login` has been shown and `first` answered, and those answers.

    Raises StoreLost with why, after CONNECT_S_MAX at the latest; what is asked on it has `wait_s` to be answered, as all that
    will be.
    """
    loop = asyncio.get_running_loop()

    def made() -> Link:
        return Link(loop, heard)

    link: Link | None = None
    shown: list[Command] = []
    if login.password:
        shown.append(("AUTH", login.user, login.password) if login.user else ("AUTH", login.password))
    if login.database:
        shown.append(("SELECT", login.database))
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            if host.path:
                _, link = await loop.create_unix_connection(made, host.path)
            else:
                name = None if tls is None else host.name
                _, link = await loop.create_connection(made, host.name, host.port, ssl=tls, server_hostname=name)
            answers = await link.ask([*shown, *first], wait_s)
        for command, answer in zip((*shown, *first), answers, strict=True):
            if isinstance(answer, hiredis.ReplyError):
                raise StoreLost(f"it said {code_of(answer)} to {command[0]!s}")
    except BaseException as error:
        if link is not None:
            link.drop("given up")
        match error:
            case TimeoutError():
                raise StoreLost("it takes too long to connect") from None
            case ssl.SSLCertVerificationError():
                raise StoreLost(f"its certificate is not to be trusted: {error.verify_message}") from None
            case OSError():
                raise StoreLost(in_words(error)) from None
            case UnicodeError():
                raise StoreLost(f"no host can be called `{host.name}`") from None
        raise
    return link, answers[len(shown) :]


def code_of(error: hiredis.ReplyError) -> str:
    """The first word of an error: NOSCRIPT, OOM, READONLY …. The rest may quote what was sent."""
    return str(error).partition(" ")[0][:32]
