"""What stands where the catalogue's endpoints would be: a simulator of each one's dialect, and for our small model a real engine.

Each place tells what it received. The engine can't, so a tap stands before it: it passes bytes on as they are, and counts requests.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import httptools
import orjson

from gateway.core.policy import Endpoint, Snapshot
from gateway.simulators import Simulator
from gateway.simulators.engine import Engine

ENGINE: Final = "small-own"
SECRET: Final = "not-a-secret-but-the-demo's"


class Tap:
    """A relay before the engine. `received` has (monotonic seconds, the model's name) of each request."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.received: list[tuple[float, str]] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> asyncio.Server:
        """Listen on a free port of loopback."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        return server

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_engine, to_engine = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        watching = _Watch(self.received)
        ways = (self._pump(reader, to_engine, watching), self._pump(from_engine, writer, None))
        tasks = [asyncio.ensure_future(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # either side hanging up ends both
        for task in tasks:
            task.cancel()
        writer.transport.abort()
        to_engine.transport.abort()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watching: "_Watch | None") -> None:
        try:
            while data := await reader.read(65_536):
                if watching is not None:
                    watching.parser.feed_data(data)
                writer.write(data)
                await writer.drain()
        except (ConnectionError, httptools.HttpParserError):
            return


class _Watch:
    """Reads what passes through, without touching it."""

    def __init__(self, received: list[tuple[float, str]]) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self._received = received
        self._body = b""

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._received.append((time.monotonic(), str(orjson.loads(self._body)["model"])))


class Places:
    """All of them, running. `overrides` are base URLs by endpoint id; `arrived` tells what came in since it was last asked."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._endpoints = {d.endpoint.id: d.endpoint for d in snapshot.policy.deployments if d.endpoint.enabled}
        self._models: dict[str, dict[str, int | None]] = {}
        for deployment in snapshot.policy.deployments:
            self._models.setdefault(deployment.endpoint.id, {})[deployment.upstream_model] = deployment.context
        self.simulators: dict[str, Simulator] = {}
        self.overrides: dict[str, str] = {}
        self._tap: Tap | None = None
        self._seen = 0
        self._stack = AsyncExitStack()

    async def start(self, *, pace: str | None) -> None:
        """Start everything. Raises OSError and EngineError."""
        for name, endpoint in self._endpoints.items():
            if name == ENGINE:
                await self._start_engine()
            else:
                await self._start_simulator(name, endpoint, pace)

    async def _start_simulator(self, name: str, endpoint: Endpoint, pace: str | None) -> None:
        models = self._models[name]
        windows = [window for window in models.values() if window is not None]
        simulator = Simulator(
            endpoint.dialect,
            models=models,
            window=max(windows, default=None),
            api_key=SECRET if endpoint.secret is not None else None,
            pace=pace,
            name=name,
        )
        self.simulators[name] = await self._stack.enter_async_context(simulator)
        self.overrides[name] = simulator.base_url

    async def _start_engine(self) -> None:
        engine = await self._stack.enter_async_context(Engine())
        host, port = engine.base_url.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
        self._tap = Tap(host, int(port))
        server = await self._tap.start()
        self._stack.callback(server.close)
        self.overrides[ENGINE] = f"http://127.0.0.1:{self._tap.port}/v1"

    @property
    def secrets(self) -> dict[str, str | None]:
        """What each endpoint's credential is here."""
        return {name: SECRET for name, endpoint in self._endpoints.items() if endpoint.secret is not None}

    def fail(self, faults: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Let the simulators fail by these scripts, and by none other."""
        for name, simulator in self.simulators.items():
            simulator.set_script(list(faults.get(name, ())))

    def arrived(self) -> list[tuple[str, str]]:
        """(endpoint, model) of every request to a model that came in since the last call; each simulator's in order of arrival."""
        found: list[tuple[float, str, str]] = []
        for name, simulator in self.simulators.items():
            for entry in simulator.journal.entries:
                if entry.method == "GET":  # how it is, was asked: that carries nothing of anybody's
                    continue
                model = entry.body.get("model", "") if isinstance(entry.body, dict) else ""
                found.append((entry.at, name, model))
            simulator.journal.clear()
        if self._tap is not None:
            found += [(at, ENGINE, model) for at, model in self._tap.received[self._seen :]]
            self._seen = len(self._tap.received)
        return [(name, model) for _, name, model in sorted(found)]

    async def stop(self) -> None:
        """Take everything down."""
        await self._stack.aclose()
