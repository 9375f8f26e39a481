"""What is counted, what is shown, and that no label says what nobody configured."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from exchanges import FAILED, SERVED, decided, facts, settlement, world
from hypothesis import given
from hypothesis import strategies as st
from limited import Limited
from limited import world as limited_world
from prometheus_client.parser import text_string_to_metric_families
from small_world import NOW

from gateway import __version__
from gateway.core.budgets import Budget
from gateway.core.decide import decide
from gateway.core.exchange import Ended, Fault, Kept, Needs, Outcome, Recall, Recalled, Scope, Unlike
from gateway.core.limits import all_limits
from gateway.core.live import LiveState
from gateway.core.policy import Snapshot
from gateway.core.settlement import Settlement
from gateway.core.terms import OTHER
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.ledger.families import COUNTERS, GAUGES, HISTOGRAMS, Labels
from gateway.ledger.metrics import WorkerMeter, added
from gateway.ledger.registry import Registry

WORLD = world()
VIEW = View(WORLD, NOW)
BUDGETED = limited_world(key=Limited(budgets=(Budget("tokens", 100, "day", warn_at=(Decimal("0.8"), Decimal("0.9"))),)))
REJECTED = Outcome(Ended.REJECTED, Fault.CLIENT, status=400, code="invalid_request")
THROTTLED = Outcome(Ended.THROTTLED, Fault.OURS, Scope.DEPLOYMENT, status=429)
BOTH = replace(FAILED, usage=Usage(uncached=10, output=2, reported=True))
GUESSED = replace(SERVED, ended=Ended.CUT_SHORT, usage=Usage(uncached=10, cache_write=1, output=2, reasoning=1))


@dataclass
class Fleet:
    """A fleet of reports."""

    reports: list[Mapping[str, Any]] = field(default_factory=list)
    last_words: Mapping[str, Any] = field(default_factory=dict)
    deaths: int = 0
    ready: bool = True
    sharing: int | None = 6
    snapshot: Snapshot = WORLD


@dataclass
class Reloads:
    """A reloader that has applied one change and refused another."""

    since: float = 1_700_000_000.0
    last_succeeded: bool = False
    counts: Mapping[str, int] = field(default_factory=lambda: {"applied": 1, "unchanged": 0, "refused": 1})


class Checks:
    """Of two endpoints, one unknown to the policy."""

    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        load = {"running": 3, "waiting": 0, "kv_cache": None, "age_s": 1.0}
        return {"one": {"healthy": True, "load": load}, "the canary": {"healthy": False, "load": None}}


def report(meter: WorkerMeter, **more: Any) -> dict[str, Any]:
    """A worker's report, as it arrives: through JSON."""
    plain = {"ready": True, "in_flight": 2, "connections": 3, "upstream_connections": {"one": 4}, "live": {}}
    found: dict[str, Any] = orjson.loads(orjson.dumps(plain | {"metrics": meter.totals()} | more))
    return found


