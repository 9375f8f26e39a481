"""A process that can open nothing more, for as long as a test says."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def nothing_to_open(process: int | None = None, but: int | None = None) -> Iterator[None]:
    """Have a process (this one, if none is said) open nothing more, or `but` so many; what it has open stays so."""
    pid = os.getpid() if process is None else process
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # of those that are free, the lowest are taken first: none below 3 is
    limit = 3 if but is None else max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1 + but
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
