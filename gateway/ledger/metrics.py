"""The port Meter: what one worker counts. Plain dictionaries of numbers; `totals` goes to the supervisor each second.

A settlement costs a few microseconds: no locks, no registry, no label objects. Totals and not differences go up, so a report that
is lost or told twice changes nothing.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.decide import Verdict
from gateway.core.exchange import Ended
from gateway.core.memo import Memo
from gateway.core.policy import Snapshot
from gateway.core.settlement import Settlement
from gateway.core.terms import OTHER
from gateway.core.usage import Usage
from gateway.ledger.families import (
    ATTEMPTS,
    AVOIDED,
    CACHE,
    CACHE_KEPT,
    COST,
    COUNTERS,
    DURATION,
    FAILOVERS,
    FAILOVERS_REFUSED,
    FIRST_CONTENT,
    HISTOGRAMS,
    LEDGER_FAILURES,
    LIMITED_BY,
    OVERHEAD,
    REFUSALS,
    REQUESTS,
    STORE_LOST,
    STORE_WAIT,
    TOKENS,
    UNLIKE,
    WARM,
    WARM_TOKENS,
    Family,
    Labels,
)

Key = tuple[str, ...]

CHARGED: Final = frozenset({Ended.SERVED, Ended.CUT_SHORT, Ended.CLIENT_GONE})
"""Ends whose tokens cost money even where they are our own estimate; see `core.settlement.settle`."""


class Histogram:
    """Counts by upper bound, and the sum, for each set of labels."""

    __slots__ = ("_buckets", "series")

    def __init__(self, family: Family) -> None:
        self._buckets = family.buckets
        self.series: dict[Key, list[float]] = {}  # counts, one more than bounds, and the sum

    def observe(self, key: Key, value: float) -> None:
        """Count `value` (seconds) under the labels `key`."""
        found = self.series.get(key)
        if found is None:
            found = self.series[key] = [0.0] * (len(self._buckets) + 2)
        found[bisect_left(self._buckets, value)] += 1
        found[-1] += value


class WorkerMeter:
    """All counters and histograms of one worker."""

    def __init__(self, snapshot: Snapshot, limited: dict[Key, float] | None = None) -> None:
        """`limited` is what a limiter counts, which goes on counting: by kind of holder and of limit."""
        self._labels = Labels(snapshot)
        self._tenants: Memo[frozenset[str], str] = Memo()
        self._counters: dict[Family, dict[Key, float]] = {family: {} for family in COUNTERS}
        if limited is not None:
            self._counters[LIMITED_BY] = limited
        for family in COUNTERS:
            if not family.labels:
                self._counters[family][()] = 0.0  # so that an alert on a rise has something to rise from
        self._requests = self._counters[REQUESTS]
        self._attempts = self._counters[ATTEMPTS]
        self._tokens = self._counters[TOKENS]
        self._cost = self._counters[COST]
        self._histograms = {family: Histogram(family) for family in HISTOGRAMS}
        self._duration = self._histograms[DURATION]
        self._first_content = self._histograms[FIRST_CONTENT]
        self._overhead = self._histograms[OVERHEAD]

    def settled(self, settlement: Settlement) -> None:
        """Count one exchange."""
        request = settlement.request
        tenant = self._tenants.get(request.facts.tenant) or self._tenant(request.facts.tenant)
        api = request.api if request.api in self._labels.allowed["api"] else OTHER
        _add(self._requests, (tenant, api, settlement.result), 1)
        upstream_s = 0.0
        deployments = self._labels.allowed["deployment"]
        charged = []
        warm = settlement.decision.live.warm
        for tried in settlement.tried:
            name = tried.attempt.deployment.id
            if warm and tried.first_content and name in warm:
                self._count_warm(name, warm[name])
            if name not in deployments:
                name = OTHER
            outcome = tried.outcome
            upstream_s += tried.ended - tried.began
            _add(self._attempts, (name, outcome.ended.value), 1)
            if tried.first_content:
                self._first_content.observe((name,), tried.first_content - tried.began)
            if outcome.usage is not None:
                self._count_tokens(name, outcome.usage)
                if outcome.usage.reported or outcome.ended in CHARGED:
                    charged.append((name, tried.attempt, outcome.usage))
        if len(charged) == 1:
            _add(self._cost, (tenant, charged[0][0], settlement.cost.basis), float(settlement.cost.usd))
        else:
            for name, attempt, usage in charged:
                cost = attempt.deployment.tariff.settle(usage, attempt.at_price)
                _add(self._cost, (tenant, name, cost.basis), float(cost.usd))
        if len(settlement.tried) > 1:
            self._counters[FAILOVERS][()] += len(settlement.tried) - 1
        elif not settlement.tried and settlement.decision.verdict is Verdict.REFUSED:
            for word in settlement.decision.refusing_rules:
                _add(self._counters[REFUSALS], self._labels.clean(REFUSALS, (word,)), 1)
        if (recalled := settlement.recalled) is not None:
            _add(self._counters[CACHE], (str(recalled.how),), 1)
            if recalled.unlike is not None:
                _add(self._counters[UNLIKE], (str(recalled.unlike),), 1)
            if recalled.kept is not None:
                _add(self._counters[AVOIDED], (tenant,), float(settlement.avoided.usd))
        whole_s = settlement.ended - request.began
        self._duration.observe((api, "true" if request.stream else "false"), whole_s)
        self._overhead.observe((), max(0.0, whole_s - upstream_s))

    def kept(self, how: str) -> None:
        """Count what came of keeping an answer: a word of KEPT."""
        _add(self._counters[CACHE_KEPT], (how,), 1)

    def ledger_failed(self) -> None:
        """Count a ledger line that could not be kept."""
        self._counters[LEDGER_FAILURES][()] += 1

    def failover_refused(self) -> None:
        """Count a failover that was not made."""
        self._counters[FAILOVERS_REFUSED][()] += 1

    def store_waited(self, store: str, wait_s: float) -> None:
        """Count one wait for a shared store."""
        self._histograms[STORE_WAIT].observe((store,), wait_s)

    def store_failed(self, store: str, why: str) -> None:
        """Count a question to it that brought no answer."""
        _add(self._counters[STORE_LOST], (store, why), 1)

    def adopt(self, snapshot: Snapshot) -> None:
        """From now on labels are those of `snapshot`. What was counted stays."""
        self._labels = Labels(snapshot)
        self._tenants.clear()

    def totals(self) -> dict[str, Any]:
        """Everything counted so far, as JSON can hold it: metric name → [[label…, total], …], or [[label…, [count…, sum]], …]."""
        counted = {family.name: [[*key, total] for key, total in found.items()] for family, found in self._counters.items()}
        observed = {family.name: [[*key, found] for key, found in h.series.items()] for family, h in self._histograms.items()}
        return {"counters": counted, "histograms": observed}

    def _tenant(self, fact: frozenset[str]) -> str:
        name = next(iter(fact)) if len(fact) == 1 else OTHER
        return self._tenants.keep(fact, name if name in self._labels.allowed["tenant"] else OTHER)

    def _count_warm(self, deployment: str, tokens: int) -> None:
        """Count a call that was answered where so many tokens of its prompt had been read a short while ago."""
        key = self._labels.clean(WARM, (deployment,))
        _add(self._counters[WARM], key, 1)
        _add(self._counters[WARM_TOKENS], key, tokens)

    def _count_tokens(self, deployment: str, usage: Usage) -> None:
        tokens = self._tokens
        if usage.uncached:
            _add(tokens, (deployment, "input"), usage.uncached)
        if usage.cached:
            _add(tokens, (deployment, "cached_input"), usage.cached)
        if usage.cache_write:
            _add(tokens, (deployment, "cache_write"), usage.cache_write)
        if usage.output:
            _add(tokens, (deployment, "output"), usage.output)
        if usage.reasoning:
            _add(tokens, (deployment, "reasoning"), usage.reasoning)


def added(*totals: Mapping[str, Any]) -> dict[str, Any]:
    """The `totals` of several workers as if one had counted them all."""
    counted: dict[str, dict[Key, float]] = {}
    observed: dict[str, dict[Key, list[float]]] = {}
    for one in totals:
        for name, counters in one.get("counters", {}).items():
            for *key, total in counters:
                _add(counted.setdefault(name, {}), tuple(key), total)
        for name, histograms in one.get("histograms", {}).items():
            for *key, found in histograms:
                before = observed.setdefault(name, {}).get(tuple(key), [0.0] * len(found))
                observed[name][tuple(key)] = [one + other for one, other in zip(before, found, strict=True)]
    return {
        "counters": {name: [[*key, total] for key, total in found.items()] for name, found in counted.items()},
        "histograms": {name: [[*key, total] for key, total in found.items()] for name, found in observed.items()},
    }


def _add(totals: dict[Key, float], key: Key, amount: float) -> None:
    totals[key] = totals.get(key, 0.0) + amount
