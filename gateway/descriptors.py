"""How many files and sockets a process may have open: as many as the system lets us have, and not what shells start with.

The usual 1,024 are for programs that use `select`; a worker has a socket for each client and for each call under way, and one that
has none left can't even say so. Children inherit what is set here.
"""

import contextlib
import errno
import os
import resource
from collections.abc import Callable
from typing import Final

from gateway.core.bounds import Bounds
from gateway.refused import in_words

DESCRIPTORS_MAX: Final = 1_048_576  # where there is no limit at all; the kernel's own, by default
FEWEST: Final = 256  # that a process may have: a hundred requests under way in a worker, and what else it takes
FOR_A_CHILD: Final = 16  # what it takes to start one: three pipes or sockets, the way back of an error, and what watches it


def raise_limit() -> int:
    """Have this process, and those that it starts, open as many as they may; returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a system that says more than it gives
        return soft
    return wanted


def needed(bounds: Bounds) -> int:
    """How many a worker needs for all that it may have under way: a client and an upstream for each."""
    return 2 * bounds.exchanges_max


def spare(count: int = FOR_A_CHILD) -> None:
    """Nothing, if so many more can be opened now. Raises OSError.

    Asked before uvloop starts a child: where it lacks one on the way, what it had opened stays open for ever.
    """
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def lacking() -> str:
    """Why this process can open nothing at this moment, and what would mend it; "" if it can.

    uvloop says nothing of it: it closes connections as they come, and goes on.
    """
    try:
        spare(1)
    except OSError as error:
        if error.errno == errno.ENFILE:  # of all processes together
            return f"{in_words(error)}: raise `fs.file-max`"
        may_open, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{in_words(error)}, {may_open} at the most: raise `LimitNOFILE` (`ulimit -Hn`), or lower `exchanges_max`"
    return ""


def tell(log: Callable[..., None], process: str, before: str, now: str) -> None:
    """Log what has become of a `process` that was `lacking` this before, and is lacking that now."""
    if now and not before:
        log("descriptors_used_up", process=process, why=now, so="it closes connections as they come, and opens none")
    elif before and not now:
        log("descriptors_back", process=process)
