"""Keys that are good no more because somebody said so just now: live state, which no reload and no lost store brings back.

Promises: when `revoke` returns, no worker of this machine begins a request with the key; the other machines that share the store
follow within a moment, or as soon as they reach it again; it outlives every process, for it stands in a file; and in the ledger
stands who said it. A key goes by the sha256 of its text, as in `tenants.yaml`, so that a new key under the same id is good. What
is revoked stays so: the set only grows, and whoever can write into the store can refuse keys, and never admit one.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.core.policy import Snapshot
from gateway.ledger.changes import ChangeLog
from gateway.refused import in_words
from gateway.state.store.port import Asked, Script, Store, StoreLost
from gateway.whole import write_whole

FILE: Final = "revoked.json"
CHANNEL: Final = "rg:revoked"
KEY: Final = "rg:{revoked}"
LOOK_S: Final = 60.0  # a message can be lost without anybody knowing: then another machine follows within so long
RETRY_S: Final = 1.0
SHARE_S_MAX: Final = 1.0  # nobody waits for it
DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
ELSEWHERE: Final = "another gateway, through the store"

SHARE: Final = Script(
    "revoked",
    "local new = 0 for i = 1, #ARGV do new = new + redis.call('SADD', KEYS[1], ARGV[i]) end "
    "return {new, redis.call('SMEMBERS', KEYS[1])}",
)


class Unreadable(Exception):
    """What is wrong with the file, and what would mend it."""


class Fleet(Protocol):
    """What is asked of the workers' keeper."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def revoked(self) -> frozenset[bytes]: ...

    async def revoke(self, digests: frozenset[bytes]) -> None: ...


class Revocations:
    """All of one gateway. `kept` is what the file said at the start: ids of keys by digest (hex)."""

    def __init__(self, fleet: Fleet, state: Path, changes: ChangeLog, kept: Mapping[str, str], log: Callable[..., None]) -> None:
        self._fleet = fleet
        self._state = state
        self._changes = changes
        self._log = log
        self._kept = dict(kept)
        self._unkept: dict[str, tuple[str, str]] = {}  # digest -> the key's id and who asked: what is to be written down yet
        self._changing = asyncio.Lock()
        self._news = asyncio.Event()

    async def revoke(self, digest: bytes, key: str, by: str) -> str:
        """Have nobody let in with the key of this digest. `key` is its id, and `by` who asked. Asking again does no harm.

        Says why that can't be kept yet, or "". The key is refused in any case: that comes first, and must not hang on a disk.
        """
        async with self._changing:
            await self._fleet.revoke(self._fleet.revoked | {digest})
            self._news.set()
            self._unkept[digest.hex()] = key, by
            try:
                await asyncio.to_thread(self._keep)
            except OSError as error:
                return in_words(error)
            return ""

    async def share(self, store: Store) -> None:
        """Tell the other machines, and do as they tell. Runs until cancelled."""
        store.listen(CHANNEL, lambda _: self._news.set())
        store.on_back(self._news.set)
        while True:
            self._news.clear()
            pause_s = LOOK_S
            try:
                own = sorted(digest.hex() for digest in self._fleet.revoked)
                new, found = await store.run(Asked(SHARE, (KEY,), tuple(own)), SHARE_S_MAX)
                if new:
                    await store.publish(CHANNEL, b"")
                await self._follow(found)
            except StoreLost:
                pause_s = RETRY_S
            if self._unkept and not await self._made_up():
                pause_s = RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause_s)

    async def _follow(self, found: list[Any]) -> None:
        """Refuse what others have revoked. Whatever else lies there is passed over."""
        told = {bytes.fromhex(digest.decode()) for digest in found if isinstance(digest, bytes) and DIGEST.fullmatch(digest)}
        async with self._changing:
            if not (new := told - self._fleet.revoked):
                return
            await self._fleet.revoke(self._fleet.revoked | new)
            names = {key.digest: key.id for key in self._fleet.snapshot.access.keys.values()}
            self._unkept |= {digest.hex(): (names.get(digest, ""), ELSEWHERE) for digest in sorted(new)}
            try:
                await asyncio.to_thread(self._keep)
            except OSError as error:
                so = "it is tried again; after a restart before that, with a lost store, its key would be let in"
                self._log("revocation_not_kept", why=in_words(error), so=so)

    async def _made_up(self) -> bool:
        """Whether all that could not be written down is so now."""
        async with self._changing:
            with contextlib.suppress(OSError):  # as was said
                await asyncio.to_thread(self._keep)
            return not self._unkept

    def _keep(self) -> None:
        """Write down what is to be. Raises OSError, and then what is not written down yet still is to be."""
        for digest in self._unkept.keys() & self._kept.keys():  # somebody asked again
            del self._unkept[digest]
        if not self._unkept:
            return
        ids = {digest: key for digest, (key, _) in self._unkept.items()}
        write_whole(self._state / FILE, json.dumps({**self._kept, **ids}, indent=1).encode())
        for digest, (key, by) in list(self._unkept.items()):
            self._changes.changed(by, "revoke", "applied", "", "", f"key {key}" if key else "a key that is not known here")
            self._kept[digest] = key  # not before: a ledger that could not be written is to be made up for
            del self._unkept[digest]


def read_revoked(state: Path) -> dict[str, str]:
    """Ids of the keys that are revoked, by digest (hex). Raises Unreadable: whoever revoked one relies on it."""
    path = state / FILE
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unreadable(f"can't read which keys are revoked from {path}: {error}; mend the file") from error
    if not isinstance(found, dict) or not all(DIGEST.fullmatch(digest.encode()) for digest in found):
        raise Unreadable(f"{path} is not an object of keys' ids by the sha256 of their text; mend the file")
    return {digest: str(key) for digest, key in found.items()}
