"""Taking kept answers out of the cache because somebody said so: a wrong answer, a tenant that leaves, a model that is replaced.

Promises: when `purge` returns, no worker gives what was kept when it began; and in the ledger stands who asked for it, before
anything is taken out, and after that how many answers went.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, Protocol

from gateway.core.policy import Snapshot
from gateway.ledger.changes import ChangeLog
from gateway.state.cache.purging import purge, scopes_of
from gateway.state.store.port import StoreLost
from gateway.state.store.remote import RemoteStore
from gateway.state.store.url import parse

OPEN_S_MAX: Final = 5.0  # for a connection: an admin waits, and is told of a store that is down
HOW: Final = "purge"  # in the ledger


class Fleet(Protocol):
    """What is asked of the workers' keeper."""

    @property
    def snapshot(self) -> Snapshot: ...


class Purges:
    """Of one gateway, whose cache is in the store at `url`. It is connected to for as long as a purge takes."""

    def __init__(self, fleet: Fleet, url: str, changes: ChangeLog, open_s_max: float = OPEN_S_MAX) -> None:
        self._fleet = fleet
        self._where = parse(url)
        self._changes = changes
        self._open_s_max = open_s_max

    async def purge(self, by: str, tenant: str, model: str, tag: str) -> int | None:
        """Take out what is of all these, where they are not "" (everything, if all are); returns how many answers went.

        `by` is who asked. None: the store did not do all of it, and asking again takes out the rest.

        Raises OSError if that can't be written into the ledger; then nothing was taken out.
        """
        named = {"tenant": tenant, "model": model, "tag": tag}
        what = ", ".join(f"{name} {word}" for name, word in named.items() if word) or "all"
        await self._note(by, "asked", what)
        try:
            async with self._opened() as store:
                gone = await purge(store, await scopes_of(store, self._fleet.snapshot, tenant), model, tag)
        except StoreLost as lost:
            with contextlib.suppress(OSError):
                await self._note(by, "failed", f"{what}: lost the store ({lost})")
            return None
        with contextlib.suppress(OSError):  # it is done, and that it was asked for stands there
            await self._note(by, "applied", f"{what}: {gone} answers")
        return gone

    async def _note(self, by: str, result: str, what: str) -> None:
        await asyncio.to_thread(self._changes.changed, by, HOW, result, "", "", what)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[RemoteStore]:
        store, there = RemoteStore(self._where, asyncio.get_running_loop()), asyncio.Event()
        store.on_back(there.set)
        try:
            async with asyncio.timeout(self._open_s_max):
                await there.wait()
        except TimeoutError:
            await store.close()
            raise StoreLost("down") from None
        try:
            yield store
        finally:
            await store.close()
