"""A policy as large as is promised is proved in less time than somebody who reloads it would notice."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from large import CLAIMS, ENDPOINTS, PER_ENDPOINT, RULES, TENANTS, write
from stage import AT

from gateway.config.compile import load
from gateway.core.policy import LabelTest, Snapshot
from gateway.proof.claims import Prover, prove
from gateway.proof.formula import Formula, Model
from gateway.proof.solver import Z3
from gateway.proof.verdict import Status

CPU_S_MAX = 5.0  # on an idle machine it takes little over one; CPU time, as the machine may be busy with other tests
QUESTION_S_MAX = 2.5  # a quarter of what the solver has; on an idle machine it takes half a second


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    found = load(write(tmp_path_factory.mktemp("large")), at=AT).snapshot
    assert found is not None
    return found


class Timed:
    """A solver that knows how long its longest question took, in seconds of CPU."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.questions = 0

    def __call__(self, formula: Formula) -> "Timed":
        self._solver = Z3(formula)
        return self

    def solve(self, assuming: Iterable[int]) -> Model | None:
        began = time.process_time()
        found = self._solver.solve(assuming)
        self.longest_s = max(self.longest_s, time.process_time() - began)
        self.questions += 1
        return found


def test_it_is_as_large_as_promised(large: Snapshot) -> None:
    policy = large.policy
    sizes = (len(policy.rules), len(policy.deployments), len(large.access.tenants), len(policy.claims))
    assert sizes == (RULES, ENDPOINTS * PER_ENDPOINT, TENANTS, CLAIMS) == (300, 200, 50, 50)
    assert {claim.kind for claim in policy.claims} == {"always", "never", "some"}


def test_a_large_policy_is_proved_in_five_seconds(large: Snapshot) -> None:
    began = time.process_time()
    solver = Timed()
    verdicts = prove(large, AT, solver)
    took_s = time.process_time() - began
    assert took_s < CPU_S_MAX, f"it took {took_s:.1f} s of CPU, and {solver.questions} questions"
    assert solver.longest_s < QUESTION_S_MAX, f"one question took {solver.longest_s:.1f} s of CPU"
    told = Counter(verdict.status for verdict in verdicts)
    assert set(told) <= {Status.PROVED, Status.EMPTY} and told[Status.PROVED] > 40, told


def test_a_false_claim_is_answered_in_time_too(large: Snapshot) -> None:
    """To say no takes more than to say yes: the request is made as plain as it can be, one wish after another."""
    true = next(claim for claim in large.policy.claims if claim.kind == "never")
    false = replace(true, says=((LabelTest("processed_in", frozenset({"DE"})),),))
    began = time.process_time()
    found = Prover(large, AT, Z3, (false,)).verdict(false)
    took_s = time.process_time() - began
    assert found.status is Status.FALSE and found.counterexample is not None
    assert len(found.counterexample.question) <= 4, "a plain request: who asks, for what, and at most one fact declared"
    assert took_s < CPU_S_MAX, f"it took {took_s:.1f} s of CPU"
