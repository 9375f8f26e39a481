"""Keys that everybody knows: their texts are derived from their ids, so that the demo can print them and no document holds one."""

import hashlib


def demo_key(id: str) -> str:
    """The text of the demo key `id`: `rg_demo_ID_` and 64 hex digits. No secret; `gateway serve` refuses all of these."""
    return f"rg_demo_{id}_{hashlib.sha256(f'residency gateway demo {id}'.encode()).hexdigest()}"


def digest_of(key: str) -> bytes:
    """What is kept of a key: the sha256 of its whole text."""
    return hashlib.sha256(key.encode()).digest()
