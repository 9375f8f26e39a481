"""The workers as the supervisor keeps them: started, replaced when they die, switched to another snapshot, drained.

Promise of `switch`: when it returns, no request begins under the snapshot before. All workers have built what serving under the new
one takes before the first of them begins to; one that says neither yes nor no in time is killed, and its successor knows only the
new one. Two switches never cross. And a worker that says nothing for too long is killed and replaced: one whose loop does not turn
serves nobody, and would otherwise stay so.
"""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway import defects
from gateway.channel import Abandon, Commit, Cordon, Drain, Health, Prepare, Revoke, Share, Start, pack, read_report
from gateway.children import python, surroundings
from gateway.core.caching import spot_of
from gateway.core.live import Checked
from gateway.core.policy import Snapshot
from gateway.descriptors import tell
from gateway.ledger.metrics import added
from gateway.pace import PACE, Pace
from gateway.refused import in_words
from gateway.rounds import Rounds

RESPAWN_S_MAX: Final = 30.0  # the longest pause before a worker is replaced: one that can't start must not eat the machine
STEADY_S: Final = 60.0  # a worker that has lived so long was no false start
ANSWER_S_MAX: Final = 10.0  # for a worker to prepare, and again to commit: a loop that has not turned by then serves nobody
SILENT_S_MAX: Final = 10.0  # for a worker that has reported before, every second: the same, where nothing is asked of it


class NotSwitched(Exception):
    """Why the snapshot in force stays in force. No request has begun under the other one."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What workers begin requests under. `secrets` are by endpoint id; `epoch` counts switches."""

    epoch: int
    snapshot: Snapshot
    secrets: Mapping[str, str | None] = field(repr=False)


@dataclass(slots=True, eq=False)
class Process:
    """One worker. `report` is its last; {} before the first. `started` is the epoch that it was started with, `heard` when it last
    said something (loop time), and `silent` whether that is too long ago."""

    popen: subprocess.Popen[bytes]
    writer: asyncio.StreamWriter
    started: int
    report: dict[str, Any] = field(default_factory=dict)
    limits: Rounds = field(default_factory=Rounds)
    heard: float = 0.0
    silent: bool = False

    @property
    def takes_connections(self) -> bool:
        """Whether it does, as far as is known."""
        return bool(self.report.get("ready")) and not self.report.get("descriptors") and not self.silent

    def send(self, packed: bytes) -> None:
        """Send a command. One that is dying hears nothing any more."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(packed)

    def prepared(self, epoch: int) -> bool:
        """Whether it has said that it is ready to commit `epoch`."""
        return bool(self.report.get("prepared") == epoch)

    def trouble(self, epoch: int) -> str | None:
        """Why it can't prepare `epoch`, if it has said so."""
        found = self.report.get("trouble")
        return str(found[1]) if found and found[0] == epoch else None

    def committed(self, epoch: int) -> bool:
        """Whether it begins requests under `epoch` or a later one."""
        return self.started >= epoch or self.report.get("epoch", -1) >= epoch


