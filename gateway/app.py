"""The supervisor: builds everything once, keeps the workers running, and takes all down again.

It binds the data port and hands the socket to each worker; it runs health, metrics and the control plane. It reads no prompt but
what an admin sends to `decide`. A dead worker is replaced; a dead supervisor takes all down, and the service manager restarts it.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from gateway.channel import Drain, Start, pack, read_report
from gateway.core.policy import Deployment, Endpoint, Snapshot

if TYPE_CHECKING:
    import uvicorn

INHERITED: Final = frozenset({
    "PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
})  # fmt: skip
BACKLOG: Final = 4096
RESPAWN_S: Final = 0.5  # doubled with each death in a row, up to RESPAWN_S_MAX: a worker that can't start must not eat the machine
RESPAWN_S_MAX: Final = 30.0
STEADY_S: Final = 60.0  # a worker that has lived so long was no false start


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How to serve. `overrides` (endpoint id → base URL on loopback) and `demo` go together: the demo's simulators."""

    snapshot: Snapshot
    secrets: Mapping[str, str | None]
    state: Path
    host: str = "0.0.0.0"
    port: int = 8080
    ops_host: str = "0.0.0.0"
    ops_port: int = 8081
    admin_port: int = 8082
    admin_token: str | None = None  # None: the admin API is not opened
    workers: int = 1
    demo: bool = False
    decide: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None  # what `/admin/v1/decide` answers with


def serve(settings: ServeSettings) -> int:
    """Run the supervisor until a signal; returns the exit code. Raises CannotStart."""
    import uvloop

    from gateway.logs import logger

    return uvloop.run(Supervisor(settings, logger()).run())


class CannotStart(Exception):
    """Why the gateway does not start, for the person who can mend it."""


def redirected(snapshot: Snapshot, overrides: Mapping[str, str]) -> Snapshot:
    """The snapshot with some endpoints at other base URLs, for the demo. Raises ValueError for one that is not on loopback."""
    endpoints: dict[str, Endpoint] = {}
    for deployment in snapshot.policy.deployments:
        endpoint = deployment.endpoint
        if endpoint.id in overrides and endpoint.id not in endpoints:
            url = urlsplit(overrides[endpoint.id])
            if url.hostname is None or not ipaddress.ip_address(url.hostname).is_loopback:
                raise ValueError(f"`{overrides[endpoint.id]}` is not on this machine")
            loopback = ipaddress.ip_network(f"{url.hostname}/32")
            endpoints[endpoint.id] = replace(
                endpoint,
                scheme=url.scheme,
                host=url.hostname,
                port=url.port or 80,
                path=url.path.rstrip("/"),
                resolves_to=(loopback,),
            )

    def moved(deployment: Deployment) -> Deployment:
        return replace(deployment, endpoint=endpoints.get(deployment.endpoint.id, deployment.endpoint))

    policy = replace(snapshot.policy, deployments=tuple(moved(deployment) for deployment in snapshot.policy.deployments))
    return replace(snapshot, policy=policy)


@dataclass(slots=True)
class Process:
    """One worker as the supervisor knows it. `report` is its last; {} before the first."""

    popen: subprocess.Popen[bytes]
    writer: asyncio.StreamWriter
    report: dict[str, Any] = field(default_factory=dict)


