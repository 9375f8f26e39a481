"""Reading the ledger: every line in the order of its chain, verified, and whatever is wrong with a chain said in place.

Promises: a record that is yielded is what was written, and nothing before it in its chain was changed, removed or added. A last
line without an end (a crash, a full disk) is told as `Torn`, and is no fault of the chain.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.ledger.bases import Bases, Groundless, foreign
from gateway.ledger.segments import FIRST

SEGMENT: Final = re.compile(r"(?P<chain>.+)-(?P<number>[1-9][0-9]*)\.jsonl")
PREV: Final = re.compile(rb'\{"prev":"([0-9a-f]{64})",')
UNSHOWN: Final = frozenset({"opened", "basis"})
"""Kinds of line that say nothing by themselves."""


@dataclass(frozen=True, slots=True)
class Line:
    """A verified line: its file, its number there (from 1), and what it says, its decision written out."""

    path: Path
    number: int
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Torn:
    """A segment's last line, which was not written to its end."""

    path: Path
    number: int
    bytes_kept: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A chain that was tampered with or damaged; nothing more is read of it."""

    path: Path
    number: int
    why: str


Entry = Line | Torn | Broken


def chains(folder: Path) -> dict[str, list[Path]]:
    """The segments in `folder`, by chain, each in order. Raises OSError."""
    found: dict[str, dict[int, Path]] = {}
    for path in folder.iterdir():
        if matched := SEGMENT.fullmatch(path.name):
            found.setdefault(matched["chain"], {})[int(matched["number"])] = path
    return {chain: [segments[number] for number in sorted(segments)] for chain, segments in sorted(found.items())}


def read(folder: Path) -> Iterator[Entry]:
    """Every entry of every chain in `folder`, chain after chain. Raises OSError."""
    for segments in chains(folder).values():
        yield from _read_chain(segments)


def _read_chain(segments: list[Path]) -> Iterator[Entry]:
    prev = FIRST
    for path in segments:
        bases = Bases()
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    yield Torn(path, number, len(raw))
                    break
                line = raw[:-1]
                record = _verified(line, number, prev, bases)
                if isinstance(record, str):
                    yield Broken(path, number, record)
                    return
                prev = sha256(line).hexdigest().encode()
                if record["kind"] not in UNSHOWN:
                    yield Line(path, number, record)


def _verified(line: bytes, number: int, prev: bytes, bases: Bases) -> dict[str, Any] | str:
    """What a line says that should follow the one whose hash is `prev`; or what is wrong with it."""
    found = PREV.match(line)
    if found is None:
        return "it does not begin with the hash of the line before it"
    if found[1] != prev:
        return "it does not follow the line before it: something was changed, removed or added"
    try:
        record = orjson.loads(line) if bases.met(line) else bases.whole(line)
    except orjson.JSONDecodeError:
        return "it is not JSON"
    except Groundless as error:
        return str(error)
    if (number == 1) != (record.get("kind") == "opened"):
        return "a segment begins with `opened`, and only there it stands"
    if number == 1 and (why := foreign(record)):
        return why
    return record if isinstance(record.get("kind"), str) else "it does not say what kind of line it is"


class Tail:
    """Follows the ledger as it is written: for showing exchanges, not for proving anything. Lines are not verified."""

    def __init__(self, folder: Path) -> None:
        """Begin at the end of what `folder` holds now."""
        self._folder = folder
        self._read: dict[Path, int] = {path: path.stat().st_size for path in self._segments()}  # bytes
        self._bases: dict[Path, Bases] = {}

    def _segments(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.jsonl")) if self._folder.is_dir() else []

    def poll(self) -> list[dict[str, Any]]:
        """The records written since the last call, whole lines only, oldest first. Raises OSError."""
        found = []
        for path in self._segments():
            done = self._read.get(path, 0)
            if path.stat().st_size <= done:
                continue
            with path.open("rb") as file:
                if path not in self._bases:
                    bases = self._bases[path] = Bases()
                    for line in file.read(done).splitlines():
                        bases.met(line)
                file.seek(done)
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._read[path] = done + end
            lines = data[:end].splitlines()
            found += [self._bases[path].whole(line) for line in lines if not self._bases[path].met(line)]
        found = [record for record in found if record["kind"] not in UNSHOWN]
        return sorted(found, key=lambda record: float(record.get("ended") or record.get("began") or 0))
