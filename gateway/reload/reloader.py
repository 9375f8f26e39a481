"""Reloads: from a change of the folder, a signal or an admin's PUT to another snapshot in force, or to the reasons why not.

The path of a change: read all documents at one moment → stage a copy → judge it in a child (loaded, proved, its cases run) → find
its credentials → switch all workers → keep it in history, write it into the ledger, say so in the log. One change at a time.
Whatever is wrong on the way, the snapshot in force stays in force, and everything that is wrong is told. What was held up by
something that is not wrong with the folder (a full disk, no descriptor left, a worker that could not prepare it) is tried again:
nobody would touch a document for that, and what was revoked with it must go.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.config.secrets import Secrets
from gateway.core.policy import Policy, Snapshot
from gateway.fleet import InForce, NotSwitched
from gateway.ledger.changes import ChangeLog
from gateway.ledger.families import RELOAD_RESULTS
from gateway.pace import PACE
from gateway.proof.gate import Judged
from gateway.reload.admission import in_place, reload_reasons
from gateway.reload.documents import Documents, Unreadable, fingerprint, ours, read_documents, write_documents
from gateway.reload.history import Entry, History, name_of

FOLDER: Final = "the folder"  # who asked, where a document changed
LOOKS_MAX: Final = 64  # between two tries at what something of ours has held up: a minute, and a line in the log

APPLIED, UNCHANGED, REFUSED = RELOAD_RESULTS


class Stale(Exception):
    """The documents are not those that whoever asks for a change has seen."""


class Switching(Protocol):
    """What is asked of the fleet."""

    @property
    def in_force(self) -> InForce: ...

    async def switch(self, snapshot: Snapshot, secrets: Mapping[str, str | None], between: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """What one attempt at a change came to. `problems` (if refused) and `warnings` are lines for people."""

    at: float  # UTC seconds
    by: str
    how: str
    result: str  # applied, unchanged or refused
    snapshot: str  # in force afterwards
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    claims: tuple[Mapping[str, Any], ...] = ()
    took_s: float = 0.0

    def as_record(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Started:
    """What a start was judged by, and the fingerprint of the folder from before it was judged."""

    seen: tuple[object, ...]
    judged: Judged


class Reloader:
    """`judge` (blocking) judges a folder, `resolve` finds credentials, `now` says UTC; the rest is what they are called.

    With `started`, the first reload judges the folder only if a document has changed since the start did.
    """

    def __init__(
        self,
        folder: Path,
        fleet: Switching,
        history: History,
        ledger: ChangeLog,
        log: Callable[..., None],
        *,
        judge: Callable[[Path], Judged],
        resolve: Callable[[Policy], Secrets],
        now: Callable[[], float] = time.time,
        look_s: float = PACE.look_s,
        started: Started | None = None,
    ) -> None:
        self.folder = folder
        self.history = history
        self.since = now()  # when the snapshot in force began to serve, UTC seconds
        self.last: Change | None = None
        self.counts: Counter[str] = Counter(dict.fromkeys(RELOAD_RESULTS, 0))
        self._fleet = fleet
        self._ledger = ledger
        self._log = log
        self._judge = judge
        self._resolve = resolve
        self._now = now
        self._look_s = look_s
        self._started = started
        self._one = asyncio.Lock()
        self._seen: tuple[object, ...] | None = None  # the folder when it was last read
        self._kept = False  # whether history has the snapshot in force
        self._held_up = False  # whether the last change failed for something that is not wrong with it

    @property
    def snapshot(self) -> Snapshot:
        """What is in force."""
        return self._fleet.in_force.snapshot

    @property
    def last_succeeded(self) -> bool:
        """Whether what was to serve last does. At the start it does."""
        return self.last is None or self.last.result != REFUSED

    # --- what causes a change -------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Reload whenever the folder has changed and then stood still for one look. Runs until cancelled."""
        before = None
        await self.reload(FOLDER, "start")
        looks = 0  # since the last try at what is held up
        pause = 1  # of looks, before the next one
        while True:
            await asyncio.sleep(self._look_s)
            found = await asyncio.to_thread(fingerprint, self.folder)
            looks += 1
            if found != self._seen and found == before:
                looks, pause = 0, 1
                await self.reload(FOLDER, "a document changed")
            elif self._held_up and looks >= pause:
                looks, pause = 0, min(2 * pause, LOOKS_MAX)
                await self.reload(FOLDER, "tried again")
            before = found

    async def hung_up(self) -> None:
        """Reload because of SIGHUP: also where no document changed, since credentials may have."""
        await self.reload("SIGHUP", "SIGHUP")

    async def read(self) -> Documents:
        """The documents that lie in the folder. Raises Unreadable."""
        return await asyncio.to_thread(read_documents, self.folder)

    def standing(self) -> dict[str, Any]:
        """What is in force, since when, and how the last attempt at a change went; as JSON can hold it."""
        snapshot = self.snapshot
        return {
            "snapshot": name_of(snapshot),
            "policy": snapshot.policy.hash,
            "access": snapshot.access.hash,
            "since": self.since,
            "age_s": round(self._now() - self.since, 3),
            "last_succeeded": self.last_succeeded,
            "last": None if self.last is None else self.last.as_record(),
            "counts": dict(self.counts),
        }

    async def reload(self, by: str, how: str) -> Change:
        """Load what lies in the folder."""
        async with self._one:
            self._seen = await asyncio.to_thread(fingerprint, self.folder)
            try:
                documents = await self.read()
            except Unreadable as error:
                self._held_up = error.__cause__ is not None
                return await self._told(self._change(by, how, REFUSED, problems=(str(error),)))
            return await self._to(documents, by, how, known=await asyncio.to_thread(self._as_started))

    async def put(self, documents: Documents, seen: str, by: str, how: str = "PUT") -> Change:
        """Serve these documents and write them into the folder. `seen` is the etag of those that they replace.

        Raises NotOurs, Stale, Unreadable; OSError if the folder can't be written, and then nothing has changed.
        """
        async with self._one:
            ours(self.folder)
            if etag(await self.read()) != seen:
                raise Stale("the documents in the folder are not those that this change was made from: get them again")
            found = await self._to(documents, by, how, write=True)
            self._seen = await asyncio.to_thread(fingerprint, self.folder)
            return found

    async def roll_back(self, to: str | None, seen: str, by: str) -> tuple[Entry, Change]:
        """Serve, and write into the folder, what served before. Raises what `put` does, and Unknown."""
        lies = name_of(self.snapshot) if self.last_succeeded else None
        entry, documents = await asyncio.to_thread(self.history.documents, to, lies)
        return entry, await self.put(documents, seen, by, f"rollback to {entry.snapshot}")

    async def check(self, documents: Documents) -> tuple[list[str], Judged]:
        """What would come of serving these documents: the reasons why not, and the judgement. Nothing is kept."""
        staged = await asyncio.to_thread(self.history.stage, documents)
        try:
            judged, secrets = await self._judged(staged)
        finally:
            await asyncio.to_thread(self.history.drop, staged)
        return reload_reasons(judged, secrets, self.snapshot), judged

    def _as_started(self) -> Judged | None:
        """The judgement of the start, once, if the documents that were just read are those that it was on."""
        started, self._started = self._started, None
        return started.judged if started is not None and fingerprint(self.folder) == started.seen else None

    # --- the path of a change -------------------------------------------------------------------------------------------

    async def _to(
        self, documents: Documents, by: str, how: str, *, write: bool = False, known: Judged | None = None
    ) -> Change:
        began = time.monotonic()
        self._held_up = True
        try:
            staged = await asyncio.to_thread(self.history.stage, documents)
        except OSError as error:
            return await self._told(self._change(by, how, REFUSED, problems=(f"it can't be kept: {error}",)))
        before = self.snapshot
        try:
            judged, secrets = await self._judged(staged, known)
            problems = reload_reasons(judged, secrets, before)
            result = REFUSED
            self._held_up = judged.unjudged
            if not problems and judged.snapshot is not None:
                result = await self._switched(judged.snapshot, secrets, documents if write else None)
                if result == APPLIED or not self._kept:
                    await asyncio.to_thread(self._keep, staged, by, how)
                self._held_up = not self._kept
        except NotSwitched as error:
            result, problems, self._held_up = REFUSED, [str(error)], True
        finally:
            await asyncio.to_thread(self.history.drop, staged)  # what was kept is there no more
        change = self._change(by, how, result, problems=tuple(problems) if result == REFUSED else (), warnings=judged.warnings)
        claims = tuple(verdict.as_record() for verdict in judged.verdicts)
        return await self._told(replace(change, claims=claims, took_s=round(time.monotonic() - began, 3)), before)

    async def _judged(self, staged: Path, known: Judged | None = None) -> tuple[Judged, Secrets]:
        """The judgement on a staged folder, in the words of the folder that it is a copy of, and its credentials."""
        found = await asyncio.to_thread(self._judge, staged) if known is None else known
        judged = replace(
            found,
            problems=in_place(found.problems, staged, self.folder),
            warnings=in_place(found.warnings, staged, self.folder),
            failed_cases=in_place(found.failed_cases, staged, self.folder),
        )
        if judged.snapshot is None:
            return judged, Secrets()
        return judged, await asyncio.to_thread(self._resolve, judged.snapshot.policy)

    async def _switched(self, snapshot: Snapshot, secrets: Secrets, documents: Documents | None) -> str:
        """Switch if there is anything to switch to. Raises NotSwitched, NotOurs, OSError."""
        def write() -> None:
            if documents is not None:
                write_documents(self.folder, documents)

        in_force = self._fleet.in_force
        if snapshot.hash == in_force.snapshot.hash and dict(secrets.endpoints) == dict(in_force.secrets):
            await asyncio.to_thread(write)
            return UNCHANGED
        await self._fleet.switch(snapshot, secrets.endpoints, write)
        self.since, self._kept = self._now(), False
        return APPLIED

    def _keep(self, staged: Path, by: str, how: str) -> None:
        try:
            self.history.keep(staged, self.snapshot, self.since, by, how)
            self._kept = True
        except OSError as error:  # it serves, and a full disk is no reason to serve what was revoked
            self._log("history_failed", why=str(error))

    def _change(self, by: str, how: str, result: str, *, problems: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> Change:
        return Change(self._now(), by, how, result, name_of(self.snapshot), problems, warnings)

    async def _told(self, change: Change, before: Snapshot | None = None) -> Change:
        """Remember, count, and say in the ledger and the log what a change came to."""
        self.last = change
        self.counts[change.result] += 1
        was = name_of(before if before is not None else self.snapshot)
        if change.result == UNCHANGED:
            self._log("reload_unchanged", by=change.by, how=change.how, snapshot=change.snapshot)
            return change
        why = "\n".join(change.problems)
        try:
            await asyncio.to_thread(self._ledger.changed, change.by, change.how, change.result, was, change.snapshot, why)
        except OSError as error:
            self._log("ledger_failed", why=str(error))
        if change.result == APPLIED:
            said = {"by": change.by, "how": change.how, "was": was, "snapshot": change.snapshot, "took_s": change.took_s}
            self._log("reloaded", **said, warnings=change.warnings)
        else:
            self._log("reload_refused", by=change.by, how=change.how, serving=change.snapshot, why=change.problems)
        return change

    def close(self) -> None:
        """Let go of the ledger. Raises OSError."""
        self._ledger.close()


def etag(documents: Documents) -> str:
    """What a set of documents is called, byte for byte: the beginning of a sha256, in hex."""
    found = hashlib.sha256()
    for name, data in sorted(documents.items()):
        found.update(b"%d:%b%d:" % (len(name.encode()), name.encode(), len(data)))
        found.update(data)
    return found.hexdigest()[:32]
