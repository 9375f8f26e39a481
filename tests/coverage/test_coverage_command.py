"""`gateway policy test`: what it prints, how it exits, and what it says of the policies that are shipped."""

import json
from pathlib import Path

import pytest
from config_documents import AT, RULES, WORLD, load_world, write

from gateway.__main__ import main
from gateway.config.check import run_cases
from gateway.config.compile import load
from gateway.core.view import View
from gateway.coverage.difference import difference
from gateway.coverage.outcomes import Outcomes
from gateway.coverage.report import Report, report
from gateway.coverage.rules import without
from gateway.coverage.share import Share

POLICIES = Path(__file__).parents[2] / "policies"
DAY = "2026-11-23"
LETTER = "- note: a letter\n  given: {tenant: clinic, asked: auto}\n  want: {routes: [mistral-eu/medium]}\n"
WRONG = """\
- note: to China
  given: {tenant: clinic, asked: auto}
  want: {routes: [zai/glm], excluded: {mistral-eu/medium: [personal], zai/glm: [personal]}}
- note: refused
  given: {tenant: clinic, asked: auto}
  want: {refused: [personal]}
- note: by fewer
  given: {tenant: clinic, asked: glm}
  want: {refused: [personal]}
- note: may be said
  given: {tenant: clinic, asked: auto, data_class: personal}
  want: {outside: data_class}
- note: may not be said
  given: {tenant: clinic, asked: auto, data_class: public}
  want: {routes: [zai/glm]}
"""
DIFF = """\
cases/some.yaml:1: to China
  - routes: zai/glm
  + routes: mistral-eu/medium
  - excluded mistral-eu/medium: personal
  + excluded mistral-eu/medium: no, it is a route
  - excluded zai/glm: personal
  + excluded zai/glm: no permit, no-china, personal
cases/some.yaml:4: refused
  - refused: personal
  + routes: mistral-eu/medium
cases/some.yaml:7: by fewer
  - refused: personal
  + refused: no permit, no-china, personal
cases/some.yaml:10: may be said
  - outside: data_class
  + routes: mistral-eu/medium
cases/some.yaml:13: may not be said
  - routes: zai/glm
  + outside: data_class (`public` can't be the `data_class` of this request; this key may declare: personal, special)
0 of 5 cases came as wanted
"""


def folder(path: Path, cases: str) -> str:
    return str(write(path, {**WORLD, "cases/some.yaml": cases}))


def test_a_case_that_fails_is_told_as_a_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", folder(tmp_path, WRONG), "--at", DAY]) == 1
    assert capsys.readouterr().out.startswith(DIFF)


def test_cases_that_fail_cover_nothing(tmp_path: Path) -> None:
    loaded = load_world(tmp_path, {"cases/some.yaml": WRONG})
    assert loaded.snapshot is not None
    found = report(loaded.snapshot, loaded.cases, AT)
    assert (found.rules.covered, found.refusals.covered, found.exclusions.covered, found.outcomes.share.covered) == (0, 0, 0, 0)


