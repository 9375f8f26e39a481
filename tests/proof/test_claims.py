"""How a claim stands, and what is told of it: five ways, on a policy small enough to see why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from proof_planted import NoForbids
from proving import GivesUp
from stage import AT, DAY_S, loaded, snapshot, verdict

from gateway.config.check import run_cases
from gateway.core.policy import Snapshot, surely_meets
from gateway.core.view import View
from gateway.proof.claims import Prover, prove
from gateway.proof.diff import Difference, difference
from gateway.proof.judging import told
from gateway.proof.solver import Z3
from gateway.proof.verdict import Status, Verdict
from gateway.question import decision


def line(of: Snapshot, found: Verdict) -> str:
    """The verdict for people, on the one claim there is."""
    return told(found, of.policy.claims[0])


# --- proved -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim",
    [
        "for: {data_class: {at_least: personal}}, always: {processed_in: EEA, assurances: [dpa]}",
        "for: {data_class: {at_least: personal}}, never: {operated_under: [US, CN]}",
        "for: {categories: [health]}, always: {provider: ours}",
        "for: {tenant: office, data_class: internal, region: DE}, never: [{processed_in: CN}, {provider: zai}]",
        "for: {tenant: [clinic, office], asked: auto}, some: {}",
        "for: {tenant: lab, asked: auto}, some: {processed_in: CN}",
    ],
)
def test_a_true_claim_is_proved_to_the_end_of_the_thirtieth_day(tmp_path: Path, claim: str) -> None:
    made = snapshot(tmp_path, claims=f"  - {{id: c, {claim}}}\n")
    found = verdict(made, AT + 3_600)
    assert found == Verdict("c", Status.PROVED, AT + 31 * DAY_S) and found.serves
    assert line(made, found) == "the claim `c` (claims.yaml:2) is proved for all requests until 2026-12-23"


def test_a_claim_with_a_day_is_proved_to_the_end_of_that_day(tmp_path: Path) -> None:
    made = snapshot(tmp_path, claims="  - {id: c, for: {region: EEA}, some: {}, until: 2027-01-31}\n", changes={
        "{region: EEA}, permit: {processed_in: EEA}": "{region: EEA}, permit: {}",
        "require: {provider: ours}": "require: {processed_in: DE}",
    })  # fmt: skip
    assert verdict(made).status is Status.FALSE, "patients who ask for medium have nowhere to go"
    made = snapshot(tmp_path, claims="  - {id: c, for: {region: EEA, asked: auto}, some: {}, until: 2027-01-31}\n")
    assert line(made, verdict(made)).endswith("is proved for all requests until 2027-01-31")


# --- false: a request goes against it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refuted:
    """A false claim, and what is told against it."""

    claim: str
    question: Mapping[str, Any]
    witness: str = ""
    label: str = ""
    rules: tuple[str, ...] = ()
    routes: tuple[str, ...] = field(default=())


REFUTED = [
    Refuted(
        "for: {data_class: {at_least: personal}}, never: {processed_in: FR}",
        {"tenant": "clinic", "key": "ward", "asked": "glm"},
        "paris/glm", "processed_in: FR", ("europe",), ("own/glm", "paris/glm"),
    ),
    Refuted(  # of whom the lab writes nobody says, so it may be Europeans
        "for: {region: EEA}, never: {processed_in: CN}",
        {"tenant": "lab", "key": "notebook", "asked": "glm"},
        "beijing/glm", "processed_in: CN", ("public",), ("own/glm", "beijing/glm", "paris/glm"),
    ),
    Refuted(
        "for: {tenant: office, region: DE}, always: {operated_under: EEA}",
        {"tenant": "office", "key": "desk", "asked": "medium"},
        "virginia/medium", "operated_under: US", ("america",), ("virginia/medium", "paris/medium"),
    ),
    Refuted(
        "for: {tenant: clinic, asked: auto}, some: {model: medium}",
        {"tenant": "clinic", "key": "ward", "asked": "auto", "categories": ["health"]},
        rules=("abroad", "law", "no permit", "patients"), routes=("own/glm",),
    ),
    Refuted(  # not only applications may be where they should not be: this gateway reads what it sends on
        "for: {tenant: office, asked: medium}, never: {provider: ours}",
        {"tenant": "office", "key": "desk", "asked": "medium"},
        "gateway", "provider: ours", (), ("virginia/medium", "paris/medium"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("refuted", REFUTED, ids=lambda refuted: refuted.claim)
def test_a_false_claim_is_answered_with_a_request(tmp_path: Path, refuted: Refuted) -> None:
    made = snapshot(tmp_path, claims=f"  - {{id: c, {refuted.claim}}}\n")
    found = verdict(made)
    assert (found.status, found.serves, found.lapses, found.renew) == (Status.FALSE, False, None, ())
    against = found.counterexample
    assert against is not None and against.at is None
    assert (against.witness, against.label, tuple(sorted(against.rules))) == (refuted.witness, refuted.label, refuted.rules)
    assert dict(against.question) == refuted.question
    reach = f"a request may reach {refuted.witness} ({refuted.label})"
    said = f"; {reach}" if refuted.witness else ": some request has no such deployment"
    assert line(made, found) == f"the claim `c` (claims.yaml:2) is false{said}"


@pytest.mark.parametrize("refuted", REFUTED, ids=lambda refuted: refuted.claim)
def test_a_counterexample_goes_where_it_says(tmp_path: Path, refuted: Refuted) -> None:
    made = snapshot(tmp_path, claims=f"  - {{id: c, {refuted.claim}}}\n")
    against = verdict(made).counterexample
    assert against is not None
    asked = decision(made, against.question)
    assert tuple(route.deployment.id for route in asked.routes) == refuted.routes
    if not refuted.witness:
        (claim,) = made.policy.claims
        view = View(made, AT)
        reached = [view.subjects[view.indices[name]] for name in refuted.routes]
        assert not any(surely_meets(subject, claim.says) for subject in reached)
    elif refuted.witness != "gateway":
        assert refuted.witness in refuted.routes


@pytest.mark.parametrize("refuted", REFUTED, ids=lambda refuted: refuted.claim)
def test_a_counterexample_is_a_case_that_runs(tmp_path: Path, refuted: Refuted) -> None:
    claims = f"  - {{id: c, {refuted.claim}}}\n"
    against = verdict(snapshot(tmp_path, claims=claims)).counterexample
    assert against is not None
    head = [told for told in against.case.splitlines() if told.startswith("#")]
    assert head[0].startswith("# c (claims.yaml:2): ")
    assert refuted.witness in head[1] and all(rule in head[1] for rule in refuted.rules)
    with_it = loaded(tmp_path, claims=claims, cases=against.case)
    assert with_it.snapshot is not None and len(with_it.cases) == 1
    (result,) = run_cases(with_it.snapshot, with_it.cases, AT)
    assert result.passed, result.differences
    assert result.case.want.routes == (refuted.routes or None)


def test_a_place_that_only_embeds_is_told_of_with_a_request_to_embed(tmp_path: Path) -> None:
    embedding = {"medium: {origin": "medium: {apis: [embeddings], origin"}
    claims = "  - {id: c, for: {tenant: office}, never: {processed_in: US}}\n"
    made = snapshot(tmp_path, embedding, claims=claims)
    against = verdict(made).counterexample
    assert against is not None
    assert against.question == {"tenant": "office", "key": "desk", "asked": "medium", "api": "embeddings"}
    assert [route.deployment.id for route in decision(made, against.question).routes] == ["virginia/medium", "paris/medium"]
    with_it = loaded(tmp_path, embedding, claims=claims, cases=against.case)
    assert with_it.snapshot is not None
    assert all(result.passed for result in run_cases(with_it.snapshot, with_it.cases, AT))


# --- lapses: a label has to be renewed ----------------------------------------------------------------------------------------

PLACE = "processed_in: [FR],"
ENDING = "processed_in: {countries: [FR], source: docs, verified: 2026-11-01, until: 2026-12-10},"
LAPSING = "  - {id: c, for: {tenant: lab, asked: medium}, some: {processed_in: EEA}}\n"
MIDNIGHT = AT + 18 * DAY_S  # the end of 2026-12-10


@pytest.mark.parametrize("says", ["some: {processed_in: EEA}", "always: {processed_in: [EEA, US]}", "never: {processed_in: CN}"])
def test_a_claim_that_a_label_carries_lapses_when_the_label_does(tmp_path: Path, says: str) -> None:
    made = snapshot(tmp_path, {PLACE: ENDING}, claims=LAPSING.replace("some: {processed_in: EEA}", says))
    found = verdict(made)
    assert (found.status, found.serves, found.lapses) == (Status.LAPSES, True, MIDNIGHT)
    assert found.renew == ("`processed_in` of `paris` (catalogue.yaml:6), good until 2026-12-10",)
    assert line(made, found) == (
        "the claim `c` (claims.yaml:2) is true until 2026-12-10 and not until 2026-12-23: "
        "renew `processed_in` of `paris` (catalogue.yaml:6), good until 2026-12-10"
    )


def test_from_then_on_it_is_false_and_to_the_second_before_it_is_true(tmp_path: Path) -> None:
    made = snapshot(tmp_path, {PLACE: ENDING}, claims=LAPSING)
    assert verdict(made, MIDNIGHT - 1).status is Status.LAPSES
    assert verdict(made, MIDNIGHT).status is Status.FALSE


def test_the_request_against_it_is_a_case_of_that_instant(tmp_path: Path) -> None:
    against = verdict(snapshot(tmp_path, {PLACE: ENDING}, claims=LAPSING)).counterexample
    assert against is not None and against.at == MIDNIGHT and "at: 2026-12-11T00:00:00Z" in against.case
    with_it = loaded(tmp_path, {PLACE: ENDING}, claims=LAPSING, cases=against.case)
    assert with_it.snapshot is not None
    (result,) = run_cases(with_it.snapshot, with_it.cases, AT)
    assert result.passed and result.case.given.at == MIDNIGHT


def test_a_renewed_label_keeps_it_true(tmp_path: Path) -> None:
    renewed = ENDING.replace("2026-12-10", "2026-12-23")
    assert verdict(snapshot(tmp_path, {PLACE: renewed}, claims=LAPSING)).status is Status.PROVED
    a_day_short = ENDING.replace("2026-12-10", "2026-12-22")
    assert verdict(snapshot(tmp_path, {PLACE: a_day_short}, claims=LAPSING)).status is Status.LAPSES


def test_of_labels_that_end_together_only_those_that_matter_are_to_be_renewed(tmp_path: Path) -> None:
    under = {"operated_under: [FR]": ENDING.replace("processed_in", "operated_under").rstrip(",")}
    made = snapshot(tmp_path, {PLACE: ENDING, **under}, claims=LAPSING)
    assert [label.partition(" (")[0] for label in verdict(made).renew] == ["`processed_in` of `paris`"]
    both = LAPSING.replace("some: {", "some: {operated_under: EEA, ")
    made = snapshot(tmp_path, {PLACE: ENDING, **under}, claims=both)
    assert {label.partition(" (")[0] for label in verdict(made).renew} == {
        "`processed_in` of `paris`",
        "`operated_under` of `paris`",
    }


# --- asks nothing -------------------------------------------------------------------------------------------------------------


def test_a_claim_about_nobody_asks_nothing(tmp_path: Path) -> None:
    made = snapshot(tmp_path, claims="  - {id: c, for: {tenant: clinic, region: CN}, never: {processed_in: CN}}\n")
    found = verdict(made)
    assert (found.status, found.serves, found.counterexample) == (Status.EMPTY, True, None)
    assert line(made, found).endswith("is not worth much: no request that any key can make is in its `for`: it says nothing")
    near = snapshot(tmp_path, claims="  - {id: c, for: {tenant: clinic, region: FR}, never: {processed_in: CN}}\n")
    assert verdict(near).status is Status.PROVED


def test_a_claim_whose_day_is_over_asks_nothing(tmp_path: Path) -> None:
    claims = "  - {id: c, for: {tenant: clinic}, never: {processed_in: FR}, until: 2026-11-22}\n"
    made = snapshot(tmp_path, claims=claims)
    found = verdict(made)
    assert (found.status, found.serves, found.until) == (Status.EMPTY, True, AT)
    assert "the last day for which it is claimed, 2026-11-22, is over" in line(made, found)
    assert verdict(made, AT - 1).status is Status.FALSE, "on its last day it was still asked"


# --- undecided ----------------------------------------------------------------------------------------------------------------


def test_a_claim_on_which_the_solver_gives_up_is_undecided_and_the_next_is_asked(tmp_path: Path) -> None:
    claims = "  - {id: a, for: {tenant: clinic}, never: {processed_in: CN}}\n  - {id: b, for: {tenant: lab}, some: {}}\n"
    made = snapshot(tmp_path, claims=claims)
    first, second = prove(made, AT, GivesUp(0))
    assert (first.status, first.serves, second.status) == (Status.UNDECIDED, False, Status.UNDECIDED)
    assert (first.counterexample, first.lapses) == (None, None)
    first, second = prove(made, AT, GivesUp(2))  # one question whether anything goes against it, one whether it is about anybody
    assert (first.status, second.status) == (Status.PROVED, Status.UNDECIDED)


class ForgetsForbids(Prover):
    """A prover with a fault."""

    allowed_by = NoForbids


def test_what_the_engine_does_not_confirm_is_told_as_a_defect_and_not_as_a_counterexample(tmp_path: Path) -> None:
    rule = "  - {id: no-zai, forbid: {provider: zai}}\n"
    made = snapshot(tmp_path, rules=rule, claims="  - {id: c, never: {provider: zai}}\n")
    assert verdict(made).status is Status.PROVED
    found = ForgetsForbids(made, AT, Z3).verdict(made.policy.claims[0])
    assert (found.status, found.serves, found.counterexample) == (Status.UNDECIDED, False, None)
    assert "solver and engine disagree" in found.because and "beijing/glm" in found.because


def test_claims_of_a_policy_that_nobody_can_ask_ask_nothing(tmp_path: Path) -> None:
    keys = {f"{{id: {k}, demo: true}}": f"{{id: {k}, demo: true, expires: 2026-01-01}}" for k in ("ward", "desk", "notebook")}
    made = snapshot(tmp_path, keys, claims="  - {id: c, for: {tenant: clinic}, never: {processed_in: FR}}\n")
    (found,) = prove(made, AT, Z3)
    assert found.status is Status.EMPTY
    assert difference(made, made, AT, Z3) == Difference(())
