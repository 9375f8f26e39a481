"""Keys on the admin API: one that has leaked is refused at once, without a change of the policy."""

from difflib import get_close_matches
from typing import Any, Protocol

from fastapi import FastAPI, Request

from gateway.control.answers import error
from gateway.core.policy import Snapshot


class Fleet(Protocol):
    """What is asked of the supervisor."""

    @property
    def snapshot(self) -> Snapshot: ...


class Revocations(Protocol):
    """Who does it."""

    async def revoke(self, digest: bytes, key: str, by: str) -> str:
        """Have nobody let in with the key of this digest; says why that can't be kept, or "" if it is."""
        ...


def add_key_routes(app: FastAPI, fleet: Fleet, revocations: Revocations) -> None:
    """`/admin/v1/keys/ID/revoke`."""

    @app.post("/admin/v1/keys/{key}/revoke")
    async def revoke(key: str, request: Request) -> Any:
        """Refuse this key (401), on all machines that share the store and for good. Answers when no worker here lets it in."""
        keys = fleet.snapshot.access.keys
        if (found := keys.get(key)) is None:
            near = "".join(f"; did you mean `{name}`?" for name in get_close_matches(key, keys, 1))
            return error(404, "unknown_key", f"the policy in force has no key of this id{near}")
        if why := await revocations.revoke(found.digest, found.id, request.state.who.name):
            said = f"the key is refused from now on, and a restart would forget it, for that can't be kept ({why}): ask again"
            return error(503, "not_kept", said)
        return {"key": found.id, "revoked": True}
