"""Rates as one worker keeps them: against a plain count of what was let in, over spans of every length and across reloads."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.answer import Problem
from gateway.core.exchange import Needs, Request
from gateway.core.facts import RequestFacts
from gateway.core.policy import Access
from gateway.core.rates import UNLIMITED, Rate, Rates
from gateway.state.rates import Bucket, Held, LocalLimiter, span

MINUTE = 60


def access(of_key: Rates | None = None, of_tenant: Rates | None = None) -> Access:
    """The small world's, where every key and every tenant has these rates."""
    found = snapshot().access
    keys = {name: replace(key, rates=of_key) for name, key in found.keys.items()}
    tenants = {name: replace(tenant, rates=of_tenant) for name, tenant in found.tenants.items()}
    return replace(found, keys=keys, tenants=tenants)


def asking(prompt: int = 10, output: int = 10) -> Request:
    """Of the key `ward` of the tenant `clinic`."""
    nothing: frozenset[str] = frozenset()
    sets = dict.fromkeys(("group", "region", "data_class", "categories", "asked", "api", "task", "tag", "language"), nothing)
    facts = RequestFacts(
        tenant=frozenset({"clinic"}), key=frozenset({"ward"}), ability=nothing, stream=nothing, prompt_tokens=prompt, **sets
    )
    needs = Needs("chat", prompt_tokens=prompt, output_tokens=output)
    return Request("rg-1", "", "chat", "alpha", facts, needs, {}, 0, False, False, nothing, NOW)


def let_in(limiter: LocalLimiter, asked: Request, now: float) -> Held:
    held = limiter.admit(asked, now)
    assert isinstance(held, Held), held
    return held


def refused(limiter: LocalLimiter, asked: Request, now: float) -> Problem:
    found = limiter.admit(asked, now)
    assert isinstance(found, Problem)
    return found


def test_who_has_no_rates_holds_nothing() -> None:
    assert LocalLimiter(access(), 1, NOW).admit(asking(), NOW) is UNLIMITED


@given(
    amount=st.integers(1, 20),
    per_s=st.sampled_from([1, 7, 60, 3600]),
    pauses=st.lists(st.floats(0, 100, allow_nan=False), max_size=80),
    workers=st.integers(1, 4),
)
def test_in_no_span_more_is_let_in_than_one_bucket_and_what_time_brought_back(
    amount: int, per_s: int, pauses: list[float], workers: int
) -> None:
    limiter = LocalLimiter(access(Rates(requests=Rate(amount, per_s))), workers, NOW)
    now, times = NOW, []
    for pause in pauses:
        now += pause
        answer = limiter.admit(asking(), now)
        if isinstance(answer, Held):
            times.append(now)
        else:  # and who comes back when told to is let in
            assert answer.retry_after_s is not None
            now += answer.retry_after_s + 1e-6
            let_in(limiter, asking(), now)
            times.append(now)
    share, bucket = amount / workers, max(1.0, amount / workers)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= bucket + share * (times[last] - times[first]) / per_s + 1e-3


def test_tokens_are_held_by_estimate_and_corrected_by_what_was_used() -> None:
    limiter = LocalLimiter(access(Rates(tokens=Rate(100, MINUTE))), 1, NOW)
    first = let_in(limiter, asking(40, 40), NOW)
    assert refused(limiter, asking(20, 10), NOW).status == 429  # 20 are left
    first.settle(30, NOW)
    first.settle(0, NOW)  # a second time does nothing
    second = let_in(limiter, asking(40, 30), NOW)  # 70 were left
    second.settle(130, NOW)  # the estimate was too low: 60 too many are paid back by time
    assert refused(limiter, asking(1, 1), NOW + 30).retry_after_s == pytest.approx((60 + 2) * 0.6 - 30)
    let_in(limiter, asking(1, 1), NOW + 37.3)


def test_a_request_that_never_fits_is_told_so_and_not_to_come_back() -> None:
    problem = refused(LocalLimiter(access(Rates(tokens=Rate(100, MINUTE))), 1, NOW), asking(100, 1), NOW)
    assert (problem.retry_after_s, problem.should_retry) == (None, False)
    assert "about 101" in problem.message
    assert "100 tokens per minute" in problem.message


def test_what_is_refused_holds_nothing() -> None:
    rates = Rates(requests=Rate(2, MINUTE), tokens=Rate(100, MINUTE))
    limiter = LocalLimiter(access(rates), 1, NOW)
    refused(limiter, asking(100, 100), NOW)
    let_in(limiter, asking(40, 10), NOW)
    refused(limiter, asking(50, 10), NOW)
    held = let_in(limiter, asking(40, 10), NOW)
    assert held.headers["x-ratelimit-remaining-requests"] == "0"


