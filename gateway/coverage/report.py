"""`gateway policy test`: all cases, run, and what they are worth."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.config.cases import Case
from gateway.config.check import CaseResult, run_cases
from gateway.core.policy import Snapshot
from gateway.core.view import View
from gateway.coverage.difference import difference
from gateway.coverage.outcomes import Outcomes, Unpinned, outcome_coverage
from gateway.coverage.rules import rule_coverage
from gateway.coverage.share import Share
from gateway.coverage.words import exclusion_coverage, occurring, refusal_coverage

CELLS_SHOWN: Final = 40  # a screen of them; JSON has all
ROUTES_SHOWN: Final = 3  # of a cell's: who is first, and who takes over


@dataclass(frozen=True, slots=True)
class Ran:
    """A case that was run, and the diff of what it wanted and what came: no lines if that is the same."""

    result: CaseResult
    diff: tuple[str, ...]

    def as_record(self) -> dict[str, object]:
        """The case as JSON can hold it."""
        return {**self.result.as_record(), "diff": list(self.diff)}


@dataclass(frozen=True, slots=True)
class Report:
    """What running the cases of a policy came to. Coverage is by those that passed."""

    cases: tuple[Ran, ...]
    rules: Share
    refusals: Share
    exclusions: Share
    outcomes: Outcomes

    @property
    def failed(self) -> tuple[Ran, ...]:
        return tuple(ran for ran in self.cases if not ran.result.passed)

    @property
    def percent(self) -> float:
        """What `--fail-under` is held against: the lower share of rules and refusals, from 0 to 100."""
        return min(self.rules.percent, self.refusals.percent)

    def as_record(self) -> dict[str, object]:
        """All of it as JSON can hold it."""
        return {
            "cases": [ran.as_record() for ran in self.cases],
            "coverage": {
                "rules": self.rules.as_record(),
                "refusals": self.refusals.as_record(),
                "exclusions": self.exclusions.as_record(),
                "outcomes": self.outcomes.as_record(),
            },
        }


def report(snapshot: Snapshot, cases: tuple[Case, ...], at: float) -> Report:
    """Run `cases`, and see what they cover. Those without a time are asked at `at` (UTC seconds), as of which words occur."""
    results = run_cases(snapshot, cases, at)
    passing = [result.case for result in results if result.passed]
    words = occurring(snapshot, at)
    return Report(
        cases=tuple(Ran(result, () if result.passed else _diff(snapshot, result.case, at)) for result in results),
        rules=rule_coverage(snapshot, passing, at),
        refusals=refusal_coverage(words, passing),
        exclusions=exclusion_coverage(words, passing),
        outcomes=outcome_coverage(snapshot, passing, at),
    )


def _diff(snapshot: Snapshot, case: Case, at: float) -> tuple[str, ...]:
    return difference(View(snapshot, at if case.given.at is None else case.given.at), case)


def as_text(found: Report, lines: Mapping[str, str]) -> str:
    """All of it for people. `lines`: where each rule stands, by its id."""
    return "\n".join(_text(found, lines))


def _text(found: Report, lines: Mapping[str, str]) -> Iterator[str]:
    for ran in found.failed:
        yield f"{ran.result.case.line}: {ran.result.case.note}"
        yield from (f"  {line}" for line in ran.diff)
    yield f"{len(found.cases) - len(found.failed)} of {len(found.cases)} cases came as wanted"
    yield f"rules:      {found.rules}; without each of these some case fails"
    yield from _missing((f"{rule} ({lines[rule]})" if lines.get(rule) else rule for rule in found.rules.missing), "fails without")
    yield f"refusals:   {found.refusals}; some case wants each of these"
    yield from _missing(found.refusals.missing, "wants")
    yield f"exclusions: {found.exclusions}; some case wants each of these"
    yield from _missing(found.exclusions.missing, "wants")
    yield f"outcomes:   {found.outcomes.share}, tenant x data class x region; some case pins each of these"
    yield from _cells(found.outcomes.unpinned)


def _missing(names: Iterable[str], what: str) -> Iterator[str]:
    return (f"  no case {what} {name}" for name in names)


def _cells(unpinned: tuple[Unpinned, ...]) -> Iterator[str]:
    shown = unpinned[:CELLS_SHOWN]
    width = max((len(one.name) for one in shown), default=0)
    for one in shown:
        yield f"  no case pins {one.name:{width}}  {_happens(one)}"
    if len(unpinned) > len(shown):
        yield f"  and {len(unpinned) - len(shown)} more; `--json` lists them all"


def _happens(one: Unpinned) -> str:
    if not one.routes:
        return f"refused: {', '.join(one.refused)}"
    more = f" and {len(one.routes) - ROUTES_SHOWN} more" if len(one.routes) > ROUTES_SHOWN else ""
    return f"{one.cell.sending.asked} -> {', '.join(one.routes[:ROUTES_SHOWN])}{more}"
