"""Every snapshot that ever served, with its documents, in the state folder: `policies/SNAPSHOT/…` and `policies/history.jsonl`.

A line: {at, snapshot, policy, access, by, how}. The documents are those that were judged, byte for byte, so what served once can be
looked up, compared and rolled back to.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gateway.core.policy import Snapshot
from gateway.reload.documents import Documents, Unreadable, read_documents, write_documents

FOLDER: Final = "policies"
LINES: Final = "history.jsonl"
KEPT_MAX: Final = 100  # snapshots whose documents are kept; a policy is 20 kB, and lines are kept for ever
STAGED: Final = ".staged-"  # how folders begin that wait for their judgement
STAGED_S_MAX: Final = 3_600.0  # and for how long one may: much longer than any takes
NAME_CHARS: Final = 12  # of each hash, in a snapshot's name here: as in logs


NAME: Final = re.compile(r"[0-9a-f]{12}\.[0-9a-f]{12}")


class Unknown(Exception):
    """Why there is no such snapshot to go back to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One switch. `at` in UTC seconds; `snapshot` is the name here, `by` who asked for it and `how`."""

    at: float
    snapshot: str
    policy: str  # sha256 of what the policy means
    access: str
    by: str
    how: str


def name_of(snapshot: Snapshot) -> str:
    """What a snapshot is called in history, logs and the admin API: the beginnings of its two hashes."""
    return short(snapshot.policy.hash, snapshot.access.hash)


def short(policy: str, access: str) -> str:
    """The same, from the two hashes."""
    return f"{policy[:NAME_CHARS]}.{access[:NAME_CHARS]}"


class History:
    """The history in a state folder. Folders and files are for nobody else to read."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER

    def folder(self, name: str) -> Path | None:
        """Where the documents of a snapshot lie, if they do. A name that is none leads nowhere."""
        return self._folder / name if NAME.fullmatch(name) else None

    def stage(self, documents: Documents) -> Path:
        """A new folder of these documents, for judging; `keep` or `drop` it. Raises OSError, and then there is none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        staged = Path(tempfile.mkdtemp(dir=self._folder, prefix=STAGED))
        try:
            write_documents(staged, documents)
        except OSError:
            self.drop(staged)
            raise
        return staged

    def _sweep(self) -> None:
        """Remove what was left behind: by a process that was killed, or one that had no descriptor left to remove it with."""
        for left in self._folder.glob(f"{STAGED}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > STAGED_S_MAX:
                    self.drop(left)

    def drop(self, staged: Path) -> None:
        """Remove what was staged."""
        shutil.rmtree(staged, ignore_errors=True)

    def keep(self, staged: Path, snapshot: Snapshot, at: float, by: str, how: str) -> None:
        """Write down that `snapshot` serves from `at` (UTC seconds) and keep what it was made of. Raises OSError."""
        entry = Entry(at, name_of(snapshot), snapshot.policy.hash, snapshot.access.hash, by, how)
        place = self._folder / entry.snapshot
        if place.exists():  # it served before; what it is made of may be spelled otherwise now
            shutil.rmtree(place)
        staged.rename(place)
        with (self._folder / LINES).open("ab") as file:
            os.fchmod(file.fileno(), 0o600)
            line = json.dumps(asdict(entry)).encode() + b"\n"
            file.write(line if _ends_well(self._folder / LINES) else b"\n" + line)
            file.flush()
            os.fsync(file.fileno())
        self._prune()

    def entries(self) -> list[Entry]:
        """Every switch, the oldest first. A line that is no entry (a crash, a full disk) is left out. Raises OSError."""
        path = self._folder / LINES
        if not path.exists():
            return []
        found = []
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError, TypeError):
                found.append(Entry(**json.loads(line)))
        return found

    def documents(self, name: str | None, lies: str | None) -> tuple[Entry, Documents]:
        """The snapshot of this name, or of one that begins so; without a name, what to go back to from what `lies` in the folder.

        `lies` is the name of that; None if it is none that may serve. From anything but the newest snapshot, such as an edit that
        was refused, the way back leads to the newest one; from that, to the last before it that differs. Raises Unknown, OSError.
        """
        entries = self.entries()
        if not entries:
            raise Unknown(f"{self._folder}: no snapshot has served yet, so there is none to go back to")
        if name is None and lies != entries[-1].snapshot:
            found = entries[-1:]
        elif name is None:
            found = [entry for entry in entries if entry.snapshot != entries[-1].snapshot]
            if not found:
                raise Unknown(f"only one snapshot ({entries[-1].snapshot}) has ever served: there is none before it")
        else:
            found = [entry for entry in entries if name and entry.snapshot.startswith(name)]
            names = list(dict.fromkeys(entry.snapshot for entry in found))
            if len(names) != 1:
                known = ", ".join(list(dict.fromkeys(entry.snapshot for entry in reversed(entries)))[:5])
                what = "no snapshot's name begins with" if not names else "several snapshots' names begin with"
                raise Unknown(f"{what} `{name}`; the last ones are {known}")
        try:
            return found[-1], read_documents(self._folder / found[-1].snapshot)
        except Unreadable as error:
            raise Unknown(f"the documents of {found[-1].snapshot} are gone: the last {KEPT_MAX} are kept ({error})") from error

    def _prune(self) -> None:
        order = {entry.snapshot: number for number, entry in enumerate(self.entries())}
        for name in sorted(order, key=order.__getitem__)[:-KEPT_MAX]:
            shutil.rmtree(self._folder / name, ignore_errors=True)


def _ends_well(path: Path) -> bool:
    """Whether the last line of a file is whole. What is written behind half a line would be lost with it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")
