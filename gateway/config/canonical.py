"""Names by content: the sha256 of what a document means, whatever its files are called and however its lines are ordered.

Sets and maps are sorted, numbers are written in one way, and places in files are left out: they move, and mean nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

NOT_CONTENT: Final = frozenset({"line", "hash"})


def content_hash(*values: object) -> str:
    """The sha256 (hex) of compiled values."""
    text = json.dumps([_plain(value) for value in values], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value) if item.name not in NOT_CONTENT}
    return str(value)  # networks
