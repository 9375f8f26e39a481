"""The decisions that a ledger holds, each with what came of it: for explaining one, and for making all of them again.

A decision stands in an exchange's first line and its cost in the last, so a first line is held until the last comes. Ledgers are
of any size: what is held is bounded. Damage costs the line that it is found at, which is told with its place, and reading goes on
behind it: this is for finding out, `reading.py` is for proving.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

import orjson

from gateway.ledger.bases import Bases, Groundless, foreign
from gateway.ledger.reading import chains
from gateway.ledger.segments import FIRST

LINE_BYTES_MAX: Final = 4_194_304  # the reasons against 50 deployments are 3 kB; what is longer than this is no line of ours
HELD_MAX: Final = 4_096  # exchanges of one chain begun and not yet settled: twice what a worker has under way at most by default
HEAD: Final = re.compile(rb'\{"prev":"(?P<prev>[0-9a-f]{64})","kind":"(?P<kind>[a-z]+)"(?:,"id":"(?P<id>[^"\\]{1,64})")?')
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision and where it stands. `text` is all of it, as written; `settled` the exchange's last line, or None."""

    id: str
    path: Path
    number: int  # of the line, from 1
    text: bytes
    began: float  # UTC seconds
    decision: dict[str, Any]
    settled: dict[str, Any] | None

    @property
    def tenant(self) -> str:
        """Who asked."""
        facts = self.decision.get("facts")
        found = facts.get("tenant") if isinstance(facts, dict) else None
        return ",".join(map(str, found)) if isinstance(found, list) else ""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A line that can't be relied on, and why."""

    path: Path
    number: int
    why: str


_Place = tuple[Path, int, bytes, Bases]
"""A line, where it stands, and what it leans on."""


def decisions(folder: Path) -> Iterator[Recorded | Damaged]:
    """Every decision in `folder`, chain after chain, and every line that is not as it was written. Raises OSError."""
    for segments in chains(folder).values():
        yield from _of_chain(segments)


def find(folder: Path, identifier: str) -> Recorded | Damaged | None:
    """The decision that goes by `identifier`; None if `folder` has it not. The newest files are looked at first. Raises OSError."""
    if not IDENTIFIER.fullmatch(identifier):
        return None
    paths = [(path.stat().st_mtime_ns, number, path) for one in chains(folder).values() for number, path in enumerate(one)]
    settled = None
    for _, _, path in sorted(paths, reverse=True):
        found = None
        for number, line in _lines_with(path, b'"id":"%b"' % identifier.encode()):
            matched = HEAD.match(line)
            if matched is None or matched["id"] != identifier.encode():
                continue
            record = _record(line)
            if record is None:
                return Damaged(path, number, "it is not JSON")
            if record["kind"] == "settled":
                settled = record
            if "decision" in record:
                found = (number, line)
        if found is not None:
            bases = Bases()
            for _, part in _lines_with(path, b'"kind":"basis"'):
                bases.met(part)
            return _recorded(path, *found, bases, settled)
    return None


def _of_chain(segments: list[Path]) -> Iterator[Recorded | Damaged]:
    prev = FIRST
    held: dict[bytes, _Place] = {}
    for path in segments:
        bases, unread = Bases(), ""
        with path.open("rb") as file:
            for number, line in _lines(file):
                why = _wrong(line, prev)
                if line:  # else what follows leans on the line before it, as the writer did
                    prev = sha256(line).hexdigest().encode()
                matched = HEAD.match(line)
                if why or matched is None:
                    yield Damaged(path, number, why)
                elif matched["kind"] == b"opened" and (unread := foreign(_record(line) or {})):
                    yield Damaged(path, number, unread)
                elif unread or bases.met(line):
                    continue
                elif matched["kind"] == b"begun" and b'"decision":' in line:
                    held[matched["id"]] = (path, number, line, bases)
                    if len(held) > HELD_MAX:
                        yield _recorded(*held.pop(next(iter(held))), None)
                elif matched["kind"] == b"settled":
                    yield from _settled((path, number, line, bases), held.pop(matched["id"], None))
    for place in held.values():
        yield _recorded(*place, None)


def _settled(end: _Place, begun: _Place | None) -> Iterator[Recorded | Damaged]:
    path, number, line, _ = end
    record = _record(line)
    if record is None:
        yield Damaged(path, number, "it is not JSON")
    if begun is not None:
        yield _recorded(*begun, record)
    elif record is not None and "decision" in record:
        yield _recorded(*end, record)


def _recorded(path: Path, number: int, line: bytes, bases: Bases, settled: dict[str, Any] | None) -> Recorded | Damaged:
    """A line that has a decision, with that written out."""
    try:
        record, text = bases.whole(line), bases.decision(line)
    except orjson.JSONDecodeError:
        return Damaged(path, number, "it is not JSON")
    except Groundless as error:
        return Damaged(path, number, str(error))
    decision, began, identifier = record.get("decision"), record.get("began"), record.get("id")
    if text is None or not isinstance(decision, dict) or not isinstance(began, int | float) or not isinstance(identifier, str):
        return Damaged(path, number, "it lacks what a decision's line has: `id`, `began` and `decision`")
    return Recorded(identifier, path, number, text, began, decision, settled)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _wrong(line: bytes, prev: bytes) -> str:
    if not line:
        return f"it is longer than {LINE_BYTES_MAX} bytes, or was not written to its end"
    matched = HEAD.match(line)
    if matched is None:
        return "it does not begin as a line of the ledger does"
    return "" if matched["prev"] == prev else "it does not follow the line before it: one of them was changed, removed or added"


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, without its end; empty for one that is too long or has no end. Never more than one in memory."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX):
        number += 1
        whole = line.endswith(b"\n")
        yield number, line[:-1] if whole else b""
        while line and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)


def _lines_with(path: Path, needle: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file that hold `needle`, with their numbers. The file is looked through where it lies, not read in."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        number, counted, at = 1, 0, text.find(needle)
        while at >= 0:
            start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
            if end < 0:
                return
            while (newline := text.find(b"\n", counted, start)) >= 0:
                number, counted = number + 1, newline + 1
            if end - start <= LINE_BYTES_MAX:
                yield number, text[start:end]
            at = text.find(needle, end)
