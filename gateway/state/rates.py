"""The port Limiter: how much each tenant and each key has left, as one worker keeps it.

Promises: what is admitted is held at once, so requests that arrive together can't share a last place; tokens are held by estimate
and corrected by what was used; a hold is settled once, whatever happens to its request. What a caller has used outlives a reload.

Nothing is asked of anybody: of `workers`, each keeps its even share, whole as long as there is one. So all of them together never
admit more than the policy says, except that a share is at least one request; one that gets more than its share of connections
refuses sooner than it would have to.
"""

from collections.abc import Mapping
from math import ceil, inf
from typing import Final

from gateway.core.answer import Problem
from gateway.core.exchange import Request
from gateway.core.policy import Access
from gateway.core.rank import output_expected
from gateway.core.rates import RATE_LIMITED, UNLIMITED, Rate, Rates, Unlimited

BUSY_RETRY_S: Final = 1.0  # when one of the requests under way will have ended nobody knows
SPANS: Final = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day", 604_800: "week"}


class Bucket:
    """One rate's share, and what is left of it. May be overdrawn, by requests that used more than was held: time pays it back."""

    __slots__ = ("_at", "_left", "per_second", "rate", "size")

    def __init__(self, rate: Rate, workers: int, now: float) -> None:
        """Full. `now` in UTC seconds."""
        self.rate = rate
        self.size = max(1.0, rate.amount / workers)
        self.per_second = rate.amount / workers / rate.per_s
        self._left = self.size
        self._at = now

    def left(self, now: float) -> float:
        """What can be taken at `now`; below 0 if overdrawn."""
        if now > self._at:
            self._left = min(self.size, self._left + (now - self._at) * self.per_second)
            self._at = now
        return self._left

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, there or not; a negative one gives back."""
        self._left = min(self.size, self.left(now) - amount)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` will be there; 0 if it is, infinity if it never fits."""
        if amount > self.size:
            return inf
        return max(0.0, (amount - self.left(now)) / self.per_second)

    def resized(self, rate: Rate, workers: int, now: float) -> "Bucket":
        """This bucket under another rate: what was used stays used."""
        other = Bucket(rate, workers, now)
        other.take(self.size - self.left(now), now)
        return other


