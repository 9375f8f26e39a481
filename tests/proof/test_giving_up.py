"""A solver that gives up: nothing is claimed that it has not found, nothing serves, and somebody is told what to do about it."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from asked import CLAIMS, ENDING
from proving import GivesUp
from stage import AT, loaded, snapshot, verdict, written

from gateway.core.policy import Snapshot
from gateway.proof.claims import prove
from gateway.proof.diff import difference
from gateway.proof.formula import GaveUp, MakeSolver
from gateway.proof.gate import Judged, judge
from gateway.proof.judging import judged, linted
from gateway.proof.solver import Z3
from gateway.proof.verdict import Status

ROOT = Path(__file__).resolve().parents[2]
TRUE = "  - {id: no-china, for: {tenant: clinic}, never: {processed_in: CN}}\n"
QUESTIONS_MAX = 200  # to prove these claims takes a few dozen
FALSE = "  - {id: not-in-france, for: {tenant: clinic}, never: {processed_in: FR}}\n"


def judged_by(folder: Path, solver: MakeSolver) -> Judged:
    return judged(folder, AT, solver=lambda: solver)


# --- nothing is claimed that was not found ------------------------------------------------------------------------------------


@pytest.mark.parametrize("once", [False, True])
def test_wherever_it_gives_up_each_verdict_is_the_right_one_or_none(tmp_path: Path, once: bool) -> None:
    made = snapshot(tmp_path, ENDING, claims=CLAIMS)
    right, faults = prove(made, AT, Z3), 0
    for number in range(QUESTIONS_MAX):
        found = prove(made, AT, GivesUp(number, once=once))
        for one, wanted in zip(found, right, strict=True):  # of requests that are as plain it may tell another
            told = one.status, one.lapses, one.renew, one.counterexample is None
            same = wanted.status, wanted.lapses, wanted.renew, wanted.counterexample is None
            assert told in (same, (Status.UNDECIDED, None, (), True))
        if all(one.status is not Status.UNDECIDED for one in found):
            break
        faults += 1
    else:
        raise AssertionError("it never came to an end")
    assert faults > 10


def test_with_next_to_no_time_the_real_solver_is_right_or_gives_up(tmp_path: Path) -> None:
    made = snapshot(tmp_path, ENDING, claims=CLAIMS)
    for one, wanted in zip(prove(made, AT, partial(Z3, time_ms_max=1)), prove(made, AT, Z3), strict=True):
        assert one.status in (wanted.status, Status.UNDECIDED)


# --- nothing serves -----------------------------------------------------------------------------------------------------------


def test_a_policy_with_an_undecided_claim_does_not_serve(tmp_path: Path) -> None:
    folder = written(tmp_path, claims=TRUE)
    found = judged_by(folder, GivesUp(0))
    assert found.snapshot is None and found.refused is not None and found.counterexamples == ""
    (problem,) = found.problems
    assert problem.startswith("the claim `no-china` (claims.yaml:2) can't be decided: the solver gave up on it (it was told to); ")
    assert "split it into claims with a narrower `for`" in problem
    patient = judged_by(folder, Z3)
    assert patient.snapshot is not None and patient.problems == ()


def test_only_the_claim_that_was_too_hard_is_told(tmp_path: Path) -> None:
    found = judged_by(written(tmp_path, claims=TRUE + TRUE.replace("no-china", "again")), GivesUp(0, once=True))
    assert [verdict.status for verdict in found.verdicts] == [Status.UNDECIDED, Status.PROVED]
    (problem,) = found.problems
    assert "`again`" in problem and found.snapshot is None


def test_a_policy_that_is_all_undecided_keeps_nothing_for_the_next_time(tmp_path: Path) -> None:
    folder, state = written(tmp_path / "policies", claims=TRUE), tmp_path / "state"
    assert judged(folder, AT, state, lambda: GivesUp(0)).snapshot is None
    assert judged(folder, AT, state).snapshot is not None


def test_the_gate_gives_up_on_a_child_that_takes_too_long(tmp_path: Path) -> None:
    found = judge(written(tmp_path, claims=TRUE), AT, time_s_max=0.001)
    assert found.snapshot is None and found.refused is None
    (problem,) = found.problems
    assert str(tmp_path) in problem and "split the claims" in problem


def test_a_child_says_the_same_and_leaves_nothing_in_whoever_asks(tmp_path: Path) -> None:
    folder = written(tmp_path, claims=TRUE + FALSE)
    asked = f"from pathlib import Path; from gateway.proof.gate import judge; found = judge(Path({str(folder)!r}), {AT})"
    told = "import sys; print(found.snapshot, found.refused.hash, {'z3', 'ruamel'} & set(sys.modules)); print(*found.problems)"
    done = subprocess.run([sys.executable, "-c", f"{asked}; {told}"], cwd=ROOT, capture_output=True, text=True, check=True)
    here = judged(folder, AT)
    assert here.refused is not None
    assert done.stdout.splitlines() == [f"None {here.refused.hash} set()", *here.problems]


def test_serve_is_refused_and_says_which_claim_and_why(tmp_path: Path) -> None:
    """As a claim that is false keeps it from serving, so does one that is undecided: `serve` sees neither but as a problem."""
    folder, state = written(tmp_path / "policies", claims=TRUE + FALSE), tmp_path / "state"
    command = [sys.executable, "-m", "gateway", "serve", "--policies", str(folder), "--state", str(state)]
    environment = {"PATH": os.environ["PATH"], "PARIS": "x", "VIRGINIA": "x", "BEIJING": "x"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert "the claim `not-in-france` (claims.yaml:3) is false; a request may reach paris/" in done.stderr
    assert "- note: " in done.stderr and "no-china" not in done.stderr
    assert not (state / "ledger").exists()


# --- and what to do -----------------------------------------------------------------------------------------------------------

NARROWER = "claims with a narrower `for`, which say the same together"
ADVICE = {
    "for: {region: EEA}, never: {processed_in: CN}": "one claim for each tenant, `for: {tenant: …}` (clinic, lab, office)",
    "for: {tenant: [clinic, lab]}, never: {processed_in: CN}": "one claim for each value of `tenant` in its `for`",
    "for: {tenant: clinic, data_class: {at_least: personal}}, some: {}": "one claim for each value of `data_class` in its `for`",
    "for: {tenant: clinic}, never: [{processed_in: CN}, {provider: zai}]": "one claim for each of its 2 alternatives",
    "for: {tenant: clinic}, always: [{processed_in: CN}, {provider: ours}]": NARROWER,
    "for: {tenant: clinic}, some: {}": NARROWER,
}


@pytest.mark.parametrize("claim", ADVICE)
def test_the_advice_is_to_split_it(tmp_path: Path, claim: str) -> None:
    made = snapshot(tmp_path, claims=f"  - {{id: c, {claim}}}\n")
    (found,) = prove(made, AT, GivesUp(0))
    assert found.status is Status.UNDECIDED
    assert found.because == f"the solver gave up on it (it was told to); split it into {ADVICE[claim]}"


def serves(folder: Path, *claims: str) -> bool:
    """Whether a policy with these claims may serve."""
    text = "".join(f"  - {{id: c{number}, {claim}}}\n" for number, claim in enumerate(claims))
    return all(verdict.serves for verdict in prove(snapshot(folder, claims=text), AT, Z3))


@pytest.mark.parametrize("place", ["CN", "US", "DE"])
def test_parts_say_the_same_together(tmp_path: Path, place: str) -> None:
    says = f"never: {{processed_in: {place}}}"
    by_tenant = [f"for: {{tenant: {name}, data_class: [internal, personal]}}, {says}" for name in ("clinic", "office", "lab")]
    whole = serves(tmp_path, f"for: {{data_class: [internal, personal]}}, {says}")
    assert serves(tmp_path, *by_tenant) == whole == (place == "CN")
    by_class = [f"for: {{data_class: {name}}}, {says}" for name in ("internal", "personal")]
    assert serves(tmp_path, *by_class) == whole


# --- what else asks a solver --------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Snapshot, Snapshot]:
    return snapshot(tmp_path / "old"), snapshot(tmp_path / "new", rules="  - {id: all, permit: {}}\n")


@pytest.mark.parametrize("number", [0, 1, 5, 20])
def test_a_comparison_that_was_given_up_is_none_at_all(two: tuple[Snapshot, Snapshot], number: int) -> None:
    with pytest.raises(GaveUp, match="it was told to"):
        difference(*two, AT, GivesUp(number))


@pytest.mark.parametrize("number", [0, 1, 5, 20])
def test_advice_that_was_given_up_is_none_at_all(tmp_path: Path, number: int) -> None:
    found = loaded(tmp_path)
    with pytest.raises(GaveUp, match="it was told to"):
        linted(found, tmp_path, AT, lambda: GivesUp(number))
    assert verdict(snapshot(tmp_path, claims=TRUE)).serves, "and says nothing of claims"
