"""What this machine calls itself before others that share a store: a word that is made once, and kept in the state folder."""

import secrets
from pathlib import Path
from typing import Final

from gateway.whole import write_whole

FILE: Final = "machine"


def machine_of(state: Path) -> str:
    """16 hex digits. The supervisor asks first, so that no two workers make one each. Raises OSError."""
    path = state / FILE
    if not path.exists():
        write_whole(path, secrets.token_hex(8).encode())
    return path.read_text()


def incarnation(machine: str, chain: str) -> str:
    """What a life of a worker is called in the store: after the ledger chain that says what it has settled."""
    return f"{machine}.{chain}"
