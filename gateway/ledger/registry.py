"""The supervisor's side of metrics: the workers' last reports, added up, in Prometheus' text format.

Promises: a dead worker's counters stay in the sums and its gauges go; no sum ever falls; every label value is configured, whatever
a report says. Imported by the supervisor only: prometheus-client has no place in a worker.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.core.accounts import Book
from gateway.core.limits import Limit, all_limits
from gateway.core.policy import Snapshot
from gateway.core.used import used
from gateway.ledger.families import (
    AT_ENDPOINT,
    BLOCKED,
    BUILD,
    CLIENTS,
    COUNTERS,
    HEALTHY,
    HISTOGRAMS,
    IN_FLIGHT,
    LOAD,
    MEASURES,
    PAST,
    QUEUED,
    READY,
    RELOAD_SUCCESS,
    RELOADS,
    SHARING,
    SINCE,
    SNAPSHOT,
    STORE_UP,
    UPSTREAM,
    USED,
    WORKER_EXITS,
    WORKERS,
    Family,
    Labels,
)

Report = Mapping[str, Any]
Key = tuple[str, ...]
NOTHING: Final[Mapping[str, Any]] = {}


class Reloads(Protocol):
    """What is asked of the reloader."""

    @property
    def since(self) -> float:
        """When what is in force began to serve, UTC seconds."""
        ...

    @property
    def last_succeeded(self) -> bool: ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Attempts by result."""
        ...


class Checks(Protocol):
    """What is asked of health checks. A row has healthy, and load: None, or what was measured."""

    def rows(self) -> Mapping[str, Report]: ...


class Fleet(Protocol):
    """What is asked of the supervisor. A report has ready, in_flight, connections, upstream_connections, upstream_in_flight,
    live, limits, stores (why each is not there, or "") and metrics."""

    @property
    def snapshot(self) -> Snapshot:
        """What is in force."""
        ...

    @property
    def ready(self) -> bool: ...

    @property
    def sharing(self) -> int | None:
        """How many workers there are on all machines, as last known."""
        ...

    @property
    def reports(self) -> Iterable[Report]:
        """The last report of each worker that lives; {} before its first."""
        ...

    @property
    def last_words(self) -> Report:
        """What those that are dead had counted, added up. It only grows."""
        ...

    @property
    def deaths(self) -> int:
        """How many they are."""
        ...


