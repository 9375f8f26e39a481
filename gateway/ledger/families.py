"""Every metric there is, and every value that its labels may take.

Names begin with `gateway_` and end in their unit. Labels come from configured names and closed lists only; whatever else turns up
is `other`, so that nobody outside can make a series, and nothing that a caller wrote can be seen here. Checked twice: where a
worker counts, and where the supervisor shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.core.decide import Verdict
from gateway.core.exchange import Ended, Recall, Unlike
from gateway.core.limits import HOLDERS, KINDS, Limit
from gateway.core.live import LIMITS
from gateway.core.policy import Snapshot
from gateway.core.rates import LIMITED
from gateway.core.settlement import UNCACHED
from gateway.core.terms import APIS, OTHER, STORE_FAILURES, Because

DURATIONS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
FIRST_CONTENT_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 60.0)
STORE_WAIT_S: Final = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1)
OVERHEAD_S: Final[tuple[float, ...]] = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is without `_total`; `buckets` (upper bounds, inclusive) make it a histogram."""

    name: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


REQUESTS: Final = Family("gateway_requests", ("tenant", "api", "result"), "Exchanges that ended, by how.")
ATTEMPTS: Final = Family("gateway_attempts", ("deployment", "ended"), "Calls to deployments, by how they ended.")
FAILOVERS: Final = Family("gateway_failovers", (), "Calls that were made because the one before had not served.")
FAILOVERS_REFUSED: Final = Family("gateway_failovers_refused", (), "Failovers that were not made: they were too many just then.")
REFUSALS: Final = Family("gateway_refusals", ("rule",), "Refused requests, by the words of the reasons against what was asked for.")
TOKENS: Final = Family("gateway_tokens", ("deployment", "kind"), "Tokens, as reported or estimated; reasoning is part of output.")
COST: Final = Family("gateway_cost_usd", ("tenant", "deployment", "basis"), "Marginal cost. The ledger has it exactly.")
WARM: Final = Family("gateway_warm_calls", ("deployment",), "Calls to places taken to know the beginning of the prompt.")
WARM_TOKENS: Final = Family("gateway_warm_tokens", ("deployment",), "About how many tokens of those prompts they knew.")
CACHE: Final = Family("gateway_cache_requests", ("result",), "Requests whose answers may be kept, by what the cache had for them.")
UNLIKE: Final = Family("gateway_cache_unlike", ("unlike",), "Requests that a like one's answer may do for, by why it did not.")
AVOIDED: Final = Family("gateway_cache_avoided_usd", ("tenant",), "What the answers given again had cost; no part of the cost.")
CACHE_KEPT: Final = Family("gateway_cache_keeps", ("kept",), "Answers that were to be kept, by what came of it.")
LEDGER_FAILURES: Final = Family("gateway_ledger_failures", (), "Ledger lines that could not be kept.")
STORE_LOST: Final = Family("gateway_store_failures", ("store", "why"), "Questions to a shared store that brought no answer.")
LIMITED_BY: Final = Family(
    "gateway_limited", ("holder", "limit_kind"), "Requests that a limit did not let begin, and attempts that went elsewhere for it."
)
COUNTERS: Final = (
    REQUESTS,
    ATTEMPTS,
    FAILOVERS,
    FAILOVERS_REFUSED,
    REFUSALS,
    TOKENS,
    COST,
    WARM,
    WARM_TOKENS,
    CACHE,
    UNLIKE,
    AVOIDED,
    CACHE_KEPT,
    LEDGER_FAILURES,
    STORE_LOST,
    LIMITED_BY,
)

DURATION: Final = Family("gateway_request_duration_seconds", ("api", "stream"), "From a request to its last byte.", DURATIONS_S)
FIRST_CONTENT: Final = Family(
    "gateway_first_content_seconds", ("deployment",), "From opening a call to its first content.", FIRST_CONTENT_S
)
OVERHEAD: Final = Family("gateway_overhead_seconds", (), "Time of an exchange in which no upstream call was under way.", OVERHEAD_S)
STORE_WAIT: Final = Family("gateway_store_wait_seconds", ("store",), "Waits for a shared store, answered or not.", STORE_WAIT_S)
HISTOGRAMS: Final = (DURATION, FIRST_CONTENT, OVERHEAD, STORE_WAIT)

