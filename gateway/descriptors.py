"""How many files and sockets a process may have open: as many as the system lets us have, and not what shells start with.

The usual 1,024 are for programs that use `select`; a worker has a socket for each client and for each call under way, and one that
has none left can't even say so. Children inherit what is set here.
"""

import resource

from gateway.core.bounds import Bounds

DESCRIPTORS_MAX = 1_048_576  # where there is no limit at all; the kernel's own, by default


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
