"""Cordoning on the admin API: an endpoint that is to get no more requests, and one that may again."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Protocol

from fastapi import FastAPI, Request

from gateway.control.answers import error
from gateway.core.policy import Snapshot
from gateway.refused import in_words


class Fleet(Protocol):
    """What is asked of the supervisor."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def cordoned(self) -> Iterable[str]: ...


class Cordons(Protocol):
    """Who does it."""

    async def change(self, endpoint: str, by: str, *, cordoned: bool) -> None:
        """Have `endpoint` cordoned or not. Raises OSError if that can't be kept; then nothing changes."""
        ...


def add_cordon_routes(app: FastAPI, fleet: Fleet, cordons: Cordons) -> None:
    """`/admin/v1/endpoints/ID/cordon` and `…/uncordon`."""

    async def change(request: Request, endpoint: str, *, cordoned: bool) -> Any:
        known = {deployment.endpoint.id for deployment in fleet.snapshot.policy.deployments}
        if endpoint not in known and (cordoned or endpoint not in fleet.cordoned):
            near = "".join(f"; did you mean `{name}`?" for name in get_close_matches(endpoint, known, 1))
            return error(404, "unknown_endpoint", f"the catalogue in force has no such endpoint{near}")
        try:
            await cordons.change(endpoint, request.state.who.name, cordoned=cordoned)
        except OSError as found:
            return error(503, "not_kept", f"nothing was changed: the state folder can't be written ({in_words(found)})")
        return {"cordoned": sorted(fleet.cordoned)}

    @app.post("/admin/v1/endpoints/{endpoint}/cordon")
    async def cordon(endpoint: str, request: Request) -> Any:
        """Send this endpoint nothing more. Answers when no worker does; what is under way there ends by itself (`in_flight`)."""
        return await change(request, endpoint, cordoned=True)

    @app.post("/admin/v1/endpoints/{endpoint}/uncordon")
    async def uncordon(endpoint: str, request: Request) -> Any:
        """Send it requests again."""
        return await change(request, endpoint, cordoned=False)
