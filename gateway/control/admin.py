"""The admin API: explains decisions, shows endpoints and decisions of the past, shows and changes the policy (policy_routes.py).

Whoever calls shows a token, and its role says what it may. Loopback only; the Host must be a loopback name and an Origin, if a
browser sends one, must be this very server, so that no web page an admin happens to visit can ask anything here. What `decide` is
given is not sent, kept or logged.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from gateway import defects
from gateway.control.answers import error
from gateway.control.cache_routes import Purges, add_cache_routes
from gateway.control.cordon_routes import Cordons, add_cordon_routes
from gateway.control.key_routes import Revocations, add_key_routes
from gateway.control.policy_routes import Policies, add_policy_routes
from gateway.control.tokens import POLICY, Tokens
from gateway.core.accounts import Slots
from gateway.core.answer import Problem
from gateway.core.limits import all_limits
from gateway.core.policy import Deployment, Places, Snapshot
from gateway.core.pricing import even_share
from gateway.core.used import Used, used

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
BODY_BYTES_MAX: Final = 20_000_000  # as much as a client's request may be
OPEN: Final = frozenset({"/docs", "/openapi.json"})  # descriptions, no data


class Fleet(Protocol):
    """What is asked of the supervisor."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def cordoned(self) -> Iterable[str]: ...

    @property
    def sharing(self) -> int | None:
        """How many workers there are on all machines, as last known."""
        ...

    @property
    def reports(self) -> Iterable[Mapping[str, Any]]: ...


class Checks(Protocol):
    """What is asked of health checks."""

    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """What there is to say of each endpoint that is asked how it is, by id."""
        ...


Decide = Callable[[Snapshot, Mapping[str, Any]], Mapping[str, Any]]


Past = Callable[[str], Awaitable[tuple[int, Mapping[str, Any] | str]]]


def admin_app(
    fleet: Fleet,
    tokens: Tokens,
    decide: Decide | None,
    policies: Policies | None = None,
    past: Past | None = None,
    cordons: Cordons | None = None,
    purges: Purges | None = None,
    checks: Checks | None = None,
    revocations: Revocations | None = None,
) -> FastAPI:
    """`decide` explains a request given as facts or whole; it raises Problem for one that can't be. `past` explains a decision of
    the ledger by its id: an HTTP status, and the explanation or why there is none. None: that is not offered."""
    app = FastAPI(title="Residency Gateway: admin", version="1", redoc_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        origin = request.headers.get("origin")
        if host not in LOOPBACK or (origin is not None and urlsplit(origin).netloc != request.headers.get("host")):
            return error(403, "wrong_host", "the admin API is for this machine: the Host or Origin header names another")
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        who = tokens.known(shown.strip()) if scheme.lower() == "bearer" else None
        if request.url.path not in OPEN and who is None:
            return error(401, "invalid_admin_token", "send `authorization: Bearer` and the admin token")
        if who is not None and not who.may(request.method, request.url.path):
            return error(403, "role_not_allowed", f"the role `{who.role}` reads; changing anything takes the role `{POLICY}`")
        request.state.who = who
        if "transfer-encoding" in request.headers:  # its length can't be known before it is read
            return error(411, "length_required", "send the body with a content-length")
        if int(request.headers.get("content-length") or 0) > BODY_BYTES_MAX:
            return error(413, "body_too_large", f"the body is over the limit of {BODY_BYTES_MAX} bytes")
        try:
            return await call_next(request)
        except Exception as found:  # noqa: BLE001 - the server would log its message, which may quote the question
            defects.report(found)
            return error(500, "internal_error", "the gateway has a defect, and has recorded where")

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, found: RequestValidationError) -> JSONResponse:
        kinds = ", ".join(sorted({str(one["type"]) for one in found.errors()}))  # pydantic's words; what was sent stays out of it
        return error(400, "invalid_json", f"the body must be a JSON object of the shape that /docs tells ({kinds})")

    @app.post("/admin/v1/decide")
    def decide_(question: dict[str, Any]) -> Any:
        """Where a request would go, and why nowhere else: `{tenant, asked, region, …}`, or a whole one: `{key, headers, body}`."""
        if decide is None:
            return error(501, "not_available", "this gateway was started without it")
        try:
            return decide(fleet.snapshot, question)
        except Problem as problem:
            return error(problem.status, problem.code, problem.message)

    @app.get("/admin/v1/decisions/{decision}")
    async def decisions(decision: str) -> Any:
        """A decision of the past, by the `x-gateway-decision` of its answer: why it came so, and what came of it."""
        if past is None:
            return error(501, "not_available", "this gateway was started without it")
        status, found = await past(decision)
        return found if status == 200 else error(status, "unknown_decision", str(found))

    @app.get("/admin/v1/endpoints")
    def endpoints() -> dict[str, Any]:
        """Every deployment with its labels, who vouches for them, and what each worker has against it just now.

        `health` is what asking the endpoint itself has found, and how busy it says it is; null where nobody asks. `room` is how
        many requests it works on at once, how many workers of all machines share that (null: not known), and what each has.
        """
        reports, rows = list(fleet.reports), {} if checks is None else checks.rows()
        places = fleet.snapshot.policy.deployments
        found = [(_described(place, reports, fleet.cordoned), _room(place, fleet.sharing)) for place in places]
        return {"endpoints": [{**one, "room": room, "health": rows.get(one["endpoint"])} for one, room in found]}

    @app.get("/admin/v1/limits")
    def limits() -> dict[str, Any]:
        """Every rate, budget and quota: whose it is, what is left of it among all, and when all of it is there again."""
        return {"limits": [_limit(one) for one in used(all_limits(fleet.snapshot), fleet.reports)]}

    if policies is not None:
        add_policy_routes(app, policies)
    if cordons is not None:
        add_cordon_routes(app, fleet, cordons)
    if purges is not None:
        add_cache_routes(app, fleet, purges)
    if revocations is not None:
        add_key_routes(app, fleet, revocations)
    return app


