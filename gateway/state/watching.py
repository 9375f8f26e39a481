"""The port Upstream, watched: live state learns which call is a probe when it is opened, and that it works when content comes.

Without it a probe would be whichever request reads live state next, though it may go somewhere else: a place that few requests need
would stay shut long after it had mended. Calls that are no probes pass through untouched.
"""

from typing import TYPE_CHECKING

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Outcome, Request
from gateway.ports import Clock, Opened, Opening, Upstream
from gateway.state.live import LocalLive


class Watched:
    """An upstream whose openings `live` hears of."""

    def __init__(self, upstream: Upstream, live: LocalLive, clock: Clock) -> None:
        self._upstream = upstream
        self._live = live
        self._clock = clock
        live.watched = True

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> Opening:
        """Start a call to a route of `decision`. Raises EgressRefused if the attempt's deployment is not one."""
        opening = self._upstream.open(decision, attempt, request)
        if self._live.opened(attempt, self._clock.now()):
            return _Probe(opening, self._live, attempt, self._clock)
        return opening


class _Probe:
    """A call on which a place is tried again."""

    def __init__(self, opening: Opening, live: LocalLive, attempt: Attempt, clock: Clock) -> None:
        self._opening = opening
        self._live = live
        self._attempt = attempt
        self._clock = clock

    async def wait(self, timeout_s: float | None) -> Opened | Outcome | None:
        """As the call's own, and tells of content."""
        found = await self._opening.wait(timeout_s)
        if found is not None and not isinstance(found, Outcome):
            self._live.alive(self._attempt, self._clock.now())
        return found

    @property
    def address(self) -> str:
        """As the call's own."""
        return self._opening.address

    @property
    def dropped(self) -> tuple[str, ...]:
        """As the call's own."""
        return self._opening.dropped

    def abort(self) -> None:
        """As the call's own."""
        self._opening.abort()


if TYPE_CHECKING:

    def _is_port(watched: Watched, probe: _Probe, live: LocalLive) -> None:
        from gateway.ports import Live

        _upstream: Upstream = watched
        _opening: Opening = probe
        _live: Live = live
