"""uvicorn's server around the data plane: it accepts, keeps the date, and drains; the connections are ours."""

import asyncio
import contextlib
import math
import socket
from collections.abc import Generator
from functools import partial
from typing import Final, cast

import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from gateway.wire.plane import Plane
from gateway.wire.protocol import DataPlane

TICK_S: Final = 0.5  # deadlines are in seconds, and may be late by this much
LAST_WORDS_S: Final = 1.0  # for exchanges that were cut off to tell their clients, and for their settlements


async def _no_asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    raise AssertionError("no request reaches ASGI: the protocol class answers all of them")


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers: a worker stops when its supervisor says so."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Server:
    """Serves `plane` on a listening socket until drained."""

    def __init__(self, plane: Plane, listener: socket.socket, *, tick_s: float = TICK_S) -> None:
        self.plane = plane
        self._listener = listener
        self._tick_s = tick_s
        config = uvicorn.Config(
            _no_asgi,
            http=cast("type[asyncio.Protocol]", partial(DataPlane, plane)),
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",  # whoever runs the coroutine has chosen one
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=4096,
        )
        self._server = _Uvicorn(config)

    async def run(self) -> None:
        """Serve until `drain` was called and the last exchange has ended (or `drain_s_max` has passed).

        Cancelled, it hangs up on everybody. Either way every exchange is settled and no connection is open when it returns.
        """
        ticking = asyncio.get_running_loop().create_task(self._tick())
        try:
            await self._server.serve(sockets=[self._listener])
        except asyncio.CancelledError:
            self._hang_up()
            raise
        finally:
            ticking.cancel()
            if tasks := self._server.server_state.tasks:
                await asyncio.wait(tasks, timeout=LAST_WORDS_S)
            self._hang_up()

    def _hang_up(self) -> None:
        for listening in getattr(self._server, "servers", ()):  # there is none before it has started
            listening.close()
        for connection in list(self._server.server_state.connections):
            cast(DataPlane, connection).transport.abort()

    async def _tick(self) -> None:
        # one timer for all connections, while draining too: a timer each would cost more than the rest of a short request
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._tick_s)
            for connection in list(self._server.server_state.connections):
                cast(DataPlane, connection).tick(loop.time())

    @property
    def ready(self) -> bool:
        """Whether it accepts connections."""
        return self._server.started and not self._server.should_exit

    @property
    def in_flight(self) -> int:
        """Exchanges under way."""
        return self.plane.in_flight

    @property
    def connections(self) -> int:
        """Client connections, idle ones included."""
        return len(self._server.server_state.connections)

    def drain(self) -> None:
        """Stop accepting, let exchanges end, then stop."""
        bounds = self.plane.world.bounds  # of now, and not of the start
        self._server.config.timeout_graceful_shutdown = math.ceil(bounds.drain_s_max)
        self._server.should_exit = True
