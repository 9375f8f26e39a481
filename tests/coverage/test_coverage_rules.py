"""A rule is covered if some case would miss it. That it was looked at is not enough."""

from dataclasses import replace

import pytest
from small_world import CHINA, EEA, NOW, PERSONAL, snapshot
from wishes import case

from gateway.config.cases import Case
from gateway.config.check import run_cases
from gateway.core.policy import FactTest, LabelTest, Rule, Snapshot
from gateway.core.terms import Effect
from gateway.coverage.rules import rule_coverage, without
from gateway.coverage.share import Share

WORLD = snapshot()
CLINIC = "one/alpha, two/alpha, three/alpha"


def missing(*cases: Case, world: Snapshot = WORLD) -> set[str]:
    """The rules that nobody would miss, of cases that all pass."""
    assert [result.differences for result in run_cases(world, cases, NOW)] == [()] * len(cases)
    share = rule_coverage(world, cases, NOW)
    assert share.total == len(world.policy.rules) == share.covered + len(share.missing)
    return set(share.missing)


def test_without_cases_no_rule_is_covered() -> None:
    assert missing() == {"chinese-at-home", "europeans-at-home", "personal-in-europe", "public-anywhere"}


def test_a_case_covers_the_permit_that_its_routes_need() -> None:
    assert missing(case("clinic", routes=CLINIC)) == {"chinese-at-home", "personal-in-europe", "public-anywhere"}
    assert missing(case("shop", routes="far/alpha")) == {"europeans-at-home", "personal-in-europe", "public-anywhere"}


def test_a_case_that_passes_for_another_reason_does_not_count() -> None:
    """`personal-in-europe` applies to all that the clinic sends; but nothing permits that to go far, so the rule is not missed."""
    routed = case("clinic", routes=CLINIC)
    named = case("clinic", excluded={"far/alpha": "personal-in-europe, no permit"})
    assert "personal-in-europe" in missing(routed)
    assert "personal-in-europe" not in missing(routed, named)


def test_all_is_covered_where_each_rule_is_missed() -> None:
    cases = (
        case("clinic", routes=CLINIC, excluded={"far/alpha": "personal-in-europe, no permit"}),
        case("shop", routes="far/alpha"),
        case("lab", routes=f"far/alpha, {CLINIC}"),
    )
    assert missing(*cases) == set()


def test_two_permits_of_one_route_are_each_not_missed() -> None:
    """Public data of the clinic's country would be permitted twice over: deleting either is noticed by nobody."""
    again = Rule("again", Effect.PERMIT, (FactTest("region", EEA),), ((LabelTest("processed_in", EEA),),))
    world = replace(WORLD, policy=replace(WORLD.policy, rules=(*WORLD.policy.rules, again)))
    assert missing(case("clinic", routes=CLINIC), world=world) >= {"again", "europeans-at-home"}


@pytest.mark.parametrize("effect", [Effect.REQUIRE, Effect.FORBID])
def test_a_planted_rule_that_no_case_watches_is_reported(effect: Effect) -> None:
    says = ((LabelTest("operated_under", EEA if effect is Effect.REQUIRE else CHINA),),)
    planted = Rule("planted", effect, (FactTest("data_class", PERSONAL),), says)
    world = replace(WORLD, policy=replace(WORLD.policy, rules=(*WORLD.policy.rules, planted)))
    assert "planted" in missing(case("clinic", routes=CLINIC), case("lab", "beta", routes="one/beta, two/beta"), world=world)
    named = case("clinic", excluded={"far/alpha": "personal-in-europe, no permit, planted"})
    assert "planted" not in missing(named, world=world)


def test_a_case_that_never_gets_to_a_decision_covers_no_rule() -> None:
    assert len(missing(case("clinic", declared={"data_class": "public"}, outside="data_class"))) == 4


def test_a_rule_is_taken_out_and_nothing_else() -> None:
    rule = WORLD.policy.rules[0]
    left = without(WORLD, rule)
    assert left.policy.rules == WORLD.policy.rules[1:]
    assert replace(left.policy, rules=WORLD.policy.rules) == WORLD.policy


@pytest.mark.parametrize(("total", "missed", "percent", "told"), [
    (0, 0, 100.0, "0 of 0 (100 %)"), (4, 0, 100.0, "4 of 4 (100 %)"), (4, 4, 0.0, "0 of 4 (0 %)"),
    (300, 1, 99.66, "299 of 300 (99 %)"),
])  # fmt: skip
def test_a_share_is_never_rounded_up(total: int, missed: int, percent: float, told: str) -> None:
    share = Share(total, tuple(f"r{n}" for n in range(missed)))
    assert share.percent == pytest.approx(percent, abs=0.01)
    assert str(share) == told
    assert share.as_record() == {"covered": total - missed, "total": total, "missing": list(share.missing)}
