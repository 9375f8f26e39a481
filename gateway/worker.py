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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from gateway import defects
from gateway.aside import Asides
from gateway.channel import Abandon, Commit, Cordon, Drain, Health, Prepare, Revoke, Share, Start, pack_report, read_command
from gateway.clock import SystemClock
from gateway.core.policy import Snapshot
from gateway.descriptors import lacking
from gateway.ledger.audit import Audit
from gateway.ledger.metrics import WorkerMeter
from gateway.machine import incarnation, machine_of
from gateway.pipeline import World
from gateway.state.accounts.keeping import LeasedAccounts
from gateway.state.accounts.local import LocalAccounts
from gateway.state.cache.opening import Opener
from gateway.state.cache.secret import derived
from gateway.state.hints import Hints
from gateway.state.limits import AccountLimiter
from gateway.state.live import LocalLive
from gateway.state.store.port import Store
from gateway.state.store.remote import RemoteStore
from gateway.state.store.url import parse
from gateway.state.warm import WarmPrefixes
from gateway.state.warm_shared import LABEL, WarmShared
from gateway.state.watching import Watched
from gateway.upstream.address import Address
from gateway.upstream.http import Transport, address_of
from gateway.upstream.kept import ChatForm
from gateway.upstream.texts.kept import CompletionForm
from gateway.upstream.upstreams import Upstreams
from gateway.upstream.vectors import EmbeddingsForm
from gateway.wire.plane import Plane, Prepared
from gateway.wire.server import Server

OPENING_S: Final = 0.02  # between steps of opening accounts that no request has asked for: at most a tenth of our time
LOOK_AGAIN_S: Final = 30.0  # until budgets are looked at that only others use: a metric is no older than that
ORPHANED: Final = 70  # exit code: the supervisor is gone
GC_THRESHOLD: Final = (20_000, 20, 50)  # a request leaves no cycles behind; the usual 700 would look for some every few requests


