"""One worker's chain of lines, on disk.

Files are `<worker>-<utc>-<n>.jsonl`: the worker, when its chain began, and the number of the segment. Only that worker appends
(O_APPEND, 0600), with one write a line, so a crash loses at most the line being written. Every line begins with `prev`, the sha256
(hex) of the line before it without its newline; a segment's first line is `{"prev": …, "kind": "opened", …}` and carries the chain
over from the segment before, so that a line can't be changed, taken out or put in without all that follow showing it.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import orjson

from gateway.refused import in_words

FORMAT: Final = 2  # of the lines; a reader that knows less should say so
SEGMENT_BYTES_MAX: Final = 67_108_864  # an hour of a busy worker: small enough to ship and open, large enough not to count
FIRST: Final = b"0" * 64  # `prev` of a chain's first line
PARTLY: Final = "the ledger's line was written in part only; is the disk full?"


def chain_name(worker: str, instant: float) -> str:
    """What the files of a chain that began at `instant` (UTC seconds) are called, up to their number."""
    return f"{worker}-{datetime.fromtimestamp(instant, UTC):%Y%m%dT%H%M%S%fZ}"


class Chain:
    """Appends lines. `append` belongs to one thread; `sync` may be called from another, and is meant to be."""

    def __init__(self, folder: Path, worker: str, now: Callable[[], float], segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        """Make `folder` if need be (0700) and open the first segment; what can't be done yet, the first line will try again.

        Raises FileExistsError: another chain has this name.
        """
        self.folder = folder
        self.trouble = ""  # why the last line could not be kept
        self.name = chain_name(worker, now())
        self._now = now
        self._segment_bytes_max = segment_bytes_max
        self._number = 0
        self._prev = FIRST
        self._fd = -1
        self._bytes = 0
        self._written = 0  # bytes, ever
        self._synced = 0
        self._left: list[int] = []  # descriptors of full segments, to be synced and closed
        self._lock = threading.Lock()  # for `_left`, and so that no descriptor closes under a sync
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.segment()
        except FileExistsError:
            raise
        except OSError as error:
            self.trouble = in_words(error)

    @property
    def path(self) -> Path:
        """The segment that is written to."""
        return self.folder / f"{self.name}-{self._number}.jsonl"

    def append(self, body: bytes) -> None:
        """Write one line: `body` is a JSON object of at least one member. Raises OSError if it could not be kept whole."""
        self.segment()
        self.write(body)

    def segment(self) -> int:
        """The number of the segment that the next lines go to, which is begun if the one before is full. Raises OSError.

        For lines that lean on each other: what is then written with `write` stands in this segment, or raises.
        """
        if self._fd < 0 or self._bytes >= self._segment_bytes_max:
            try:
                self._open()
            except OSError as error:
                self.trouble = in_words(error)
                raise
        return self._number

    def write(self, body: bytes) -> None:
        """As `append`, into the segment that `segment` told of, however full that is by now."""
        line = b'{"prev":"%b",%b' % (self._prev, body[1:])
        whole = line + b"\n"
        written = 0
        try:
            written = os.write(self._fd, whole)
        except OSError as error:
            self.trouble = in_words(error)
            raise
        finally:
            self._bytes += written
            self._written += written
            if 0 < written < len(whole):  # a full disk: what follows must not be glued to half a line
                self._leave()
        if written < len(whole):
            self.trouble = PARTLY
            raise OSError(PARTLY)
        self._prev = sha256(line).hexdigest().encode()
        self.trouble = ""

    def _open(self) -> None:
        """Begin the next segment. What could not be begun is tried again by the next append, and leaves no file behind."""
        self._leave()
        self._number += 1
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._bytes = 0
        head = {"kind": "opened", "format": FORMAT, "chain": self.name, "segment": self._number, "at": self._now()}
        try:
            self.write(orjson.dumps(head))
        except OSError:
            self._take_back()  # nothing else may be a segment's first line
            raise

    def _take_back(self) -> None:
        """Remove a segment without a first line: while a disk is full each request would add one."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)  # nothing in it could be synced
                self._fd = -1
        with contextlib.suppress(OSError):  # one that can't be removed is empty, and readers pass over it
            os.unlink(self.path)

    def _leave(self) -> None:
        if self._fd >= 0:
            with self._lock:
                self._left.append(self._fd)
            self._fd = -1

    def sync(self) -> None:
        """Bring all that was appended before this call to the disk. Blocks for as long as the disk takes: not for an event loop.

        Raises OSError if the disk says no.
        """
        written = self._written
        with self._lock:
            left, self._left = self._left, []
            try:
                for fd in left:
                    os.fdatasync(fd)
            finally:
                for fd in left:
                    os.close(fd)
            if written != self._synced and self._fd >= 0:
                os.fdatasync(self._fd)
            if left or self._synced == 0:
                _sync_folder(self.folder)
            self._synced = written

    def close(self) -> None:
        """Sync and close. The next append would begin a new segment."""
        self._leave()
        self.sync()



def _sync_folder(folder: Path) -> None:
    # without it a power cut could lose a whole new segment, name and all
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
