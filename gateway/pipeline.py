"""One exchange, top to bottom. Read this first.

Facts come in, a decision is made once, its routes are tried in order, and whatever happens one settlement stands in the ledger.
Rule 1: nothing is sent that the ledger does not already know of. Rule 2: once content has reached the client, no other route is
tried. Rule 3: a cancellation at any await leaves no upstream call open and no provider missing from the record.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from gateway.core.answer import DEFECT, Answer, Problem, cut_short, failed, gone, refused, stopping
from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping, authorised, keeping, least_likeness, like_enough
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Fault, Kept, Outcome, Recall, Recalled, Request, Scope, Tried, Unlike
from gateway.core.failover import failover
from gateway.core.likeness import compared
from gateway.core.policy import Deployment, Semantic
from gateway.core.settlement import NOT_CACHED, OK, Settlement, settle
from gateway.core.side import embedding_of, may_be_asked
from gateway.core.unlimited import UNLIMITED, Unlimited
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.ports import (
    Aside,
    Cache,
    Client,
    Clock,
    Hold,
    Ledger,
    Limiter,
    Live,
    Meter,
    Opened,
    Opening,
    Patience,
    Place,
    Trail,
    Upstream,
    Warmth,
)

T = TypeVar("T")
KEEPALIVE = b": keep-alive\n\n"
GONE = Outcome(Ended.CLIENT_GONE, Fault.CLIENT)
CUT_OFF = Outcome(Ended.CUT_SHORT, Fault.NOBODY, code="shutting_down")
STOPPED = Outcome(Ended.FAILED, Fault.NOBODY, code="shutting_down")
BROKEN = Outcome(Ended.FAILED, Fault.OURS, code="internal_error")
SLOW = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.DEPLOYMENT, code="first_content_timeout")
UNKEPT = Problem(
    504,
    NOT_CACHED,
    "nothing is kept that answers this, and `only-if-cached` says that it is to be sent nowhere",
    should_retry=False,
)


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
    cache: Cache | None = None
    warmth: Warmth | None = None  # where the policy has no `affinity`
    aside: Aside | None = None


@dataclass(slots=True)
class Course:
    """One exchange under way: what has been tried so far, and how far its event stream is."""

    world: World
    request: Request
    decision: Decision
    client: Client
    hold: Hold = UNLIMITED  # of limits
    patience: Patience = field(default_factory=Patience)  # with the shared store
    trail: Trail | None = None
    tried: list[Tried] = field(default_factory=list)
    outcome: Outcome | None = None  # of the attempt under way; stays so when cancelled
    first_content: float = 0.0  # when it came, of that attempt; 0: it has not
    place: Place | None = None  # in the cache
    semantic: Semantic | None = None  # to which like requests its answer may be given
    recalled: Recalled | None = None  # and what was there
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
    trail = None if world.warmth is None else world.warmth.trail(request)
    decision = decide(view, request.facts, request.needs, state if trail is None else trail.live(state), world.draw())
    course = Course(world, request, decision, client, trail=trail)
    try:
        try:
            answer = await _admitted(course) if decision.routes else _said(course, refused(decision, request.began))
        except Exception as error:  # noqa: BLE001 - whatever our bug is, the client is answered and the exchange settled
            world.defect(error)
            answer = _said(course, DEFECT)
    except BaseException:  # cancelled
        _settled(course, _cut_off(course))
        raise
    _settled(course, answer)
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
        settlement = settle(course.request, course.decision, tried, answer.status, answer.code, now, books, course.recalled)
        try:
            world.ledger.settled(settlement)
        except OSError:
            world.meter.ledger_failed()
        finally:
            world.meter.settled(settlement)
    except Exception as error:  # noqa: BLE001
        world.defect(error)
    course.hold.settle(settlement, now)


async def _admitted(course: Course) -> Answer:
    """Serve what its caller's limits let in. Near a limit, and only there, the store is waited for."""
    course.hold = course.world.limiter.hold(course.request, course.decision, course.patience)
    said = course.hold.admit(course.request.began)
    if said is not None and not isinstance(said, Problem):
        said = await said
    return await _remembered(course) if said is None else _said(course, said)


