"""One exchange, top to bottom. Read this first.

Facts come in, a decision is made once, its routes are tried in order, and whatever happens one settlement stands in the ledger.
Rule 1: nothing is sent that the ledger does not already know of. Rule 2: once content has reached the client, no other route is
tried. Rule 3: a cancellation at any await leaves no upstream call open and no provider missing from the record.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.core.answer import DEFECT, Answer, Problem, cut_short, failed, gone, refused, stopping
from gateway.core.bounds import Bounds
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request, Scope, Tried, Usage
from gateway.core.failover import failover
from gateway.core.rates import UNLIMITED, Unlimited
from gateway.core.settlement import Settlement, settle
from gateway.core.view import View
from gateway.ports import Client, Clock, Hold, Ledger, Limiter, Live, Meter, Opened, Opening, Upstream

KEEPALIVE = b": keep-alive\n\n"
GONE = Outcome(Ended.CLIENT_GONE, Fault.CLIENT)
CUT_OFF = Outcome(Ended.CUT_SHORT, Fault.NOBODY, code="shutting_down")
STOPPED = Outcome(Ended.FAILED, Fault.NOBODY, code="shutting_down")
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
    limiter: Limiter | Unlimited = UNLIMITED


@dataclass(slots=True)
class Course:
    """One exchange under way: what has been tried so far, and how far its event stream is."""

    world: World
    request: Request
    decision: Decision
    client: Client
    hold: Hold = UNLIMITED  # of limits
    tried: list[Tried] = field(default_factory=list)
    streaming: bool = False  # the client has been sent a head
    end: Answer | None = None  # and the end of the stream: nothing may follow it

    def begin_stream(self, headers: dict[str, str]) -> None:
        if not self.streaming:
            self.streaming = True
            self.client.begin_stream(headers)

    def end_stream(self, problem: Problem | None, usage: Usage | None = None) -> Answer:
        if self.end is None:
            self.end = Answer(200, problem=problem, streamed=True, usage=usage)
            self.client.end_stream(problem)
        return self.end


async def exchange(world: World, view: View, request: Request, client: Client) -> Answer:
    """Decide where `request` may go, serve it from there, and settle. Streams are written to `client` on the way."""
    state = world.limiter.live(request, world.live.read(request.began), request.began)
    decision = decide(view, request.facts, request.needs, state, world.draw())
    course = Course(world, request, decision, client)
    answer: Answer | None = None  # stays so when cancelled
    try:
        answer = await _admitted(course) if decision.routes else _said(course, refused(decision, request.began))
    except Exception as error:  # noqa: BLE001 - whatever our bug is, the client is answered and the exchange settled
        world.defect(error)
        answer = _said(course, DEFECT)
    finally:
        _settled(course, answer or _cut_off(course))
    return answer


def _cut_off(course: Course) -> Answer:
    """What was told to a client whose exchange was cancelled: nothing, or that the worker stops (by whoever cancelled it)."""
    return gone() if course.client.gone else Answer(200 if course.streaming else 503, problem=stopping())


def _settled(course: Course, answer: Answer) -> None:
    """Record the exchange. It is over: what fails here raises the alarm, and must not become a second answer."""
    world, now = course.world, course.world.clock.now()
    settlement: Settlement | None = None
    try:
        tried, books = tuple(course.tried), course.hold.books
        settlement = settle(course.request, course.decision, tried, answer.status, answer.code, now, books)
        try:
            world.ledger.settled(settlement)
        except OSError:
            world.meter.ledger_failed()
        finally:
            world.meter.settled(settlement)
    except Exception as error:  # noqa: BLE001
        world.defect(error)
    finally:
        course.hold.settle(settlement, now)


async def _admitted(course: Course) -> Answer:
    """Serve what its caller's limits let in. Near a limit, and only there, the store is waited for."""
    course.hold = course.world.limiter.hold(course.request, course.decision)
    said = course.hold.admit(course.request.began)
    if said is not None and not isinstance(said, Problem):
        said = await said
    return await _serve(course) if said is None else _said(course, said)