def test_concurrency_counts_those_under_way() -> None:
    limiter = LocalLimiter(access(Rates(concurrency=2)), 1, NOW)
    first, second = let_in(limiter, asking(), NOW), let_in(limiter, asking(), NOW)
    assert refused(limiter, asking(), NOW).retry_after_s == 1.0
    first.settle(0, NOW)
    third = let_in(limiter, asking(), NOW)
    refused(limiter, asking(), NOW)
    for held in (second, third):
        held.settle(0, NOW)
    let_in(limiter, asking(), NOW)
    let_in(limiter, asking(), NOW)


def test_a_tenants_rates_hold_for_its_keys_and_the_longer_wait_is_told() -> None:
    limiter = LocalLimiter(access(Rates(requests=Rate(1, 10)), Rates(requests=Rate(1, MINUTE))), 1, NOW)
    let_in(limiter, asking(), NOW)
    problem = refused(limiter, asking(), NOW)
    assert problem.retry_after_s == pytest.approx(MINUTE)
    assert "the tenant" in problem.message


def test_workers_share() -> None:
    limiters = [LocalLimiter(access(Rates(requests=Rate(4, MINUTE), concurrency=4)), 2, NOW) for _ in range(2)]
    for limiter in limiters:
        let_in(limiter, asking(), NOW)
        let_in(limiter, asking(), NOW)
        assert "4 requests per minute" in refused_by_rate(limiter)


def refused_by_rate(limiter: LocalLimiter) -> str:
    # concurrency is refused first: both are used up
    assert "under way" in refused(limiter, asking(), NOW).message
    limiter.adopt(access(Rates(requests=Rate(4, MINUTE))), NOW)
    return refused(limiter, asking(), NOW).message


@pytest.mark.parametrize(("amount", "left"), [(20, 12), (10, 2), (5, -3), (8, 0)])
def test_what_was_used_outlives_a_reload(amount: int, left: int) -> None:
    limiter = LocalLimiter(access(Rates(requests=Rate(10, MINUTE))), 1, NOW)
    for _ in range(8):
        let_in(limiter, asking(), NOW)
    limiter.adopt(access(Rates(requests=Rate(amount, MINUTE))), NOW)
    for _ in range(max(0, left)):
        let_in(limiter, asking(), NOW)
    wait_s = refused(limiter, asking(), NOW).retry_after_s
    assert wait_s == pytest.approx((1 - min(0, left)) * MINUTE / amount)


def test_a_request_under_way_at_a_reload_settles_with_what_is_in_force() -> None:
    limiter = LocalLimiter(access(Rates(concurrency=1)), 1, NOW)
    held = let_in(limiter, asking(), NOW)
    limiter.adopt(access(Rates(concurrency=1, tokens=Rate(100, MINUTE))), NOW)
    refused(limiter, asking(), NOW)
    held.settle(0, NOW)
    let_in(limiter, asking(), NOW)
    refused(limiter, asking(), NOW)


def test_headers_tell_the_limit_that_has_least_left() -> None:
    rates = Rates(requests=Rate(10, MINUTE), tokens=Rate(100, MINUTE)), Rates(requests=Rate(3, MINUTE))
    held = let_in(LocalLimiter(access(*rates), 1, NOW), asking(10, 20), NOW)
    assert dict(held.headers) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "18s",
    }


@given(st.lists(st.tuples(st.floats(0, 50, allow_nan=False), st.floats(-5, 30, allow_nan=False)), max_size=50))
def test_a_bucket_never_holds_more_than_its_size(steps: list[tuple[float, float]]) -> None:
    bucket, now = Bucket(Rate(20, 10), 1, NOW), NOW
    for pause, amount in steps:
        now += pause
        bucket.take(amount, now)
        assert bucket.left(now) <= 20
        assert bucket.left(now - 5) == bucket.left(now)  # a clock that steps back changes nothing
    assert bucket.wait_s(21, now) == inf


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0ms"), (0.0204, "21ms"), (0.9999, "1s"), (1.0, "1s"), (59.5, "1m0s"), (360, "6m0s"), (3661, "1h1m1s")],
)
def test_spans_are_spelt_as_openai_does(seconds: float, said: str) -> None:
    assert span(seconds) == said