async def _remembered(course: Course) -> Answer:
    """Answer with what was kept, where policy and request have it so; else serve, and have the answer kept."""
    only = course.request.wish.only
    course.place = place = _place(course)
    if place is None:
        return _said(course, UNKEPT) if only else await _serve(course)
    try:
        if course.recalled is None:
            course.recalled = await _recalled(course, place)
            if course.semantic is not None and course.recalled.how is Recall.MISS and not only:
                course.recalled = await _near(course, place, course.semantic)
        if (kept := course.recalled.kept) is not None and (deployment := course.recalled.deployment) is not None:
            return _replay(course, kept, deployment)
        return _said(course, UNKEPT) if only else await _serve(course)
    finally:
        _safely(course, place.leave)


def _place(course: Course) -> Place | None:
    """Where the answer is looked for and kept; None: nowhere. Where the request wishes no look, what is recalled is known."""
    world, wish = course.world, course.request.wish
    if world.cache is None:
        return None
    how = keeping(course.decision, course.request.api)
    if not isinstance(how, Keeping):
        course.recalled = None if how is None else Recalled(how)
        return None
    course.semantic = how.semantic
    if not wish.look:
        course.recalled = Recalled(Recall.BYPASSED)
    return _safely(course, world.cache.place, course.request, how, course.patience) if wish.look or wish.keep else None


async def _recalled(course: Course, place: Place) -> Recalled:
    """What was kept, authorised again under the decision at hand. A stream's client gets comments while an equal request is waited
    for. A defect of the cache's is told, and is no reason not to serve."""
    found: Recalled | None = None
    patience_s = course.world.bounds.keepalive_after_s if course.request.stream else None
    while found is None:
        try:
            found = await place.find(patience_s)
        except Exception as error:  # noqa: BLE001
            course.world.defect(error)
            return Recalled(Recall.LOST)
        if found is None:
            course.begin_stream(identified(course))
            course.client.write(KEEPALIVE)
    return _authorised(course, found)


def _authorised(course: Course, found: Recalled) -> Recalled:
    """What was kept, if this request may be given it."""
    if found.kept is None:
        return found
    deployment = authorised(course.decision, found.kept.deployment)
    if deployment is None or (found.likeness is not None and not like_enough(course.semantic, deployment, found.likeness)):
        return Recalled(Recall.MISS)
    return replace(found, deployment=deployment)


async def _near(course: Course, place: Place, semantic: Semantic) -> Recalled:
    """What was kept for a like request, authorised as any other; else a miss that says why there is nothing.

    How like it is, an embedding of the last message tells: a side call, which is an exchange of its own on the same key's behalf,
    decided under the same view. Whatever becomes of it, the request goes on.
    """
    try:
        found = await _alike(course, place, semantic)
    except Exception as error:  # noqa: BLE001
        course.world.defect(error)
        found = Unlike.FAILED
    return Recalled(Recall.MISS, unlike=found) if isinstance(found, Unlike) else _authorised(course, found)


async def _alike(course: Course, place: Place, semantic: Semantic) -> Recalled | Unlike:
    world, request, view = course.world, course.request, course.decision.view
    least, text = least_likeness(course.decision, semantic), compared(request, world.bounds)
    if world.aside is None or text is None or not least:
        return Unlike.UNFIT
    call = replace(embedding_of(text, semantic.model, request), began=world.clock.now())
    if not may_be_asked(view, call):
        return Unlike.BARRED
    begin = partial(exchange, replace(world, cache=None, warmth=None), view, call)
    said = await world.aside.ask(begin, course.client, world.bounds.cache_near_wait_s_max)
    if said is None:
        return Unlike.LATE
    return await place.near(text, said.body, said.made_at, least) if said.status == OK else Unlike.FAILED


def _replay(course: Course, kept: Kept, deployment: Deployment) -> Answer:
    """Answer as the upstream did then. Nothing is sent anywhere."""
    age_s = max(0.0, course.world.clock.now() - kept.made)
    headers = {**disclosed(course, deployment, 0, ()), "age": str(int(age_s))}
    if "cache" in course.request.disclose and course.recalled is not None and course.recalled.likeness is not None:
        headers["x-gateway-cache-of"] = kept.made_by
    if not course.request.stream:
        return Answer(200, kept.body, headers=headers)
    course.begin_stream(headers)
    course.client.write(kept.body)
    return course.end_stream(None)


