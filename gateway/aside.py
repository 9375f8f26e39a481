"""The port Aside: exchanges of our own, which somebody's request waits for and must not suffer from.

Promises: nobody waits longer than was said, and after LATE_MAX in a row that came too late, nobody waits at all for REST_S: a
place that is stuck costs a few requests a moment each, and not every one. What came too late is hung up on, which counts against no
place: others, who have more patience, may be served by it well.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gateway.core.answer import Answer, Problem
from gateway.ports import Callback, Client, Flow

LATE_MAX: Final = 3  # in a row: one or two are a moment's trouble
REST_S: Final = 10.0  # then one is asked again; a stuck place costs each worker 3 s in the first 13, and 1 in 11 afterwards


class Asides:
    """Those of one worker. Use inside a running loop."""

    def __init__(self) -> None:
        self._late = 0  # in a row
        self._rests_until = 0.0  # loop time

    async def ask(self, begin: Callable[[Client], Awaitable[Answer]], client: Client, wait_s_max: float) -> Answer | None:
        """How the exchange ended that `begin` begins; None: not in time, or it was not begun."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until:
            return None
        limit = asyncio.timeout(wait_s_max)
        try:
            async with limit:
                answer = await begin(Patience(client, limit))
        except TimeoutError:
            self._late += 1
            if self._late >= LATE_MAX:
                self._rests_until = loop.time() + REST_S
            return None
        self._late = 0
        return answer


class Patience:
    """The client of such an exchange: it has hung up when time is up, or when whoever it is for has. Nothing is streamed to it."""

    __slots__ = ("_client", "_limit")

    def __init__(self, client: Client, limit: asyncio.Timeout) -> None:
        self._client = client
        self._limit = limit

    @property
    def gone(self) -> bool:
        return self._client.gone or self._limit.expired()

    def on_gone(self, callback: Callback | None) -> None: ...

    def on_writable(self, callback: Flow | None) -> None: ...

    def begin_stream(self, headers: Mapping[str, str]) -> None: ...

    def write(self, events: bytes) -> None: ...

    def forward(self, chunk: bytes, begin: int) -> None: ...

    def end_stream(self, problem: Problem | None) -> None: ...
