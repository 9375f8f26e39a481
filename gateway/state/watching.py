"""The port Upstream, watched: live state learns of each call when it is opened, which one is a probe, and that it works when its
content comes; a call to an endpoint that has no room waits its turn, where it may and nothing else is open, or is not opened.

Without it a probe would be whichever request reads live state next, though it may go somewhere else: a place that few requests need
would stay shut long after it had mended. Calls that are no probes pass through untouched.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request, Scope
from gateway.core.usage import Usage
from gateway.ports import Clock, Opened, Opening, Upstream
from gateway.state.live import FULL_S, NO_ROOM, LocalLive

FULL = Outcome(Ended.THROTTLED, Fault.OURS, Scope.ENDPOINT, code=NO_ROOM, retry_after_s=FULL_S, sent=False)


class Watched:
    """An upstream whose openings `live` hears of."""

    def __init__(self, upstream: Upstream, live: LocalLive, clock: Clock) -> None:
        self._upstream = upstream
        self._live = live
        self._clock = clock
        live.watched = True

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> Opening:
        """Start a call to a route of `decision`. Raises EgressRefused if the attempt's deployment is not one."""
        if not self._live.has_room(attempt):
            return self._queued(decision, attempt, request)
        opening = self._upstream.open(decision, attempt, request)
        now = self._clock.now()
        return self._probe(opening, attempt, request, now) if self._live.opened(attempt, now) else opening

    def open_late(self, decision: Decision, attempt: Attempt, request: Request, since: float) -> Opening:
        """As `open`, for one that has waited since then (UTC seconds) and for which room is kept."""
        opening = self._upstream.open(decision, attempt, request)
        now = self._clock.now()
        return self._probe(opening, attempt, request, now) if self._live.began(attempt, now, now - since) else opening

    def _probe(self, opening: Opening, attempt: Attempt, request: Request, now: float) -> Opening:
        slow_after = now + self._live.slow_s if request.stream else inf
        return _Probe(opening, self._live, attempt, self._clock, slow_after)

    def _queued(self, decision: Decision, attempt: Attempt, request: Request) -> Opening:
        """A place in the queue, unless a route that comes later is open: waiting is for those who have nowhere else to go."""
        wait_s = self._live.wait_s.get(attempt.deployment.endpoint.id)
        if wait_s is None:
            return _NotOpened()
        names = [route.deployment.id for route in decision.routes]
        if any(self._live.is_open(name) for name in names[names.index(attempt.deployment.id) + 1 :]):
            return _NotOpened()
        waiting = _Waiting(self, self._live, self._clock, decision, attempt, request, wait_s)
        return waiting if self._live.wait(waiting) else _NotOpened()


class _NotOpened:
    """A call to an endpoint that became full after the decision: over before it began."""

    address = ""
    dropped: tuple[str, ...] = ()
    queued_s = 0.0

    async def wait(self, timeout_s: float | None) -> Outcome:
        """That there was no room."""
        return FULL

    def used(self) -> Usage | None:
        """Nothing was sent."""
        return None

    def abort(self) -> None:
        """There is nothing to close."""


class _Waiting:
    """A call that waits for room at its endpoint, and once it is its turn the call itself."""

    def __init__(
        self, watched: Watched, live: LocalLive, clock: Clock, decision: Decision, attempt: Attempt, request: Request, wait_s: float
    ) -> None:
        self.attempt = attempt
        self.tenant = next(iter(request.facts.tenant), "")
        tenant = decision.view.snapshot.access.tenants.get(self.tenant)
        self.priority = 0 if tenant is None else tenant.priority
        self._watched = watched
        self._live = live
        self._clock = clock
        self._decision = decision
        self._request = request
        self._since = clock.now()
        self._until = self._since + wait_s
        self._opened: float | None = None  # when it was
        self._turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._call: Opening | None = None

    def told(self, may: bool) -> None:
        """That it is its turn, or that it has to go elsewhere."""
        self._turn.set_result(may)

    async def wait(self, timeout_s: float | None) -> Opened | Outcome | None:
        """As the call's own, once it is open; and that there was no room, if that takes too long."""
        if self._call is None:
            began = self._clock.now()
            left_s = max(0.0, self._until - began)
            to_the_end = timeout_s is None or left_s <= timeout_s
            await asyncio.wait((self._turn,), timeout=left_s if to_the_end else timeout_s)
            if not self._turn.done():
                if not to_the_end:
                    return None
                self.abort()
                return FULL
            if self._turn.cancelled() or not self._turn.result():
                return FULL
            self._opened = self._clock.now()
            self._call = self._watched.open_late(self._decision, self.attempt, self._request, self._since)
            if timeout_s is not None:
                timeout_s = max(0.0, timeout_s - (self._clock.now() - began))
        return await self._call.wait(timeout_s)

    @property
    def address(self) -> str:
        """As the call's own; "" while there is none."""
        return "" if self._call is None else self._call.address

    @property
    def dropped(self) -> tuple[str, ...]:
        """As the call's own."""
        return () if self._call is None else self._call.dropped

    @property
    def queued_s(self) -> float:
        """From when it came until it was opened, or until now."""
        until = self._clock.now() if self._opened is None else self._opened
        return max(0.0, until - self._since)

    def used(self) -> Usage | None:
        """As the call's own; while there is none, nothing was sent."""
        return None if self._call is None else self._call.used()

    def abort(self) -> None:
        """Leave the queue, or close the call. Room that is kept for it is given back when its end is reported."""
        if self._call is not None:
            self._call.abort()
        elif not self._turn.done():
            self._live.leave(self)
            self._turn.cancel()


class _Probe:
    """A call on which a place is tried again."""

    def __init__(self, opening: Opening, live: LocalLive, attempt: Attempt, clock: Clock, slow_after: float) -> None:
        self._opening = opening
        self._live = live
        self._attempt = attempt
        self._clock = clock
        self._slow_after = slow_after  # UTC seconds

    async def wait(self, timeout_s: float | None) -> Opened | Outcome | None:
        """As the call's own, and tells of content."""
        found = await self._opening.wait(timeout_s)
        if found is not None and not isinstance(found, Outcome):
            now = self._clock.now()
            self._live.alive(self._attempt, now, slow=now >= self._slow_after)
        return found

    @property
    def address(self) -> str:
        """As the call's own."""
        return self._opening.address

    @property
    def dropped(self) -> tuple[str, ...]:
        """As the call's own."""
        return self._opening.dropped

    @property
    def queued_s(self) -> float:
        """As the call's own."""
        return self._opening.queued_s

    def used(self) -> Usage | None:
        """As the call's own."""
        return self._opening.used()

    def abort(self) -> None:
        """As the call's own."""
        self._opening.abort()


if TYPE_CHECKING:

    def _is_port(watched: Watched, probe: _Probe, unopened: _NotOpened, waiting: _Waiting, live: LocalLive) -> None:
        from gateway.ports import Live
        from gateway.state.live import Waiter

        _upstream: Upstream = watched
        _opening: Opening = probe
        _other: Opening = unopened
        _third: Opening = waiting
        _waiter: Waiter = waiting
        _live: Live = live
