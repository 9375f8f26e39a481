"""The documents of a folder as bytes: read all at one moment, or not at all, and written so that no reader sees half of them.

What is judged, kept and served is one and the same set of bytes: never a file of yesterday beside one of today.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.config.folder import CASES, FILE_BYTES_MAX, FILES_MAX
from gateway.refused import in_words
from gateway.whole import write_all

SUFFIXES: Final = (".yaml", ".yml")  # a .yml is no policy, and whoever judges says so
TRIES: Final = 5  # at a folder that changes while it is read; who writes for longer than that is waited for by the next look
MOUNTED: Final = "..data"  # the link that a Kubernetes volume swaps: the folder is the cluster's to write

Documents = Mapping[str, bytes]  # by path within the folder: `residency.yaml`, `cases/clinic.yaml`


class Unreadable(Exception):
    """Why the documents of a folder can't be had."""


class NotOurs(Exception):
    """Why a folder is not ours to write, and who owns it."""


def fingerprint(folder: Path) -> tuple[object, ...]:
    """What changes whenever a document does. Links are followed, so a swapped `..data` shows. Never raises."""
    found: list[object] = []
    try:
        paths = _paths(folder)
    except OSError as error:
        return ((error.filename, error.errno),)
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            found.append((path.name, error.errno))
            continue
        found.append((str(path.relative_to(folder)), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def read_documents(folder: Path) -> Documents:
    """All documents of `folder` as of one moment. Blocks. Raises Unreadable, from an OSError where the system refused it.

    A document that is larger than one may be is cut just above the limit, and so many too many are left out: enough to be refused.
    """
    refused: OSError | None = None
    for _ in range(TRIES):
        before, refused = fingerprint(folder), None
        try:
            paths = _paths(folder)
            found = {str(path.relative_to(folder)): _read(path) for path in paths}
        except OSError as error:  # it vanished in mid-read, perhaps because its successor is being put in place
            refused = error
            continue
        if not paths:
            raise Unreadable(f"{folder}: there is no document in it, or no such folder")
        if fingerprint(folder) == before:
            return found
    if refused is None:
        raise Unreadable(f"{folder}: it changes all the time")
    raise Unreadable(f"{folder}: `{refused.filename}` can't be read: {in_words(refused)}") from refused


def write_documents(folder: Path, documents: Documents) -> None:
    """Have `folder` hold these documents and no others. Each file is replaced whole, and none if one can't be: some of the new
    documents beside some of the old would be a policy that nobody has written. Raises NotOurs, OSError."""
    ours(folder)
    gone = [path for path in _paths(folder) if str(path.relative_to(folder)) not in documents]
    files: dict[Path, tuple[bytes, int]] = {}
    for name, data in documents.items():
        path = folder / name
        if path.is_file() and path.read_bytes() == data:
            continue
        path.parent.mkdir(exist_ok=True)
        files[path] = data, path.stat().st_mode & 0o777 if path.exists() else 0o644
    write_all(files)
    for path in gone:
        path.unlink()


def ours(folder: Path) -> None:
    """Nothing, if `folder` may be written by us. Raises NotOurs."""
    if (folder / MOUNTED).is_symlink():
        raise NotOurs(f"{folder} is mounted by Kubernetes: change the ConfigMap or Secret that it comes from")
    for place in (folder, folder / CASES):
        if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
            raise NotOurs(f"{place} belongs to {_owner(place)} and is not this process' to write: change it where it comes from")


def name_trouble(name: str) -> str | None:
    """What is wrong with a document's name, or None. Nothing but `NAME.yaml` and `cases/NAME.yaml` lies in a folder."""
    parts = name.split("/")
    fine = len(parts) == 1 or (len(parts) == 2 and parts[0] == CASES)
    fine = fine and parts[-1].endswith(".yaml") and not parts[-1].startswith(".") and parts[-1].isprintable() and "\\" not in name
    return None if fine else f"`{name[:80]}` names no document: `NAME.yaml` or `{CASES}/NAME.yaml` does"


def _paths(folder: Path) -> list[Path]:
    """Where its documents are. Raises OSError: one that can't be looked into may have documents, and cases, like any other."""
    found: list[Path] = []
    for place in (folder, folder / CASES):
        try:
            found += sorted(path for path in place.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            continue  # a folder that is not there has no documents
    return found[: 2 * FILES_MAX + 2]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)


def _owner(path: Path) -> str:
    import pwd

    uid = path.stat().st_uid
    try:
        return f"the user `{pwd.getpwuid(uid).pw_name}`"
    except KeyError:
        return f"the user {uid}"
