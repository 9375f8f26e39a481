"""What the system refused us: in its own words, and whether it was for want of something on this machine."""

import errno
from typing import Final

OWN_LACK: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What this machine has no more of: descriptors, memory, ports of its own. It says nothing of who or what was to be reached."""


def in_words(error: OSError) -> str:
    """In the system's words, as they stand in the middle of a line."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def is_own_lack(error: BaseException) -> bool:
    """Whether it is for want of something here."""
    return isinstance(error, OSError) and error.errno in OWN_LACK
