"""The port Cache on the shared store: what is asked of it, and what is done there while nobody waits.

Promises: nobody waits for the store longer than its patience lasts, and not at all while it is down; then every look-up is a miss.
What goes wrong with keeping is counted, and told to nobody else. A look-up goes by the salt that the store has at that moment: once
a scope is purged, no worker finds or keeps anything under the old one. Whatever is held in the store for others ends by itself.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from os import urandom
from time import monotonic
from typing import Any, Final

from gateway import defects
from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping
from gateway.core.exchange import Request
from gateway.core.memo import Memo
from gateway.ports import Clock, Patience
from gateway.state.cache import scripts
from gateway.state.cache.apart import apart
from gateway.state.cache.digest import digested
from gateway.state.cache.flights import Flights
from gateway.state.cache.form import Form
from gateway.state.cache.likes import Like, candidates
from gateway.state.cache.looked import Found, Looked
from gateway.state.cache.place import SharedPlace
from gateway.state.cache.sealing import SALT_BYTES, SEAL_BYTES, Entry, Sealer, Spoilt
from gateway.state.store.port import WAIT_S, Asked, Script, Store, StoreLost

CHANNEL: Final = "rg:cache:landed"  # scope, a zero byte, name: for whoever waits for it in another worker
UNAWAITED_S: Final = 0.5  # for an answer that no request waits for: what is kept a little late is kept
LEASE_S: Final = 5.0  # a worker that dies keeps others waiting for no longer
RENEWALS: Final = 2.5  # in that time: one may be lost
SALT_S: Final = 3_600.0  # of a salt under which nothing is kept yet
TRIMS_MAX: Final = 3  # scopes trimmed for one entry: what is still too much, the next one finds

COUNTED: Final = ("kept", "unfit", "large", "full", "lost", "purged")
"""How keeping an answer can end."""

NOT_KEPT: Final = {b"salt": "purged", b"large": "large", b"full": "full"}
"""What the store says of an entry that it does not keep, in those words."""


class SharedCache:
    """The cache as one worker sees it. `secret` is the gateway's, `forms` are by API, `count` is told how keeping ends (COUNTED).

    Use inside a running loop.
    """

    def __init__(
        self,
        store: Store,
        secret: bytes,
        forms: Mapping[str, Form],
        bounds: Bounds,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[str], None],
        defect: Callable[[BaseException], None],
        lease_s: float = LEASE_S,
    ) -> None:
        self.bounds = bounds
        self.clock = clock
        self.loop = loop
        self.flights = Flights(loop)
        self.count = count
        self.lease_s = lease_s
        self.bytes = 0  # of all scopes, as of the last entry that was kept
        self._store = store
        self._secret = secret
        self._forms = forms
        self._defect = defect
        self._sealers: Memo[str, Sealer] = Memo()
        self._leases: dict[tuple[str, bytes], str] = {}
        self._awaited: dict[tuple[str, bytes], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        store.listen(CHANNEL, self._heard)

    def place(self, request: Request, keeping: Keeping, patience: Patience) -> SharedPlace | None:
        """The place of `request`. None: its API has no form here, or its body none that could be written again."""
        form = self._forms.get(request.api)
        if form is None:
            return None
        try:
            digest = digested(request.body)
        except TypeError:
            return None
        return SharedPlace(self, form, request, keeping, patience, digest)

    async def close(self) -> None:
        """End what is done in the background. Leases end by themselves."""
        tasks = [*self._tasks, *((self._renewing,) if self._renewing is not None else ())]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def idle(self) -> None:
        """Wait until nothing is left to do in the background but renewing leases."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # --- for places ---------------------------------------------------------------------------------------------------

    # Where a request waits, its `patience` is given; without one, nobody does.

    async def look(
        self, keeping: Keeping, api: str, digest: bytes, token: str, patience: Patience | None = None, old: bytes = b""
    ) -> Looked:
        """Look up an entry; with a `token`, and where there is nothing and nobody gets it, hold a lease on getting it. An entry
        whose seal is `old` is as good as none.

        Raises StoreLost.
        """
        scope = keeping.scope
        for _ in range(2):
            sealer = await self.sealer(scope, patience)
            name = sealer.name(keeping.allowed, api, digest)
            args = (sealer.salt, name, token, int(self.lease_s * 1_000), old)
            said, *more = await self._run(scripts.LOOK, scope, args, patience)
            match said:
                case b"found":
                    value = more[0]
                    try:
                        entry = await apart(len(value), sealer.open, name, value)
                        return Looked(Found.ENTRY, sealer, name, entry, value[-SEAL_BYTES:])
                    except Spoilt:
                        return Looked(Found.SPOILT, sealer, name)
                case b"none":
                    return Looked(Found.NOTHING, sealer, name)
                case b"held":
                    return Looked(Found.HELD, sealer, name)
            self._sealers.pop(scope, None)  # the salt is another one: the scope was purged, or the store has forgotten it
        raise StoreLost("purged")

    async def sealer(self, scope: str, patience: Patience | None = None) -> Sealer:
        """The sealer of a scope, as far as is known here. Raises StoreLost."""
        found = self._sealers.get(scope)
        if found is not None:
            return found
        salt = await self._run(scripts.SALT, scope, (urandom(SALT_BYTES), int(SALT_S * 1_000)), patience)
        return self._sealers.keep(scope, Sealer(self._secret, scope, salt, self.bounds.cache_entry_bytes_max))

    async def look_near(
        self, scope: str, sealer: Sealer, like: Like, least: Mapping[str, float], patience: Patience
    ) -> list[tuple[float, bytes]]:
        """The names of entries that answer requests like enough, the nearest first, with their cosines. Raises StoreLost."""
        said, *found = await self._run(scripts.LIKES, scope, (sealer.salt, like.partition), patience)
        if said == b"salt":
            self._sealers.pop(scope, None)
            return []
        return candidates(sealer, like, zip(found[::2], found[1::2], strict=True), least)

    async def entry(self, scope: str, sealer: Sealer, name: bytes, patience: Patience) -> Entry | None:
        """The entry of that name, if it is there and opens. Raises StoreLost."""
        said, *more = await self._run(scripts.LOOK, scope, (sealer.salt, name, "", 0, ""), patience)
        try:
            return await apart(len(more[0]), sealer.open, name, more[0]) if said == b"found" else None
        except Spoilt:
            return None

    async def put(
        self,
        scope: str,
        sealer: Sealer,
        name: bytes,
        entry: Entry,
        about: str,
        token: str,
        like: Like | None = None,
        likes_max: int = 0,
    ) -> None:
        """Keep an entry, and give back the lease on it whether it is kept or not: nobody should wait for what does not come. With
        `like` it is found by that as well, among the `likes_max` newest of its partition. What goes wrong is counted."""
        self.forget_lease(scope, name, token)
        value = await apart(len(entry.body), sealer.seal, name, entry)
        left_ms = int((entry.ends - self.clock.now()) * 1_000)
        if left_ms <= 0:
            await self.release(scope, name, token)
            return
        args: tuple[str | bytes | int, ...]
        args = (sealer.salt, name, value, left_ms, about, self.bounds.cache_tenant_bytes_max, token)
        if like is not None:
            args = (*args, like.partition, like.sealed(sealer, name, entry.deployment), likes_max)
        try:
            said, *more = await self._run(scripts.KEEP, scope, args)
        except StoreLost:
            self.count("lost")
            return
        if said != b"kept":
            self.count(NOT_KEPT[said])
            if said == b"salt":  # the lease went with the scope, and with it who waits
                await self._tell(scope, name)
            else:
                await self.release(scope, name, token)
            return
        self.count("kept")
        bytes_there, waited, ends_ms = more
        if waited:
            await self._tell(scope, name)
        await self._balance(scope, bytes_there, ends_ms)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have `work` done while nobody waits."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def awaited(self, scope: str, name: bytes) -> asyncio.Event:
        """Set when another worker is done with getting that entry, as far as is heard."""
        return self._awaited.setdefault((scope, name), asyncio.Event())

    def await_no_more(self, scope: str, name: bytes) -> None:
        """Nobody here waits for it any more."""
        self._awaited.pop((scope, name), None)

    # --- leases -------------------------------------------------------------------------------------------------------

    def hold_lease(self, scope: str, name: bytes, token: str) -> None:
        """Keep a lease from ending, until it is released or its entry is put."""
        self._leases[scope, name] = token
        if self._renewing is None or self._renewing.done():
            self._renewing = self.loop.create_task(self._renew())

    def forget_lease(self, scope: str, name: bytes, token: str) -> None:
        """It is no longer held under that token; by then another one may be."""
        if self._leases.get((scope, name)) == token:
            del self._leases[scope, name]

    async def release(self, scope: str, name: bytes, token: str) -> None:
        """Give a lease back, so that another worker may get what this one could not."""
        self.forget_lease(scope, name, token)
        try:
            if await self._run(scripts.RELEASE, scope, (name, token)):
                await self._tell(scope, name)
        except StoreLost:
            return  # it ends by itself

    async def _renew(self) -> None:
        while self._leases:
            await asyncio.sleep(self.lease_s / RENEWALS)
            held = list(self._leases.items())
            args = [(scripts.keys_of(scope), (name, token, int(self.lease_s * 1_000))) for (scope, name), token in held]
            if held and self._store.up:
                try:
                    await self._store.run_all([Asked(scripts.RENEW, *one) for one in args])
                except StoreLost:
                    continue  # then others may get it as well

    # --- the store ----------------------------------------------------------------------------------------------------

    async def _run(self, script: Script, scope: str, args: tuple[str | bytes | int, ...], patience: Patience | None = None) -> Any:
        if not self._store.up:
            raise StoreLost("down")
        asked = Asked(script, scripts.keys_of(scope), args)
        if patience is None:
            return await self._store.run(asked, UNAWAITED_S)
        wait_s, began = WAIT_S - patience.spent_s, monotonic()
        if wait_s <= 0:
            raise StoreLost("slow")
        try:
            return await self._store.run(asked, wait_s)
        finally:
            patience.spent_s += monotonic() - began

    async def _tell(self, scope: str, name: bytes) -> None:
        try:
            await self._store.publish(CHANNEL, scope.encode() + b"\0" + name)
        except StoreLost:
            return  # whoever waits looks again by itself

    def _heard(self, message: bytes) -> None:
        scope, _, name = message.partition(b"\0")
        event = self._awaited.get((scope.decode(errors="replace"), name))
        if event is not None:
            event.set()

    async def _balance(self, scope: str, bytes_there: int, ends_ms: int | str) -> None:
        """Note what a scope has, and for how long; where all have too much together, take it from the largest."""
        bytes_max = self.bounds.cache_bytes_max
        try:
            for _ in range(TRIMS_MAX):
                tally = Asked(scripts.TALLY, scripts.TALLY_KEYS, (scope, bytes_there, ends_ms))
                self.bytes, largest, most = await self._store.run(tally)
                if self.bytes <= bytes_max:
                    return
                scope = largest.decode()
                may_stay = max(0, most - (self.bytes - bytes_max))
                bytes_there, ends_ms = await self._run(scripts.TRIM, scope, (may_stay,)), ""
        except StoreLost:
            return  # the next entry finds it so

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := defects.of(task)) is not None:
            self._defect(error)