class Worker:
    """All of one worker process."""

    def __init__(self, start: Start, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        snapshot = start.snapshot
        bounds = snapshot.policy.bounds
        self.epoch = start.epoch
        self._loop = loop
        self._waiting: Switch | None = None
        self._trouble: tuple[int, str] | None = None  # the epoch that could not be prepared, and why
        self._addresses = addresses_of(snapshot, start.secrets)
        self.clock = SystemClock()
        self.transport = Transport(loop, bounds)
        self.ledger = Audit(Path(start.state, "ledger"), f"worker-{start.number}", self.clock)
        self.live = LocalLive(bounds, snapshot.policy.deployments, start.sharing)
        self.live.cordon(start.cordoned)
        self.live.check(start.checked, self.clock.now())
        limited: dict[tuple[str, ...], float] = {}  # counted by the limiter, told by the meter
        self.meter = WorkerMeter(snapshot, limited)
        self._stores = {name: self._store(name, url) for name, url in start.stores.items()}
        self.store: Store | None = self._stores.get("state")  # limits and what else is no content
        self._accounts = accounts_of(self.store, start, self.ledger.chain, self.clock, loop)
        self.limiter = AccountLimiter(self._accounts, snapshot, self.clock.now(), limited)
        self._opening: asyncio.TimerHandle | None = None
        self._open_accounts()
        self._hints: Hints | None = None
        if self.store is not None:
            self._hints = Hints(self.store, self.live, self.clock, os.urandom(8).hex(), defects.report)
        self.opener = Opener(
            self._stores.get("cache", self.store),
            start.cache_spot,
            start.cache_secret,
            {"chat": ChatForm(), "completions": CompletionForm(), "embeddings": EmbeddingsForm()},
            self.clock,
            loop,
            self.meter.kept,
            defects.report,
        )
        self.warm = WarmPrefixes(derived(start.cache_secret, LABEL) if start.cache_secret else os.urandom(32))
        self._shared: WarmShared | None = None
        if self.store is not None and start.cache_secret:
            self._shared = WarmShared(self.store, self.warm, self.clock, os.urandom(8).hex(), defects.report)
            self._shared.adopt(snapshot.policy)
        affinity = snapshot.policy.affinity
        upstreams = Upstreams(self.transport, self._addresses, start.secrets, bounds, self.clock, loop, affinity)
        world = World(
            clock=self.clock,
            upstream=Watched(upstreams, self.live, self.clock),
            ledger=self.ledger,
            live=self.live,
            meter=self.meter,
            bounds=bounds,
            draw=partial(random.Random(os.urandom(16)).getrandbits, 30),
            defect=defects.report,
            limiter=self.limiter,
            cache=self.opener.cache_for(snapshot.policy),
            warmth=self.warm.under(affinity),
            aside=Asides(),
        )
        self.plane = Plane(world, snapshot, demo=start.demo)
        self.plane.revoked = start.revoked
        self.server = Server(self.plane, listener)

    def share(self, workers: int | None) -> None:
        """Go by so many workers on all machines that share a store."""
        self.live.share(workers)
        if workers is not None:
            self._accounts.workers = workers

    def _store(self, name: str, url: str) -> RemoteStore:
        waited, failed = partial(self.meter.store_waited, name), partial(self.meter.store_failed, name)
        return RemoteStore(parse(url), self._loop, waited=waited, failed=failed)

    # --- from one snapshot to another ---------------------------------------------------------------------------------

    def prepare(self, command: Prepare) -> None:
        """Build all that serving under another snapshot takes. What goes wrong is reported, and changes nothing."""
        try:
            snapshot = command.snapshot
            bounds = snapshot.policy.bounds
            addresses = addresses_of(snapshot, command.secrets)
            affinity = snapshot.policy.affinity
            upstreams = Upstreams(self.transport, addresses, command.secrets, bounds, self.clock, self._loop, affinity)
            watched = Watched(upstreams, self.live, self.clock)
            cache, warmth = self.opener.cache_for(snapshot.policy), self.warm.under(affinity)
            world = replace(self.plane.world, upstream=watched, bounds=bounds, cache=cache, warmth=warmth)
            self._waiting = Switch(command.epoch, world, self.plane.prepare(snapshot), addresses)
        except Exception as error:  # noqa: BLE001 - a worker that serves well must not die of what it does not serve yet
            defects.report(error)
            self._trouble = command.epoch, type(error).__name__

    def commit(self, epoch: int) -> None:
        """Begin requests under what was prepared as `epoch`; nothing happens if that is not what waits."""
        switch = self._waiting
        if switch is None or switch.epoch != epoch:
            return
        bounds, deployments = switch.world.bounds, switch.prepared.timeline.snapshot.policy.deployments
        renewed = [name for name, address in switch.addresses.items() if self._addresses.get(name) != address]
        self.plane.adopt(switch.prepared, switch.world)
        self.meter.adopt(switch.prepared.timeline.snapshot)
        self.limiter.adopt(switch.prepared.timeline.snapshot, self.clock.now())
        self._open_accounts()
        self.live.adopt(bounds, deployments, renewed)
        self.opener.adopt(switch.prepared.timeline.snapshot.policy)
        if self._shared is not None:
            self._shared.adopt(switch.prepared.timeline.snapshot.policy)
        self.transport.bounds = bounds
        self.transport.retire(switch.addresses.values())
        self._addresses = switch.addresses
        self.epoch, self._waiting = epoch, None

    def _open_accounts(self) -> None:
        """Open accounts that no request has asked for, a few at a time."""
        if self._opening is not None:
            self._opening.cancel()
        wait_s = OPENING_S if self.limiter.open_more() else LOOK_AGAIN_S
        self._opening = self._loop.call_later(wait_s, self._open_accounts)

    def abandon(self, epoch: int) -> None:
        """Forget what was prepared as `epoch`."""
        if self._waiting is not None and self._waiting.epoch == epoch:
            self._waiting = None

    async def close(self) -> None:
        """Let go of all connections and of the ledger. Nothing may be asked of this worker any more."""
        if self._opening is not None:
            self._opening.cancel()
        await self.transport.close()
        await self._accounts.close()
        try:
            self.ledger.close()
        except OSError:  # its last lines may not have reached the disk; all else is to be said and closed all the same
            self.meter.ledger_failed()
        if self._hints is not None:
            self._hints.close()
        if self._shared is not None:
            self._shared.close()
        await self.opener.close()
        for store in self._stores.values():
            await store.close()

    def report(self) -> bytes:
        """How this worker is, for the supervisor."""
        stats = self.transport.stats
        return pack_report({
            "ready": self.server.ready,
            "snapshot": self.plane.snapshot.hash,
            "epoch": self.epoch,
            "prepared": None if self._waiting is None else self._waiting.epoch,
            "trouble": self._trouble,
            "in_flight": self.server.in_flight,
            "connections": self.server.connections,
            "upstream_connections": dict(stats.open_by_endpoint),
            "upstream_in_flight": self.live.in_flight,
            "queued": self.live.queued,
            "revoked": len(self.plane.revoked),
            "cordoned": sorted(self.live.cordoned),
            "descriptors": lacking(),
            "chain": self.ledger.chain,
            "ledger": self.ledger.trouble,
            "stores": {name: store.why for name, store in self._stores.items()},
            "live": self.live.rows(self.clock.now()),
            "cache_bytes": 0 if self.opener.cache is None else self.opener.cache.bytes,
            "limits": self.limiter.some_rows(self.clock.now()),
            "metrics": self.meter.totals(),
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Switch:
    """What waits for its commit."""

    epoch: int
    world: World
    prepared: Prepared
    addresses: Mapping[str, Address]


def accounts_of(
    store: Store | None, start: Start, chain: str, clock: SystemClock, loop: asyncio.AbstractEventLoop
) -> LeasedAccounts | LocalAccounts:
    """Accounts on the shared store; without one, this worker's even share of each."""
    if store is None:
        return LocalAccounts(clock.now, start.workers)
    name = incarnation(machine_of(Path(start.state)), chain)
    return LeasedAccounts(store, name, clock.now, loop, workers=start.sharing or start.workers, defect=defects.report)


def addresses_of(snapshot: Snapshot, secrets: Mapping[str, str | None]) -> Mapping[str, Address]:
    """Where each endpoint of `snapshot` is and what is shown there, by its id."""
    endpoints = {deployment.endpoint.id: deployment.endpoint for deployment in snapshot.policy.deployments}
    return {name: address_of(endpoint, secrets.get(name)) for name, endpoint in endpoints.items()}


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
    parts = (
        serving,
        loop.create_task(_report(worker, writer, start.pace.report_s)),
        loop.create_task(_sync(worker, start.pace.report_s)),
        loop.create_task(_listen(worker, reader, writer)),
    )
    done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    for task in parts:
        task.cancel()
    for task in done:
        if error := task.exception():
            defects.report(error)
    await worker.close()
    if serving not in done:
        return ORPHANED
    writer.write(worker.report())  # the last word: counters must not lose their last second
    await writer.drain()
    writer.close()
    return 0


async def _listen(worker: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Obey commands until the supervisor is gone, and answer each with a report."""
    while (command := await read_command(reader)) is not None:
        match command:
            case Drain():
                worker.server.drain()
            case Prepare():
                worker.prepare(command)
            case Commit(epoch):
                worker.commit(epoch)
            case Abandon(epoch):
                worker.abandon(epoch)
            case Cordon(endpoints):
                worker.live.cordon(endpoints)
            case Health(found):
                worker.live.check(found, worker.clock.now())
            case Revoke(digests):
                worker.plane.revoked = digests
            case Share(workers):
                worker.share(workers)
            case Start():
                continue  # it has
        writer.write(worker.report())
        await writer.drain()


async def _report(worker: Worker, writer: asyncio.StreamWriter, every_s: float) -> None:
    """Tell the supervisor how things are: as soon as requests are served, then again and again."""
    while not worker.server.ready:  # noqa: ASYNC110 - uvicorn has no event for it, and this is milliseconds, once
        await asyncio.sleep(0.005)
    while True:
        worker.clock.resync()
        writer.write(worker.report())
        await writer.drain()
        await asyncio.sleep(every_s)


async def _sync(worker: Worker, every_s: float) -> None:
    """Have the ledger reach the disk, again and again. Apart from reports: who waits for a disk is not to be taken for stuck."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every_s)
        try:
            await loop.run_in_executor(None, worker.ledger.sync)
        except OSError:  # a disk that can't keep what it took: the next write will tell, if it stays so
            worker.meter.ledger_failed()


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
