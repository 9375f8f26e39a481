"""What every connection of a worker shares: the world, the snapshot in force, and the requests that are answered on the spot.

`handle` is the whole of routing: a table, then an exchange. It knows nothing of sockets.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import orjson

from gateway.core.answer import DEFECT, Answer, Problem
from gateway.core.policy import Key, Snapshot
from gateway.core.view import Timeline
from gateway.pipeline import World, exchange
from gateway.ports import Client
from gateway.wire.api import Api
from gateway.wire.apis import APIS
from gateway.wire.body import parse
from gateway.wire.desk import Desk, described, unknown_model
from gateway.wire.heads import CLIENT_ID_CHARS_MAX, Head, Heads
from gateway.wire.identity import identify
from gateway.wire.text import Estimator


@dataclass(slots=True)
class Incoming:
    """One HTTP request, whole."""

    head: Head
    body: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a plane needs to begin requests under another snapshot."""

    timeline: Timeline
    desk: Desk


class Plane:
    """The data plane of one worker."""

    def __init__(self, world: World, snapshot: Snapshot, *, demo: bool) -> None:
        self.world = world
        self.demo = demo
        self.in_flight = 0
        self.heads = Heads()
        self.revoked: frozenset[bytes] = frozenset()  # digests of keys, besides those that the policy says are
        self._timeline = Timeline(snapshot)
        self._estimator = Estimator()
        self._desk: Desk | None = None

    def prepare(self, snapshot: Snapshot) -> "Prepared":
        """All that beginning requests under `snapshot` takes, built beforehand, so that `adopt` is a change of pointers."""
        timeline = Timeline(snapshot)
        return Prepared(timeline, Desk(timeline.at(self.world.clock.now()), self._estimator))

    @property
    def snapshot(self) -> Snapshot:
        """What requests begin under now."""
        return self._timeline.snapshot

    def adopt(self, prepared: "Prepared", world: World) -> None:
        """From now on requests begin under what was prepared, in `world`. Those under way keep the view and the world they pinned.

        Nothing is awaited between a request's taking its desk and its exchange's taking the world, so none gets one of each.
        """
        self._timeline, self._desk, self.world = prepared.timeline, prepared.desk, world

    def desk(self, now: float) -> Desk:
        """The desk of the view that a request starting at `now` (UTC seconds) pins."""
        view = self._timeline.at(now)
        if self._desk is None or self._desk.view is not view:
            self._desk = Desk(view, self._estimator)
        return self._desk

    async def handle(self, incoming: Incoming, client: Client) -> Answer:
        """Answer one request. Never raises but for cancellation; streams are written to `client` on the way."""
        try:
            return await self._handle(incoming, client)
        except Problem as problem:
            return Answer(problem.status, problem=problem, headers=identified(incoming.head))
        except Exception as error:  # noqa: BLE001 - our bug must not hang the client
            self.world.defect(error)
            return Answer(500, problem=DEFECT, headers=identified(incoming.head))

    async def _handle(self, incoming: Incoming, client: Client) -> Answer:
        head = incoming.head
        if head.serve is not None:  # it was here before
            return await self._serve(head.serve, incoming, client)
        if not head.path.startswith("/"):
            head.path = _origin_form(head.path)
        path = head.path.partition("?")[0]
        handler = _EXACT.get(path)
        if handler is None and path.startswith(_MODEL):
            handler = ("GET", Plane._model)
        if handler is None:
            known = ", ".join(f"{method} {name}" for name, (method, _) in _EXACT.items())
            raise Problem(404, "unknown_path", f"nothing is served at this path; served are {known}", should_retry=False)
        method, serve = handler
        if head.method != method and (head.method, method) != ("HEAD", "GET"):
            problem = Problem(405, "method_not_allowed", f"this path takes {method}", should_retry=False)
            return Answer(405, problem=problem, headers={**identified(incoming.head), "allow": method})
        head.serve = serve
        return await self._serve(serve, incoming, client)

    def _serve(self, serve: "Handler", incoming: Incoming, client: Client) -> Awaitable[Answer]:
        now = self.world.clock.now()
        desk = self.desk(now)
        key = identify(desk.view.snapshot.access, incoming.head.shown(), now, self.revoked, demo=self.demo)
        return serve(self, desk, key, incoming, client, now)

    async def _models(self, desk: Desk, key: Key, incoming: Incoming, _client: Client, _now: float) -> Answer:
        data = [described(desk.view, name) for name in desk.names(key)]
        return _json(incoming, {"object": "list", "data": data})

    async def _model(self, desk: Desk, key: Key, incoming: Incoming, _client: Client, _now: float) -> Answer:
        name = unquote(incoming.head.path.partition("?")[0].removeprefix(_MODEL))
        if not desk.serves(key, name):
            raise unknown_model(name, desk.names(key))
        return _json(incoming, described(desk.view, name))


def _origin_form(target: str) -> str:
    """The path and query of a target that is a whole URL, as clients of proxies send it (RFC 9112, 3.2.2); else `target`."""
    scheme, _, rest = target.partition("://")
    return f"/{rest.partition('/')[2]}" if rest and scheme.lower() in ("http", "https") else target


async def _answered(api: Api, plane: Plane, desk: Desk, key: Key, incoming: Incoming, client: Client, now: float) -> Answer:
    """An exchange of `api`, or the Problem that keeps it from beginning."""
    if plane.in_flight >= plane.world.bounds.exchanges_max:
        raise Problem(503, "overloaded", "this worker has as many requests under way as it may", retry_after_s=1.0)
    head = incoming.head
    client_id = head.client_id()
    if head.digest:
        plane.heads.remember(head)
    parsed = parse(api.glance, incoming.body, plane.world.bounds)
    request, script = desk.request(api, parsed, len(incoming.body), key, head, new_id(), client_id, now)
    plane.in_flight += 1
    try:
        answer = await exchange(plane.world, desk.view, request, client)
    finally:
        plane.in_flight -= 1
    if answer.usage is not None and answer.usage.reported:
        desk.learn(script, request, answer.usage.input)
    return answer


Handler = Callable[[Plane, Desk, Key, Incoming, Client, float], Awaitable[Answer]]
_MODEL = "/v1/models/"
_EXACT: dict[str, tuple[str, Handler]] = {
    **{api.path: ("POST", partial(_answered, api)) for api in APIS.values()},
    "/v1/models": ("GET", Plane._models),
}


def _ids() -> Iterator[str]:
    while True:
        digits = os.urandom(4096).hex()  # for 256 ids: asking the kernel for each costs 3 µs
        yield from (f"rg-{digits[at : at + 32]}" for at in range(0, len(digits), 32))


new_id: Callable[[], str] = _ids().__next__
"""An id that nobody else can have minted: 128 random bits."""


def identified(head: Head) -> dict[str, str]:
    """The headers of an answer that needed no decision: the client's own id if it sent just one, else one of ours."""
    ids = [value for name, value in head.headers if name == "x-request-id"]
    return {"x-request-id": ids[0][:CLIENT_ID_CHARS_MAX] if len(ids) == 1 and ids[0] else new_id()}


def _json(incoming: Incoming, value: object) -> Answer:
    return Answer(200, orjson.dumps(value), headers=identified(incoming.head))
