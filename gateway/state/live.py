"""The port Live: what this worker has learned of each endpoint and deployment, from the outcomes of its own exchanges.

Promises: it only takes routes away, or orders them; `read` costs nothing while nothing changes, and returns the same object;
nothing that a client did counts against a route. What happened to one deployment of an endpoint closes the others only if the
outcome says that it is about the endpoint. Times are UTC seconds and arguments.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any, Final, Protocol

from gateway.core.bounds import Bounds
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Scope
from gateway.core.live import ALL_WELL, BUSY, Blocked, Checked, LiveState
from gateway.core.policy import Deployment
from gateway.core.pricing import Capacity, even_share
from gateway.state.breaker import GOOD, HALF_OPEN, NEUTRAL, WELL, Breaker, Event, News, Phase
from gateway.state.failovers import Failovers
from gateway.state.queue import Queue
from gateway.state.shares import Share

SMOOTHING: Final = 0.2  # weight of the newest latency: about the last ten requests count
STEP: Final = 1.2  # latencies are published again once one has moved by this factor
PUBLISH_S: Final = 1.0  # and not more often than this: ranks are remembered in between, and making them anew was 25 µs of a request
UNOPENED_S: Final = 1.0  # where nobody tells us of openings: how long a probe that `read` let through may stay unheard of

FULL_S: Final = 1.0  # when one of the requests at a full endpoint will have ended nobody knows
FULL: Final = Blocked("full", "as many requests under way as it takes", None)
MAY_WAIT: Final = "as many requests under way as it takes; others wait their turn"
WAITABLE: Final = frozenset({BUSY, FULL.word})
CORDONED: Final = Blocked("cordoned", "an admin had it cordoned", None)
HEALTH: Final = "health"  # the word against a place that was asked how it is
ITS_QUEUE: Final = "requests wait inside it"  # and how many is not said here: what stays the same is told once
SLOW: Final = "slow_first_content"  # the detail of a breaker that opened because of it
NO_ROOM: Final = "no_room"  # the code of a call that was not opened, because its endpoint had become full

NOTHING: Final[Mapping[str, Blocked]] = ALL_WELL.blocked

EVENTS: Final[Mapping[Ended, Event]] = {
    Ended.SERVED: Event.GOOD,
    Ended.CUT_SHORT: Event.BAD,
    Ended.CLIENT_GONE: Event.NEUTRAL,
    Ended.REJECTED: Event.NEUTRAL,
    Ended.THROTTLED: Event.THROTTLED,
    Ended.EXHAUSTED: Event.EXHAUSTED,
    Ended.FAILED: Event.BAD,
    Ended.UNKNOWN: Event.BAD,
}


def news_of(outcome: Outcome) -> News:
    """What an outcome means to the place that it is about."""
    event = EVENTS[outcome.ended]
    if event is Event.GOOD:
        return GOOD
    if event is Event.NEUTRAL or outcome.fault is Fault.CLIENT or outcome.scope is Scope.REQUEST:
        return NEUTRAL
    if outcome.permanent:
        event = Event.REFUSED
    word = "exhausted" if outcome.ended is Ended.EXHAUSTED else "breaker"
    return News(event, outcome.code or f"status {outcome.status}", outcome.retry_after_s, word)


class Waiter(Protocol):
    """A call that waits for room."""

    @property
    def attempt(self) -> Attempt: ...

    @property
    def tenant(self) -> str: ...

    @property
    def priority(self) -> int: ...

    def told(self, may: bool) -> None:
        """It is its turn, and room is kept for it; or it need not wait any longer, and has to go elsewhere. Once."""
        ...


class Tell(Protocol):
    """Who tells others of a place that has shut."""

    def __call__(self, place: str, at: str, word: str, until: float, /) -> None: ...


class LocalLive:
    """One worker's live state. `opened` and `alive` are for whoever opens calls (watching.py); without, `read` takes their part."""

    def __init__(self, bounds: Bounds, deployments: Iterable[Deployment] = (), workers: int | None = 1) -> None:
        """`deployments`: all there are, so that an endpoint's trouble is known to concern each of its own. Others are learned.

        `workers`: as `share` has it.
        """
        self._bounds = bounds
        self._workers = workers
        self._capacity: dict[str, Capacity] = {}  # by endpoint id
        self._room: dict[str, int] = {}  # endpoint id -> how many requests may be under way there
        self._full: dict[str, Blocked] = {}
        self._queues: dict[str, Queue[Waiter]] = {}  # endpoint id -> who waits for room there
        self.wait_s: dict[str, float] = {}  # endpoint id -> how long one may
        self._unopened: set[int] = set()  # ids of attempts that wait, or have waited in vain: objects that their exchange keeps
        self._waited_s: dict[int, float] = {}  # and of those that have waited and were opened
        self.cordoned: frozenset[str] = frozenset()  # endpoint ids
        self._ill: dict[str, Blocked] = {}  # endpoint id -> what a health check found
        self._queueing: dict[str, Blocked] = {}  # endpoint id -> that it has a queue of its own, and it is not empty
        self._shut: frozenset[str] = frozenset()  # endpoints that are cordoned or ill
        self.in_flight: dict[str, int] = {}  # endpoint id -> how many are
        self._places: dict[str, Breaker] = {}  # endpoint or deployment id -> what is not WELL
        self._members: dict[str, list[str]] = {}  # endpoint id -> deployment ids
        self._known: set[str] = set()
        self._probes: dict[str, Attempt | None] = {}  # place -> the attempt on trial; None: whichever it will be
        self._good: dict[str, int] = {}  # deployment id -> calls that served; streams apart, for only they can begin slowly
        self._good_streams: dict[str, int] = {}
        self._failed: dict[str, Share] = {}  # endpoint or deployment id
        self._slow: dict[str, Share] = {}  # deployment id
        self._begun = 0  # requests
        self._failovers = Failovers()
        self._smooth_ms: dict[str, float] = {}
        self._published_ms: dict[str, int] = {}
        self._published = -inf  # when that was
        self._state = ALL_WELL
        self._next = -inf  # when time changes something
        self._half_open = False
        self.watched = False  # set by whoever calls `opened`
        self.tell: Tell | None = None  # set by whoever passes hints on
        self._at: dict[str, str] = {}  # endpoint id -> its address, as hints have it
        for deployment in deployments:
            self._learn(deployment)

    def _learn(self, deployment: Deployment) -> None:
        self._known.add(deployment.id)
        self._members.setdefault(deployment.endpoint.id, []).append(deployment.id)
        self._at[deployment.endpoint.id] = deployment.endpoint.at
        if (capacity := deployment.tariff.capacity) is not None:
            self._capacity[deployment.endpoint.id] = capacity
            self._allot(deployment.endpoint.id, capacity)

    def _allot(self, endpoint: str, capacity: Capacity) -> None:
        """Give it this worker's share of its room and of its queue."""
        self._room[endpoint] = even_share(capacity.concurrency, self._workers)
        if capacity.queue is not None:
            queue = self._queues.setdefault(endpoint, Queue(0))
            queue.length = even_share(capacity.queue.length, self._workers)
            self.wait_s[endpoint] = capacity.queue.wait_s

    def adopt(self, bounds: Bounds, deployments: Iterable[Deployment], renewed: Collection[str] = ()) -> None:
        """Go by another snapshot. What is known of places that stay is kept; `renewed` are the endpoints whose address or
        credential is another one, so that what was learned (a refused key, a host that is down) says nothing of them any more."""
        self._bounds = bounds
        self._known.clear()
        self._members.clear()
        self._at.clear()
        self._capacity.clear()
        self._room.clear()
        self.wait_s.clear()
        for deployment in deployments:
            self._learn(deployment)
        for endpoint in [endpoint for endpoint in self._queues if endpoint not in self.wait_s]:
            self._send_on(endpoint, list(self._queues[endpoint]))
            del self._queues[endpoint]
        self._fill()
        self._failed.clear()  # their counts are of calls to other members
        self._slow.clear()
        self._good = {name: count for name, count in self._good.items() if name in self._known}
        self._good_streams = {name: count for name, count in self._good_streams.items() if name in self._known}
        stay = self._known | set(self._members)
        for endpoint in renewed:
            stay -= {endpoint, *self._members.get(endpoint, ())}
        for place in [place for place in self._places if place not in stay]:
            del self._places[place]
            self._probes.pop(place, None)
        self._smooth_ms = {name: ms for name, ms in self._smooth_ms.items() if name in stay}
        if not self._published_ms.keys() <= stay:
            self._published_ms = {name: ms for name, ms in self._published_ms.items() if name in stay}
            self._state = LiveState(self._state.blocked, MappingProxyType(self._published_ms))
        self._publish()

    def share(self, workers: int | None) -> None:
        """Among how many workers the room and the queue of each endpoint are shared evenly; each has one place at the least. None:
        nobody knows, so it has that one. It counts for what begins next: what is under way or waits goes on."""
        self._workers = workers
        for endpoint, capacity in self._capacity.items():
            self._allot(endpoint, capacity)
        self._fill()
        self._publish()

    def _fill(self) -> None:
        """Let in who waits where there is room now, and find out anew what is full."""
        for endpoint in self._queues:
            self._let_in(endpoint)
        self._full = {name: self._full.get(name, FULL) for name, room in self._room.items() if self.in_flight.get(name, 0) >= room}

    # --- the port ---------------------------------------------------------------------------------------------------------

    def read(self, now: float) -> LiveState:
        """Live state for one request that starts `now`."""
        self._begun += 1
        if now >= self._next:
            self._pass(now)
        state = self._state
        if self._half_open and not self.watched:  # whoever reads this may be the probe; nobody after it
            for place in [place for place, found in self._places.items() if found.phase is Phase.HALF_OPEN]:
                self._probe(place, None, now, UNOPENED_S)
            self._publish()
        return state

    def report(self, attempt: Attempt, outcome: Outcome, now: float, first_content_s: float | None, streamed: bool = False) -> None:
        """Learn from an attempt that ended at `now`; `first_content_s` is how long its first content took, if any came.

        `streamed`: whether that was a stream's; what is no stream has its first content when it has all.
        """
        if outcome.code == NO_ROOM or (self._unopened and id(attempt) in self._unopened):
            self._unopened.discard(id(attempt))  # it was never opened, and says nothing of the place
            return
        if self._waited_s and (waited_s := self._waited_s.pop(id(attempt), None)) and first_content_s is not None:
            first_content_s -= waited_s  # our queue is not its slowness
        deployment = attempt.deployment
        if under_way := self.in_flight.get(deployment.endpoint.id):
            self._left(deployment.endpoint.id, under_way - 1)
        if learned := deployment.id not in self._known:
            self._learn(deployment)
        if now >= self._next:
            self._pass(now)
        slow = streamed and first_content_s is not None and first_content_s >= self._bounds.slow_first_content_s
        if outcome.ended is Ended.SERVED and not slow:
            good = self._good_streams if streamed else self._good
            good[deployment.id] = good.get(deployment.id, 0) + 1
            if not self._places:  # nearly always
                if first_content_s is not None:
                    self._time(deployment.id, first_content_s, now)
                return
        news = news_of(outcome)
        if news is GOOD:
            endpoint, own = GOOD, self._slowness(deployment.id, now) if slow else GOOD
        elif outcome.scope is Scope.ENDPOINT:
            endpoint, own = self._weighed(deployment.endpoint.id, news, now), NEUTRAL
        else:
            endpoint, own = NEUTRAL, self._weighed(deployment.id, news, now)
        changed = self._hear(deployment.endpoint.id, endpoint, attempt, now) | self._hear(deployment.id, own, attempt, now)
        if first_content_s is not None:
            self._time(deployment.id, first_content_s, now)
        if changed or learned:
            self._publish()

    def may_fail_over(self, outcome: Outcome, now: float) -> bool:
        """Whether another route may be tried at `now`, after an attempt that ended so. One that was never opened costs nobody."""
        return outcome.code == NO_ROOM or self._failovers.spend(now, self._begun, self._bounds)

    def cordon(self, endpoints: frozenset[str]) -> None:
        """Send nothing more to any of `endpoints`, and to all others as ever."""
        self.cordoned = endpoints
        self._shut = endpoints.union(self._ill)
        self._publish()

    def check(self, found: Mapping[str, Checked], now: float) -> None:
        """Go by what health checks have found, by endpoint id: of what is not in it, nothing is known, or nothing bad.

        An endpoint that is ill gets nothing; one inside which requests wait comes after all that are open. Breakers go on as ever.
        """
        self._ill = {name: Blocked(HEALTH, one.ill, None) for name, one in found.items() if one.ill}
        self._queueing = {
            name: Blocked(BUSY, ITS_QUEUE, one.queues_until) for name, one in found.items() if one.queues_until > now
        }
        self._shut = self.cordoned.union(self._ill)
        self._publish()

    @property
    def slow_s(self) -> float:
        """From when on the first content of a stream is slow."""
        return self._bounds.slow_first_content_s

    # --- openings -----------------------------------------------------------------------------------------------------------

    def has_room(self, attempt: Attempt) -> bool:
        """Whether one more call may be opened. The decision has asked that already; a failover comes later."""
        endpoint = attempt.deployment.endpoint.id
        return endpoint not in self._full and endpoint not in self._shut

    def _left(self, endpoint: str, under_way: int) -> None:
        """So many calls are under way at `endpoint` now that one has ended."""
        self.in_flight[endpoint] = under_way
        if endpoint not in self._full:
            return
        queue = self._queues.get(endpoint)
        if queue:
            was_full = queue.full
            self._let_in(endpoint)
            if was_full:
                self._publish()
        if self.in_flight[endpoint] < self._room.get(endpoint, inf):
            del self._full[endpoint]
            self._publish()

    def opened(self, attempt: Attempt, now: float) -> bool:
        """A call has been opened. Says whether it is a probe of its endpoint or deployment; if so, tell `alive` of content."""
        endpoint = attempt.deployment.endpoint.id
        under_way = self.in_flight[endpoint] = self.in_flight.get(endpoint, 0) + 1
        if (room := self._room.get(endpoint)) is not None and under_way >= room:
            self._full[endpoint] = Blocked("full", f"{under_way} requests under way, as many as it takes", now + FULL_S)
            self._publish()
        return self.began(attempt, now)

    def began(self, attempt: Attempt, now: float, waited_s: float = 0.0) -> bool:
        """A call for which room was kept has been opened, after waiting so long; says what `opened` does."""
        if waited_s:
            self._waited_s[id(attempt)] = waited_s
        if not self._half_open:
            return False
        places = [
            place
            for place in (attempt.deployment.endpoint.id, attempt.deployment.id)
            if self._places.get(place, WELL).phase is Phase.HALF_OPEN
        ]
        for place in places:
            self._probe(place, attempt, now, self._bounds.total_s_max)
        if places:
            self._publish()
        return bool(places)

    # --- waiting for room ---------------------------------------------------------------------------------------------------

    @property
    def queued(self) -> dict[str, int]:
        """How many wait, by endpoint; only where somebody may."""
        return {endpoint: len(queue) for endpoint, queue in self._queues.items()}

    def is_open(self, deployment: str) -> bool:
        """Whether nothing is held against a deployment, so that a call would begin at once."""
        return deployment not in self._state.blocked

    def wait(self, waiter: Waiter) -> bool:
        """Have `waiter` told when it is its turn. False: it may not wait, for the queue is full, or more than room is missing."""
        deployment = waiter.attempt.deployment
        queue = self._queues.get(deployment.endpoint.id)
        why = self._state.blocked.get(deployment.id)
        if queue is None or queue.full or why is None or why.word != BUSY:
            return False
        queue.join(waiter, waiter.tenant, waiter.priority)
        self._unopened.add(id(waiter.attempt))
        if queue.full:
            self._publish()
        return True

    def leave(self, waiter: Waiter) -> None:
        """`waiter`, which has not been told yet, waits no more."""
        queue = self._queues[waiter.attempt.deployment.endpoint.id]
        was_full = queue.full
        queue.leave(waiter, waiter.tenant, waiter.priority)
        if was_full:
            self._publish()

    def _let_in(self, endpoint: str) -> None:
        """Keep what room there is at `endpoint` for those whose turn it is."""
        queue, room = self._queues[endpoint], self._room.get(endpoint, inf)
        while queue and self.in_flight.get(endpoint, 0) < room:
            waiter = queue.next()
            self._unopened.discard(id(waiter.attempt))
            self.in_flight[endpoint] = self.in_flight.get(endpoint, 0) + 1
            waiter.told(True)

    def _send_on(self, endpoint: str, waiters: Iterable[Waiter]) -> None:
        """Have some of those who wait at `endpoint` go elsewhere."""
        for waiter in waiters:
            self._queues[endpoint].leave(waiter, waiter.tenant, waiter.priority)
            waiter.told(False)

    # --- probes ---------------------------------------------------------------------------------------------------------------

    def alive(self, attempt: Attempt, now: float, slow: bool = False) -> None:
        """A probe has brought content: others need not wait for its end. `slow`: it took longer than it may."""
        deployment = attempt.deployment
        own = News(Event.BAD, SLOW) if slow else GOOD
        if self._hear(deployment.endpoint.id, GOOD, attempt, now) | self._hear(deployment.id, own, attempt, now):
            self._publish()

    def hint(self, place: str, at: str, until: float, now: float) -> None:
        """Another worker has found `place` shut `until` then (UTC seconds): one request here is to see whether it is.

        No more is taken on trust. Nothing happens if the place has another address here, or trouble that is known.
        """
        known = place in self._known or place in self._members
        if not known or until <= now or self._at.get(place.partition("/")[0]) != at:
            return
        before = self._places.get(place, WELL)
        if before.phase is Phase.CLOSED:
            self._set(place, replace(HALF_OPEN, openings=before.openings))
            self._publish()

    # --- what happens inside ------------------------------------------------------------------------------------------------

    def _probe(self, place: str, attempt: Attempt | None, now: float, lost_after_s: float) -> None:
        self._places[place] = self._places[place].probed(now, lost_after_s)
        self._probes[place] = attempt

    def _hear(self, place: str, news: News, attempt: Attempt, now: float) -> bool:
        """Whether `news` of `place` changed anything."""
        before = self._places.get(place, WELL)
        if before.phase is Phase.PROBING and self._probes.get(place) not in (None, attempt):
            return False  # it began before the place broke; how the probe ends is what counts
        after = before.after(news, now, self._bounds)
        if after == before:
            return False
        self._set(place, after)
        if self.tell is not None and after.phase is Phase.OPEN and before.phase is not Phase.OPEN and after.blocked is not None:
            self.tell(place, self._at.get(attempt.deployment.endpoint.id, ""), after.blocked.word, after.until)
        return after.phase is not before.phase or after.blocked != before.blocked

    def _weighed(self, place: str, news: News, now: float) -> News:
        """`news` of a failure, and whether too large a share of the last calls to `place` has failed."""
        if news.event is not Event.BAD or self._places.get(place, WELL).phase is not Phase.CLOSED:
            return news
        members = self._members.get(place, (place,))
        good = sum(self._good.get(name, 0) + self._good_streams.get(name, 0) for name in members)
        bad, calls = self._failed.setdefault(place, Share()).found(now, good, self._bounds.breaker_window_s)
        enough = calls >= self._bounds.breaker_calls_min and bad >= self._bounds.breaker_failed_share * calls
        return replace(news, enough=True) if enough else news

    def _slowness(self, deployment: str, now: float) -> News:
        """What one more stream that began slowly means: nothing, unless too large a share of the last ones did."""
        if self._places.get(deployment, WELL).phase is not Phase.CLOSED:
            return NEUTRAL  # what a probe has to say of it was said when its content came
        good = self._good_streams.get(deployment, 0)
        bad, calls = self._slow.setdefault(deployment, Share()).found(now, good, self._bounds.breaker_window_s)
        enough = calls >= self._bounds.breaker_calls_min and bad >= self._bounds.breaker_slow_share * calls
        return News(Event.BAD, SLOW, enough=True) if enough else GOOD

    def _set(self, place: str, breaker: Breaker) -> None:
        if breaker.phase is Phase.OPEN:  # it is judged by what comes afterwards
            self._failed.pop(place, None)
            self._slow.pop(place, None)
        if breaker.phase is not Phase.PROBING:
            self._probes.pop(place, None)
        if breaker == WELL:
            self._places.pop(place, None)
        else:
            self._places[place] = breaker

    def _pass(self, now: float) -> None:
        """Let time pass until `now`."""
        self._failovers.turn(now, self._begun, self._bounds)
        for place, breaker in list(self._places.items()):
            if now >= breaker.until:
                self._set(place, breaker.at(now))
        if self._queueing:
            self._queueing = {name: why for name, why in self._queueing.items() if (why.until or inf) > now}
        self._publish()

    def _publish(self) -> None:
        """Make the state that the next requests read. What did not change stays the same object."""
        self._next = min((breaker.until for breaker in self._places.values()), default=inf)
        self._next = min(self._next, self._failovers.until, *(why.until or inf for why in self._queueing.values()))
        self._half_open = any(breaker.phase is Phase.HALF_OPEN for breaker in self._places.values())
        blocked = self._blocked()
        for endpoint, queue in self._queues.items():
            if queue:  # nobody waits for what would not serve it
                rest = [one for one in queue if (why := blocked.get(one.attempt.deployment.id)) and why.word not in WAITABLE]
                if rest:
                    self._send_on(endpoint, rest)
                    blocked = self._blocked()
        if blocked != self._state.blocked:
            self._state = LiveState(MappingProxyType(blocked) if blocked else NOTHING, self._state.latency_ms)

    def _blocked(self) -> dict[str, Blocked]:
        found: dict[str, Blocked] = {
            name: self._fullness(place) for place in self._full for name in self._members.get(place, ())
        }
        for place, breaker in self._places.items():
            if breaker.blocked is None:
                continue
            for deployment in self._members.get(place, (place,)):
                known = found.get(deployment)
                if known is None or known.word == BUSY or (known.until or inf) < (breaker.blocked.until or inf):
                    found[deployment] = breaker.blocked
        for place, why in self._queueing.items():  # it only orders: whatever else is known says more
            for name in self._members.get(place, ()):
                found.setdefault(name, why)
        for place, why in self._ill.items():
            found.update((name, why) for name in self._members.get(place, ()))
        found.update((name, CORDONED) for place in self.cordoned for name in self._members.get(place, ()))
        return found

    def _fullness(self, endpoint: str) -> Blocked:
        """What is held against an endpoint that is full: less, where one may wait."""
        queue, full = self._queues.get(endpoint), self._full[endpoint]
        return full if queue is None or queue.full else Blocked(BUSY, MAY_WAIT, full.until)

    def _time(self, deployment: str, first_content_s: float, now: float) -> None:
        """Smooth a latency, and publish all of them once one has moved by a step. A deployment's first is published at once."""
        newest_ms = first_content_s * 1e3
        before_ms = self._smooth_ms.get(deployment)
        smooth_ms = newest_ms if before_ms is None else before_ms + SMOOTHING * (newest_ms - before_ms)
        self._smooth_ms[deployment] = smooth_ms
        published_ms = self._published_ms.get(deployment)
        if published_ms is not None:
            if now < self._published + PUBLISH_S or published_ms / STEP < max(smooth_ms, 1.0) < published_ms * STEP:
                return
            self._published = now
        self._published_ms = {name: max(1, round(ms)) for name, ms in self._smooth_ms.items()}
        self._state = LiveState(self._state.blocked, MappingProxyType(self._published_ms))

    # --- for people -----------------------------------------------------------------------------------------------------------

    def rows(self, now: float) -> dict[str, dict[str, Any]]:
        """What there is to say of each place: id → {phase, failures, word?, detail?, until?, latency_ms?}, as JSON can hold it.

        A deployment whose endpoint has trouble has its endpoint's row. Places of which nothing is known are left out.
        """
        if now >= self._next:
            self._pass(now)
        found = {place: _row(breaker) for place, breaker in self._places.items()}
        fullness = ((name, self._fullness(name)) for name in self._full)
        cordoned = ((name, CORDONED) for name in self.cordoned)
        for place, why in (*self._queueing.items(), *fullness, *self._ill.items(), *cordoned):
            found[place] = found.get(place, _row(WELL)) | _said(why)
        for place in list(found):
            for deployment in self._members.get(place, ()):
                if "word" in found[place] and "word" not in found.get(deployment, {}):
                    found[deployment] = dict(found[place])
        for deployment, latency_ms in self._published_ms.items():
            found.setdefault(deployment, _row(WELL))["latency_ms"] = latency_ms
        return found


def _row(breaker: Breaker) -> dict[str, Any]:
    row: dict[str, Any] = {"phase": breaker.phase.value, "failures": breaker.failures}
    return row if breaker.blocked is None else row | _said(breaker.blocked)


def _said(blocked: Blocked) -> dict[str, Any]:
    return {"word": blocked.word, "detail": blocked.detail, "until": blocked.until}
