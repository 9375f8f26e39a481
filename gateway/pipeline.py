"""One exchange, top to bottom. Read this first.

Facts come in, a decision is made once, its routes are tried in order, and whatever happens one settlement stands in the ledger.
Rule 1: nothing is sent that the ledger does not already know of. Rule 2: once content has reached the client, no other route is
tried. Rule 3: a cancellation at any await leaves no upstream call open and no provider missing from the record.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.answer import Answer, Problem, cut_short, failed, gone, refused
from gateway.core.bounds import Bounds
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request, Scope, Tried
from gateway.core.failover import failover
from gateway.core.settlement import settle
from gateway.core.view import View
from gateway.ports import Client, Clock, Ledger, Live, Meter, Opened, Opening, Upstream

KEEPALIVE = b": keep-alive\n\n"
GONE = Outcome(Ended.CLIENT_GONE, Fault.CLIENT)
BROKEN = Outcome(Ended.FAILED, Fault.OURS, code="internal_error")
SLOW = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.DEPLOYMENT, code="first_content_timeout")


@dataclass(frozen=True, slots=True)
class World:
    """All that an exchange asks of the world. `draw` gives natural numbers: it spreads equal routes."""

    clock: Clock
    upstream: Upstream
    ledger: Ledger
    live: Live
    meter: Meter
    bounds: Bounds
    draw: Callable[[], int]
    defect: Callable[[BaseException], None]  # told of our own bugs: records where, never what


@dataclass(slots=True)
class Course:
    """One exchange under way: what has been tried so far, and whether the client has been sent a head."""

    world: World
    request: Request
    decision: Decision
    client: Client
    tried: list[Tried] = field(default_factory=list)
    streaming: bool = False


async def exchange(world: World, view: View, request: Request, client: Client) -> Answer:
    """Decide where `request` may go, serve it from there, and settle. Streams are written to `client` on the way."""
    decision = decide(view, request.facts, request.needs, world.live.read(request.began), world.draw())
    course = Course(world, request, decision, client)
    answer = gone()
    try:
        answer = await _serve(course) if decision.routes else _said(course, refused(decision, request.began))
    except Exception as error:  # noqa: BLE001 - whatever our bug is, the client is answered and the exchange settled
        world.defect(error)
        answer = _said(course, Problem(500, "internal_error", "the gateway has a defect, and has recorded where"))
    finally:
        settlement = settle(request, decision, tuple(course.tried), answer.status, answer.code, world.clock.now())
        world.meter.settled(settlement)
        try:
            world.ledger.settled(settlement)
        except OSError:  # the exchange is over: all that is left is to raise the alarm
            world.meter.ledger_failed()
    return answer


async def _serve(course: Course) -> Answer:
    """Try the decision's routes until one serves, one says that the request itself is wrong, or none is left."""
    routes = failover(course.decision, course.world.bounds.attempts_max)
    attempt: Attempt | None = next(routes)
    while attempt is not None:
        try:
            course.world.ledger.begun(course.request, course.decision, attempt)
        except OSError:
            course.world.meter.ledger_failed()
            return _said(course, Problem(503, "ledger_unavailable", "the gateway can't write its ledger, so it sends nothing"))
        answer = await _attempt(course, attempt)
        if answer is not None:
            return answer
        try:
            attempt = routes.send(course.tried[-1].outcome)
        except StopIteration:
            attempt = None
    return _said(course, failed([tried.outcome for tried in course.tried]))


async def _attempt(course: Course, attempt: Attempt) -> Answer | None:
    """One call to one route; None: it ended before any content, and what it ended with is the last of `tried`."""
    world, request, client = course.world, course.request, course.client
    began, first_content, outcome = world.clock.now(), 0.0, BROKEN
    opening = world.upstream.open(course.decision, attempt, request)
    try:
        outcome = GONE  # what a cancellation at one of the awaits below means
        opened = await _first_content(course, opening)
        if isinstance(opened, Outcome):
            outcome = opened
            return None
        first_content = world.clock.now()
        if not request.stream:
            outcome = opened.outcome()
            return Answer(200, opened.body, headers=disclosed(course, attempt, opening), usage=outcome.usage)
        if not course.streaming:
            client.begin_stream(disclosed(course, attempt, opening))
            course.streaming = True
        outcome = await opened.relay(client)
        if outcome.ended is Ended.CLIENT_GONE:
            return gone()
        client.end_stream(cut_short(outcome) if outcome.ended is not Ended.SERVED else None)
        return Answer(200, streamed=True, usage=outcome.usage)
    except Exception:
        outcome = BROKEN
        raise
    finally:
        opening.abort()
        ended = world.clock.now()
        course.tried.append(Tried(attempt, outcome, began, ended, first_content, opening.address, opening.dropped))
        world.live.report(attempt, outcome, ended, first_content - began if first_content else None)


async def _first_content(course: Course, opening: Opening) -> Opened | Outcome:
    """Wait for the first content. A stream's client gets comments meanwhile, so that no proxy in between gives up."""
    bounds = course.world.bounds
    if not course.request.stream:
        return await opening.wait(None) or SLOW
    waited_s = 0.0
    while waited_s < bounds.first_content_s_max:
        patience_s = min(bounds.keepalive_after_s, bounds.first_content_s_max - waited_s)
        opened = await opening.wait(patience_s)
        if opened is not None:
            return opened
        waited_s += patience_s
        if not course.streaming:
            course.client.begin_stream(identified(course.request))
            course.streaming = True
        course.client.write(KEEPALIVE)
    return SLOW


def _said(course: Course, problem: Problem) -> Answer:
    """Tell the client of `problem`: as an answer, or as an event where a stream has begun."""
    if course.streaming:
        course.client.end_stream(problem)
        return Answer(200, problem=problem, streamed=True)
    headers = identified(course.request)
    if "rules" in course.request.disclose and not course.decision.routes:
        headers["x-gateway-rules"] = ", ".join(course.decision.refusing_rules)
    return Answer(problem.status, problem=problem, headers=headers)


def identified(request: Request) -> dict[str, str]:
    """The headers of every answer: the decision's id, which is ours, and the client's own id if it sent one."""
    return {"x-request-id": request.client_id or request.id, "x-gateway-decision": request.id}


def disclosed(course: Course, attempt: Attempt, opening: Opening) -> dict[str, str]:
    """The headers of an answer that was served: what else this key's `disclose` lists."""
    headers, disclose = identified(course.request), course.request.disclose
    if not disclose:
        return headers
    deployment = attempt.deployment
    told = {
        "endpoint": deployment.endpoint.id,
        "model": deployment.model.id,
        "policy": course.decision.view.snapshot.hash,
        "attempts": str(attempt.number),
        "dropped": ", ".join(opening.dropped),
        "rules": ", ".join((*course.decision.eligibility.permits, *(row.rule.id for row in course.decision.eligibility.against))),
    }
    headers.update((f"x-gateway-{name}", value) for name, value in told.items() if name in disclose and value)
    return headers
