"""uvicorn's server around the data plane: it accepts, keeps the date, and drains; the connections are ours."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Final, cast

import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from gateway.wire.plane import Plane
from gateway.wire.protocol import DataPlane

TICK_S: Final = 0.5  # deadlines are in seconds, and may be late by this much


async def _no_asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    raise AssertionError("no request reaches ASGI: the protocol class answers all of them")


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers: a worker stops when its supervisor says so."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Server:
    """Serves `plane` on a listening socket until drained."""

    def __init__(self, plane: Plane, listener: socket.socket) -> None:
        self.plane = plane
        self._listener = listener
        bounds = plane.world.bounds
        protocol = type("BoundDataPlane", (DataPlane,), {"plane": plane})
        config = uvicorn.Config(
            _no_asgi,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",  # whoever runs the coroutine has chosen one
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=4096,
            timeout_graceful_shutdown=int(bounds.drain_s_max),
        )
        self._server = _Uvicorn(config)

    async def run(self) -> None:
        """Serve until `drain` was called and the last exchange has ended (or `drain_s_max` has passed)."""
        ticking = asyncio.get_running_loop().create_task(self._tick())
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        # one timer for all connections, while draining too: a timer each would cost more than the rest of a short request
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
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
        self._server.should_exit = True