def samples(fleet: Fleet) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) → value, of all that is shown."""
    text = Registry(fleet, Reloads(), Checks()).exposition().decode()
    return read(text)


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def one(fleet: Fleet, metric: str, **labels: str) -> float | None:
    return samples(fleet).get((metric, tuple(sorted(labels.items()))))


def counted(*settlements: Settlement) -> Fleet:
    meter = WorkerMeter(WORLD)
    meter.kept("kept")
    for found in settlements:
        meter.settled(found)
    return Fleet([report(meter)])


def test_an_exchange_counts_where_it_should() -> None:
    decision = decided(VIEW)
    fleet = counted(settlement(decision, FAILED, SERVED))
    second = decision.routes[1].deployment
    assert one(fleet, "gateway_requests_total", tenant="clinic", api="chat", result="served") == 1
    assert one(fleet, "gateway_attempts_total", deployment="one/alpha", ended="failed") == 1
    assert one(fleet, "gateway_attempts_total", deployment=second.id, ended="served") == 1
    assert one(fleet, "gateway_failovers_total") == 1
    assert one(fleet, "gateway_tokens_total", deployment=second.id, kind="input") == 80
    assert one(fleet, "gateway_tokens_total", deployment=second.id, kind="cached_input") == 20
    assert one(fleet, "gateway_tokens_total", deployment=second.id, kind="output") == 7
    price = second.tariff.price
    assert price is not None and SERVED.usage is not None
    cost = one(fleet, "gateway_cost_usd_total", tenant="clinic", deployment=second.id, basis="reported")
    assert cost == pytest.approx(float(price.cost(SERVED.usage)))
    assert one(fleet, "gateway_request_duration_seconds_count", api="chat", stream="false") == 1
    assert one(fleet, "gateway_request_duration_seconds_sum", api="chat", stream="false") == 2
    assert one(fleet, "gateway_request_duration_seconds_bucket", api="chat", stream="false", le="2.5") == 1
    assert one(fleet, "gateway_request_duration_seconds_bucket", api="chat", stream="false", le="1.0") == 0
    assert one(fleet, "gateway_first_content_seconds_sum", deployment=second.id) == 0.5
    assert one(fleet, "gateway_overhead_seconds_sum") == 0


def test_what_was_warm_is_counted_where_it_was_answered() -> None:
    first, second, *_ = (route.deployment.id for route in decided(VIEW).routes)
    warm = LiveState(warm={first: 2_048, second: 1_024})
    decision = decided(VIEW, live=warm)
    first, second, *_ = (route.deployment.id for route in decision.routes)
    failed = settlement(decision, FAILED, SERVED)
    silent = replace(failed, tried=(replace(failed.tried[0], first_content=0.0), failed.tried[1]))  # it never answered
    fleet = counted(silent, settlement(decision, SERVED), settlement(decided(VIEW), SERVED))
    assert one(fleet, "gateway_warm_calls_total", deployment=first) == 1
    assert one(fleet, "gateway_warm_tokens_total", deployment=first) == warm.warm[first]
    assert one(fleet, "gateway_warm_tokens_total", deployment=second) == warm.warm[second]


@given(st.lists(st.sampled_from([SERVED, FAILED, REJECTED, THROTTLED, BOTH, GUESSED]), min_size=1, max_size=3))
def test_cost_by_deployment_adds_up_to_the_settlement(outcomes: list[Outcome]) -> None:
    found = settlement(decided(VIEW), *outcomes)
    shown = samples(counted(found))
    assert sum(v for (name, _), v in shown.items() if name == "gateway_cost_usd_total") == pytest.approx(float(found.cost.usd))


def test_a_refusal_names_its_reasons() -> None:
    blocked = decided(VIEW, region=frozenset({"CN"}))
    fleet = counted(settlement(blocked), settlement(decided(VIEW, Needs("chat", tools=frozenset({"canary"}), prompt_tokens=1))))
    assert one(fleet, "gateway_requests_total", tenant="clinic", api="chat", result="refused") == 2
    assert one(fleet, "gateway_refusals_total", rule="personal-in-europe") == 2
    assert one(fleet, "gateway_refusals_total", rule="no permit") == 2
    assert one(fleet, "gateway_refusals_total", rule=OTHER) == 1


def test_what_an_alert_watches_is_there_before_anything_happens() -> None:
    fleet = counted()
    assert one(fleet, "gateway_ledger_failures_total") == 0
    assert one(fleet, "gateway_failovers_total") == 0
    assert one(fleet, "gateway_worker_exits_total") == 0
    assert one(fleet, "gateway_ready") == 1
    assert one(fleet, "gateway_build_info", version=__version__) == 1
    assert one(fleet, "gateway_snapshot_info", policy="policy", access="access") == 1


def test_a_dead_worker_leaves_its_counters_and_takes_its_gauges() -> None:
    meter = WorkerMeter(WORLD)
    for _ in range(3):
        meter.settled(settlement(decided(VIEW), SERVED))
    meter.ledger_failed()
    living, dead = report(meter), report(meter, live={"one/alpha": {"word": "breaker"}})
    fleet = Fleet([living, dead])
    registry = Registry(fleet)

    def now() -> dict[str, float]:
        shown = read(registry.exposition().decode())
        return {name: value for (name, labels), value in shown.items() if not labels or name == "gateway_requests_total"}

    before = now()
    assert (before["gateway_requests_total"], before["gateway_exchanges_in_flight"], before["gateway_workers"]) == (6, 4, 2)
    fleet.reports.remove(dead)
    fleet.last_words, fleet.deaths = dead, 1
    for _ in range(2):  # asking twice buries nobody twice
        after = now()
        assert (after["gateway_requests_total"], after["gateway_ledger_failures_total"]) == (6, 2)
        assert (after["gateway_exchanges_in_flight"], after["gateway_client_connections"], after["gateway_workers"]) == (2, 3, 1)
        assert after["gateway_worker_exits_total"] == 1
    fleet.reports.append({})  # its successor, before its first report
    assert now() == after


WORD = st.text()


@given(
    st.lists(st.tuples(WORD, WORD, WORD, WORD, st.sampled_from([(), (SERVED,), (FAILED, GUESSED)])), max_size=6),
    st.dictionaries(st.text(), st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(), st.fixed_dictionaries({"word": st.text()}), max_size=3),
)
def test_every_label_that_is_shown_is_configured(callers: list[Any], upstream: dict[str, int], live: dict[str, Any]) -> None:
    """Whatever a caller sends, and whatever a worker reports."""
    meter = WorkerMeter(WORLD)
    for tenant, asked, tool, api, outcomes in callers:
        known = facts(tenant=frozenset({tenant}), asked=frozenset({asked} if not outcomes else {"auto"}), key=frozenset({tenant}))
        needs = Needs("chat", tools=frozenset() if outcomes else frozenset({tool}), prompt_tokens=1)
        found = settlement(decide(VIEW, known, needs, decided(VIEW).live, 0), *outcomes)
        meter.settled(replace(found, request=replace(found.request, api=api, asked=asked)))
    wild = report(meter, upstream_connections=upstream, live=live | {"one/alpha": {"word": "canary"}})
    wild["metrics"]["counters"]["gateway_attempts"].append(["canary", "canary", 1])
    wild["metrics"]["counters"]["canary_total"] = [["canary", 1]]
    labels = Labels(WORLD, limits=all_limits(WORLD))
    allowed = {**labels.allowed, "version": {__version__}, "policy": {"policy"}, "access": {"access"}}
    shown = samples(Fleet([wild]))
    assert shown
    for (name, said), _ in shown.items():
        assert name.startswith("gateway_")
        for label, value in said:
            if label != "le":
                assert value == OTHER or value in allowed[label], (name, label, value)


def test_names_end_in_their_units_and_every_metric_is_shown() -> None:
    decision = decided(VIEW)
    kept = Kept("one/alpha", "rg-0", NOW, SERVED.usage, b"")
    hit = replace(settlement(decision), status=200, code="", recalled=Recalled(Recall.HIT, kept, decision.routes[0].deployment))
    far = replace(settlement(decision), recalled=Recalled(Recall.MISS, unlike=Unlike.FAR))
    warm = settlement(decided(VIEW, live=LiveState(warm={decision.routes[0].deployment.id: 1_024})), FAILED)
    fleet = counted(settlement(decision, FAILED, SERVED), settlement(decided(VIEW, region=frozenset({"CN"}))), hit, far, warm)
    assert one(fleet, "gateway_cache_requests_total", result="hit") == 1
    assert one(fleet, "gateway_cache_unlike_total", unlike="far") == 1
    assert one(fleet, "gateway_cache_avoided_usd_total", tenant="clinic") == float(hit.avoided.usd) > 0
    assert one(fleet, "gateway_requests_total", tenant="clinic", api="chat", result="served") == 2
    fleet.snapshot = BUDGETED
    busy = {"live": {"one/alpha": {"word": "breaker"}}, "upstream_in_flight": {"one": 3}, "queued": {"one": 2}}
    busy["stores"] = {"state": ""}
    meter = WorkerMeter(WORLD, {("tenant", "requests"): 1.0})
    meter.store_waited("state", 0.001)
    meter.store_failed("state", "late")
    fleet.reports = [{**fleet.reports[0], **busy}, report(meter)]
    shown = {name for name, _ in samples(fleet)}
    for family in COUNTERS:
        assert f"{family.name}_total" in shown
    for family in HISTOGRAMS:
        assert family.name.endswith("_seconds") and {f"{family.name}_bucket", f"{family.name}_sum", f"{family.name}_count"} <= shown
    for family in GAUGES:
        assert family.name in shown


def test_what_is_used_of_budgets_is_shown_and_which_threshold_it_is_past() -> None:
    fleet = Fleet(
        [{"limits": [{"id": "budget/key/ward/tokens-day", "left": 15, "reset_s": 60, "alone": False}]}], snapshot=BUDGETED
    )
    assert one(fleet, "gateway_limit_used_ratio", limit="budget/key/ward/tokens-day") == 0.85
    assert one(fleet, "gateway_budget_past", limit="budget/key/ward/tokens-day", warn_at="0.8") == 1
    assert one(fleet, "gateway_budget_past", limit="budget/key/ward/tokens-day", warn_at="0.9") == 0
    assert one(replace(fleet, reports=[]), "gateway_limit_used_ratio", limit="budget/key/ward/tokens-day") == 0


def test_what_limits_let_not_begin_is_counted_by_kind() -> None:
    limited: dict[tuple[str, ...], float] = {("tenant", "requests"): 2.0}
    meter = WorkerMeter(WORLD, limited)
    limited["a client's", "words"] = 1.0
    fleet = Fleet([report(meter)])
    assert one(fleet, "gateway_limited_total", holder="tenant", limit_kind="requests") == 2
    assert one(fleet, "gateway_limited_total", holder=OTHER, limit_kind=OTHER) == 1


def test_reloads_are_shown() -> None:
    fleet = counted()
    assert one(fleet, "gateway_reload_success") == 0
    assert one(fleet, "gateway_snapshot_loaded_timestamp_seconds") == 1_700_000_000
    assert (one(fleet, "gateway_reloads_total", result="applied"), one(fleet, "gateway_reloads_total", result="refused")) == (1, 1)


def test_after_a_reload_what_was_counted_keeps_its_name() -> None:
    meter = WorkerMeter(WORLD)
    meter.settled(settlement(decided(VIEW), SERVED))
    fleet = Fleet([report(meter)])
    registry = Registry(fleet)
    before = read(registry.exposition().decode())
    policy = replace(WORLD.policy, hash="another", deployments=(), rules=())
    fleet.snapshot = replace(WORLD, policy=policy)
    after = read(registry.exposition().decode())
    counted_before = {key: value for key, value in before.items() if key[0].endswith("_total")}
    assert counted_before and {key: after.get(key) for key in counted_before} == counted_before
    assert after["gateway_snapshot_info", (("access", "access"), ("policy", "another"))] == 1


def test_the_dead_are_added_up_as_if_they_had_been_one() -> None:
    meters = [WorkerMeter(WORLD) for _ in range(3)]
    outcomes = ((SERVED,), (FAILED, SERVED), (REJECTED,))
    for meter, tried in zip(meters, outcomes, strict=True):
        for _ in range(2):
            meter.settled(settlement(decided(VIEW), *tried))
    words = [report(meter)["metrics"] for meter in meters]
    folded = added(added(added(words[0]), words[1]), words[2])
    assert samples(Fleet(last_words={"metrics": folded})) == samples(Fleet(last_words={"metrics": added(*words)}))
    apart = samples(Fleet([{"metrics": word} for word in words]))
    assert {at: value for at, value in samples(Fleet(last_words={"metrics": folded})).items() if value} == {
        at: value for at, value in apart.items() if value
    }
    assert added() == {"counters": {}, "histograms": {}}


def test_a_store_is_up_for_the_share_of_workers_that_reach_it() -> None:
    meter = WorkerMeter(WORLD)
    meter.store_waited("state", 0.001)
    meter.store_waited("canary", 0.04)
    meter.store_failed("state", "late")
    meter.store_failed("state", "the canary sings")
    fleet = Fleet([report(meter, stores={"state": ""}), report(WorkerMeter(WORLD), stores={"state": "it said LOADING"}), {}])
    assert one(fleet, "gateway_store_up", store="state") == 0.5
    assert one(fleet, "gateway_store_failures_total", store="state", why="late") == 1
    assert one(fleet, "gateway_store_failures_total", store="state", why=OTHER) == 1
    assert one(fleet, "gateway_store_wait_seconds_bucket", store="state", le="0.001") == 1
    assert one(fleet, "gateway_store_wait_seconds_sum", store=OTHER) == 0.04


def test_health_is_shown_by_configured_names_only_and_load_as_far_as_it_is_known() -> None:
    fleet = counted()
    assert one(fleet, "gateway_endpoint_healthy", endpoint="one") == 1
    assert one(fleet, "gateway_endpoint_healthy", endpoint=OTHER) == 0
    assert one(fleet, "gateway_endpoint_load", endpoint="one", measure="running") == 3
    assert one(fleet, "gateway_endpoint_load", endpoint="one", measure="waiting") == 0
    assert one(fleet, "gateway_endpoint_load", endpoint="one", measure="kv_cache") is None
    without = read(Registry(fleet).exposition().decode())
    assert not [name for name, _ in without if name.startswith("gateway_endpoint_")]
