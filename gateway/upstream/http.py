"""The transport: carries one HTTP/1.1 request to an address and its answer to a sink.  ← read this first; `start` is the path

Promises: no redirect is followed (a 3xx is a status like any other), no proxy, cookie or environment variable is looked at; a
connection is taken, new or pooled, each time past the guard (guard.py), and pooled again only by the rules of connection.py.
A request on a pooled connection is written before `start` returns, by no task; one coarse timer looks at limits, not each chunk.

The rule for connections gone stale: one that closed, or on which anything came unasked, is found *before* the write, by the event
loop or by asking the kernel, and another is taken or opened: nothing had been sent. After the write there is no second try here.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.core.bounds import Bounds
from gateway.upstream.address import Address, address_of
from gateway.upstream.call import CODES, Call, Failure, Sink
from gateway.upstream.connection import Connection
from gateway.upstream.dial import DialFailed, Dialler, Resolver, SystemResolver
from gateway.upstream.guard import Guard
from gateway.upstream.pool import Pool
from gateway.upstream.response import report

__all__ = ["CODES", "Address", "Call", "Failure", "Resolver", "Sink", "Stats", "Transport", "address_of"]

TICK_S: Final = 0.25
"""How often limits are looked at. The shortest one that it serves is tens of seconds; connecting has exact timers of its own."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Connections at this moment, and since the start; by endpoint id."""

    open: int
    idle: int
    calls: int  # under way
    open_by_endpoint: Mapping[str, int]
    idle_by_endpoint: Mapping[str, int]
    opened: Mapping[str, int]  # connections opened since the start
    reused: Mapping[str, int]  # requests that went out on a pooled connection since the start
    stale: Mapping[str, int]  # pooled connections found closed, spoken on or refused by the guard when they were to be taken


class Transport:
    """All connections of one worker to all upstreams. Lives on one event loop; nothing here is for other threads.

    `bounds` may be replaced while running: what starts or is looked at afterwards goes by the new ones.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bounds: Bounds,
        resolver: Resolver | None = None,
        *,
        guard: Guard | None = None,
        pool: Pool | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self.bounds = bounds
        self._loop = loop
        self._guard = guard if guard is not None else Guard()
        self._pool = pool if pool is not None else Pool()
        self._dialler = Dialler(loop, resolver if resolver is not None else SystemResolver(loop), self._guard)
        self._calls: set[Call] = set()
        self._open: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._current: frozenset[Address] | None = None  # addresses that may pool; None: all, as there has been no reload
        self._tick_s = tick_s
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._empty: asyncio.Future[None] | None = None  # set once close() waits for the last connection
        self._opened: Counter[str] = Counter()
        self._reused: Counter[str] = Counter()
        self._stale: Counter[str] = Counter()

    def start(self, address: Address, payload: bytes, sink: Sink) -> Call:
        """Send `payload`, the bytes of one whole request, to `address`; the answer goes to `sink`. Never raises, never waits.

        `payload` must ask for one answer: not CONNECT, not two requests. Its Host header and credentials are the caller's affair.
        """
        now = self._loop.time()
        call = Call(self, sink, now)
        if self._closed:
            self._loop.call_soon(call.fail, Failure("aborted", False, "the gateway is stopping"))
            return call
        self._calls.add(call)
        connection = self._take(address, now)
        if connection is not None:
            connection.carry(call, payload, now)
        else:
            task = self._loop.create_task(self._open_for(call, address, payload))
            call.dial = task
            self._dials.add(task)
            task.add_done_callback(partial(self._dialled, call))
        if self._timer is None:
            self._arm()
        return call

    def retire(self, keep: Collection[Address]) -> int:
        """On reload: closes the idle connections of all addresses but `keep` and returns how many; those in use close at their end.

        TLS files are read again for connections opened from now on.
        """
        self._current = frozenset(keep)
        self._dialler.contexts.forget()
        retired = self._pool.retire(self._current)
        for connection in retired:
            connection.retire()
        return len(retired)

    async def close(self) -> None:
        """End everything: calls under way fail as `aborted`, and no connection is open when this returns."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in list(self._calls):
            call.fail(Failure("aborted", call.sent, "the gateway is stopping"))
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in list(self._open):
            connection.drop()
        if self._open:
            self._empty = self._loop.create_future()
            await self._empty

    @property
    def stats(self) -> Stats:
        """A reading for metrics. Counts what there is, so not for every request."""
        return Stats(
            open=len(self._open),
            idle=len(self._pool),
            calls=len(self._calls),
            open_by_endpoint=Counter(connection.opened_for.endpoint for connection in self._open),
            idle_by_endpoint=Counter(connection.opened_for.endpoint for connection in self._pool),
            opened=dict(self._opened),
            reused=dict(self._reused),
            stale=dict(self._stale),
        )

    @property
    def rests(self) -> bool:
        """Whether no timer runs: nothing is under way and nothing idles."""
        return self._timer is None

    def sweep(self, now: float) -> None:
        """End the calls whose limits have passed at `now` (the loop's time), and close connections idle for too long."""
        for call in list(self._calls):
            if (failure := call.overdue(now, self.bounds)) is not None:
                call.fail(failure)
        for connection in self._pool.expire(now - self.bounds.pool_idle_s_max):
            connection.retire()

    # --- taking and opening ---

    def _take(self, address: Address, now: float) -> Connection | None:
        """A pooled connection that may carry a request to `address` right now. What is found unfit is closed."""
        while (connection := self._pool.take(address)) is not None:
            peer = connection.peer_ip
            young = now - connection.idle_since < self.bounds.pool_idle_s_max
            if young and peer is not None and self._guard.may_take(address, connection.opened_for, peer) and connection.is_quiet():
                self._reused[address.endpoint] += 1
                return connection
            self._stale[address.endpoint] += 1
            connection.drop()
        return None

    async def _open_for(self, call: Call, address: Address, payload: bytes) -> None:
        try:
            connection = await self._dialler.open(address, self.bounds.connect_s_max, lambda: Connection(self, address))
        except DialFailed as failed:
            call.dial = None  # this very task, which nobody may cancel any more
            call.fail(failed.failure)
            return
        if call.is_over:  # its end crossed with the connection's beginning
            connection.retire()
        else:
            connection.carry(call, payload, self._loop.time())

    def _dialled(self, call: Call, task: asyncio.Task[None]) -> None:
        """A dial is over. What it raised besides DialFailed is a defect, of a resolver perhaps; the call must not hang on it."""
        self._dials.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            call.dial = None
            report(error)
            call.fail(Failure("aborted", call.sent, f"no connection could be opened: {type(error).__name__}"))

    # --- what calls and connections report ---

    def now(self) -> float:
        return self._loop.time()

    def over(self, call: Call) -> None:
        self._calls.discard(call)

    def made(self, connection: Connection) -> None:
        self._open.add(connection)
        self._opened[connection.opened_for.endpoint] += 1

    def free(self, connection: Connection) -> None:
        if self._closed or (self._current is not None and connection.opened_for not in self._current):
            connection.retire()
            return
        for displaced in self._pool.put(connection, self._loop.time(), self.bounds.pool_idle_per_endpoint_max):
            displaced.retire()

    def lost(self, connection: Connection) -> None:
        self._pool.remove(connection)
        self._open.discard(connection)
        if self._empty is not None and not self._open and not self._empty.done():
            self._empty.set_result(None)

    # --- time ---

    def _arm(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        """Goes on while there is anything to watch, so that an idle gateway sleeps."""
        self._timer = None
        self.sweep(self._loop.time())
        if self._calls or len(self._pool):
            self._arm()
