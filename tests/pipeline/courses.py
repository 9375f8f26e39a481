"""One exchange, driven by hand: any of its outward calls can be made to fail, and any of its awaits be cancelled.

No event loop runs: the fakes' awaits are bare yields, so that "every await" can be counted. `complaints` says what may never be,
whatever went wrong; it is the same for every fault, and `test_planted_bugs` shows that it would notice.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from fake_ports import (
    BODY,
    USAGE,
    FakeCache,
    FakeCall,
    FakeClient,
    FakeClock,
    FakeHold,
    FakeLedger,
    FakeLimiter,
    FakeLive,
    FakeMeter,
    FakePlace,
    FakeUpstream,
    Script,
)
from small_world import NOW, access, snapshot

from gateway.core.answer import Answer, Problem
from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping
from gateway.core.charging import Counted
from gateway.core.decide import Decision
from gateway.core.exchange import ANY, Attempt, Ended, Fault, Kept, Needs, Outcome, Recall, Recalled, Request, Scope, Unlike, Wish
from gateway.core.facts import NO, YES, RequestFacts
from gateway.core.live import LiveState
from gateway.core.policy import Caching
from gateway.core.settlement import Settlement
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.pipeline import World
from gateway.ports import Callback, Client, Flow, Patience

Exchange = Callable[[World, View, Request, Client], Coroutine[Any, Any, Answer]]

VIEW = View(snapshot(), NOW)
CACHED = View(replace(snapshot(), policy=replace(snapshot().policy, caching=(Caching("all", (), 3600),))), NOW)
THROTTLED = Outcome(Ended.THROTTLED, Fault.UPSTREAM, Scope.DEPLOYMENT, 429, "rate_limited", retry_after_s=7.0)
FAILED = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.DEPLOYMENT, 500, "server_error")
BROKEN_ENDPOINT = Outcome(Ended.FAILED, Fault.OURS, Scope.ENDPOINT, 401, "key_refused", permanent=True)
UNREACHABLE = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, 0, "connect_timeout", sent=False)
REJECTED = Outcome(Ended.REJECTED, Fault.CLIENT, status=422, code="bad_tool", message="`tools[0]` is no tool", param="tools")
CUT_SHORT = Outcome(Ended.CUT_SHORT, Fault.UPSTREAM, Scope.DEPLOYMENT, 200, "closed_early")


class Planted(Exception):
    """A fault that a test put there."""


@dataclass
class Tap:
    """Counts outward calls and makes some fail: the one at `at`, or all from there on. `kind` is what is raised."""

    at: int | None = None
    from_then_on: bool = False
    kind: type[Exception] = Planted
    calls: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        place = len(self.calls)
        self.calls.append(name)
        if self.at is not None and (place == self.at or (self.from_then_on and place > self.at)):
            self.failed.append(name)
            raise self.kind(name)


@dataclass
class TappedCall:
    """An upstream call whose every use can fail."""

    call: FakeCall
    tap: Tap

    @property
    def address(self) -> str:
        return self.call.address

    @property
    def dropped(self) -> tuple[str, ...]:
        return self.call.dropped

    @property
    def queued_s(self) -> float:
        return self.call.queued_s

    @property
    def body(self) -> bytes:
        self.tap("body")
        return self.call.body

    def outcome(self) -> Outcome:
        self.tap("outcome")
        return self.call.outcome()

    async def wait(self, timeout_s: float | None) -> "TappedCall | Outcome | None":
        self.tap("wait")
        found = await self.call.wait(timeout_s)
        return self if isinstance(found, FakeCall) else found

    async def relay(self, client: Client) -> Outcome:
        self.tap("relay")
        return await self.call.relay(client)

    def used(self) -> Usage | None:
        self.tap("used")
        return self.call.used()

    def abort(self) -> None:
        self.call.abort()  # what is asked for happens, and then fails to be confirmed
        self.tap("abort")


@dataclass
class TappedUpstream:
    upstream: FakeUpstream
    tap: Tap

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> TappedCall:
        self.tap("open")
        return TappedCall(self.upstream.open(decision, attempt, request), self.tap)


@dataclass
class TappedLedger:
    ledger: FakeLedger
    tap: Tap

    def begun(self, request: Request, decision: Decision, attempt: Attempt | None) -> None:
        self.tap("begun")
        self.ledger.begun(request, decision, attempt)

    def settled(self, settlement: Settlement) -> None:
        self.ledger.settlements.append(settlement)
        self.tap("settled")


@dataclass
class TappedLive:
    live: FakeLive
    tap: Tap

    def read(self, now: float) -> LiveState:
        self.tap("read")
        return self.live.read(now)

    def report(self, attempt: Attempt, outcome: Outcome, now: float, first_content_s: float | None, streamed: bool) -> None:
        self.live.report(attempt, outcome, now, first_content_s, streamed)
        self.tap("report")

    def may_fail_over(self, outcome: Outcome, now: float) -> bool:
        self.tap("may_fail_over")
        return self.live.may_fail_over(outcome, now)


@dataclass
class TappedMeter:
    meter: FakeMeter
    tap: Tap

    def settled(self, settlement: Settlement) -> None:
        self.meter.settled(settlement)
        self.tap("count")

    def ledger_failed(self) -> None:
        self.meter.ledger_failed()
        self.tap("alarm")

    def failover_refused(self) -> None:
        self.meter.failover_refused()
        self.tap("failover_refused")


@dataclass
class TappedLimiter:
    limiter: FakeLimiter
    tap: Tap

    def live(self, request: Request, state: LiveState, now: float) -> LiveState:
        self.tap("read")  # fails as reading live state does: before anything is decided
        return self.limiter.live(request, state, now)

    def hold(self, request: Request, decision: Decision, patience: Patience) -> "TappedHold":
        self.tap("hold")
        return TappedHold(self.limiter.hold(request, decision, patience), self.tap)


@dataclass
class TappedHold:
    """A hold whose every use but the last can fail."""

    hold: FakeHold
    tap: Tap

    @property
    def headers(self) -> Mapping[str, str]:
        return self.hold.headers

    @property
    def books(self) -> tuple[Counted, ...]:
        return self.hold.books

    @property
    def at_price(self) -> bool:
        return self.hold.at_price

    def admit(self, now: float) -> Problem | Awaitable[Problem | None] | None:
        said = self.hold.admit(now)  # what is asked for happens, and then fails to be confirmed
        self.tap("admit")
        return said

    def attempt(self, attempt: Attempt, now: float) -> Outcome | Awaitable[Outcome | None] | None:
        said = self.hold.attempt(attempt, now)
        self.tap("attempt")
        return said

    def attempted(self, outcome: Outcome, now: float) -> None:
        self.hold.attempted(outcome, now)
        self.tap("attempted")

    def settle(self, settlement: Settlement | None, now: float) -> None:
        self.hold.settle(settlement, now)


@dataclass
class TappedClient:
    client: FakeClient
    tap: Tap

    @property
    def gone(self) -> bool:
        return self.client.gone

    def on_gone(self, callback: Callback | None) -> None:
        self.client.on_gone(callback)

    def on_writable(self, callback: Flow | None) -> None:
        self.client.on_writable(callback)

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        self.client.begin_stream(headers)
        self.tap("begin_stream")

    def write(self, events: bytes) -> None:
        self.client.write(events)
        self.tap("write")

    def forward(self, chunk: bytes, begin: int) -> None:
        self.client.forward(chunk, begin)
        self.tap("write")

    def end_stream(self, problem: Any) -> None:
        self.client.end_stream(problem)
        self.tap("end_stream")


OVER_QUOTA = Outcome(Ended.EXHAUSTED, Fault.OURS, Scope.DEPLOYMENT, code="over_quota", retry_after_s=60.0, sent=False)
BETA = (("one/beta", OVER_QUOTA),)
ALL = tuple((name, OVER_QUOTA) for name in ("one/alpha", "one/beta", "two/alpha", "two/beta", "three/alpha"))


@dataclass
class TappedPlace:
    place: FakePlace
    tap: Tap

    async def find(self, patience_s: float | None) -> Recalled | None:
        self.tap("find")
        return await self.place.find(patience_s)

    async def near(self, text: str, said: bytes, said_by: str, least: Mapping[str, float]) -> Recalled | Unlike:
        raise NotImplementedError  # no course has a policy that lets requests be compared

    def collecting(self, client: Client) -> Client:
        self.tap("collecting")
        return self.place.collecting(client)

    def keep(self, attempt: Attempt, outcome: Outcome, body: bytes | None) -> None:
        self.place.keep(attempt, outcome, body)
        self.tap("keep")

    def leave(self) -> None:
        self.place.leave()
        self.tap("leave")


@dataclass
class TappedCache:
    cache: FakeCache
    tap: Tap

    def place(self, request: Request, keeping: Keeping, patience: Patience) -> TappedPlace:
        self.tap("place")
        return TappedPlace(self.cache.place(request, keeping, patience), self.tap)


CACHE_CALLS = frozenset({"place", "find", "collecting", "keep", "leave"})
KEPT_HERE = Kept("one/alpha", "rg-0", NOW - 5, USAGE, b"what was kept")
KEPT_ELSEWHERE = Kept("far/alpha", "rg-0", NOW - 5, USAGE, b"what was kept")


@dataclass(frozen=True)
class Course:
    """What an exchange meets: a kind of request, and what each upstream in turn does."""

    name: str
    stream: bool
    scripts: tuple[Script, ...] = ()
    key: str = "ward"
    asked: str = "auto"
    over_its_rate: bool = False
    over: tuple[tuple[str, Outcome], ...] = ()  # deployments that a limit of ours lets nobody begin at, and what is said
    asks: bool = False  # the limiter has to ask somebody first
    failovers: int = 1_000  # how many may be made
    holds: Kept | None = None  # what the cache has
    waits: int = 0  # how often it has a stream wait
    wish: Wish = ANY
    cached: bool = False  # whether policy lets answers be kept


def _courses() -> Iterator[Course]:
    for stream in (False, True):
        kind = "stream" if stream else "plain"
        yield Course(f"{kind}, served", stream)
        yield Course(f"{kind}, served by the third", stream, (Script(refuses=THROTTLED), Script(refuses=FAILED)))
        yield Course(f"{kind}, all fail", stream, (Script(refuses=FAILED),) * 9)
        yield Course(f"{kind}, all throttled", stream, (Script(refuses=THROTTLED),) * 9)
        yield Course(f"{kind}, endpoints broken", stream, (Script(refuses=BROKEN_ENDPOINT), Script(refuses=UNREACHABLE)))
        yield Course(f"{kind}, one failover and no more", stream, (Script(refuses=FAILED),) * 9, failovers=1)
        yield Course(f"{kind}, rejected", stream, (Script(refuses=REJECTED),))
        yield Course(f"{kind}, refused by rules", stream, key="store", asked="beta")
        yield Course(f"{kind}, over its rate", stream, over_its_rate=True)
        yield Course(f"{kind}, near its rate", stream, asks=True)
        yield Course(f"{kind}, over its rate as the store says", stream, over_its_rate=True, asks=True)
        yield Course(f"{kind}, the first over its quota", stream, (Script(refuses=FAILED),), over=(("one/alpha", OVER_QUOTA),))
        yield Course(
            f"{kind}, the second over its quota as the store says", stream, (Script(refuses=FAILED),), over=BETA, asks=True
        )
        yield Course(f"{kind}, all over their quotas", stream, over=ALL)
        cached = partial(Course, stream=stream, cached=True)
        yield cached(f"{kind}, nothing kept")
        yield cached(f"{kind}, kept", holds=KEPT_HERE)
        yield cached(f"{kind}, kept where it may not go", holds=KEPT_ELSEWHERE)
        yield cached(f"{kind}, nothing kept, all fail", scripts=(Script(refuses=FAILED),) * 9)
        yield cached(f"{kind}, no look", holds=KEPT_HERE, wish=Wish(look=False))
        yield cached(f"{kind}, no trace", holds=KEPT_HERE, wish=Wish(look=False, keep=False))
        yield cached(f"{kind}, nothing kept and nothing else will do", wish=Wish(only=True))
    yield Course("stream, an equal one under way", True, cached=True, waits=2, holds=KEPT_HERE)
    yield Course("stream, an equal one under way that comes to nothing", True, cached=True, waits=1)
    yield Course("stream, kept in part", True, (Script(outcome=CUT_SHORT),), cached=True)
    yield Course("stream, slow, then elsewhere", True, (Script(silent=None), Script(silent=2)))
    yield Course("stream, slow, then rejected", True, (Script(silent=2, refuses=FAILED), Script(refuses=REJECTED)))
    yield Course("stream, slow everywhere", True, (Script(silent=None),) * 9)
    yield Course("stream, cut short", True, (Script(outcome=CUT_SHORT),))


COURSES = tuple(_courses())


@dataclass
class Trip:
    """All that can be known of one exchange afterwards."""

    course: Course
    tap: Tap
    upstream: FakeUpstream
    ledger: FakeLedger
    live: FakeLive
    meter: FakeMeter
    client: FakeClient
    limiter: FakeLimiter
    cache: FakeCache
    answer: Answer | None = None
    raised: BaseException | None = None
    defects: list[BaseException] = field(default_factory=list)
    awaits: int = 0
    cancelled: bool = False

    @property
    def begun(self) -> list[str]:
        return self.ledger.begun_lines

    @property
    def settlements(self) -> list[Settlement]:
        return self.ledger.settlements


def travel(exchange: Exchange, course: Course, tap: Tap, *, leave_at: int | None = None, stop_at: int | None = None) -> Trip:
    """Run an exchange to its end. At the await of that number the client hangs up (`leave_at`) or the worker stops (`stop_at`)."""
    limiter = FakeLimiter(OVER_ITS_RATE if course.over_its_rate else None, dict(course.over), course.asks)
    cache = FakeCache(course.holds, waits=course.waits)
    upstream = FakeUpstream(list(course.scripts))
    trip = Trip(course, tap, upstream, FakeLedger(), FakeLive(), FakeMeter(), FakeClient(), limiter, cache)
    trip.live.failovers = course.failovers
    counter = itertools.count()
    world = World(
        FakeClock(),
        TappedUpstream(trip.upstream, tap),
        TappedLedger(trip.ledger, tap),
        TappedLive(trip.live, tap),
        TappedMeter(trip.meter, tap),
        Bounds(),
        lambda: next(counter),
        trip.defects.append,
        TappedLimiter(trip.limiter, tap),
        TappedCache(cache, tap),
    )
    running = exchange(world, CACHED if course.cached else VIEW, request_of(course), TappedClient(trip.client, tap))
    try:
        while True:
            cancel = trip.awaits == stop_at
            if trip.awaits == leave_at:
                cancel = not trip.client.hang_up()
            trip.cancelled = trip.cancelled or cancel
            trip.awaits += 1
            assert trip.awaits < 1_000, "it never ends"
            if cancel:
                running.throw(asyncio.CancelledError())
            else:
                running.send(None)
    except StopIteration as done:
        trip.answer = cast(Answer, done.value)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - judged by `complaints`
        trip.raised = error
    return trip


OVER_ITS_RATE = Problem(429, "rate_limit_exceeded", "come back later", retry_after_s=3.0)


def request_of(course: Course) -> Request:
    key = access().keys[course.key]
    shop = key.tenant == "shop"
    facts = RequestFacts(
        tenant=frozenset((key.tenant,)),
        group=frozenset(("-",)),
        key=frozenset((key.id,)),
        region=frozenset(("CN" if shop else "DE",)),
        data_class=frozenset(("internal" if shop else "personal",)),
        categories=frozenset(),
        asked=frozenset((course.asked,)),
        api=frozenset(("chat",)),
        task=frozenset(("other",)),
        tag=frozenset(("other",)),
        language=frozenset(("en",)),
        ability=frozenset(),
        stream=YES if course.stream else NO,
        prompt_tokens=10,
    )
    return Request(
        id="rg-1",
        client_id="",
        api="chat",
        asked=course.asked,
        facts=facts,
        needs=Needs("chat", prompt_tokens=10),
        body={},
        body_bytes=2,
        stream=course.stream,
        wants_usage=False,
        disclose=key.disclose,
        began=NOW,
        wish=course.wish,
    )


def complaints(trip: Trip) -> Iterable[str]:
    """What must never be, whatever failed and whoever left."""
    opened = [call for call in trip.upstream.calls]
    names = [call.name for call in opened]
    if trip.tap.failed[:1] == ["read"]:  # nothing was decided, so nothing was to be settled; and nothing was sent
        if opened or trip.begun or trip.settlements or not isinstance(trip.raised, Planted):
            yield "something was done without a decision"
        return
    if len(trip.settlements) != 1 or trip.meter.count != 1:
        yield f"{len(trip.settlements)} settlements and {trip.meter.count} counts, and not one"
        return
    (settlement,) = trip.settlements
    yield from (f"{call.name} was left open" for call in opened if not call.aborted)
    routes = [route.deployment.id for route in settlement.decision.routes]
    yield from (f"{name} is no route" for name in names if name not in routes)
    yield from (f"{name} was tried twice" for name in names if names.count(name) > 1)
    recorded = [tried.attempt.deployment.id for tried in settlement.tried]
    yield from (f"{name} was contacted and is not in the record" for name in names if name not in recorded)
    yield from (f"{name} was contacted before the ledger knew" for name in names if name not in trip.begun)
    if [name for name in routes if name in names] != names:
        yield "the order is not the decision's"
    spoke = [call for call in opened if call.script.refuses is None and call.script.silent is not None and call.over]
    if spoke and opened[-1] is not spoke[0]:
        yield "another route was tried after content"
    yield from trip.client.wrongs
    if trip.limiter.held or trip.limiter.at_places:
        yield "something is still on hold"
    over = [name for name, _ in trip.course.over]
    yield from (f"{name} was contacted over its limit" for name in names if name in over)
    yield from (f"{name} is begun in the ledger, and never was" for name in trip.begun if name in over)
    if trip.limiter.most_at_places > 1:
        yield "a place is held while another is tried"
    last = max((routes.index(name) for name in recorded if name in routes), default=-1)
    said = [(tried.attempt.deployment.id, tried.outcome) for tried in settlement.tried]
    if not trip.tap.failed and any(one not in said for one in trip.course.over if one[0] in routes[: last + 1]):
        yield "what a limit stopped is not in the record"
    if any(name in over for name, _ in trip.live.reports):
        yield "what our own limits stopped counts against a place"
    if trip.course.over_its_rate and opened:
        yield f"{len(opened)} calls were made for a caller over its rate"
    yield from _complaints_of_the_cache(trip, settlement)
    usage = settlement.usage
    used = 0 if usage is None else usage.input + usage.output
    let_in = settlement.decision.routes and not trip.course.over_its_rate
    if let_in and not trip.tap.failed and trip.limiter.settled != [(settlement.request.id, used)]:
        yield f"{trip.limiter.settled} was settled, and {used} tokens were used"
    yield from _complaints_of_the_answer(trip, settlement)


def _complaints_of_the_cache(trip: Trip, settlement: Settlement) -> Iterable[str]:
    course, calls, failed = trip.course, trip.upstream.calls, trip.tap.failed
    yield from ("a place that was not left once" for place in trip.cache.places if place.left != 1)
    if trip.cache.places and not course.cached:
        yield "the cache was asked although no policy lets it"
    if trip.cache.places and not (course.wish.look or course.wish.keep):
        yield "a request that wanted to leave no trace left one"
    served = [call for call in calls if call.over and call.script.outcome.ended is Ended.SERVED]
    for place in trip.cache.places:
        if place.patience is not trip.limiter.patience:
            yield "limits and the cache may each have it wait for the store for so long"
        if place.kept and course.stream and not served:
            yield "half an answer was kept"
        whole = b"".join(event for call in served for event in call.script.events) if course.stream else BODY
        yield from (f"{body!r} was kept, and {whole!r} served" for _, body in place.kept if body != whole)
        yield from (f"kept as made at {name}" for name, _ in place.kept if [name] != [call.name for call in calls[-1:]])
        if not failed and not trip.cancelled and course.stream and served and not place.kept and not trip.client.gone:
            yield "what was served was not kept"
    given = settlement.recalled is not None and settlement.recalled.kept is not None
    if given and (calls or trip.begun):
        yield "something was sent although an answer was there"
    if given and settlement.cost.usd:
        yield "an answer that was there cost something"
    if failed and set(failed) <= CACHE_CALLS and settlement.code == "internal_error":
        yield "a broken cache was in the way"
    if calls and course.wish.only:
        yield "something was sent although nothing but a kept answer would do"
    if trip.answer is not None and trip.answer.status == 200:
        got = b"".join(trip.client.written) if trip.answer.streamed else trip.answer.body
        if b"what was kept" in got and (course.holds is not KEPT_HERE or not course.wish.look):
            yield "an answer was given that may not be given"
        if course.holds is KEPT_HERE and course.cached and course.wish.look and not failed and b"what was kept" not in got:
            yield "what was kept was not given"
    if given and settlement.recalled is not None and settlement.recalled.how is Recall.HIT and settlement.avoided.usd <= 0:
        yield "what was avoided is not known"


def _complaints_of_the_answer(trip: Trip, settlement: Settlement) -> Iterable[str]:
    answer, failed = trip.answer, trip.tap.failed
    if isinstance(trip.raised, asyncio.CancelledError):
        if not trip.cancelled:
            yield "it cancelled itself"
        if settlement.status != (0 if trip.client.gone else 503 if trip.client.head is None else 200):
            yield f"status {settlement.status} for somebody who was cut off"
        if trip.upstream.calls and trip.upstream.calls[-1].relaying and settlement.usage is None and not failed:
            yield "what a stream had used when it was cut off is owed by nobody"
        return
    if trip.raised is not None:
        if "end_stream" not in failed and "abort" not in failed:
            yield f"it raised {trip.raised!r}"
        return
    assert answer is not None
    if (settlement.status, settlement.code) != (answer.status, answer.code):
        yield f"the record says {settlement.status} {settlement.code}, the client was told {answer.status} {answer.code}"
    if answer.status and answer.streamed != (trip.client.head is not None):
        yield "an answer of one kind where the other had begun"
    if answer.streamed and len(trip.client.ends) != 1:
        yield "a stream without its end"
    if answer.streamed and trip.client.ends != [answer.problem]:
        yield "the client was told something else"
    if not failed and answer.problem is not None and settlement.outcome is not None and settlement.outcome.ended is Ended.SERVED:
        yield "it was served, and told that it was not"
    if failed and set(failed) - {"begun", "settled", "alarm"} and not trip.defects:
        yield "a defect that nobody was told of"
    if failed and trip.tap.kind is OSError and failed[0] == "settled" and not trip.meter.failures:
        yield "a line that could not be kept, and no alarm"
    if not failed and not trip.client.gone and trip.defects:
        yield f"defects out of nothing: {trip.defects}"