READY: Final = Family("gateway_ready", (), "1 if a worker serves and the gateway is not draining.")
WORKERS: Final = Family("gateway_workers", (), "Workers that serve.")
SHARING: Final = Family(
    "gateway_workers_sharing", (), "Workers on all machines, as last known: room is shared among so many. 0: nobody knows."
)
IN_FLIGHT: Final = Family("gateway_exchanges_in_flight", (), "Exchanges under way.")
CLIENTS: Final = Family("gateway_client_connections", (), "Clients' connections, idle ones included.")
UPSTREAM: Final = Family("gateway_upstream_connections", ("endpoint",), "Connections to endpoints, idle ones included.")
AT_ENDPOINT: Final = Family("gateway_upstream_requests_in_flight", ("endpoint",), "Calls under way.")
QUEUED: Final = Family("gateway_queued_requests", ("endpoint",), "Requests that wait for room at an endpoint of ours.")
BLOCKED: Final = Family("gateway_blocked_workers", ("deployment", "word"), "Workers that send a deployment nothing just now.")
HEALTHY: Final = Family("gateway_endpoint_healthy", ("endpoint",), "1 if an endpoint that is asked is well, 0 if it is ill.")
LOAD: Final = Family("gateway_endpoint_load", ("endpoint", "measure"), "What an engine says: requests, or share of its cache.")
USED: Final = Family("gateway_limit_used_ratio", ("limit",), "How much of a budget or of a plan's quota is used, from 0 to 1.")
PAST: Final = Family("gateway_budget_past", ("limit", "warn_at"), "1 if more than this share of a budget is used.")
BUILD: Final = Family("gateway_build_info", ("version",), "The version that runs.")
SNAPSHOT: Final = Family("gateway_snapshot_info", ("policy", "access"), "Content hashes of what is in force.")
SINCE: Final = Family("gateway_snapshot_loaded_timestamp_seconds", (), "When what is in force began to serve, UTC.")
RELOAD_SUCCESS: Final = Family("gateway_reload_success", (), "1 if the last reload succeeded, 0 if an older snapshot goes on.")
STORE_UP: Final = Family("gateway_store_up", ("store",), "Share of the workers that reach all of a shared store: 1 is all of them.")
CHECKED: Final = (HEALTHY, LOAD)
GAUGES: Final = (
    READY, WORKERS, SHARING, IN_FLIGHT, CLIENTS, UPSTREAM, AT_ENDPOINT, QUEUED, BLOCKED, *CHECKED, USED, PAST,
    BUILD, SNAPSHOT, SINCE, RELOAD_SUCCESS, STORE_UP,
)  # fmt: skip

RELOAD_RESULTS: Final = ("applied", "unchanged", "refused")
RELOADS: Final = Family("gateway_reloads", ("result",), "Attempts at a reload: applied, unchanged or refused.")

WORKER_EXITS: Final = Family("gateway_worker_exits", (), "Workers that ended, for whatever reason.")

KEPT: Final = ("kept", "unfit", "large", "full", "lost", "purged")
"""What can come of keeping an answer: kept; none to be given to others; too large; no room in the store; the store did not answer;
its scope was purged meanwhile."""

MEASURES: Final = ("running", "waiting", "kv_cache")
TOKEN_KINDS: Final = ("input", "cached_input", "cache_write", "output", "reasoning")
NO_LIMITS: Final[Mapping[str, Limit]] = MappingProxyType({})


class Labels:
    """What each label may say under one snapshot, and under those before it: what was counted keeps its name."""

    def __init__(self, snapshot: Snapshot, before: "Labels | None" = None, limits: Mapping[str, Limit] = NO_LIMITS) -> None:
        """`limits` are those that are told of by name: workers do no such thing, and there may be as many as keys times limits."""
        policy = snapshot.policy
        rules = [rule.id for rule in policy.rules]
        abilities = {ability for deployment in policy.deployments for ability in deployment.abilities}
        tools = {tool for deployment in policy.deployments for tool in deployment.endpoint.tools}
        needs = {*APIS, "context", "remote_content", "tools", "vision", "json_schema"}
        needs |= abilities | {f"tool {tool}" for tool in tools}
        words = {*rules, *(f"gateway: {rule}" for rule in rules), Because.NO_PERMIT, Because.ASKED, Because.DISABLED}
        words |= {f"needs: {need}" for need in needs} | {"limit: usd_per_request"} | {f"live: {word}" for word in LIVE_WORDS}
        self.allowed: Mapping[str, frozenset[str]] = {
            "tenant": frozenset(snapshot.access.tenants),
            "deployment": frozenset(deployment.id for deployment in policy.deployments),
            "endpoint": frozenset(deployment.endpoint.id for deployment in policy.deployments),
            "api": frozenset(APIS),
            "result": frozenset({*map(str, Ended), *map(str, Verdict), LIMITED, UNCACHED, *map(str, Recall), *RELOAD_RESULTS}),
            "kept": frozenset(KEPT),
            "unlike": frozenset(map(str, Unlike)),
            "ended": frozenset(ended.value for ended in Ended),
            "rule": frozenset(str(word) for word in words),
            "kind": frozenset(TOKEN_KINDS),
            "basis": frozenset({"reported", "estimated", "none"}),
            "stream": frozenset({"true", "false"}),
            "word": LIVE_WORDS,
            "store": frozenset({"state", *(store.name for store in policy.stores)}),  # `state` may be the embedded one
            "why": frozenset(STORE_FAILURES),
            "measure": frozenset(MEASURES),
            "holder": frozenset(HOLDERS),
            "limit_kind": frozenset(KINDS),
            "limit": frozenset(limits),
            "warn_at": frozenset(str(share) for limit in limits.values() if limit.budget for share in limit.budget.warn_at),
        }
        if before is not None:
            self.allowed = {label: values | before.allowed[label] for label, values in self.allowed.items()}

    def clean(self, family: Family, values: tuple[str, ...]) -> tuple[str, ...]:
        """`values` of the family's labels, each that is not allowed replaced by `other`."""
        return tuple(value if value in self.allowed[label] else OTHER for label, value in zip(family.labels, values, strict=True))


LIVE_WORDS: Final = frozenset({"throttled", "exhausted", "breaker", "health", "busy", "full", "cordoned", *LIMITS})
