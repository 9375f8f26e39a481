"""What looking an entry up comes to."""

from dataclasses import dataclass
from enum import Enum

from gateway.state.cache.sealing import Entry, Sealer


class Found(Enum):
    """What is in the store."""

    ENTRY = "there is one"
    NOTHING = "there is none"
    HELD = "another worker is getting it"
    SPOILT = "there is something that does not open"


@dataclass(frozen=True, slots=True)
class Looked:
    """A look-up, and under which name and salt it was made. `seal` is what tells the entry's value from any other."""

    found: Found
    sealer: Sealer
    name: bytes
    entry: Entry | None = None
    seal: bytes = b""
