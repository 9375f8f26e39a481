"""Which rules the cases watch: those without which some case would fail.

Why mutation, and not mere evaluation: nearly every rule is evaluated by nearly every case, and most cases would come out the same
without it, because another rule takes away the same routes, or because the case wants something that the rule does not touch. Such
a rule could be deleted by a slip of the hand, and every case would pass. So each rule is deleted here, and somebody has to notice.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.config.cases import Case
from gateway.config.check import facts_of, run_cases
from gateway.core.facts import FactError, RequestFacts
from gateway.core.policy import Rule, Snapshot, may_hold, must_hold
from gateway.core.terms import Effect
from gateway.coverage.share import Share


def rule_coverage(snapshot: Snapshot, passing: Sequence[Case], at: float) -> Share:
    """The rules without which some of the `passing` cases, asked at `at` (UTC seconds) where they have no time, would fail."""
    decided = [(case, facts) for case in passing if (facts := _facts(snapshot, case)) is not None]
    return Share.of((rule.id, _missed(snapshot, rule, decided, at)) for rule in snapshot.policy.rules)


def without(snapshot: Snapshot, rule: Rule) -> Snapshot:
    """The snapshot as if nobody had written `rule`. It keeps its hash: it is for asking, and never serves."""
    rules = tuple(other for other in snapshot.policy.rules if other.id != rule.id)
    return replace(snapshot, policy=replace(snapshot.policy, rules=rules))


def _missed(snapshot: Snapshot, rule: Rule, decided: Sequence[tuple[Case, RequestFacts]], at: float) -> bool:
    """Whether some case fails without `rule`. Asked again are those that it applies to: the others can't tell."""
    touched = tuple(case for case, facts in decided if _applies(rule, facts))
    return bool(touched) and not all(result.passed for result in run_cases(without(snapshot, rule), touched, at))


def _applies(rule: Rule, facts: RequestFacts) -> bool:
    return must_hold(rule.when, facts) if rule.effect is Effect.PERMIT else may_hold(rule.when, facts)


def _facts(snapshot: Snapshot, case: Case) -> RequestFacts | None:
    """The facts of a case; None where it never gets to a decision, so that no rule has a say in it."""
    try:
        return facts_of(snapshot, case.given)
    except FactError:
        return None