class Sums:
    """Counters and histograms, added up."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter[Key]] = {family.name: Counter() for family in COUNTERS}
        self.histograms: dict[str, dict[Key, list[float]]] = {family.name: {} for family in HISTOGRAMS}

    def add(self, report: Report, labels: Labels) -> None:
        """Add what one worker counted."""
        metrics = report.get("metrics", NOTHING)
        counted, observed = metrics.get("counters", NOTHING), metrics.get("histograms", NOTHING)
        for family in COUNTERS:
            for *values, total in counted.get(family.name, ()):
                self.counters[family.name][labels.clean(family, tuple(values))] += total
        for family in HISTOGRAMS:
            for *values, found in observed.get(family.name, ()):
                self.add_histogram(family, labels.clean(family, tuple(values)), found)

    def add_histogram(self, family: Family, key: Key, found: list[float]) -> None:
        """Add one series: counts by bound, and the sum."""
        series = self.histograms[family.name].setdefault(key, [0.0] * (len(family.buckets) + 2))
        for index, amount in enumerate(found):
            series[index] += amount


class Registry(Collector):
    """All metrics of one gateway."""

    def __init__(self, fleet: Fleet, reloads: Reloads | None = None, checks: Checks | None = None) -> None:
        self._snapshot = fleet.snapshot
        self._fleet = fleet
        self._reloads = reloads
        self._checks = checks
        self._books = _books(self._snapshot)
        self._labels = Labels(self._snapshot, limits=self._books)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """The text of `/metrics`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client."""
        if self._fleet.snapshot is not self._snapshot:
            self._snapshot = self._fleet.snapshot
            self._books = _books(self._snapshot)
            self._labels = Labels(self._snapshot, self._labels, self._books)
        reports = list(self._fleet.reports)
        sums = Sums()
        for report in (self._fleet.last_words, *reports):
            sums.add(report, self._labels)
        for family in COUNTERS:
            metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for key, total in sums.counters[family.name].items():
                metric.add_metric(key, total)
            yield metric
        for family in HISTOGRAMS:
            yield _histogram(family, sums.histograms[family.name])
        exits = CounterMetricFamily(WORKER_EXITS.name, WORKER_EXITS.help)
        exits.add_metric((), self._fleet.deaths)
        yield exits
        policy, access = self._snapshot.policy.hash, self._snapshot.access.hash
        yield _gauge(READY, {(): float(self._fleet.ready)})
        yield _gauge(WORKERS, {(): float(sum(bool(report.get("ready")) for report in reports))})
        yield _gauge(SHARING, {(): float(self._fleet.sharing or 0)})
        yield _gauge(IN_FLIGHT, {(): sum(report.get("in_flight", 0) for report in reports)})
        yield _gauge(CLIENTS, {(): sum(report.get("connections", 0) for report in reports)})
        yield _gauge(UPSTREAM, self._by_endpoint(UPSTREAM, "upstream_connections", reports))
        yield _gauge(AT_ENDPOINT, self._by_endpoint(AT_ENDPOINT, "upstream_in_flight", reports))
        yield _gauge(QUEUED, self._by_endpoint(QUEUED, "queued", reports))
        yield _gauge(BLOCKED, self._blocked(reports))
        yield _gauge(STORE_UP, self._stores(reports))
        if self._checks is not None:
            rows = self._checks.rows()
            yield _gauge(HEALTHY, {self._labels.clean(HEALTHY, (name,)): float(row["healthy"]) for name, row in rows.items()})
            yield _gauge(LOAD, self._loads(rows))
        yield from self._limits(reports)
        yield _gauge(BUILD, {(__version__,): 1.0})
        yield _gauge(SNAPSHOT, {(policy, access): 1.0})
        if self._reloads is not None:
            yield _gauge(SINCE, {(): self._reloads.since})
            yield _gauge(RELOAD_SUCCESS, {(): float(self._reloads.last_succeeded)})
            reloads = CounterMetricFamily(RELOADS.name, RELOADS.help, labels=RELOADS.labels)
            for result, count in self._reloads.counts.items():
                reloads.add_metric((result,), count)
            yield reloads

    def _by_endpoint(self, family: Family, field: str, reports: list[Report]) -> Mapping[Key, float]:
        found: Counter[Key] = Counter()
        for report in reports:
            for endpoint, count in report.get(field, NOTHING).items():
                found[self._labels.clean(family, (endpoint,))] += count
        return found

    def _stores(self, reports: list[Report]) -> Mapping[Key, float]:
        found: dict[Key, list[bool]] = {}
        for report in reports:
            for store, why in report.get("stores", NOTHING).items():
                found.setdefault(self._labels.clean(STORE_UP, (store,)), []).append(not why)
        return {key: sum(up) / len(up) for key, up in found.items()}

    def _loads(self, rows: Mapping[str, Report]) -> Mapping[Key, float]:
        found: dict[Key, float] = {}
        for name, row in rows.items():
            load = row["load"] or NOTHING
            for measure in MEASURES:
                if (value := load.get(measure)) is not None:
                    found[self._labels.clean(LOAD, (name, measure))] = float(value)
        return found

    def _limits(self, reports: list[Report]) -> Iterator[Metric]:
        share, past = dict[Key, float](), dict[Key, float]()
        for one in used(self._books, reports):
            name, budget = one.limit.terms.id, one.limit.budget
            share[(name,)] = one.share
            for at in () if budget is None else budget.warn_at:
                past[name, str(at)] = float(at in one.past)
        yield _gauge(USED, share)
        yield _gauge(PAST, past)

    def _blocked(self, reports: list[Report]) -> Mapping[Key, float]:
        found: Counter[Key] = Counter()
        for report in reports:
            for place, row in report.get("live", NOTHING).items():
                if place in self._labels.allowed["deployment"] and "word" in row:
                    found[self._labels.clean(BLOCKED, (place, row["word"]))] += 1
        return found


def _books(snapshot: Snapshot) -> Mapping[str, Limit]:
    return {name: limit for name, limit in all_limits(snapshot).items() if isinstance(limit.terms.of, Book)}


def _gauge(family: Family, values: Mapping[Key, float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for key, value in values.items():
        metric.add_metric(key, value)
    return metric


def _histogram(family: Family, series: Mapping[Key, list[float]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for key, (*counts, total) in series.items():
        buckets, below = [], 0.0
        for bound, count in zip((*family.buckets, float("inf")), counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), below))
        metric.add_metric(key, buckets, total)
    return metric