async def _serve(course: Course) -> Answer:
    """Try the decision's routes until one serves, one says that the request itself is wrong, or none is left (or may be tried)."""
    world = course.world
    routes = failover(course.decision, world.bounds.attempts_max)
    attempt: Attempt | None = next(routes)
    while attempt is not None:
        now = world.clock.now()
        over = course.hold.attempt(attempt, now)
        if over is not None and not isinstance(over, Outcome):
            over = await over
        if over is not None:  # a limit of its place, or of what it costs, does not let it begin
            course.tried.append(Tried(attempt, over, now, now))
        else:
            if course.hold.at_price:
                attempt = replace(attempt, at_price=True)
            try:
                world.ledger.begun(course.request, course.decision, attempt)
            except OSError:
                world.meter.ledger_failed()
                return _said(course, Problem(503, "ledger_unavailable", "the gateway can't write its ledger, so it sends nothing"))
            answer = await _attempt(course, attempt)
            if answer is not None:
                return answer
        try:
            attempt = routes.send(course.tried[-1].outcome)
        except StopIteration:
            break
        last = course.tried[-1]
        if over is None and not world.live.may_fail_over(last.outcome, last.ended):  # what was not begun is no call
            world.meter.failover_refused()
            break
    return _said(course, failed([tried.outcome for tried in course.tried]))


async def _attempt(course: Course, attempt: Attempt) -> Answer | None:
    """One call to one route; None: it ended before any content, and what it ended with is the last of `tried`."""
    world, request, client = course.world, course.request, course.client
    began, first_content = world.clock.now(), 0.0
    course.tried.append(Tried(attempt, BROKEN, began, began))  # named before it is contacted, whatever happens next
    opening = world.upstream.open(course.decision, attempt, request)
    outcome: Outcome | None = None  # stays so when cancelled
    try:
        opened = await _first_content(course, opening)
        if isinstance(opened, Outcome):
            outcome = opened
            return None
        first_content = world.clock.now()
        if not request.stream:
            outcome = opened.outcome()
            return Answer(200, opened.body, headers=disclosed(course, attempt, opening), usage=outcome.usage)
        course.begin_stream(disclosed(course, attempt, opening))
        outcome = await opened.relay(client)
        if outcome.ended is Ended.CLIENT_GONE:
            return gone()
        return course.end_stream(cut_short(outcome) if outcome.ended is not Ended.SERVED else None, outcome.usage)
    except Exception:
        outcome = outcome or BROKEN
        raise
    finally:
        opening.abort()
        if outcome is None:
            outcome = _cancelled(course, opening)
        ended = world.clock.now()
        course.tried[-1] = Tried(attempt, outcome, began, ended, first_content, opening.address, opening.dropped)
        course.hold.attempted(outcome, ended)
        world.live.report(attempt, outcome, ended, first_content - began if first_content else None, request.stream)


def _cancelled(course: Course, opening: Opening) -> Outcome:
    """How an attempt ended whose exchange was cancelled: what it has used is owed, whoever cancelled it."""
    how = GONE if course.client.gone else CUT_OFF if course.streaming else STOPPED
    return replace(how, usage=opening.used())


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
        course.begin_stream(identified(course))
        course.client.write(KEEPALIVE)
    return SLOW


def _said(course: Course, problem: Problem) -> Answer:
    """Tell the client of `problem`: as an answer, or as an event where a stream has begun."""
    if course.streaming:
        return course.end_stream(problem)
    headers = identified(course)
    if "rules" in course.request.disclose and not course.decision.routes:
        headers["x-gateway-rules"] = ", ".join(course.decision.refusing_rules)
    return Answer(problem.status, problem=problem, headers=headers)


def identified(course: Course) -> dict[str, str]:
    """The headers of every answer: the decision's id, which is ours, the client's own if it sent one, and what its rates leave."""
    request = course.request
    return {"x-request-id": request.client_id or request.id, "x-gateway-decision": request.id, **course.hold.headers}


def disclosed(course: Course, attempt: Attempt, opening: Opening) -> dict[str, str]:
    """The headers of an answer that was served: what else this key's `disclose` lists."""
    headers, disclose = identified(course), course.request.disclose
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
