"""A folder of policies, judged in this process: loaded, its cases run, its claims proved. `gate.py` does it in a child."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.config.check import CaseResult, run_cases
from gateway.config.compile import Loaded, load
from gateway.config.problems import Problem, render
from gateway.config.reading import last_day
from gateway.core.policy import Claim, Snapshot
from gateway.proof.formula import MakeSolver
from gateway.proof.gate import VERDICTS, Judged
from gateway.proof.keeping import Kept, prover
from gateway.proof.verdict import Status, Verdict

Prove = Callable[[Snapshot, float, MakeSolver], tuple[Verdict, ...]]


def z3_solver() -> MakeSolver:
    """The solver. It is imported here and now, and not before."""
    from gateway.proof.solver import Z3

    return Z3


def proved(
    snapshot: Snapshot, at: float, state: Path | None = None, solver: Callable[[], MakeSolver] = z3_solver
) -> tuple[Verdict, ...]:
    """A verdict on each claim at `at` (UTC seconds): the kept one where `state` has it, or else proved now and kept there."""
    if not snapshot.policy.claims:
        return ()
    kept = None if state is None else Kept(state / VERDICTS, prover())
    found = None if kept is None else kept.find(snapshot, at)
    if found is None:
        from gateway.proof.claims import prove

        found = prove(snapshot, at, solver())
        if kept is not None:
            kept.keep(snapshot, at, found)
    return found


def judged(
    folder: Path, at: float | None = None, state: Path | None = None, solver: Callable[[], MakeSolver] = z3_solver
) -> Judged:
    """Everything that `gate.judge` promises, in this process."""
    at = time.time() if at is None else at
    loaded = load(folder, at=at)
    if loaded.snapshot is None:
        return Judged(None, (render(loaded.problems, f"{folder} can't be served"),), warnings=_lines(loaded.warnings))
    snapshot = loaded.snapshot
    verdicts = proved(snapshot, at, state, solver)
    claims = {claim.id: claim for claim in snapshot.policy.claims}
    problems = tuple(told(verdict, claims[verdict.claim]) for verdict in verdicts if not verdict.serves)
    doubts = (told(verdict, claims[verdict.claim]) for verdict in verdicts if verdict.status in (Status.LAPSES, Status.EMPTY))
    return Judged(
        snapshot=None if problems else snapshot,
        problems=problems,
        warnings=(*_lines(loaded.warnings), *doubts),
        verdicts=verdicts,
        counterexamples=counterexamples(verdicts),
        failed_cases=failed_cases(loaded, run_cases(snapshot, loaded.cases, at)),
        cases=len(loaded.cases),
        refused=snapshot if problems else None,
    )


def told(verdict: Verdict, claim: Claim) -> str:
    """How a claim stands, in a line for people."""
    name = f"the claim `{claim.id}`" + (f" ({claim.line})" if claim.line else "")
    found = verdict.counterexample
    match verdict.status:
        case Status.PROVED:
            return f"{name} is proved for all requests until {last_day(verdict.until)}"
        case Status.LAPSES:
            assert verdict.lapses is not None
            days = f"until {last_day(verdict.lapses)} and not until {last_day(verdict.until)}"
            return f"{name} is true {days}: renew {_and(verdict.renew)}"
        case Status.EMPTY:
            return f"{name} is not worth much: {verdict.because}"
        case Status.FALSE:
            against = f"; a request may reach {found.witness} ({found.label})" if found and found.witness else ""
            return f"{name} is false{against}" if against else f"{name} is false: some request has no such deployment"
        case Status.UNDECIDED:
            return f"{name} can't be decided: {verdict.because}"


def _and(words: Iterable[str]) -> str:
    return " and ".join(words) or "its labels"


def counterexamples(verdicts: Iterable[Verdict]) -> str:
    """The counterexamples of false claims, as cases; empty if there is none."""
    cases = [verdict.counterexample.case for verdict in verdicts if verdict.status is Status.FALSE and verdict.counterexample]
    return "\n".join(cases)


def failed_cases(loaded: Loaded, results: Iterable[CaseResult]) -> tuple[str, ...]:
    """Each case that did not come as wanted, and each slip in a case, in a line."""
    failed = [f"{r.case.line}: {r.case.note}: {'; '.join(r.differences)}" for r in results if not r.passed]
    return (*_lines(loaded.case_problems), *failed)


def _lines(problems: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(problem) for problem in problems)


def linted(loaded: Loaded, folder: Path, at: float, solver: Callable[[], MakeSolver] = z3_solver) -> tuple[Problem, ...]:
    """What is well written and surely not meant, as warnings with their lines; none for what did not load. Raises GaveUp."""
    if loaded.snapshot is None:
        return ()
    from gateway.proof.lint import lint
    from gateway.proof.marks import marked

    return marked(folder, lint(loaded.snapshot, loaded.cases, at, solver()))
