"""Verdicts kept on disk, so that a policy that was proved today is not proved again: by content, by prover, and for a day.

What is kept saves work and nothing else. A file that is missing or damaged, by however little, is a policy to be proved again: each
carries the sha256 of what it says. That is against disks and accidents. Whoever may write the state folder may write the ledger
too, and is trusted with both.

A rotated key is no reason to prove anything again, for nobody's claims depend on its text. Nor is a revoked one: what holds for all
requests of some keys holds for those of fewer. A key that is new, says more or lives longer is one.
"""

import contextlib
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, Final

from gateway import __version__
from gateway.config.canonical import content_hash
from gateway.core.policy import Snapshot
from gateway.proof.claims import DAY_S
from gateway.proof.space import usable_keys
from gateway.proof.verdict import Proof, Status, Verdict, verdict_of
from gateway.whole import write_whole

FILES_MAX: Final = 100  # the last so many policies; a file is a few kilobytes
SUFFIX: Final = ".json"
UNIVERSAL: Final = frozenset({Status.PROVED, Status.LAPSES})  # what is said of all requests, and so of fewer


def prover() -> str:
    """What proves here, with its versions: the solver's, ours, and the sha256 of this package's own text. z3 is not imported."""
    text = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text.update(path.read_bytes())
    return f"z3 {importlib.metadata.version('z3-solver')}, gateway {__version__}, {text.hexdigest()[:16]}"


class Kept:
    """The verdicts in `folder`. Never raises for what the disk does: then nothing is kept."""

    def __init__(self, folder: Path, by: str) -> None:
        self._folder = folder
        self._by = by

    def find(self, snapshot: Snapshot, at: float) -> tuple[Verdict, ...] | None:
        """The verdicts on `snapshot` that still hold at `at` (UTC seconds); None if it has to be proved."""
        try:
            record = _intact(json.loads(self._path(snapshot).read_bytes()))
            proof = Proof(float(record["at"]), record["prover"], tuple(verdict_of(found) for found in record["verdicts"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        claims = [claim.id for claim in snapshot.policy.claims]
        same = proof.prover == self._by and [verdict.claim for verdict in proof.verdicts] == claims
        if not same or not _holds(proof, at):
            return None
        now, then = _keys(snapshot, at), record.get("keys")
        if now == then or (_fewer(now, then) and all(verdict.status in UNIVERSAL for verdict in proof.verdicts)):
            return proof.verdicts
        return None

    def keep(self, snapshot: Snapshot, at: float, verdicts: tuple[Verdict, ...]) -> None:
        """Keep verdicts that were found `at` (UTC seconds)."""
        record = {"at": at, "prover": self._by, "verdicts": [v.as_record() for v in verdicts], "keys": _keys(snapshot, at)}
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path(snapshot), json.dumps({**record, "sha256": _digest(record)}).encode())
            self._prune()

    def _path(self, snapshot: Snapshot) -> Path:
        # lines of files are no part of a policy's hash, and are told in verdicts
        policy, access = snapshot.policy, snapshot.access
        lines = (*(c.line for c in policy.claims), *(d.endpoint.line for d in policy.deployments))
        says = {name: (tenant.group, tenant.facts) for name, tenant in access.tenants.items()}  # limits change no route's right
        return self._folder / (content_hash(policy.hash, says, self._by, lines) + SUFFIX)

    def _prune(self) -> None:
        """Remove the oldest beyond FILES_MAX."""
        files = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - FILES_MAX)]:
            path.unlink(missing_ok=True)


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _intact(found: dict[str, Any]) -> dict[str, Any]:
    """What was kept, without its digest. Raises ValueError for what is not as it was written."""
    record = {name: value for name, value in found.items() if name != "sha256"}
    if found.get("sha256") != _digest(record):
        raise ValueError("it is not as it was written")
    return record


def _keys(snapshot: Snapshot, at: float) -> dict[str, list[Any]]:
    """What claims may depend on of each key that can be used at `at`: whose it is and what it says, and until when."""
    return {key.id: [content_hash(key.tenant, key.facts), key.expires] for key in usable_keys(snapshot, at)}


def _fewer(now: dict[str, list[Any]], then: object) -> bool:
    """Whether every key of `now` was one of `then`, saying the same, and lives no longer than was thought."""
    if not isinstance(then, dict):
        return False
    for name, (says, expires) in now.items():
        known = then.get(name)
        if not isinstance(known, list) or len(known) != 2 or known[0] != says:
            return False
        if known[1] is not None and (expires is None or expires > known[1]):
            return False
    return True


def _holds(proof: Proof, at: float) -> bool:
    """Whether what was found then is true now: the same day, no earlier, and no label has ended since that a claim hung on."""
    lapsed = any(verdict.lapses is not None and verdict.lapses <= at for verdict in proof.verdicts)
    decided = all(verdict.status != "undecided" for verdict in proof.verdicts)  # a quieter machine may do better
    return proof.at <= at < (proof.at // DAY_S + 1) * DAY_S and not lapsed and decided
