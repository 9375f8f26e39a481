"""What is tried next, and what an exchange comes to."""

from decimal import Decimal

import pytest
from worlds import decided, place, request_facts, world

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Needs, Outcome, Request, Scope, Tried
from gateway.core.failover import failover, reachable
from gateway.core.settlement import Settlement, settle
from gateway.core.usage import Usage

TWO_AT_ONE = world([place("a", model="m1"), place("a", model="m2"), place("b", model="m1"), place("c", model="m2")])
FAILED = {scope: Outcome(Ended.FAILED, scope=scope) for scope in Scope}


def tried(decision: Decision, *outcomes: Outcome, attempts_max: int = 4) -> list[str]:
    """The deployments called, if attempts end in `outcomes`; the last outcome repeats."""
    course, found, ends = failover(decision, attempts_max), list[str](), list(outcomes)
    attempt: Attempt | None = next(course, None)
    while attempt is not None:
        found.append(attempt.deployment.id)
        assert attempt.number == len(found)
        try:
            attempt = course.send(ends.pop(0) if len(ends) > 1 else ends[0])
        except StopIteration:
            attempt = None
    return found


def test_each_route_once_in_order() -> None:
    decision = decided(TWO_AT_ONE)
    assert tried(decision, FAILED[Scope.DEPLOYMENT]) == ["a/m1", "a/m2", "b/m1", "c/m2"]
    assert tried(decision, FAILED[Scope.REQUEST]) == ["a/m1", "a/m2", "b/m1", "c/m2"]


def test_a_broken_endpoint_takes_its_other_deployments_along() -> None:
    assert tried(decided(TWO_AT_ONE), FAILED[Scope.ENDPOINT]) == ["a/m1", "b/m1", "c/m2"]
    assert tried(decided(TWO_AT_ONE), FAILED[Scope.DEPLOYMENT], FAILED[Scope.ENDPOINT]) == ["a/m1", "a/m2", "b/m1", "c/m2"]


@pytest.mark.parametrize("ended", Ended)
def test_only_what_another_route_may_mend_goes_on(ended: Ended) -> None:
    goes_on = ended in (Ended.THROTTLED, Ended.EXHAUSTED, Ended.FAILED, Ended.UNKNOWN)
    assert len(tried(decided(TWO_AT_ONE), Outcome(ended))) == (4 if goes_on else 1)


@pytest.mark.parametrize("attempts_max", [0, 1, 2, 9])
def test_attempts_are_counted(attempts_max: int) -> None:
    assert len(tried(decided(TWO_AT_ONE), FAILED[Scope.DEPLOYMENT], attempts_max=attempts_max)) == min(attempts_max, 4)


def test_without_routes_nothing_is_tried() -> None:
    assert tried(decided(TWO_AT_ONE | {"rules": []}), FAILED[Scope.DEPLOYMENT]) == []


def test_reachable_counts_the_soonest_way() -> None:
    assert reachable(decided(TWO_AT_ONE), 2) == {"a/m1": 1, "a/m2": 2, "b/m1": 2}
    assert reachable(decided(TWO_AT_ONE), 3) == {"a/m1": 1, "a/m2": 2, "b/m1": 2, "c/m2": 3}


# --- settlement -------------------------------------------------------------------------------------------------------------

REPORTED = Usage(uncached=1_000, output=500, reported=True)
ESTIMATED = Usage(uncached=1_000, output=500)


def settled(*ends: Outcome, of: object = None, status: int = 200) -> Settlement:
    """What an exchange comes to whose attempts ended so. Input is $1 and output $2 a million at `a`; `b` is paid for anyway."""
    decision = decided(world([place("a", price=(1.0, 2.0)), place("b", price="capacity")]) if of is None else of)  # type: ignore[arg-type]
    deployments = [route.deployment for route in decision.routes]
    done = [Tried(Attempt(n, d), o, 0.0, 1.0) for n, (d, o) in enumerate(zip(deployments, ends, strict=False), start=1)]
    request = Request(
        id="r",
        client_id="",
        api="chat",
        asked="auto",
        facts=request_facts(),
        needs=Needs("chat"),
        body={},
        body_bytes=2,
        stream=False,
        wants_usage=False,
        disclose=frozenset(),
        began=0.0,
    )
    return settle(request, decision, tuple(done), status, "", 2.0)


SERVED = Outcome(Ended.SERVED, usage=REPORTED)
COSTS = [
    ("served, as reported", [SERVED], "0.002", "reported"),
    ("served, by our own estimate", [Outcome(Ended.SERVED, usage=ESTIMATED)], "0.002", "estimated"),
    ("a failure that reports usage is charged", [Outcome(Ended.FAILED, usage=REPORTED), SERVED], "0.002", "reported"),
    ("an estimate of a failure is not", [Outcome(Ended.FAILED, usage=ESTIMATED), SERVED], "0", "reported"),
    ("cut short, by our own estimate", [Outcome(Ended.CUT_SHORT, usage=ESTIMATED)], "0.002", "estimated"),
    ("the client hung up", [Outcome(Ended.CLIENT_GONE, usage=ESTIMATED)], "0.002", "estimated"),
    ("nothing was processed", [Outcome(Ended.THROTTLED)], "0", "none"),
    ("nothing was tried", [], "0", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("ends", "usd", "basis"), [row[1:] for row in COSTS], ids=[row[0] for row in COSTS])
def test_cost(ends: list[Outcome], usd: str, basis: str) -> None:
    cost = settled(*ends).cost
    assert (cost.usd, cost.basis) == (Decimal(usd), basis)


def test_usage_of_all_that_was_processed_is_summed() -> None:
    usage = settled(Outcome(Ended.FAILED, usage=REPORTED), SERVED).usage
    assert usage == Usage(uncached=2_000, output=1_000, reported=True)


REFUSED = world() | {"rules": []}
RESULTS = [
    ("served", settled(SERVED), "served"),
    ("refused", settled(of=REFUSED, status=403), "refused"),
    ("gone before anything was tried", settled(status=0), "client gone"),
    ("nothing could be tried, for a fault of ours", settled(status=503), "failed"),
]


@pytest.mark.parametrize(("settlement", "result"), [row[1:] for row in RESULTS], ids=[row[0] for row in RESULTS])
def test_result_in_one_word(settlement: Settlement, result: str) -> None:
    assert settlement.result == result
