"""What each attempt is checked for again: rates of its endpoint and its model, and the quotas of its plan, per credential."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limited import Desk, Limited, asking, world
from small_world import NOW

from gateway.core.answer import OVER_BUDGET, OVER_QUOTA, OVER_RATE, refused
from gateway.core.budgets import MONEY, Budget
from gateway.core.exchange import Ended, Fault, Outcome
from gateway.core.pricing import Peak, Plan, Quota
from gateway.core.rates import Rate, Rates
from gateway.core.unlimited import UNLIMITED
from gateway.state.accounts.local import LocalAccounts
from gateway.state.holding import AccountHold
from gateway.state.limits import AccountLimiter

HOUR = 3_600
FIVE_HOURS, WEEK = 5 * HOUR, 7 * 24 * HOUR
PLAN = Plan("pro", Decimal(18), (Quota(6, FIVE_HOURS), Quota(20, WEEK)), "refuse", {"alpha": Decimal(2)})
SENT = Outcome(Ended.SERVED, status=200)
UNSENT = Outcome(Ended.FAILED, Fault.UPSTREAM, code="connect_timeout", sent=False)
THROTTLED = Outcome(Ended.THROTTLED, Fault.UPSTREAM, status=429)


def desk(**limits: Any) -> Desk:
    found = world(**limits)
    return Desk(AccountLimiter(LocalAccounts(lambda: NOW), found, NOW), found)


def planned(plan: Plan = PLAN, secret: str = "env:PLAN") -> Desk:
    """The endpoints one and two are one plan, for they show one credential; three is paid by the token."""
    endpoint = {name: {"secret": secret} for name in ("one", "two")}
    return desk(endpoint=endpoint, tariff={name: {"plan": plan} for name in ("one", "two")})


def begun(here: Desk, name: str, now: float = NOW) -> AccountHold | Outcome:
    """A request that is at its attempt at `name`, or how that ended before it began."""
    asked = asking(asked="auto", began=now)
    hold = here.hold(asked, now)
    assert isinstance(hold, AccountHold)
    assert hold.admit(now) is None
    said = hold.attempt(here.attempt(name), now)
    assert said is None or isinstance(said, Outcome)
    return hold if said is None else said


def under_way(here: Desk, name: str, now: float = NOW) -> AccountHold:
    hold = begun(here, name, now)
    assert isinstance(hold, AccountHold), hold
    return hold


def passed_over(here: Desk, name: str, now: float = NOW) -> Outcome:
    outcome = begun(here, name, now)
    assert isinstance(outcome, Outcome)
    assert (outcome.fault, outcome.sent, outcome.usage) == (Fault.OURS, False, None)
    assert outcome.tries_next
    return outcome


def blocked(here: Desk, now: float = NOW) -> dict[str, str]:
    """What limits take away, by deployment."""
    return {name: why.word for name, why in here.decided(asking(asked="auto"), now).live.blocked.items()}


@pytest.mark.parametrize("holder", ["endpoint", "model"])
def test_a_rate_of_a_place_passes_it_over_and_then_takes_it_away_until_it_is_there_again(holder: str) -> None:
    rates = Rates(requests=Rate(2, HOUR))
    here = desk(endpoint={"one": {"rates": rates}}) if holder == "endpoint" else desk(model={"alpha": rates})
    for _ in range(2):
        under_way(here, "one/alpha").attempted(SENT, NOW)
    assert blocked(here) == {}
    outcome = passed_over(here, "one/alpha")
    assert (outcome.ended, outcome.code, outcome.retry_after_s) == (Ended.THROTTLED, OVER_RATE, pytest.approx(HOUR / 2))
    members = {"one/alpha", "one/beta"} if holder == "endpoint" else {"one/alpha", "two/alpha", "three/alpha", "far/alpha"}
    assert blocked(here) == dict.fromkeys(members, "rate")
    assert blocked(here, NOW + HOUR / 2 + 1) == {}
    under_way(here, "one/alpha", NOW + HOUR / 2 + 1)


def test_where_every_place_is_over_its_rate_the_caller_is_told_when_to_come_back() -> None:
    here = desk(model={name: Rates(requests=Rate(1, HOUR)) for name in ("alpha", "beta")})
    for name in ("one/alpha", "one/beta"):
        under_way(here, name)
        passed_over(here, name)
    problem = refused(here.decided(asking(asked="auto")), NOW)
    assert (problem.status, problem.code, problem.should_retry) == (429, "rate_limit_exceeded", None)
    assert problem.retry_after_s == pytest.approx(HOUR)


def test_a_place_holds_tokens_by_estimate_and_concurrency_until_the_attempt_ends() -> None:
    here = desk(endpoint={"one": {"rates": Rates(tokens=Rate(100, HOUR), concurrency=1)}})
    first = under_way(here, "one/alpha")  # 20 tokens
    assert passed_over(here, "one/alpha").code == OVER_RATE
    assert blocked(here) == {}  # it may end at any moment
    first.attempted(replace(SENT, usage=here.tried("one/alpha", 70).outcome.usage), NOW)
    second = under_way(here, "one/alpha")  # 30 were left
    second.attempted(THROTTLED, NOW)  # and nothing was used
    third = under_way(here, "one/alpha")
    third.settle(None, NOW)  # cut off: all that its place counts is given back
    third.attempted(SENT, NOW)
    under_way(here, "one/alpha")


def test_an_attempt_that_was_never_sent_counts_toward_no_rate() -> None:
    here = desk(endpoint={"one": {"rates": Rates(requests=Rate(1, HOUR))}})
    under_way(here, "one/alpha").attempted(UNSENT, NOW)
    under_way(here, "one/alpha")


def test_a_quota_is_a_credentials_and_a_request_takes_of_it_what_its_model_weighs() -> None:
    here = planned()
    asked = asking()
    hold = under_way(here, "one/alpha")
    settled = here.settled(hold, asked, here.tried("one/alpha", 20))
    assert {name.rpartition("/")[2]: amount for name, amount in settled.charged} == {"5h": 2000, "7d": 2000}
    holds = {name: under_way(here, name) for name in ("two/alpha", "one/beta")}
    assert passed_over(here, "two/alpha").retry_after_s == 1.0  # one is left, and it weighs two; who is under way may give one back
    for name, held in holds.items():
        here.settled(held, asked, here.tried(name, 20))
    outcome = passed_over(here, "two/alpha")
    assert (outcome.ended, outcome.code) == (Ended.EXHAUSTED, OVER_QUOTA)
    assert outcome.retry_after_s == pytest.approx(FIVE_HOURS, rel=0.02)
    assert blocked(here) == dict.fromkeys(("one/alpha", "two/alpha"), "quota")  # and not what weighs less, which has one left
    under_way(here, "two/beta")
    passed_over(here, "two/beta")
    assert blocked(here) == dict.fromkeys(("one/alpha", "one/beta", "two/alpha", "two/beta"), "quota")
    assert [route.deployment.id for route in here.decided(asking(asked="auto")).routes] == ["three/alpha"]
    assert not any("PLAN" in row["id"] for row in here.limiter.rows(NOW))  # where a credential is found is nobody's business


def test_another_credential_is_another_quota() -> None:
    apart = {"one": {"secret": "env:ONE"}, "two": {"secret": "env:TWO"}}
    here = desk(endpoint=apart, tariff={name: {"plan": PLAN} for name in ("one", "two")})
    for _ in range(3):
        under_way(here, "one/alpha")
    passed_over(here, "one/alpha")
    under_way(here, "two/alpha")


@pytest.mark.parametrize(("outcome", "taken"), [(SENT, True), (THROTTLED, False), (UNSENT, False)])
def test_a_ticket_is_given_back_where_the_place_took_none(outcome: Outcome, taken: bool) -> None:
    here = planned()
    hold = under_way(here, "one/alpha")
    tried = replace(here.tried("one/alpha"), outcome=outcome)
    assert bool(here.settled(hold, asking(), tried).charged) is taken
    under_way(here, "one/alpha")
    under_way(here, "one/alpha")
    assert isinstance(begun(here, "one/alpha"), Outcome) is taken


def test_both_windows_hold_and_each_lets_go_in_its_time() -> None:
    here, now = planned(), NOW
    for _ in range(3):  # 6 in each five hours, 20 in the week: three times full, and two are left
        for _ in range(3):
            under_way(here, "one/alpha", now).settle(here.settled(under_way(here, "three/alpha", now), asking()), now)
        now += FIVE_HOURS * 1.02
    hold = under_way(here, "one/alpha", now)
    here.settled(hold, asking(), here.tried("one/alpha"), now=now)
    assert isinstance(begun(here, "one/alpha", now), AccountHold)


def test_the_week_outlasts_the_five_hours() -> None:
    here, now = planned(), NOW
    for _ in range(3):
        for _ in range(3):
            here.settled(under_way(here, "one/alpha", now), asking(), here.tried("one/alpha"), now=now)
        assert passed_over(here, "one/alpha", now).retry_after_s == pytest.approx(FIVE_HOURS, rel=0.02)
        now += FIVE_HOURS * 1.02
    here.settled(under_way(here, "one/alpha", now), asking(), here.tried("one/alpha"), now=now)  # 20 of 20
    outcome = passed_over(here, "one/beta", now)
    assert outcome.retry_after_s == pytest.approx(WEEK - 3 * FIVE_HOURS, rel=0.02)
    assert blocked(here, now + FIVE_HOURS * 2)["one/beta"] == "quota"
    assert blocked(here, NOW + WEEK * 1.02) == {}
    under_way(here, "one/beta", NOW + WEEK * 1.02)


# 2027-01-15T08:00:00Z, a Friday: 16:00 in Singapore
def test_in_peak_hours_a_request_takes_more_and_the_ledger_says_the_same() -> None:
    peak = Peak(14 * 60, 18 * 60, 8 * 60, Decimal("1.5"), frozenset(range(5)))
    here = planned(replace(PLAN, peak=peak))
    hold = under_way(here, "one/alpha")
    assert {amount for _, amount in here.settled(hold, asking(), here.tried("one/alpha")).charged} == {3000}
    under_way(here, "one/alpha")
    passed_over(here, "one/beta")
    evening = NOW + 2 * HOUR
    here = planned(replace(PLAN, peak=peak))
    hold = under_way(here, "one/alpha", evening)
    assert {amount for _, amount in here.settled(hold, asking(), here.tried("one/alpha")).charged} == {2000}


def test_what_only_peak_hours_kept_from_fitting_is_tried_again_when_they_are_over() -> None:
    peak = Peak(14 * 60, 18 * 60, 8 * 60, Decimal(2), frozenset(range(5)))
    here, over = planned(replace(PLAN, peak=peak)), NOW + 2 * HOUR
    here.settled(under_way(here, "one/alpha"), asking(), here.tried("one/alpha"))
    passed_over(here, "one/alpha")  # two are left, and it weighs four
    assert blocked(here) == blocked(here, over - 1) == dict.fromkeys(("one/alpha", "two/alpha"), "quota")
    assert blocked(here, over) == {}
    under_way(here, "one/alpha", over)


DAYS = 86_400.0
MONDAY = 1_799_625_600.0  # 2027-01-11T00:00:00Z


@pytest.mark.parametrize(
    ("peak", "day", "hour", "inside"),
    [
        (Peak(14 * 60, 18 * 60, 0, Decimal(2)), 0, 14.0, True),
        (Peak(14 * 60, 18 * 60, 0, Decimal(2)), 0, 13.99, False),
        (Peak(14 * 60, 18 * 60, 0, Decimal(2)), 0, 18.0, False),
        (Peak(14 * 60, 18 * 60, 480, Decimal(2)), 0, 6.0, True),
        (Peak(14 * 60, 18 * 60, 480, Decimal(2)), 0, 14.0, False),
        (Peak(14 * 60, 18 * 60, 0, Decimal(2), frozenset({1})), 0, 15.0, False),
        (Peak(14 * 60, 18 * 60, 0, Decimal(2), frozenset({1})), 1, 15.0, True),
        (Peak(22 * 60, 6 * 60, 0, Decimal(2), frozenset({0})), 0, 23.0, True),
        (Peak(22 * 60, 6 * 60, 0, Decimal(2), frozenset({0})), 1, 5.0, True),
        (Peak(22 * 60, 6 * 60, 0, Decimal(2), frozenset({0})), 0, 5.0, False),
        (Peak(22 * 60, 24 * 60, 0, Decimal(2), frozenset({0})), 0, 23.99, True),
        (Peak(0, 6 * 60, 840, Decimal(2), frozenset({1})), 0, 10.0, True),  # where it is Tuesday already
        (Peak(0, 6 * 60, -300, Decimal(2), frozenset({6})), 0, 5.0, False),
        (Peak(20 * 60, 24 * 60, -300, Decimal(2), frozenset({6})), 0, 4.0, True),  # and still Sunday
    ],
)
def test_peak_hours_are_of_their_own_clock_and_belong_to_the_day_they_begin_on(
    peak: Peak, day: int, hour: float, inside: bool
) -> None:
    when = MONDAY + day * DAYS + hour * HOUR
    assert peak.at(when) is inside
    if inside:
        assert peak.at(peak.ends(when) - 1) and not peak.at(peak.ends(when))


@given(st.lists(st.tuples(st.sampled_from(["one/alpha", "two/beta"]), st.floats(0, HOUR, allow_nan=False)), max_size=60))
def test_in_no_window_more_tickets_are_taken_than_the_plan_has(requests: list[tuple[str, float]]) -> None:
    here, now = planned(), NOW
    taken: list[tuple[float, int]] = []
    for name, pause in requests:
        now += pause
        hold = begun(here, name, now)
        if isinstance(hold, AccountHold):
            here.settled(hold, asking(), here.tried(name), now=now)
            taken.append((now, 2 if name == "one/alpha" else 1))
    for begins, _ in taken:
        assert sum(weight for at, weight in taken if begins <= at < begins + FIVE_HOURS) <= 6
        assert sum(weight for at, weight in taken if begins <= at < begins + WEEK) <= 20


def test_a_plan_that_says_so_goes_on_at_its_price_and_budgets_count_it() -> None:
    plan = replace(PLAN, when_exhausted="price")
    budget = Budget(MONEY, 100, "day")
    here = desk(key=Limited(budgets=(budget,)), endpoint={"one": {"secret": "env:PLAN"}}, tariff={"one": {"plan": plan}})
    for _ in range(3):
        hold = under_way(here, "one/alpha")
        assert not hold.at_price
        assert here.settled(hold, asking(), here.tried("one/alpha", 20)).cost.usd == 0
    hold = under_way(here, "one/alpha")
    assert hold.at_price
    assert blocked(here) == {}
    tried = here.tried("one/alpha", 20)
    settled = here.settled(hold, asking(), replace(tried, attempt=replace(tried.attempt, at_price=True)))
    assert settled.cost.usd == Decimal("0.00003")
    assert dict(settled.charged) == {"budget/key/ward/usd-day": 30}
    under_way(here, "one/alpha")
    under_way(here, "one/alpha")  # each holds 30, and 10 are left
    assert passed_over(here, "one/alpha").code == OVER_BUDGET


def test_a_catalogue_without_limits_costs_nothing() -> None:
    assert desk().hold(asking()) is UNLIMITED
