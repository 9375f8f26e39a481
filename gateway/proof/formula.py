"""Propositional formulas as plain integers, in the form that every SAT solver reads, and the port of whoever solves them.

A literal is a variable's number, negative for its opposite, as in DIMACS. `every` and `some` name a compound by a literal of its
own (Tseitin), once: equal compounds are the same literal. So what is encoded costs Python integers, and no solver's objects.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

TRUE: Final = 1
FALSE: Final = -1


@dataclass(slots=True)
class Formula:
    """What is demanded so far: clauses, of each of which some literal must be true."""

    variables: int = TRUE
    clauses: list[tuple[int, ...]] = field(default_factory=lambda: [(TRUE,)])
    _named: dict[frozenset[int], int] = field(default_factory=dict)

    def variable(self) -> int:
        """A new one."""
        self.variables += 1
        return self.variables

    def demand(self, *literals: int) -> None:
        """At least one of `literals` must be true."""
        if TRUE not in literals:
            self.clauses.append(tuple(literal for literal in literals if literal != FALSE))

    def every(self, literals: Iterable[int]) -> int:
        """A literal that is true if and only if all of `literals` are."""
        of = frozenset(literals) - {TRUE}
        if not of:
            return TRUE
        if FALSE in of or any(-literal in of for literal in of):
            return FALSE
        if len(of) == 1:
            return next(iter(of))
        named = self._named.get(of)
        if named is None:
            named = self._named[of] = self.variable()
            self.clauses += [(-named, literal) for literal in of]
            self.clauses.append((named, *(-literal for literal in of)))
        return named

    def some(self, literals: Iterable[int]) -> int:
        """A literal that is true if and only if one or more of `literals` are."""
        return -self.every(-literal for literal in literals)

    def lonely(self, literals: Iterable[int]) -> int:
        """A literal that is true if and only if at most one of `literals` is."""
        before, twice = FALSE, []
        for literal in sorted(set(literals)):
            twice.append(self.every((before, literal)))
            before = self.some((before, literal))
        return -self.some(twice)

    def one_of(self, count: int) -> list[int]:
        """`count` (1 or more) new variables, of which exactly one is true. Of one, that one is TRUE."""
        if count == 1:
            return [TRUE]
        found = [self.variable() for _ in range(count)]
        self.demand(*found)
        self.at_most_one(found)
        return found

    def at_most_one(self, literals: list[int]) -> None:
        """No two of `literals` are true. Counted along a chain, so that n literals take 3n clauses."""
        before = FALSE  # whether one of those before is true
        for literal in literals:
            self.demand(-before, -literal)
            so_far = self.variable()
            self.demand(-before, so_far)
            self.demand(-literal, so_far)
            before = so_far


Model = Callable[[int], bool]
"""Whether a literal is true in what the solver found."""


class GaveUp(Exception):
    """The solver has found neither a model nor that there is none. Its text says why."""


class Solver(Protocol):
    """Solves one formula, again and again, while it grows."""

    def solve(self, assuming: Iterable[int]) -> Model | None:
        """A way to make everything true that is demanded, and `assuming`; None if there is none. Raises GaveUp."""
        ...


MakeSolver = Callable[[Formula], Solver]
