"""The policy on the admin API: what is in force and what lies in the folder, trying a change, making it, and going back.

A change says which documents it was made from (`if-match`), so that of two admins the second is told and not obeyed. It answers
when the last worker serves under the new snapshot, and with everything that is wrong if none does.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.control.answers import error

DOCUMENTS = Field(
    description="every document of the folder: name → text; those that are not named are removed",
    examples=[{"residency.yaml": "rules: …", "cases/clinic.yaml": "- note: …"}],
    max_length=200,
)


class Change(BaseModel):
    """The documents of a policy, all of them."""

    model_config = ConfigDict(extra="forbid")
    documents: Annotated[dict[str, str], DOCUMENTS]


class Back(BaseModel):
    """Where to go back to."""

    model_config = ConfigDict(extra="forbid")
    to: Annotated[str | None, Field(description="of the history, or how it begins; without: undo")] = None


class No(Exception):
    """A change that is not made: HTTP status, code and what to say."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Policies(Protocol):
    """What is asked of the reloader. All raise No."""

    async def shown(self) -> tuple[str, dict[str, Any]]:
        """The etag of the documents in the folder, and what there is to say."""
        ...

    async def tried(self, documents: Mapping[str, str]) -> tuple[bool, dict[str, Any]]:
        """Whether these documents may serve, and what there is to say; nothing is changed."""
        ...

    async def changed(self, documents: Mapping[str, str], seen: str, by: str) -> tuple[bool, dict[str, Any]]:
        """Whether these documents serve from now on, and what there is to say."""
        ...

    async def gone_back(self, to: str | None, seen: str, by: str) -> tuple[bool, dict[str, Any]]:
        """Whether what served before does so from now on, and what there is to say."""
        ...

    def past(self) -> list[dict[str, Any]]:
        """Every switch, the newest first."""
        ...


def add_policy_routes(app: FastAPI, policies: Policies) -> None:
    """`/admin/v1/policy…`."""

    @app.exception_handler(No)
    def no(_request: Request, found: No) -> Response:
        return error(found.status, found.code, found.message)

    @app.get("/admin/v1/policy")
    async def shown(response: Response) -> Any:
        """What is in force, since when, how the last change went, and the documents in the folder. The etag is the documents'."""
        etag, body = await policies.shown()
        response.headers["etag"] = f'"{etag}"'
        return body

    @app.post("/admin/v1/policy/check")
    async def check(change: Change) -> Any:
        """Would these documents be served? Loaded, proved and tested; nothing is kept or changed."""
        fine, body = await policies.tried(change.documents)
        return body if fine else error(422, "policy_refused", _why(body), body)

    @app.put("/admin/v1/policy")
    async def put(change: Change, request: Request, if_match: Annotated[str | None, Header()] = None) -> Any:
        """Serve these documents, and write them into the folder. Answers when no request begins under the old ones any more."""
        fine, body = await policies.changed(change.documents, _seen(if_match), request.state.who.name)
        return body if fine else error(422, "policy_refused", _why(body), body)

    @app.post("/admin/v1/policy/rollback")
    async def back(where: Back, request: Request, if_match: Annotated[str | None, Header()] = None) -> Any:
        """Serve what served before, and write it into the folder."""
        fine, body = await policies.gone_back(where.to, _seen(if_match), request.state.who.name)
        return body if fine else error(422, "policy_refused", _why(body), body)

    @app.get("/admin/v1/policy/history")
    async def history() -> Any:
        """Every switch from one snapshot to another, the newest first."""
        return {"now": time.time(), "history": await asyncio.to_thread(policies.past)}


def _seen(if_match: str | None) -> str:
    """The etag that a change was made from. Raises No for none: whoever has not looked must not overwrite."""
    if if_match is None:
        message = "send `if-match` with the etag of `GET /admin/v1/policy`, the one that this change is made from"
        raise No(428, "if_match_required", message)
    return if_match.strip().removeprefix("W/").strip('"')


def _why(body: Mapping[str, Any]) -> str:
    return "this policy is not served: " + "; ".join(str(line) for line in body.get("problems", ())[:3])