class Gate:
    """The rates of one caller. `who` names it in messages."""

    __slots__ = ("concurrency", "in_flight", "requests", "tokens", "who")

    def __init__(self, who: str) -> None:
        """One that lets everything in, until it goes by some rates."""
        self.who = who
        self.in_flight = 0
        self.concurrency: int | None = None
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None

    def go_by(self, rates: Rates, workers: int, now: float) -> None:
        """From `now` on let in what `rates` allow. The gate stays the same one, for those under way settle with it."""
        self.concurrency = None if rates.concurrency is None else max(1, rates.concurrency // workers)
        self.requests = _bucket(rates.requests, self.requests, workers, now)
        self.tokens = _bucket(rates.tokens, self.tokens, workers, now)

    def refusal(self, tokens: int, now: float) -> Problem | None:
        """Why a request of about `tokens` may not begin at `now`; None: it may."""
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            many = f"{self.concurrency} {'request' if self.concurrency == 1 else 'requests'}"
            message = f"{self.who} has {many} under way, as many as it may at once: let one end first"
            return Problem(429, RATE_LIMITED, message, retry_after_s=BUSY_RETRY_S)
        if self.requests is not None and (wait_s := self.requests.wait_s(1, now)):
            return _later(f"{self.who} may send {_spelt(self.requests.rate, 'request')}", wait_s)
        if self.tokens is not None and (wait_s := self.tokens.wait_s(tokens, now)):
            may = f"{self.who} may use {_spelt(self.tokens.rate, 'token')}, and this request takes about {tokens:,}"
            if wait_s == inf:
                problem = f"{may}, which is more than it ever has at once: send less, or lower `max_tokens`"
                return Problem(429, RATE_LIMITED, problem, should_retry=False)
            return _later(may, wait_s)
        return None

    def take(self, tokens: int, now: float) -> None:
        """Let a request of about `tokens` begin."""
        self.in_flight += 1
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(tokens, now)

    def settle(self, held: int, used: int, now: float) -> None:
        """A request ended that was let in with `held` tokens and `used` so many."""
        self.in_flight -= 1
        if self.tokens is not None:
            self.tokens.take(used - held, now)


class Held:
    """What one request holds. Settled once; a second time does nothing."""

    __slots__ = ("_gates", "_now", "_tokens")

    def __init__(self, gates: tuple[Gate, ...], tokens: int, now: float) -> None:
        self._gates = gates
        self._tokens = tokens
        self._now = now

    @property
    def headers(self) -> Mapping[str, str]:
        """`x-ratelimit-*` as OpenAI has them: of each kind, the limit that has least left."""
        found: dict[str, str] = {}
        for kind in ("requests", "tokens"):
            buckets: list[Bucket] = [bucket for gate in self._gates if (bucket := getattr(gate, kind)) is not None]
            if buckets:
                bucket = min(buckets, key=lambda bucket: bucket.left(self._now))
                left = bucket.left(self._now)
                found[f"x-ratelimit-limit-{kind}"] = str(bucket.rate.amount)
                found[f"x-ratelimit-remaining-{kind}"] = str(max(0, int(left)))
                found[f"x-ratelimit-reset-{kind}"] = span((bucket.size - left) / bucket.per_second)
        return found

    def settle(self, tokens: int, now: float) -> None:
        """The request has ended at `now` (UTC seconds), having used `tokens`."""
        gates, self._gates = self._gates, ()
        for gate in gates:
            gate.settle(self._tokens, tokens, now)


class LocalLimiter:
    """All gates of one worker."""

    def __init__(self, access: Access, workers: int, now: float) -> None:
        """`workers`: among how many each limit is shared. `now` in UTC seconds."""
        self._workers = workers
        self._gates: dict[str, Gate] = {}
        self._by_key: dict[frozenset[str], tuple[Gate, ...]] = {}
        self.adopt(access, now)

    def adopt(self, access: Access, now: float) -> None:
        """Go by another access document."""
        before, self._gates = self._gates, {}
        for tenant in access.tenants.values():
            self._keep(f"the tenant `{tenant.id}`", tenant.rates, before, now)
        for key in access.keys.values():
            self._keep(f"the key `{key.id}`", key.rates, before, now)
        self._by_key = {}
        for key in access.keys.values():
            names = (f"the tenant `{key.tenant}`", f"the key `{key.id}`")
            gates = tuple(self._gates[name] for name in names if name in self._gates)
            if gates:
                self._by_key[frozenset((key.id,))] = gates

    def _keep(self, who: str, rates: Rates | None, before: Mapping[str, Gate], now: float) -> None:
        if rates is not None:
            gate = self._gates[who] = before.get(who) or Gate(who)
            gate.go_by(rates, self._workers, now)

    def admit(self, request: Request, now: float) -> Held | Unlimited | Problem:
        """Hold what `request` needs, or say why it can't begin at `now` (UTC seconds); then nothing is held."""
        gates = self._by_key.get(request.facts.key)
        if gates is None:
            return UNLIMITED
        tokens = request.needs.prompt_tokens + output_expected(request.needs)
        refusals = [problem for gate in gates if (problem := gate.refusal(tokens, now)) is not None]
        if refusals:  # the one that takes longest to pass: nobody is told to come back too soon
            return max(refusals, key=lambda problem: inf if problem.retry_after_s is None else problem.retry_after_s)
        for gate in gates:
            gate.take(tokens, now)
        return Held(gates, tokens, now)


def _bucket(rate: Rate | None, before: Bucket | None, workers: int, now: float) -> Bucket | None:
    if rate is None:
        return None
    if before is None:
        return Bucket(rate, workers, now)
    return before if before.rate == rate else before.resized(rate, workers, now)


def _later(may: str, wait_s: float) -> Problem:
    return Problem(429, RATE_LIMITED, f"{may}: come back in {span(wait_s)}", retry_after_s=wait_s)


def _spelt(rate: Rate, unit: str) -> str:
    per = SPANS.get(rate.per_s) or span(rate.per_s)
    return f"{rate.amount:,} {unit}{'' if rate.amount == 1 else 's'} per {per}"


def span(seconds: float) -> str:
    """A span of time as OpenAI's headers have it: `20ms`, `1s`, `6m0s`."""
    if (milliseconds := ceil(seconds * 1e3)) < 1000:
        return f"{milliseconds}ms"
    whole = ceil(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours}h{minutes}m{whole % 60}s"
    return f"{minutes}m{whole % 60}s" if minutes else f"{whole}s"
