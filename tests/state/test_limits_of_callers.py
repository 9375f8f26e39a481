"""Rates and budgets of whoever asks: against a plain count of what was let in, over spans of every length and across reloads."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limited import Desk, Limited, asking, world
from small_world import NOW

from gateway.core.accounts import Bucket, Terms
from gateway.core.answer import OVER_BUDGET, Problem, failed, refused
from gateway.core.budgets import MONEY, TOKENS, Budget, WhenSpent
from gateway.core.decide import Verdict
from gateway.core.exchange import Ended, Fault, Outcome
from gateway.core.limits import span
from gateway.core.live import LiveState
from gateway.core.pricing import Capacity, Price
from gateway.core.rates import Rate, Rates
from gateway.core.unlimited import UNLIMITED
from gateway.core.usage import Usage
from gateway.ports import Patience
from gateway.state.accounts.local import LocalAccounts
from gateway.state.holding import AccountHold
from gateway.state.limits import AccountLimiter

MINUTE = 60
DAY = 86_400.0
OWN = {"three": {"price": None, "capacity": Capacity(Decimal(1), 100)}}  # the dearest of three, made free


def desk(workers: int = 1, **limits: Any) -> Desk:
    found = world(**limits)
    return Desk(AccountLimiter(LocalAccounts(lambda: NOW, workers), found, NOW), found)


def of_key(workers: int = 1, **rates: Any) -> Desk:
    return desk(workers, key=Limited(Rates(**rates)))


def usd(amount: str, **more: Any) -> Budget:
    return Budget(MONEY, int(Decimal(amount) * 1_000_000), **{"window": "day", **more})


def test_who_has_no_limits_holds_nothing() -> None:
    assert desk().hold(asking()) is UNLIMITED


@given(
    amount=st.integers(1, 20),
    per_s=st.sampled_from([1, 7, 60, 3600]),
    pauses=st.lists(st.floats(0, 100, allow_nan=False), max_size=80),
    workers=st.integers(1, 4),
)
def test_in_no_span_more_is_let_in_than_one_bucket_and_what_time_brought_back(
    amount: int, per_s: int, pauses: list[float], workers: int
) -> None:
    here = of_key(workers, requests=Rate(amount, per_s))
    now, times = NOW, []
    for pause in pauses:
        now += pause
        said = here.hold(asking(), now).admit(now)
        if isinstance(said, Problem):  # and who comes back when told to is let in
            assert said.retry_after_s is not None
            now += said.retry_after_s + 1e-6
            here.admitted(asking(), now)
        times.append(now)
    share, bucket = amount / workers, max(1.0, amount / workers)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= bucket + share * (times[last] - times[first]) / per_s + 1e-3


def test_tokens_are_held_by_estimate_and_corrected_by_what_was_used() -> None:
    here = of_key(tokens=Rate(100, MINUTE))
    first = here.admitted(asking(40, 40))
    assert here.refused(asking(20, 10)).status == 429  # 20 are left
    here.settled(first, asking(), here.tried("one/alpha", 30))
    first.settle(None, NOW)  # a second time does nothing
    second = here.admitted(asking(40, 30))  # 70 were left
    here.settled(second, asking(), here.tried("one/alpha", 130))  # the estimate was too low: 60 too many are paid back by time
    assert here.refused(asking(1, 1), NOW + 30).retry_after_s == pytest.approx((60 + 2) * 0.6 - 30)
    here.admitted(asking(1, 1), NOW + 37.3)


@pytest.mark.parametrize("cached", [0, 10, 40])
def test_a_hold_counts_on_nothing_that_is_cached_and_is_settled_by_what_was(cached: int) -> None:
    """A place that is taken to know the prompt may turn out not to: then all of it is paid for, and was held."""
    dear = {"price": Price(Decimal(10), Decimal(20), Decimal(1), Decimal(10))}
    here = desk(key=Limited(budgets=(usd("0.0008"),)), tariff=dict.fromkeys(("one", "two", "three"), dear))
    asked = asking(40, 20)  # 800 micro-dollars, or 440 if all of it were cached
    state = LiveState(warm={"one/alpha": 40, "two/alpha": 40})
    hold = here.limiter.hold(asked, here.decided(asked, state=state), Patience())
    assert hold.admit(NOW) is None
    assert isinstance(hold, AccountHold)
    here.refused(asking(1, 0))  # nothing is left
    found = here.settled(hold, asked, here.tried("one/alpha", usage=Usage(40 - cached, cached, output=20, reported=True)))
    assert found.cost.usd == Decimal(800 - 9 * cached) / 1_000_000
    assert dict(found.charged) == {line.terms.id: 800 - 9 * cached for line in hold.books}
    if cached:
        here.admitted(asking(9 * cached // 10, 0))  # what was held and not used is there again, to the last
    here.refused(asking(1, 0))


def test_what_nobody_settled_is_given_back() -> None:
    here = desk(key=Limited(Rates(tokens=Rate(100, MINUTE), concurrency=1), (usd("0.0001"),)))
    here.admitted(asking(40, 30)).settle(None, NOW)
    here.admitted(asking(40, 30))


def test_a_request_that_never_fits_is_told_so_and_not_to_come_back() -> None:
    problem = of_key(tokens=Rate(100, MINUTE)).refused(asking(100, 1))
    assert (problem.retry_after_s, problem.should_retry) == (None, False)
    assert "about 101" in problem.message
    assert "100 tokens per minute" in problem.message


def test_what_is_refused_holds_nothing() -> None:
    here = desk(key=Limited(Rates(requests=Rate(2, MINUTE), tokens=Rate(100, MINUTE)), (usd("0.0001"),)))
    here.refused(asking(100, 100))
    here.admitted(asking(40, 10))  # 60 micro-dollars
    here.refused(asking(50, 10))  # too many tokens
    here.refused(asking(20, 15))  # tokens are there, and money is not
    assert here.admitted(asking(20, 10)).headers["x-ratelimit-remaining-requests"] == "0"


def test_concurrency_counts_those_under_way() -> None:
    here = of_key(concurrency=2)
    first, second = here.admitted(asking()), here.admitted(asking())
    assert here.refused(asking()).retry_after_s == 1.0
    first.settle(None, NOW)
    third = here.admitted(asking())
    here.refused(asking())
    for held in (second, third):
        held.settle(None, NOW)
    here.admitted(asking())
    here.admitted(asking())


@pytest.mark.parametrize("above", ["tenant", "group"])
def test_the_limits_of_whoever_stands_above_hold_too_and_the_longer_wait_is_told(above: str) -> None:
    limits: dict[str, Any] = {"key": Limited(Rates(requests=Rate(1, 10))), above: Limited(Rates(requests=Rate(1, MINUTE)))}
    here = desk(**limits)
    here.admitted(asking())
    problem = here.refused(asking())
    assert problem.retry_after_s == pytest.approx(MINUTE)
    assert f"the {above} `" in problem.message


def test_workers_share() -> None:
    shares = [of_key(2, requests=Rate(4, MINUTE), concurrency=4) for _ in range(2)]
    for here in shares:
        here.admitted(asking())
        here.admitted(asking())
        assert "under way" in here.refused(asking()).message or "4 requests per minute" in here.refused(asking()).message


@pytest.mark.parametrize(("amount", "left"), [(20, 12), (10, 2), (5, -3), (8, 0)])
def test_what_was_used_outlives_a_reload(amount: int, left: int) -> None:
    here = of_key(requests=Rate(10, MINUTE))
    for _ in range(8):
        here.admitted(asking())
    here.limiter.adopt(world(key=Limited(Rates(requests=Rate(amount, MINUTE)))), NOW)
    for _ in range(max(0, left)):
        here.admitted(asking())
    assert here.refused(asking()).retry_after_s == pytest.approx((1 - min(0, left)) * MINUTE / amount)


def test_a_request_under_way_at_a_reload_settles_with_what_is_in_force() -> None:
    here = of_key(concurrency=1)
    held = here.admitted(asking())
    here.limiter.adopt(world(key=Limited(Rates(concurrency=1, tokens=Rate(100, MINUTE)))), NOW)
    here.refused(asking())
    held.settle(None, NOW)
    here.admitted(asking())
    here.refused(asking())


def test_headers_tell_the_limit_that_has_least_left() -> None:
    rates = Rates(requests=Rate(10, MINUTE), tokens=Rate(100, MINUTE)), Rates(requests=Rate(3, MINUTE))
    held = desk(key=Limited(rates[0]), tenant=Limited(rates[1])).admitted(asking(10, 20))
    assert dict(held.headers) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "18s",
    }


@given(st.lists(st.tuples(st.floats(0, 50, allow_nan=False), st.integers(0, 30), st.integers(0, 30)), max_size=50))
def test_a_bucket_never_holds_more_than_its_size(steps: list[tuple[float, int, int]]) -> None:
    account, now = LocalAccounts(lambda: NOW).open(Terms("rate/key/ward/tokens", Bucket(20, 10))), NOW
    for pause, held, used in steps:
        now += pause
        account.settle(held, used, now)
        assert account.left(now) <= 20
        assert account.left(now - 5) == account.left(now)  # a clock that steps back changes nothing
    assert account.wait_s(21, now) == float("inf")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0ms"), (0.0204, "21ms"), (0.9999, "1s"), (1.0, "1s"), (59.5, "1m0s"), (360, "6m0s"), (3661, "1h1m1s")],
)
def test_spans_are_spelt_as_openai_does(seconds: float, said: str) -> None:
    assert span(seconds) == said


# --- budgets --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", ["key", "tenant", "group", "tag"])
def test_a_budget_that_is_spent_refuses_as_openai_does_until_its_window_ends(holder: str) -> None:
    spent = (usd("0.0001"),)
    here = desk(1, **({"tags": {"letters": spent}} if holder == "tag" else {holder: Limited(budgets=spent)}))
    asked = asking(40, 20, "letters")  # 80 micro-dollars at the cheapest
    settled = here.settled(here.admitted(asked), asked, here.tried("one/alpha", 60))  # 30 in, 30 out: 90
    assert dict(settled.charged) == {
        f"budget/{holder}/{dict(key='ward', tenant='clinic', group='health', tag='letters')[holder]}/usd-day": 90
    }
    problem = here.refused(asked)
    assert (problem.status, problem.code, problem.should_retry) == (429, "insufficient_quota", False)
    assert "0.0001 USD per day" in problem.message
    assert problem.retry_after_s == pytest.approx(DAY - NOW % DAY)
    here.admitted(asking(5, 2, "letters"))  # what fits is let in
    here.admitted(asked, NOW + DAY - NOW % DAY)


def test_who_is_refused_for_what_others_hold_and_may_not_use_is_told_to_come_back_soon() -> None:
    here = desk(key=Limited(budgets=(usd("0.0001"),)))
    held = here.admitted(asking(40, 20))  # 80, and most answers are shorter than they may be
    problem = here.refused(asking(40, 20))
    assert (problem.status, problem.code, problem.retry_after_s, problem.should_retry) == (429, "insufficient_quota", 1.0, None)
    assert "come back in 1s" in problem.message
    here.settled(held, asking(40, 20), here.tried("one/alpha", 10))
    here.admitted(asking(40, 20))


def test_a_tags_budget_counts_what_surely_bears_the_tag() -> None:
    here = desk(tags={"letters": (usd("0.0001"),)})
    assert here.hold(asking(10_000, tag="batch")) is UNLIMITED
    assert here.refused(asking(10_000, tag="letters")).code == "insufficient_quota"


def test_a_budget_of_tokens_counts_all_that_was_used() -> None:
    here = desk(key=Limited(budgets=(Budget(TOKENS, 100, "rolling", 3600),)))
    held = here.admitted(asking(50, 20))
    settled = here.settled(held, asking(), here.tried("one/alpha", 95))
    assert dict(settled.charged) == {"budget/key/ward/tokens-1h": 95}
    assert "100 tokens in any 1h" in here.refused(asking(5, 5)).message
    here.admitted(asking(5, 5), NOW + 3700)


def test_an_attempt_at_a_dearer_place_needs_the_difference_and_goes_on_without_it() -> None:
    here = desk(key=Limited(budgets=(usd("0.0001"),)))
    asked = asking(20, 10)  # 40 at one, 120 at two
    held = here.admitted(asked)
    assert held.attempt(here.attempt("one/alpha"), NOW) is None
    over = held.attempt(here.attempt("two/alpha", 2), NOW)
    assert isinstance(over, Outcome)
    assert over == Outcome(Ended.EXHAUSTED, Fault.OURS, over.scope, code=OVER_BUDGET, retry_after_s=over.retry_after_s, sent=False)
    assert here.refused(asking(40, 20)).code == "insufficient_quota"  # 60 are left, for the first still holds its 40
    here.admitted(asking(20, 20))
    held.settle(None, NOW)
    here.admitted(asking(20, 10))


def test_a_spent_budget_of_the_cheaper_kind_leaves_what_costs_no_more_than_is_left() -> None:
    here = desk(key=Limited(budgets=(usd("0.0002", when_spent=WhenSpent.CHEAPER),)), tariff=OWN)
    asked = asking(40, 20)  # 80 at one, 240 at two, nothing at three
    assert {route.deployment.endpoint.id for route in here.decided(asked).routes} == {"one", "three"}
    assert here.decided(asking(20, 10)).live is here.decided(asking(10, 10)).live  # 120 at two: all fit
    for _ in range(2):
        hold = here.admitted(asked)
        assert hold.attempt(here.attempt("one/alpha"), NOW) is None
        here.settled(hold, asked, here.tried("one/alpha", 60))
    decision = here.decided(asked)
    assert [route.deployment.id for route in decision.routes] == ["three/alpha"]
    assert decision.exclusions["one/alpha"][-1].word == "live: budget"
    assert decision.live is here.decided(asked).live  # the same object: ranks and the ledger remember by it
    assert here.admitted(asked).attempt(here.attempt("three/alpha"), NOW) is None
    assert {route.deployment.endpoint.id for route in here.decided(asked, NOW + DAY).routes} == {"one", "three"}


def test_where_nothing_is_cheap_enough_the_budget_is_the_reason() -> None:
    here = desk(key=Limited(budgets=(usd("0.0001", when_spent=WhenSpent.CHEAPER),)))
    hold = here.admitted(asking(40, 20))
    assert hold.attempt(here.attempt("one/alpha"), NOW) is None
    decision = here.decided(asking(40, 20))
    assert decision.verdict is Verdict.UNAVAILABLE
    problem = refused(decision, NOW)
    assert (problem.status, problem.code, problem.should_retry) == (429, "insufficient_quota", False)
    assert problem.retry_after_s == pytest.approx(DAY - NOW % DAY, abs=60)
    assert "the key `ward` has spent its budget of 0.0001 USD per day, or too much of it for this request" in problem.message


def test_an_attempt_of_the_cheaper_kind_that_no_longer_fits_is_passed_over() -> None:
    here = desk(key=Limited(budgets=(usd("0.0001", when_spent=WhenSpent.CHEAPER),)), tariff=OWN)
    asked = asking(40, 20)
    holds = [here.admitted(asked) for _ in range(2)]  # both decided while there was money for one
    assert holds[0].attempt(here.attempt("one/alpha"), NOW) is None
    over = holds[1].attempt(here.attempt("one/alpha"), NOW)
    assert isinstance(over, Outcome)
    assert (over.ended, over.code) == (Ended.EXHAUSTED, OVER_BUDGET)
    assert (failed([over]).retry_after_s, failed([over]).should_retry) == (1.0, None)  # the other may use less than it holds
    here.settled(holds[0], asked, here.tried("one/alpha", 60))
    over = holds[1].attempt(here.attempt("one/alpha"), NOW)
    assert isinstance(over, Outcome)
    assert (failed([over]).retry_after_s, failed([over]).should_retry) == (pytest.approx(DAY - NOW % DAY), False)
    assert holds[1].attempt(here.attempt("three/alpha", 2), NOW) is None


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60), st.integers(0, 200)), max_size=60))
def test_what_was_spent_is_never_more_than_the_budget_and_what_those_under_way_used_beyond_their_estimates(
    requests: list[tuple[int, int, int]],
) -> None:
    here = desk(key=Limited(budgets=(usd("0.001"),)))
    spent = beyond = 0
    under_way: list[tuple[AccountHold, Any, int, int]] = []
    for prompt, output, used in requests:
        asked = asking(prompt, output)
        hold = here.hold(asked)
        if hold.admit(NOW) is None:
            assert isinstance(hold, AccountHold)
            under_way.append((hold, asked, prompt + 2 * output, used))
        if len(under_way) > 5:
            hold, asked, estimate, used = under_way.pop(0)
            cost = dict(here.settled(hold, asked, here.tried("one/alpha", used)).charged).get("budget/key/ward/usd-day", 0)
            spent += cost
            beyond = max(beyond, 0) + max(0, cost - estimate)
    held = sum(estimate for _, _, estimate, _ in under_way)
    assert spent + held <= 1000 + beyond
