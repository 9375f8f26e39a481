"""A worker: the data path and nothing else. Spawned by the supervisor, which hands it the listening socket and a channel.

No FastAPI, pydantic, YAML or prometheus-client is imported here, and a test looks. When the channel ends, the supervisor is gone
and so is the worker; signals are the supervisor's to act on.
"""

import argparse
import asyncio
import gc
import os
import random
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from gateway import defects
from gateway.channel import Drain, Start, pack_report, read_command
from gateway.clock import SystemClock
from gateway.ledger.audit import Audit
from gateway.ledger.metrics import WorkerMeter
from gateway.pipeline import World
from gateway.state.live import LocalLive
from gateway.state.watching import Watched
from gateway.upstream.http import Transport, address_of
from gateway.upstream.upstreams import Upstreams
from gateway.wire.plane import Plane
from gateway.wire.server import Server

REPORT_S: Final = 1.0
ORPHANED: Final = 70  # exit code: the supervisor is gone
GC_THRESHOLD: Final = (20_000, 20, 50)  # a request leaves no cycles behind; the usual 700 would look for some every few requests


class Worker:
    """All of one worker process."""

    def __init__(self, start: Start, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        snapshot = start.snapshot
        bounds = snapshot.policy.bounds
        endpoints = {deployment.endpoint.id: deployment.endpoint for deployment in snapshot.policy.deployments}
        addresses = {name: address_of(endpoint, start.secrets.get(name)) for name, endpoint in endpoints.items()}
        self.clock = SystemClock()
        self.transport = Transport(loop, bounds)
        self.ledger = Audit(Path(start.state, "ledger"), f"worker-{start.number}", self.clock)
        self.live = LocalLive(bounds, snapshot.policy.deployments)
        self.meter = WorkerMeter(snapshot)
        upstreams = Upstreams(self.transport, addresses, start.secrets, bounds, self.clock, loop)
        world = World(
            clock=self.clock,
            upstream=Watched(upstreams, self.live, self.clock),
            ledger=self.ledger,
            live=self.live,
            meter=self.meter,
            bounds=bounds,
            draw=partial(random.Random(os.urandom(16)).getrandbits, 30),
            defect=defects.report,
        )
        self.plane = Plane(world, snapshot, demo=start.demo)
        self.server = Server(self.plane, listener)

    def report(self) -> bytes:
        """How this worker is, for the supervisor."""
        stats = self.transport.stats
        return pack_report({
            "ready": self.server.ready,
            "snapshot": self.plane.snapshot.hash,
            "in_flight": self.server.in_flight,
            "connections": self.server.connections,
            "upstream_connections": dict(stats.open_by_endpoint),
            "live": self.live.rows(self.clock.now()),
            "metrics": self.meter.totals(),
        })  # fmt: skip


async def _run(listener: socket.socket, channel: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=channel)
    start = await read_command(reader)
    if not isinstance(start, Start):
        return ORPHANED
    worker = Worker(start, listener, loop)
    loop.set_exception_handler(lambda _, context: defects.report(context.get("exception") or RuntimeError()))
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    serving = loop.create_task(worker.server.run())
    reporting = loop.create_task(_report(worker, writer))
    listening = loop.create_task(_listen(worker, reader))
    done, _ = await asyncio.wait((serving, reporting, listening), return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, reporting, listening):
        task.cancel()
    for task in done:
        if error := task.exception():
            defects.report(error)
    await worker.transport.close()
    worker.ledger.close()
    if serving not in done:
        return ORPHANED
    writer.write(worker.report())  # the last word: counters must not lose their last second
    await writer.drain()
    writer.close()
    return 0


async def _listen(worker: Worker, reader: asyncio.StreamReader) -> None:
    """Obey commands until the supervisor is gone."""
    while (command := await read_command(reader)) is not None:
        if isinstance(command, Drain):
            worker.server.drain()


async def _report(worker: Worker, writer: asyncio.StreamWriter) -> None:
    """Tell the supervisor how things are: as soon as requests are served, then each second."""
    loop = asyncio.get_running_loop()
    while not worker.server.ready:  # noqa: ASYNC110 - uvicorn has no event for it, and this is milliseconds, once
        await asyncio.sleep(0.005)
    while True:
        worker.clock.resync()
        writer.write(worker.report())
        await writer.drain()
        try:
            await loop.run_in_executor(None, worker.ledger.sync)
        except OSError:  # a disk that can't keep what it took: the next write will tell, if it stays so
            worker.meter.ledger_failed()
        await asyncio.sleep(REPORT_S)


def main() -> int:
    """`python -m gateway.worker --listener FD --channel FD`: only the supervisor calls this."""
    parser = argparse.ArgumentParser(prog="gateway.worker")
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's ^C reaches all of the group; the supervisor drains us
    return uvloop.run(_run(socket.socket(fileno=options.listener), socket.socket(fileno=options.channel)))


if __name__ == "__main__":
    sys.exit(main())
