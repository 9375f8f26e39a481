"""z3 behind the port `Solver`. The one file that imports it; whoever wants it imports this file when it is needed, not before.

z3 takes a tenth of a second to import and some ten megabytes, so no process that stays imports it.
"""

from collections.abc import Iterable
from typing import Any, Final

import z3  # type: ignore[import-untyped]

from gateway.proof.formula import Formula, GaveUp, Model

TIME_MS_MAX: Final = 10_000
"""For one question. A claim over a large policy takes milliseconds; what takes seconds would some day take hours."""


class Z3:
    """A solver of `formula`. `time_ms_max` is for each question.

    Clauses and answers go by z3's C interface: its Python classes look at each literal five times over, and took ten times as long
    as the solver itself.
    """

    def __init__(self, formula: Formula, time_ms_max: int = TIME_MS_MAX) -> None:
        self._formula = formula
        self._context = z3.Context()
        self._solver = z3.SolverFor("QF_FD", ctx=self._context)
        self._solver.set("timeout", time_ms_max)
        self._literals: dict[int, z3.BoolRef] = {}
        self._given = 0  # clauses

    def solve(self, assuming: Iterable[int]) -> Model | None:
        """As the port says."""
        context, solver = self._context.ref(), self._solver.solver
        for clause in self._formula.clauses[self._given :]:
            given = z3.BoolRef(z3.Z3_mk_or(context, len(clause), self._array(clause)), self._context)
            z3.Z3_solver_assert(context, solver, given.ast)
        self._given = len(self._formula.clauses)
        wanted = tuple(assuming)
        found = z3.Z3_solver_check_assumptions(context, solver, len(wanted), self._array(wanted))
        if found == z3.Z3_L_FALSE:
            return None
        if found != z3.Z3_L_TRUE:
            raise GaveUp(self._solver.reason_unknown() or "it said nothing")
        model = self._solver.model()

        def true(literal: int) -> bool:
            """A variable that the formula leaves open is not."""
            if literal < 0:
                return not true(-literal)
            interpreted = z3.Z3_model_get_const_interp(context, model.model, self._literal(literal).decl().ast)
            return interpreted.value is not None and z3.Z3_get_bool_value(context, interpreted) == z3.Z3_L_TRUE

        return true

    def _array(self, literals: tuple[int, ...]) -> Any:
        """Literals as C wants them. Who owns them is `_literals`."""
        return (z3.Ast * len(literals))(*(self._literal(literal).ast for literal in literals))

    def _literal(self, literal: int) -> z3.BoolRef:
        known = self._literals.get(literal)
        if known is None:
            known = z3.Bool(f"v{literal}", self._context) if literal > 0 else z3.Not(self._literal(-literal), self._context)
            self._literals[literal] = known
        return known
