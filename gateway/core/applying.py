"""Which rules and preferences apply to a request: one table for each fact that any of them tests.

A line of the policy applies when all its tests hold, and a test looks at one fact. So each value of a fact lets certain lines
apply, and what applies to a request is what all its facts let apply: one look-up a fact, and-ed. Lines are numbered, sets of them
are masks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any

from gateway.core.facts import RequestFacts
from gateway.core.memo import Memo
from gateway.core.policy import FactTest, When


class Holds(Enum):
    """How sure a line has to be of its tests."""

    MAY = "may"  # require, forbid: what is unknown counts against
    MUST = "must"  # permit: the fact lies inside. Where nothing was found, it does: finding something can only take away
    BOTH = "both"  # preferences: the fact lies inside, and is there


@dataclass(slots=True)
class Table:
    """For one fact: each test that looks at it, with the lines that need it to `may` hold and those that need it to `must` hold."""

    fact: str
    tests: dict[FactTest, tuple[int, int]] = field(default_factory=dict)
    known: Memo[object, int] = field(default_factory=Memo)  # value of the fact -> lines that it lets apply

    def add(self, test: FactTest, line: int, holds: Holds) -> None:
        """Make `line` ask for `test`."""
        may, must = self.tests.get(test, (0, 0))
        bit = 1 << line
        self.tests[test] = (may | bit if holds is not Holds.MUST else may, must | bit if holds is not Holds.MAY else must)

    def lets_apply(self, facts: RequestFacts, lines: int) -> int:
        """Those of `lines` that this fact does not keep from applying."""
        for test, (may, must) in self.tests.items():
            if may and not test.may_hold(facts):
                lines &= ~may
            if must and not test.must_hold(facts):
                lines &= ~must
        return lines


class Applying:
    """Call it with facts: the mask of the lines that apply."""

    __slots__ = ("_all", "_get", "_known", "_tables")

    def __init__(self, lines: Iterable[tuple[When, Holds]]) -> None:
        tables: dict[str, Table] = {}
        self._known: Memo[tuple[Any, ...], int] = Memo()  # the values of all facts that are tested -> the lines that apply
        self._all = 0
        for line, (when, holds) in enumerate(lines):
            self._all |= 1 << line
            for test in when:
                tables.setdefault(test.fact, Table(test.fact)).add(test, line, holds)
        self._tables = tuple(tables.values())
        # with one name attrgetter gives a bare value, with none it can't be made; so `inspected`, which no rule tests, pads it
        self._get: attrgetter[tuple[Any, ...]] = attrgetter(*(table.fact for table in self._tables), "inspected", "inspected")

    def __call__(self, facts: RequestFacts) -> int:
        """The lines that apply to `facts`."""
        values = self._get(facts)
        lines = self._known.get(values)
        return self._known.keep(values, self._apply(values, facts)) if lines is None else lines

    def _apply(self, values: tuple[Any, ...], facts: RequestFacts) -> int:
        lines = self._all
        for table, value in zip(self._tables, values, strict=False):
            let = table.known.get(value)
            if let is None:
                let = table.known.keep(value, table.lets_apply(facts, self._all))
            lines &= let
        return lines
