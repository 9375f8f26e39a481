"""Endpoints that are asked how they are: when one is ill, what its metrics say, and what live state makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.bounds import Bounds
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Scope
from gateway.core.live import ALL_WELL, Checked
from gateway.core.policy import HealthCheck
from gateway.state.health import Load, Standing, load_of
from gateway.state.live import LocalLive

DOWN = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, code="connect_failed")
CHECK = HealthCheck(every_s=5, failures=3, load="/metrics")


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_it_is_ill_exactly_while_the_last_so_many_checks_failed(went_well: list[bool], failures: int) -> None:
    check, standing = HealthCheck(failures=failures), Standing()
    for number, well in enumerate(went_well):
        standing = standing.after("" if well else f"status {number}", NOW + number, check)
        last = went_well[: number + 1][-failures:]
        assert standing.ill is (len(last) == failures and not any(last))
        assert standing.against(NOW + number, check) == (Checked(f"status {number}") if standing.ill else None)


def test_requests_wait_inside_it_as_long_as_the_reading_is_young() -> None:
    standing = Standing().after("", NOW, CHECK).with_load(Load(NOW, 8, 2))
    assert standing.against(NOW + 14.9, CHECK) == Checked(queues_until=NOW + 15)
    assert standing.against(NOW + 15, CHECK) is None
    assert standing.young_load(NOW + 15, CHECK) is None
    assert Standing().with_load(Load(NOW, 8, 0)).against(NOW, CHECK) is None
    assert Standing().with_load(Load(NOW, 8)).against(NOW, CHECK) is None  # it does not say, and is not taken for full
    ill = Standing(2, "status 500", load=Load(NOW, 8, 2)).after("status 503", NOW + 1, CHECK)
    assert ill.against(NOW + 1, CHECK) == Checked("status 503", NOW + 15)


VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 3.0
vllm:num_requests_running{engine="1",model_name="glm"} 4.0
vllm:num_requests_waiting{engine="0",model_name="glm"} 2.0 1795000000000
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:num_preemptions_total 99
"""


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (VLLM, Load(NOW, 7, 2, 0.75)),
        (b"vllm:gpu_cache_usage_perc 0.5\n", Load(NOW, None, None, 0.5)),  # as older versions called it
        (b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n", Load(NOW, 1, 0)),
        (b"sglang:num_running_reqs 1\nsglang:num_queue_reqs 5\nsglang:token_usage 0.1\n", Load(NOW, 1, 5, 0.1)),
        (b'[{"id": 0, "is_processing": true}, {"id": 1, "is_processing": false}]', Load(NOW, 1)),
        (b"vllm:num_requests_waiting NaN\nvllm:num_requests_running +Inf\nvllm:kv_cache_usage_perc -1\n", None),
        (b"vllm:num_requests_waiting\nvllm:num_requests_waiting{ 3\nvllm:num_requests_waiting many\n", None),
        (b"process_cpu_seconds_total 4\n", None),
        (b"[", None),
        (b"[1]", None),
        (b"<html>\xff\xfe", None),
        (b"", None),
    ],
)
def test_metrics_are_read_as_far_as_they_are_known(body: bytes, found: Load | None) -> None:
    assert load_of(body, NOW) == found


@given(st.binary() | st.text(alphabet='vllm:num_requests_waiting{}"0123456789.e+-\n []').map(str.encode))
def test_whatever_an_engine_says_is_no_crash(body: bytes) -> None:
    found = load_of(body, NOW)
    assert found is None or (found.waiting or 0) >= 0


# --- live state ---------------------------------------------------------------------------------------------------------------


def live() -> tuple[LocalLive, Attempt]:
    deployments = {deployment.id: deployment for deployment in snapshot().policy.deployments}
    return LocalLive(Bounds(breaker_failures=3), deployments.values()), Attempt(1, deployments["one/alpha"])


def words(state: LocalLive, now: float) -> dict[str, str]:
    return {name: why.word for name, why in state.read(now).blocked.items()}


def test_an_endpoint_that_is_ill_gets_nothing_until_it_is_well() -> None:
    state, alpha = live()
    state.check({"one": Checked("GET /health: status 503"), "nowhere": Checked("gone")}, NOW)
    assert words(state, NOW) == {"one/alpha": "health", "one/beta": "health"}
    assert not state.has_room(alpha)
    row = state.rows(NOW)["one/alpha"]
    assert (row["word"], row["detail"], row["until"]) == ("health", "GET /health: status 503", None)
    same = state.read(NOW)
    state.check({"one": Checked("GET /health: status 503")}, NOW + 5)
    assert state.read(NOW + 5) is same
    state.check({}, NOW + 10)
    assert state.read(NOW + 10) == ALL_WELL and state.has_room(alpha)


def test_breakers_and_cordons_go_on_besides() -> None:
    state, alpha = live()
    for _ in range(3):
        state.report(alpha, DOWN, NOW, None)
    state.check({"one": Checked("GET /health: status 503")}, NOW)
    assert words(state, NOW)["one/alpha"] == "health"
    state.cordon(frozenset({"one"}))
    assert words(state, NOW)["one/alpha"] == "cordoned"
    state.check({}, NOW)
    assert words(state, NOW)["one/alpha"] == "cordoned" and not state.has_room(alpha)
    state.cordon(frozenset())
    assert words(state, NOW)["one/alpha"] == "breaker"  # that it answers /health does not say that it serves
    state.check({"one": Checked(queues_until=NOW + 15)}, NOW)
    assert words(state, NOW)["one/alpha"] == "breaker"


def test_where_requests_wait_it_comes_last_and_is_a_route_all_the_same() -> None:
    state, alpha = live()
    state.check({"one": Checked(queues_until=NOW + 15)}, NOW)
    assert words(state, NOW) == {"one/alpha": "busy", "one/beta": "busy"}
    assert state.has_room(alpha)
    assert words(state, NOW + 14.9)
    assert words(state, NOW + 15) == {}  # nobody has said so for too long
    state.check({"one": Checked(queues_until=NOW + 15)}, NOW + 20)  # a message that came late
    assert words(state, NOW + 20) == {}
