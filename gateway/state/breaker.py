"""One breaker: what a place's outcomes and the passing of time make of it. Pure: `after` returns the breaker that follows.

A place is an endpoint or a deployment. CLOSED lets all requests pass; OPEN none until a time; then a throttled place is CLOSED
again, and one that was broken HALF_OPEN: a single request may try it (PROBING), and how that one ends decides. Rule 1: while it is
OPEN, outcomes of requests that were under way before change nothing but the time, and only to a later one. Rule 2: every OPEN has
an end, so nothing that mended itself stays shut; a place that keeps failing is asked once in each `breaker_open_s_max`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Final

from gateway.core.bounds import Bounds
from gateway.core.live import Blocked

RETRY_S_MIN: Final = 1.0  # a `retry-after` of 0 would have every request try, and be refused again
HINT_S: Final = 1.0  # what a caller is told to wait while a probe is under way
DOUBLINGS_MAX: Final = 16  # beyond that every time is at its limit


class Phase(StrEnum):
    """What a place lets pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"
    PROBING = "probing"


class Event(StrEnum):
    """What an outcome means to the place it is about."""

    GOOD = "good"
    BAD = "bad"  # it failed, and waiting may mend it
    REFUSED = "refused"  # it will not mend by waiting: our credentials, our balance
    THROTTLED = "throttled"  # too much at once
    EXHAUSTED = "exhausted"  # a quota is used up, until some time
    NEUTRAL = "neutral"  # says nothing: the client's fault, the client gone, another place's trouble


@dataclass(frozen=True, slots=True)
class News:
    """An event and what came with it: `detail`, a word of our own table; `retry_after_s` as the upstream says, or None."""

    event: Event
    detail: str = ""
    retry_after_s: float | None = None
    word: str = "breaker"  # what a REFUSED is called
    enough: bool = False  # of a BAD: so large a share of the last calls was, that it opens whatever the last few were


GOOD: Final = News(Event.GOOD)
NEUTRAL: Final = News(Event.NEUTRAL)


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failures` in a row; `openings` in a row, without a good outcome in between; `until` in UTC seconds: when time changes it."""

    phase: Phase = Phase.CLOSED
    failures: int = 0
    openings: int = 0
    until: float = inf
    blocked: Blocked | None = None  # why nothing may pass; None: something may

    def after(self, news: News, now: float, bounds: Bounds) -> "Breaker":
        """The breaker once `news` arrived at `now` (UTC seconds)."""
        match news.event:
            case Event.GOOD:
                return self if self.phase is Phase.OPEN else WELL
            case Event.NEUTRAL:
                return replace(HALF_OPEN, openings=self.openings) if self.phase is Phase.PROBING else self
            case Event.BAD:
                return self._failed(news, now, bounds)
            case Event.REFUSED:
                return self._shut(news.word, news.detail, now, bounds.breaker_open_s_max)
            case Event.THROTTLED | Event.EXHAUSTED:
                return self._told_to_wait(news, now, bounds)

    def _failed(self, news: News, now: float, bounds: Bounds) -> "Breaker":
        told_s = 0.0  # a failure that says when to come back is one that opens by itself, and is asked no earlier
        if news.retry_after_s is not None:
            told_s = min(max(news.retry_after_s, RETRY_S_MIN), bounds.breaker_open_s_max)
        if self.phase is Phase.OPEN:
            return self._shut("breaker", news.detail, now, told_s)
        failures = self.failures + 1
        if self.phase is Phase.CLOSED and failures < bounds.breaker_failures and not news.enough:
            failed = replace(self, failures=failures)
            return failed._shut("breaker", news.detail, now, told_s) if told_s else failed
        for_s = min(bounds.breaker_open_s * self._doubled, bounds.breaker_open_s_max)
        return replace(self, failures=failures)._shut("breaker", news.detail, now, max(for_s, told_s))

    def _told_to_wait(self, news: News, now: float, bounds: Bounds) -> "Breaker":
        if news.retry_after_s is not None:
            for_s = min(max(news.retry_after_s, RETRY_S_MIN), bounds.throttle_s_max)
        elif self.phase is Phase.OPEN:  # one of many that were under way: they are one refusal, and not a series
            return self
        else:
            for_s = min(bounds.throttle_s * self._doubled, bounds.throttle_s_max)
        return self._shut(news.event.value, news.detail, now, for_s)

    @property
    def _doubled(self) -> int:
        return 1 << min(self.openings, DOUBLINGS_MAX)

    def _shut(self, word: str, detail: str, now: float, for_s: float) -> "Breaker":
        until = now + for_s
        if self.phase is Phase.OPEN and until <= self.until:
            return self
        openings = self.openings if self.phase is Phase.OPEN else self.openings + 1
        return Breaker(Phase.OPEN, self.failures, openings, until, Blocked(word, detail, until))

    def at(self, now: float) -> "Breaker":
        """The breaker once the time is `now` (UTC seconds)."""
        if now < self.until:
            return self
        mends_by_waiting = self.blocked is not None and self.blocked.word in (Event.THROTTLED, Event.EXHAUSTED)
        if self.phase is Phase.OPEN and mends_by_waiting:
            return replace(WELL, openings=self.openings)
        return replace(HALF_OPEN, openings=self.openings)

    def probed(self, now: float, lost_after_s: float) -> "Breaker":
        """The breaker once a request has been let through on trial. One that is never heard of again is given up after a time."""
        if self.phase is not Phase.HALF_OPEN:
            return self
        trying = Blocked("breaker", "a request is trying whether it works again", now + HINT_S)
        return replace(self, phase=Phase.PROBING, until=now + lost_after_s, blocked=trying)


WELL: Final = Breaker()
HALF_OPEN: Final = Breaker(Phase.HALF_OPEN)
