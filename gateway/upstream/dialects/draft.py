"""A body under construction: what goes out, and the names of what was left out."""

import re
from typing import TYPE_CHECKING, Any, Final

from gateway.core.exchange import Outcome, Request
from gateway.core.policy import Deployment

if TYPE_CHECKING:
    from gateway.upstream.dialects.base import Dialect

DROPPED_MAX: Final = 32
"""Names reported for one request; clients choose them, and records hold them."""

_NAME: Final = re.compile(r"[A-Za-z0-9_\[\].-]{1,64}")


class Unsendable(Exception):
    """A request that this gateway does not send on. Nothing was sent; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.code)
        self.outcome = outcome


class Draft:
    """One body for one deployment. `secret` is the endpoint's credential, or None.

    `cached_from`: of how many tokens on a prompt should be cached, where that has to be asked for; None: it is not asked for.
    """

    __slots__ = ("cached_from", "deployment", "dialect", "dropped", "out", "request", "secret")

    def __init__(
        self, dialect: "Dialect", deployment: Deployment, request: Request, secret: str | None, cached_from: int | None = None
    ) -> None:
        self.dialect = dialect
        self.deployment = deployment
        self.request = request
        self.secret = secret
        self.cached_from = cached_from
        self.out: dict[str, Any] = {"model": deployment.upstream_model}
        self.dropped: list[str] = []

    def drop(self, name: str) -> None:
        """Report that `name` was not sent, or not as it was written."""
        name = name if _NAME.fullmatch(name) else "(a name that can't be shown)"
        if name not in self.dropped and len(self.dropped) < DROPPED_MAX:
            self.dropped.append(name)
