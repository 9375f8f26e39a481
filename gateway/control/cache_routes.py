"""The cache on the admin API: answers that are to be given no more."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.control.answers import error
from gateway.core.policy import Snapshot
from gateway.refused import in_words


class Purge(BaseModel):
    """Which answers: those that are of all that is named here."""

    model_config = ConfigDict(extra="forbid")
    tenant: Annotated[str, Field(description="its own answers, and those of scopes that tenants share")] = ""
    model: Annotated[str, Field(description="that made them")] = ""
    tag: Annotated[str, Field(description="of the requests that they were made for")] = ""
    all: Annotated[bool, Field(description="everything that is kept; nothing else may be named then")] = False


class Fleet(Protocol):
    """What is asked of the supervisor."""

    @property
    def snapshot(self) -> Snapshot: ...


class Purges(Protocol):
    """Who does it."""

    async def purge(self, by: str, tenant: str, model: str, tag: str) -> int | None:
        """Take out what is of all these; how many answers went, or None if the store did not do all of it. Raises OSError if that
        can't be kept; then nothing was taken out."""
        ...


def add_cache_routes(app: FastAPI, fleet: Fleet, purges: Purges) -> None:
    """`/admin/v1/cache/purge`."""

    @app.post("/admin/v1/cache/purge")
    async def purge(what: Purge, request: Request) -> Any:
        """Have answers given no more. Answers when no worker gives what was kept when this began."""
        named = bool(what.tenant or what.model or what.tag)
        if named == what.all:
            return error(400, "nothing_named", "name a `tenant`, a `model` or a `tag`, or say `all: true` and name nothing")
        policy = fleet.snapshot.policy
        kinds: list[tuple[str, str, Iterable[str]]] = [
            ("tenant", what.tenant, fleet.snapshot.access.tenants),
            ("model", what.model, policy.models),
            ("tag", what.tag, policy.vocabulary.tags),
        ]
        for kind, word, known in kinds:
            if word and word not in known:
                near = "".join(f" (did you mean `{name}`?)" for name in get_close_matches(word, known, 1))
                left = "what is kept of one that has left it goes with `all: true`"
                return error(404, f"unknown_{kind}", f"the policy in force has no such {kind}{near}; {left}")
        try:
            gone = await purges.purge(request.state.who.name, what.tenant, what.model, what.tag)
        except OSError as found:
            return error(503, "not_kept", f"nothing was purged: the ledger can't be written ({in_words(found)})")
        if gone is None:
            return error(503, "store_lost", "the store did not do all of it; ask again when it is back, and what is left goes")
        return {"purged": gone}
