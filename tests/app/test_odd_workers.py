"""Workers that say what no worker says: they read what clients send, and must not be able to end the keeping of workers."""

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import Upstream, write_policies

from gateway.channel import pack_report
from gateway.config.compile import load
from gateway.fleet import Fleet, InForce

LIMITS = {"rows": [], "first": True, "last": True}


class OddAtFirst(Fleet):
    """Its first worker says this, and no more; those after it are real."""

    odd: dict[str, Any] | None = None
    first: subprocess.Popen[bytes]

    async def _spawned(self) -> tuple[subprocess.Popen[bytes], asyncio.StreamReader, asyncio.StreamWriter]:
        if self.odd is None:
            return await super()._spawned()
        said, self.odd = pack_report(self.odd), None
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(said)
            self.first = subprocess.Popen(["sleep", "60"], stdin=theirs.fileno())  # noqa: ASYNC220
        return self.first, *await asyncio.open_connection(sock=ours)


@pytest.mark.parametrize(
    "odd",
    [
        {"limits": 3},
        {"limits": LIMITS, "stores": ["state"]},
        {"limits": LIMITS, "stores": {}, "metrics": {"counters": {"gateway_requests": 3}}},
        {"ready": True},
    ],
    ids=["no part", "no stores", "no counters", "nothing"],
)
def test_who_says_what_no_worker_says_is_ended_and_replaced(tmp_path: Path, odd: dict[str, Any]) -> None:
    async def main() -> None:
        upstream = Upstream()
        write_policies(tmp_path / "policies", upstream.port)
        snapshot = load(tmp_path / "policies").snapshot
        assert snapshot is not None
        (tmp_path / "ledger").mkdir()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        log: list[str] = []
        fleet = OddAtFirst(
            listener, tmp_path, InForce(0, snapshot, {}), lambda event, **_: log.append(event), workers=1, demo=False
        )
        fleet.odd = odd
        fleet.start()
        try:
            async with asyncio.timeout(30):
                while not (fleet.deaths and fleet.ready):
                    if "counters" in str(odd) and fleet.processes.get(0) and fleet.processes[0].popen is fleet.first:
                        fleet.first.kill()  # only when it is gone is what it had counted looked at
                    await asyncio.sleep(0.01)
            assert fleet.first.poll() is not None and "worker_died" in log
        finally:
            await fleet.drain()
            upstream.close()

    asyncio.run(main())