def _safely(course: Course, act: Callable[..., T], *given: object) -> T | None:
    """Do what the cache is there for. What goes wrong with it is told, and the answer is the client's all the same."""
    try:
        return act(*given)
    except Exception as error:  # noqa: BLE001
        course.world.defect(error)
        return None


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
    world, request, client, place = course.world, course.request, course.client, course.place
    began = world.clock.now()
    course.tried.append(Tried(attempt, BROKEN, began, began))  # named before it is contacted, whatever happens next
    opening = world.upstream.open(course.decision, attempt, request)
    course.outcome, course.first_content = None, 0.0
    try:
        opened = await _first_content(course, opening)
        if isinstance(opened, Outcome):
            course.outcome = opened
            return None
        course.first_content = world.clock.now()
        if not request.stream:
            course.outcome = outcome = opened.outcome()
            body = opened.body
            if place is not None:
                _safely(course, place.keep, attempt, outcome, body)
            headers = disclosed(course, attempt.deployment, attempt.number, opening.dropped)
            return Answer(OK, body, headers=headers, usage=outcome.usage, made_at=attempt.deployment.id)
        course.begin_stream(disclosed(course, attempt.deployment, attempt.number, opening.dropped))
        listener = client if place is None else _safely(course, place.collecting, client) or client
        course.outcome = outcome = await opened.relay(listener)
        if place is not None and outcome.ended is Ended.SERVED:
            _safely(course, place.keep, attempt, outcome, None)
        if outcome.ended is Ended.CLIENT_GONE:
            return gone()
        return course.end_stream(cut_short(outcome) if outcome.ended is not Ended.SERVED else None, outcome.usage)
    except Exception:
        course.outcome = course.outcome or BROKEN
        raise
    finally:
        opening.abort()
        _attempted(course, attempt, opening, began)


def _attempted(course: Course, attempt: Attempt, opening: Opening, began: float) -> None:
    """Say of an attempt how it has ended, to all who want to know. What that is stands in `course`, and is asked for here: within a
    `finally`, compiled code would take a variable for what it is where nothing was raised."""
    outcome = course.outcome
    if outcome is None:
        outcome = _cancelled(course, opening)
    world, first_content, ended = course.world, course.first_content, course.world.clock.now()
    course.tried[-1] = Tried(attempt, outcome, began, ended, first_content, opening.address, opening.dropped)
    course.hold.attempted(outcome, ended)
    if course.trail is not None and first_content:
        course.trail.read(attempt, outcome, ended)
    world.live.report(attempt, outcome, ended, first_content - began if first_content else None, course.request.stream)


def _cancelled(course: Course, opening: Opening) -> Outcome:
    """How an attempt ended whose exchange was cancelled: what it has used is owed, whoever cancelled it."""
    how = GONE if course.client.gone else CUT_OFF if course.streaming else STOPPED
    return replace(how, usage=opening.used())


async def _first_content(course: Course, opening: Opening) -> Opened | Outcome:
    """Wait for the first content. A stream's client gets comments meanwhile, so that no proxy in between gives up. While the call
    waits for room of ours, nobody is silent but us."""
    bounds = course.world.bounds
    if not course.request.stream:
        return await opening.wait(None) or SLOW
    waited_s = 0.0
    while (left_s := bounds.first_content_s_max - (waited_s - opening.queued_s)) > 0:
        patience_s = min(bounds.keepalive_after_s, left_s)
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


def disclosed(course: Course, deployment: Deployment, attempts: int, dropped: tuple[str, ...]) -> dict[str, str]:
    """The headers of an answer that was served: what else this key's `disclose` lists. `deployment` is where it was made."""
    headers, disclose = identified(course), course.request.disclose
    if not disclose:
        return headers
    told = {
        "endpoint": deployment.endpoint.id,
        "model": deployment.model.id,
        "policy": course.decision.view.snapshot.hash,
        "attempts": str(attempts),
        "cache": "" if course.recalled is None else str(course.recalled.how),
        "dropped": ", ".join(dropped),
        "rules": ", ".join((*course.decision.eligibility.permits, *(row.rule.id for row in course.decision.eligibility.against))),
    }
    headers.update((f"x-gateway-{name}", value) for name, value in told.items() if name in disclose and value)
    return headers
