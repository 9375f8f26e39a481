"""The port Upstream, watched: live state learns of each call when it is opened, which one is a probe, and that it works when its
content comes; a call to an endpoint that has become full since the decision is not opened.

Without it a probe would be whichever request reads live state next, though it may go somewhere else: a place that few requests need
would stay shut long after it had mended. Calls that are no probes pass through untouched.
"""

from math import inf
from typing import TYPE_CHECKING

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request, Scope, Usage
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
            return _NotOpened()
        opening = self._upstream.open(decision, attempt, request)
        now = self._clock.now()
        if self._live.opened(attempt, now):
            slow_after = now + self._live.slow_s if request.stream else inf
            return _Probe(opening, self._live, attempt, self._clock, slow_after)
        return opening


class _NotOpened:
    """A call to an endpoint that became full after the decision: over before it began."""

    address = ""
    dropped: tuple[str, ...] = ()

    async def wait(self, timeout_s: float | None) -> Outcome:
        """That there was no room."""
        return FULL

    def used(self) -> Usage | None:
        """Nothing was sent."""
        return None

    def abort(self) -> None:
        """There is nothing to close."""


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

    def used(self) -> Usage | None:
        """As the call's own."""
        return self._opening.used()

    def abort(self) -> None:
        """As the call's own."""
        self._opening.abort()


if TYPE_CHECKING:

    def _is_port(watched: Watched, probe: _Probe, unopened: _NotOpened, live: LocalLive) -> None:
        from gateway.ports import Live

        _upstream: Upstream = watched
        _opening: Opening = probe
        _other: Opening = unopened
        _live: Live = live
