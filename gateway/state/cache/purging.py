"""Taking out of the cache what must not be given any more: all of a tenant, of a model, or of a tag."""

from collections.abc import Iterable
from typing import Final

from gateway.core.caching import shared_scope, tenant_scope
from gateway.core.policy import Snapshot
from gateway.state.cache import scripts
from gateway.state.store.port import Asked, Store

WAIT_S: Final = 2.0  # for each step: nobody's request waits for it, and half a purge is none


async def purge(store: Store, scopes: Iterable[str], model: str, tag: str) -> int:
    """Take out what is kept in `scopes` (and is of `model`, and of `tag`, where they are not ""); returns how many entries went.

    When this returns nobody is given what was there when it began. All of a scope goes with its salt, so that not even a copy of
    the store can be opened any more. Raises StoreLost; then some may have gone.
    """
    gone = 0
    for scope in scopes:
        keys = scripts.keys_of(scope)
        if not model and not tag:
            gone += await store.run(Asked(scripts.FORGET, keys), WAIT_S)
            await store.run(Asked(scripts.TALLY, scripts.TALLY_KEYS, (scope, 0, "")), WAIT_S)
            continue
        cursor = b"0"
        while True:
            cursor, count = await store.run(Asked(scripts.FORGET_SOME, keys, (cursor, model, tag)), WAIT_S)
            gone += count
            if cursor == b"0":
                break
    return gone


async def scopes_of(store: Store, snapshot: Snapshot, tenant: str) -> list[str]:
    """The scopes that a purge of `tenant` is about: its own and those it may share; all there are, where it is "".

    Raises StoreLost.
    """
    shared = {shared_scope(entry.share) for entry in snapshot.policy.caching if entry.share is not None}
    if tenant:
        return sorted({tenant_scope(tenant)} | shared)
    noted = {scope.decode() for scope in await store.run(Asked(scripts.SCOPES, scripts.TALLY_KEYS), WAIT_S)}
    return sorted(noted | {tenant_scope(name) for name in snapshot.access.tenants} | shared)