def test_what_is_not_covered_is_named_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: without `europe` there is no route, and without `personal` frankfurt, which shows no dpa, is one."""
    assert main(["policy", "test", folder(tmp_path, LETTER), "--at", DAY]) == 0, "nothing was asked of coverage"
    out = capsys.readouterr().out
    assert "1 of 1 cases came as wanted" in out
    assert "rules:      2 of 4 (50 %)" in out
    line = next(number for number, text in enumerate(RULES.splitlines(), 1) if "no-china" in text)
    assert f"no case fails without no-china (rules.yaml:{line}" in out
    assert "no case wants outside: data_class (clinic)" in out
    assert "no case pins clinic, personal, DE" in out and "auto -> mistral-eu/medium" in out


def test_fail_under_is_held_against_the_lower_of_rules_and_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["policy", "test", folder(tmp_path, LETTER), "--at", DAY, "--fail-under"]
    assert main([*command, "0"]) == 0
    assert main([*command, "1"]) == 1, "no case wants any refusal, though half of the rules are covered"
    assert "wanted 1 % of rules" in capsys.readouterr().err


def test_the_lower_share_counts_whichever_it_is() -> None:
    half, none, all_ = Share(2, ("a",)), Share(1, ("a",)), Share(3)
    for rules, refusals, percent in ((half, none, 0), (none, half, 0), (half, all_, 50), (all_, half, 50), (all_, all_, 100)):
        assert Report((), rules, refusals, none, Outcomes(0, ())).percent == percent, "nor does it count what else is missing"


def test_what_can_not_be_asked_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {**WORLD, "rules.yaml": RULES.replace("provider: ours", "providr: ours")})
    assert main(["policy", "test", str(tmp_path)]) == 2
    assert "did you mean `provider`?" in capsys.readouterr().err
    assert main(["policy", "test", "--policies", str(tmp_path / "nowhere"), "--json"]) == 2
    for wrong in (["--fail-under", "101"], ["--fail-under", "nan"], ["--at", "tomorrow"], ["--at", "2026-02-30"]):
        with pytest.raises(SystemExit) as exit:
            main(["policy", "test", str(tmp_path), *wrong])
        assert exit.value.code == 2


def test_a_slip_in_a_case_is_told_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", folder(tmp_path, LETTER.replace("clinic", "clinc"))]) == 1
    assert "not a tenant" in capsys.readouterr().out


def test_cases_without_a_time_are_asked_at_the_given_one(tmp_path: Path) -> None:
    """The label of Mistral's endpoint is good through 2027-05-20."""
    where = folder(tmp_path, LETTER)
    assert main(["policy", "test", where, "--at", "2027-05-20T23:59:59Z"]) == 0
    assert main(["policy", "test", where, "--at", "2027-05-21"]) == 1


def test_the_json_has_cases_and_each_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", "--policies", folder(tmp_path, LETTER + WRONG), "--at", DAY, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"hash", "problems", "cases", "coverage"}
    assert [case["passed"] for case in told["cases"]] == [True, False, False, False, False, False]
    assert told["cases"][0] == {"note": "a letter", "line": "cases/some.yaml:1", "passed": True, "differences": [], "diff": []}
    assert told["cases"][2]["diff"] == ["- refused: personal", "+ routes: mistral-eu/medium"]
    assert list(told["coverage"]) == ["rules", "refusals", "exclusions", "outcomes"]
    for share in told["coverage"].values():
        assert list(share) == ["covered", "total", "missing"]
        assert share["covered"] + len(share["missing"]) == share["total"] > 0
    assert told["coverage"]["rules"] == {"covered": 2, "total": 4, "missing": ["no-china", "ours"]}
    cell = told["coverage"]["outcomes"]["missing"][0]
    assert set(cell) == {"tenant", "data_class", "region", "given", "routes", "refused"}


def test_a_diff_has_lines_if_and_only_if_a_case_fails() -> None:
    """On the shipped policies, whole and with each rule taken out in turn."""
    loaded = load(POLICIES, at=AT)
    assert loaded.snapshot is not None
    failed = 0
    for world in (loaded.snapshot, *(without(loaded.snapshot, rule) for rule in loaded.snapshot.policy.rules)):
        views: dict[float, View] = {}
        for result in run_cases(world, loaded.cases, AT):
            instant = AT if result.case.given.at is None else result.case.given.at
            view = views.setdefault(instant, View(world, instant))
            diff = difference(view, result.case)
            assert bool(diff) != result.passed, result.case.note
            assert not diff or {line[:2] for line in diff} == {"- ", "+ "}
            failed += not result.passed
    assert failed > 20


def test_the_shipped_policies_are_covered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(POLICIES), "--at", DAY, "--fail-under", "100", "--json"]) == 0
    coverage = json.loads(capsys.readouterr().out)["coverage"]
    for kind in ("rules", "refusals", "exclusions"):
        assert coverage[kind]["missing"] == [] and coverage[kind]["total"] > 8
    assert coverage["outcomes"]["covered"] * 2 >= coverage["outcomes"]["total"]
