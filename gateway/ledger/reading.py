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

from gateway.ledger.segments import FIRST, FORMAT

SEGMENT: Final = re.compile(r"(?P<chain>.+)-(?P<number>[1-9][0-9]*)\.jsonl")
PREV: Final = re.compile(rb'\{"prev":"([0-9a-f]{64})",')


@dataclass(frozen=True, slots=True)
class Line:
    """A verified line: its file, its number there (from 1), and what it says."""

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
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    yield Torn(path, number, len(raw))
                    break
                line = raw[:-1]
                why = _wrong(line, number, prev)
                if why:
                    yield Broken(path, number, why)
                    return
                record = orjson.loads(line)
                prev = sha256(line).hexdigest().encode()
                if record["kind"] != "opened":
                    yield Line(path, number, record)


def _wrong(line: bytes, number: int, prev: bytes) -> str:
    """What is wrong with a line that should follow the one whose hash is `prev`; "" if nothing is."""
    found = PREV.match(line)
    if found is None:
        return "it does not begin with the hash of the line before it"
    if found[1] != prev:
        return "it does not follow the line before it: something was changed, removed or added"
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "it is not JSON"
    if (number == 1) != (record.get("kind") == "opened"):
        return "a segment begins with `opened`, and only there it stands"
    if number == 1 and record.get("format") != FORMAT:
        return f"it has format {record.get('format')}, and this program reads format {FORMAT}"
    return ""


class Tail:
    """Follows the ledger as it is written: for showing exchanges, not for proving anything. Lines are not verified."""

    def __init__(self, folder: Path) -> None:
        """Begin at the end of what `folder` holds now."""
        self._folder = folder
        self._read: dict[Path, int] = {path: path.stat().st_size for path in self._segments()}  # bytes

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
                file.seek(done)
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._read[path] = done + end
            found += [orjson.loads(line) for line in data[:end].splitlines()]
        found = [record for record in found if record["kind"] != "opened"]
        return sorted(found, key=lambda record: float(record.get("ended") or record.get("began") or 0))