class Fleet:
    """All workers of one gateway. `log` takes an event and its fields."""

    def __init__(
        self,
        listener: socket.socket,
        state: Path,
        in_force: InForce,
        log: Callable[..., None],
        *,
        workers: int,
        demo: bool,
        cordoned: frozenset[str] = frozenset(),
        revoked: frozenset[bytes] = frozenset(),
        stores: Mapping[str, str] | None = None,
        cache_secret: bytes = b"",
        answer_s_max: float = ANSWER_S_MAX,
        silent_s_max: float = SILENT_S_MAX,
        pace: Pace = PACE,
    ) -> None:
        self.processes: dict[int, Process] = {}
        self.draining = False
        self.deaths = 0
        self.last_words: Mapping[str, Any] = {"metrics": {}}  # what all workers that have died had counted, as if one had
        self.on_death: Callable[[int], None] = lambda number: None  # told of a worker that has died, before another is started
        self.ready_once = asyncio.Event()
        self.in_force = in_force
        self.cordoned = cordoned  # endpoints that get no requests
        self.checked: Mapping[str, Checked] = {}  # what health checks have against endpoints
        self.switched: Callable[[], None] = lambda: None  # called when another snapshot has come into force
        self.sharing: int | None = workers  # how many workers there are on all machines that share a store; None: nobody knows
        self.revoked = revoked  # sha256 of keys that nobody is let in with; it only grows
        self._listener = listener
        self._state = state
        self._demo = demo
        self.stores = dict(stores or {})  # URLs by name
        self._cache = spot_of(in_force.snapshot.policy), cache_secret  # the store that workers keep answers in is that of the start
        self._log = log
        self._workers = workers
        self._answer_s_max = answer_s_max
        self._silent_s_max = silent_s_max
        self._pace = pace
        self._keeping: list[asyncio.Task[None]] = []
        self._listening: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()  # set, and replaced, whenever a worker has reported or died
        self._switching = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether a worker takes connections and none is being told to stop."""
        return not self.draining and any(process.takes_connections for process in self.processes.values())

    @property
    def reports(self) -> Iterable[Mapping[str, Any]]:
        """The last report of each worker that lives."""
        return [process.report for process in self.processes.values()]

    @property
    def chains(self) -> frozenset[str] | None:
        """What the ledger chains of all workers that live are called; None while some have not said it yet."""
        found = [report.get("chain") for report in self.reports]
        return None if None in found else frozenset(map(str, found))

    @property
    def snapshot(self) -> Snapshot:
        """What requests begin under."""
        return self.in_force.snapshot

    # --- starting, replacing, ending ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, and keep so many running."""
        loop = asyncio.get_running_loop()
        self._keeping = [loop.create_task(self._keep(number)) for number in range(self._workers)]
        self._listening = loop.create_task(self._listen_for_silence())

    async def drain(self) -> None:
        """Have all workers finish what they do. Each ends by itself; `drain_s_max` is theirs to keep, or they are killed."""
        self.draining = True
        if self._listening is not None:
            self._listening.cancel()
        self._stopping.set()
        self._log("draining", in_flight=sum(process.report.get("in_flight", 0) for process in self.processes.values()))
        for process in list(self.processes.values()):
            process.send(pack(Drain()))
        self._listener.close()  # the last copy but the workers': from now on connecting is refused, and not left to wait for nobody
        drain_s_max = self.snapshot.policy.bounds.drain_s_max
        if (await asyncio.wait(self._keeping, timeout=drain_s_max + self._answer_s_max))[1]:
            why = f"it was told to end, and did not within {drain_s_max:g} s, nor soon after"
            for number in self.processes:
                self._log("worker_killed", worker=number, why=why)
            self.kill()
        await asyncio.gather(*self._keeping)

    async def _listen_for_silence(self) -> None:
        """Kill whoever has said nothing for too long. While we stood still ourselves, what they said has waited for us."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            await asyncio.sleep(self._pace.look_s)
            before, looked = looked, loop.time()
            if looked - before > self._pace.look_s + self._silent_s_max / 2:
                for process in self.processes.values():
                    process.heard = looked
            for number, process in self.processes.items():
                if process.report and not process.silent and looked - process.heard > self._silent_s_max:
                    process.silent = True
                    self._log("worker_replaced", worker=number, why=f"it has said nothing for {self._silent_s_max:g} s")
                    process.popen.kill()

    def kill(self) -> None:
        """End all workers at once."""
        for process in self.processes.values():
            process.popen.kill()

    async def _keep(self, number: int) -> None:
        """Keep worker `number` running until the fleet drains."""
        loop = asyncio.get_running_loop()
        pause_s = self._pace.respawn_s
        while not self.draining:
            began = loop.time()
            try:
                popen, reader, writer = await self._spawned()
            except OSError as error:  # no memory, no descriptor, no process: it may mend, and nobody else would try again
                self._log("worker_not_started", worker=number, why=in_words(error), next_in_s=pause_s)
            else:
                try:
                    code = await self._live(number, popen, reader, writer)
                except Exception as error:  # noqa: BLE001 - whatever a worker says, it must not end the keeping of workers
                    defects.report(error)
                    popen.kill()
                    code = await loop.run_in_executor(None, popen.wait)
                if self.draining:
                    return
                self._log("worker_died", worker=number, code=code, next_in_s=pause_s)
            pause_s = self._pace.respawn_s if loop.time() - began > STEADY_S else min(pause_s * 2, RESPAWN_S_MAX)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
                return

    async def _spawned(self) -> tuple[subprocess.Popen[bytes], asyncio.StreamReader, asyncio.StreamWriter]:
        """A new worker, which waits for its first command, and our end of its channel. Raises OSError, and then there is none."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*python("gateway.worker"), "--listener", str(self._listener.fileno()), "--channel", str(theirs.fileno())]
            try:
                # spawned, not forked; a blocking call, but of a millisecond, and before or between lives of a worker
                popen = subprocess.Popen(  # noqa: ASYNC220
                    command, pass_fds=(self._listener.fileno(), theirs.fileno()), stdin=subprocess.DEVNULL, env=surroundings()
                )
            except OSError:
                ours.close()
                raise
        return popen, *await asyncio.open_connection(sock=ours)

    async def _live(
        self, number: int, popen: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        """One life of a worker, from its first command to its end; returns its exit code."""
        loop = asyncio.get_running_loop()
        now = self.in_force  # nothing is awaited from here until the process can be found, so no switch overlooks it
        start = Start(
            number,
            now.snapshot,
            dict(now.secrets),
            str(self._state),
            self._demo,
            self._workers,
            self.sharing,
            self.cordoned,
            self.revoked,
            now.epoch,
            self.stores,
            *self._cache,
            dict(self.checked),
            self._pace,
        )
        writer.write(pack(start))
        process = self.processes[number] = Process(popen, writer, now.epoch)
        if self.draining:  # told to stop between the spawning and here: nobody else would tell this worker
            writer.write(pack(Drain()))
        try:
            while (report := await read_report(reader)) is not None:
                tell(self._log, f"worker {number}", process.report.get("descriptors", ""), report.get("descriptors", ""))
                self._tell_ledger(number, process.report.get("ledger", ""), report.get("ledger", ""))
                self._tell_stores(number, process.report.get("stores", {}), report.get("stores", {}))
                report["limits"] = process.limits.take(report["limits"])
                process.report, process.heard, process.silent = report, loop.time(), False
                if report.get("ready"):
                    self.ready_once.set()
                self._tell()
        finally:
            writer.close()
            del self.processes[number]
            self._tell()
            self.deaths += 1
            self.last_words = {"metrics": added(self.last_words["metrics"], process.report.get("metrics", {}))}
        code = await loop.run_in_executor(None, popen.wait)
        if not self.draining:
            self.on_death(number)
        return code

    # --- from one snapshot to another ---------------------------------------------------------------------------------

    async def switch(self, snapshot: Snapshot, secrets: Mapping[str, str | None], between: Callable[[], None]) -> None:
        """Have requests begin under `snapshot`. `between` is called once all are prepared; if it raises, nothing is switched.

        Raises NotSwitched, and what `between` raises.
        """
        async with self._switching:
            if self.draining:
                raise NotSwitched("the gateway is draining")
            epoch = self.in_force.epoch + 1
            prepare = pack(Prepare(epoch, snapshot, dict(secrets)))
            asked = list(self.processes.values())
            try:
                await self._prepare(prepare, epoch, asked)
                between()
            except BaseException:
                for process in asked:
                    process.send(pack(Abandon(epoch)))
                # the number is spent: a worker that answers late must not be taken for one that is ready for the next
                self.in_force = InForce(epoch, self.in_force.snapshot, self.in_force.secrets)
                raise
            self.in_force = InForce(epoch, snapshot, secrets)
            self.switched()
            await self._commit(prepare, epoch, asked)

    async def _prepare(self, prepare: bytes, epoch: int, asked: Collection[Process]) -> None:
        for process in asked:
            process.send(prepare)
        troubles: list[str] = []

        def answered() -> bool:
            living = [process for process in self.processes.values() if process in asked]
            troubles[:] = [trouble for process in living if (trouble := process.trouble(epoch))]
            return bool(troubles) or all(process.prepared(epoch) for process in living)

        await self._until(answered)
        if troubles:
            raise NotSwitched(f"a worker could not prepare it ({troubles[0]}), and has logged where")

    async def _commit(self, prepare: bytes, epoch: int, asked: Collection[Process]) -> None:
        for process in list(self.processes.values()):
            if process.started < epoch:
                if process not in asked:  # started since the others were asked
                    process.send(prepare)
                process.send(pack(Commit(epoch)))

        def late() -> list[tuple[int, Process]]:
            return [(number, process) for number, process in self.processes.items() if not process.committed(epoch)]

        await self._replaced(late, "take up the new snapshot")

    async def cordon(self, endpoints: frozenset[str]) -> None:
        """Have no worker begin a call at any of `endpoints` (ids), and at all others as ever. Returns when that is so."""
        async with self._switching:
            self.cordoned = endpoints  # those that start from here on know
            for process in list(self.processes.values()):
                process.send(pack(Cordon(endpoints)))

            def late() -> list[tuple[int, Process]]:
                living = self.processes.items()
                return [(number, process) for number, process in living if set(process.report.get("cordoned", [None])) != endpoints]

            await self._replaced(late, "cordon as it was told")

    def tell_health(self, checked: Mapping[str, Checked]) -> None:
        """Have all workers go by what health checks have found. Nobody waits for it: it only takes routes away."""
        self.checked = checked
        for process in list(self.processes.values()):
            process.send(pack(Health(dict(checked))))

    def tell_sharing(self, workers: int | None) -> None:
        """Have all workers go by so many. Nobody waits for it: what begins next does."""
        self.sharing = workers
        for process in list(self.processes.values()):
            process.send(pack(Share(workers)))

    async def revoke(self, digests: frozenset[bytes]) -> None:
        """Have no worker let anybody in with a key of `digests`, which are those of before and more. Returns when that is so."""
        async with self._switching:
            self.revoked = digests
            for process in list(self.processes.values()):
                process.send(pack(Revoke(digests)))

            def late() -> list[tuple[int, Process]]:
                living = self.processes.items()
                return [(number, process) for number, process in living if process.report.get("revoked") != len(digests)]

            await self._replaced(late, "revoke as it was told")

    async def _replaced(self, late: Callable[[], list[tuple[int, Process]]], what: str) -> None:
        """Wait until no worker is late to do `what`; those that are for too long are killed, and others take their place."""
        if await self._until(lambda: not late()):
            return
        for number, process in late():
            self._log("worker_replaced", worker=number, why=f"it did not {what} within {self._answer_s_max:g} s")
            process.popen.kill()
        await self._until(lambda: not late())

    async def _until(self, done: Callable[[], bool]) -> bool:
        """Wait until `done`; False if `answer_s_max` passed first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._answer_s_max
        while not done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), max(0.0, deadline - loop.time()))
            if loop.time() >= deadline:
                return done()
        return True

    def _tell_ledger(self, number: int, before: str, now: str) -> None:
        """Log what has become of the ledger that a worker writes; "" is one that it can write."""
        if now and not before:
            so = f"its requests are told 503, and nothing is sent, until it can write into {self._state / 'ledger'}"
            self._log("ledger_lost", worker=number, why=now, so=so)
        elif before and not now:
            self._log("ledger_back", worker=number)

    def _tell_stores(self, number: int, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Log what has become of the shared stores that a worker asks; "" is a store that is there."""
        for store, why in now.items():
            if store in before and why != before[store]:
                if why:
                    self._log("store_lost", worker=number, store=store, why=why)
                else:
                    self._log("store_back", worker=number, store=store)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