def _described(deployment: Any, reports: list[Mapping[str, Any]], cordoned: Iterable[str]) -> dict[str, Any]:
    endpoint = deployment.endpoint
    return {
        "deployment": deployment.id,
        "endpoint": endpoint.id,
        "provider": endpoint.provider,
        "dialect": endpoint.dialect,
        "host": endpoint.host,
        "enabled": deployment.enabled and endpoint.enabled,
        "cordoned": endpoint.id in cordoned,
        "processed_in": _places(deployment.processed_in),
        "operated_under": _places(deployment.operated_under),
        "assurances": [{"name": a.name, "until": _day(a.until), "evidence": a.evidence} for a in deployment.assurances],
        "open_connections": sum(report.get("upstream_connections", {}).get(endpoint.id, 0) for report in reports),
        "in_flight": sum(report.get("upstream_in_flight", {}).get(endpoint.id, 0) for report in reports),
        "live": [found for report in reports if (found := _live(report, deployment.id, endpoint.id))],
    }


def _room(deployment: Deployment, workers: int | None) -> dict[str, Any] | None:
    capacity = deployment.tariff.capacity
    if capacity is None:
        return None
    return {"concurrency": capacity.concurrency, "workers": workers, "each": even_share(capacity.concurrency, workers)}


def _limit(one: Used) -> dict[str, Any]:
    limit = one.limit
    return {
        "id": limit.terms.id,
        "whose": limit.whose,
        "says": limit.says,
        "unit": "at once" if isinstance(limit.terms.of, Slots) else str(limit.unit),
        "amount": limit.terms.of.amount,
        "left": one.left,
        "reset_s": one.reset_s,
        "past": [float(share) for share in one.past],
        "alone": one.alone,
    }


def _live(report: Mapping[str, Any], deployment: str, endpoint: str) -> Any:
    rows = report.get("live", {})
    return rows.get(deployment) or rows.get(endpoint)


def _places(places: Places) -> dict[str, Any]:
    countries = "anywhere" if places.countries is None else sorted(places.countries)
    return {"countries": countries, "source": places.source, "verified": places.verified, "until": _day(places.until)}


def _day(instant: float | None) -> str | None:
    return None if instant is None else datetime.fromtimestamp(instant, UTC).isoformat()
