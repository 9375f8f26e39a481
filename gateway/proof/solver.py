"""z3 behind the port `Solver`. The one file that imports it; whoever wants it imports this file when it is needed, not before.

z3 takes a tenth of a second to import and some ten megabytes, so no process that stays imports it.
"""

from collections.abc import Iterable
from typing import Final

import z3  # type: ignore[import-untyped]

from gateway.proof.formula import Formula, GaveUp, Model

TIME_MS_MAX: Final = 10_000
"""For one question. A claim over a large policy takes milliseconds; what takes seconds would some day take hours."""


class Z3:
    """A solver of `formula`. `time_ms_max` is for each question."""

    def __init__(self, formula: Formula, time_ms_max: int = TIME_MS_MAX) -> None:
        self._formula = formula
        self._context = z3.Context()
        self._solver = z3.SolverFor("QF_FD", ctx=self._context)
        self._solver.set("timeout", time_ms_max)
        self._literals: dict[int, z3.BoolRef] = {}
        self._given = 0  # clauses

    def solve(self, assuming: Iterable[int]) -> Model | None:
        """As the port says."""
        for clause in self._formula.clauses[self._given :]:
            literals = [self._literal(literal) for literal in clause]
            # z3 makes an empty disjunction in another context than this one
            self._solver.add(z3.Or(literals) if literals else z3.BoolVal(False, self._context))
        self._given = len(self._formula.clauses)
        found = self._solver.check([self._literal(literal) for literal in assuming])
        if found == z3.unsat:
            return None
        if found != z3.sat:
            raise GaveUp(self._solver.reason_unknown() or "it said nothing")
        model = self._solver.model()
        true = {int(name.name()[1:]) for name in model.decls() if z3.is_true(model[name])}
        return lambda literal: literal in true if literal > 0 else -literal not in true

    def _literal(self, literal: int) -> z3.BoolRef:
        known = self._literals.get(literal)
        if known is None:
            known = z3.Bool(f"v{literal}", self._context) if literal > 0 else z3.Not(self._literal(-literal), self._context)
            self._literals[literal] = known
        return known