class Supervisor:
    """All of `gateway serve`. `log` takes an event and its fields."""

    def __init__(self, settings: ServeSettings, log: Callable[..., None]) -> None:
        self.settings = settings
        self.processes: dict[int, Process] = {}
        self.draining = False
        self.last_words: list[Mapping[str, Any]] = []  # the last report of each worker that has died
        self.log = log
        self._listener = bind(settings.host, settings.port)
        make_ledger(settings.state)
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeping: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()
        self._ready = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether a worker serves and none is being told to stop."""
        return not self.draining and any(process.report.get("ready") for process in self.processes.values())

    @property
    def reports(self) -> Iterable[Mapping[str, Any]]:
        """The last report of each worker that lives."""
        return [process.report for process in self.processes.values()]

    @property
    def port(self) -> int:
        """The data port that is really listened on."""
        return int(self._listener.getsockname()[1])

    async def run(self) -> int:
        """Serve until a signal; returns the exit code."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self.stop)
        self._keeping = [loop.create_task(self._keep(number)) for number in range(self.settings.workers)]
        await self.until_ready()
        # from here on clients are served: what follows takes a second to import, and none of theirs
        control, control_ports = self._control()
        settings = self.settings
        self.log(
            "serving",
            port=self.port,
            ops_port=control_ports[0],
            admin_port=control_ports[1] if len(control_ports) > 1 else None,
            workers=settings.workers,
            policy=settings.snapshot.policy.hash[:12],
            access=settings.snapshot.access.hash[:12],
            deployments=len(settings.snapshot.policy.deployments),
        )
        await self._stopped.wait()
        await self._drain()
        for server in control:
            server.should_exit = True
        for task in self._tasks:
            task.cancel()
        return 0

    async def until_ready(self) -> None:
        """Wait until a worker serves, or the supervisor was told to stop."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._ready, self._stopped)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def stop(self) -> None:
        """Drain and exit; a second call exits at once."""
        if self._stopped.is_set():
            for process in self.processes.values():
                process.popen.kill()
        self._stopped.set()

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, number: int) -> None:
        """Keep worker `number` running until the supervisor drains."""
        loop = asyncio.get_running_loop()
        pause_s = RESPAWN_S
        while not self.draining:
            began = loop.time()
            code = await self._live(number)
            if self.draining:
                return
            self.log("worker_died", worker=number, code=code, next_in_s=pause_s)
            pause_s = RESPAWN_S if loop.time() - began > STEADY_S else min(pause_s * 2, RESPAWN_S_MAX)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause_s)
                return

    async def _live(self, number: int) -> int:
        """One life of a worker, from its spawning to its end; returns its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "gateway.worker"]
            command += ["--listener", str(self._listener.fileno()), "--channel", str(theirs.fileno())]
            # spawned, not forked; a blocking call, but of a millisecond, and before or between lives of a worker
            popen = subprocess.Popen(  # noqa: ASYNC220
                command, pass_fds=(self._listener.fileno(), theirs.fileno()), stdin=subprocess.DEVNULL, env=_environment()
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        settings = self.settings
        start = Start(number, settings.snapshot, dict(settings.secrets), str(settings.state), settings.demo)
        writer.write(pack(start))
        process = self.processes[number] = Process(popen, writer)
        if self.draining:  # told to stop between the spawning and here: nobody else would tell this worker
            writer.write(pack(Drain()))
        try:
            while (report := await read_report(reader)) is not None:
                process.report = report
                if report.get("ready"):
                    self._ready.set()
        finally:
            writer.close()
            self.last_words.append({"metrics": process.report.get("metrics", {})})
            del self.processes[number]
        return await asyncio.get_running_loop().run_in_executor(None, popen.wait)

    async def _drain(self) -> None:
        """Have all workers finish what they do. Each ends by itself; `drain_s_max` is theirs to keep."""
        self.draining = True
        self.log("draining", in_flight=sum(process.report.get("in_flight", 0) for process in self.processes.values()))
        for process in list(self.processes.values()):
            with contextlib.suppress(ConnectionError):
                process.writer.write(pack(Drain()))
        self._listener.close()  # the last copy but the workers': from now on connecting is refused, and not left to wait for nobody
        await asyncio.gather(*self._keeping)
        self.log("stopped")

    # --- the control plane --------------------------------------------------------------------------------------------

    def _control(self) -> "tuple[list[uvicorn.Server], list[int]]":
        """Start the ops server, and the admin one if there is a token; returns them and the ports they listen on."""
        from gateway.control.admin import admin_app
        from gateway.control.ops import ops_app
        from gateway.control.serving import serving
        from gateway.ledger.registry import Registry

        settings = self.settings
        registry = Registry(settings.snapshot, self)
        servers = [(serving(ops_app(self, registry.exposition)), bind(settings.ops_host, settings.ops_port))]
        if settings.admin_token is not None:
            app = admin_app(self, settings.snapshot, settings.admin_token, settings.decide)
            servers.append((serving(app), bind("127.0.0.1", settings.admin_port)))
        for server, listener in servers:
            self._start(server.serve(sockets=[listener]))
        return [server for server, _ in servers], [int(listener.getsockname()[1]) for _, listener in servers]


def make_ledger(state: Path) -> None:
    """The folder that workers write to, checked here because a worker could only die of it. Raises CannotStart."""
    folder = state / "ledger"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotStart(f"can't write the ledger into {folder}: {reason}; name another folder with `--state`") from error


def _environment() -> dict[str, str]:
    """What a worker needs to know of its surroundings: where Python, its packages and CA files are. No credential is among it."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises CannotStart."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = (error.strerror or str(error)).lower()
        raise CannotStart(f"can't listen on {host} port {port}: {why}; is another gateway running?") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
