"""Files that are written whole or not at all: whoever reads meanwhile, or after a power cut, reads the old or the new one."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

MODE = 0o600


def write_whole(path: Path, data: bytes, mode: int = MODE) -> None:
    """Have `path` hold `data`, on the disk when this returns. Raises OSError, and then nothing has changed."""
    write_all({path: (data, mode)})


def write_all(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Have each path hold its data, with its mode, on the disk when this returns. Raises OSError.

    All are on the disk beside their places before the first is put there, so a disk that is full changes none of them.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, (data, mode) in files.items():
            handle, part = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
            parts[path] = Path(part)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            parts.pop(path).replace(path)
    finally:
        for left in parts.values():
            left.unlink(missing_ok=True)
