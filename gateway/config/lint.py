"""What is well written and still not meant: checks that need the whole compiled policy.

Errors: a ledger that may not hold what this gateway may process. Warnings: a require that nothing can meet, a hard rule that a
client can leave, an alias that nothing serves. Deciding would be right all the same; people would be surprised.
"""

from collections.abc import Iterable

from gateway.config.problems import Mark, Problems, show
from gateway.config.reach import Reach
from gateway.config.reading import last_day
from gateway.config.words import listed
from gateway.core.facts import DECLARABLE, SOFT_FACTS
from gateway.core.policy import Keeper, Policy, Rule
from gateway.core.terms import Effect

KeptMarks = dict[str, Mark]
"""Where each keeper stands, by name."""


def check_sinks(
    policy: Policy, marks: KeptMarks, reached: tuple[Reach, ...], at: float, problems: Problems, warnings: Problems
) -> None:
    """Whatever may be processed here, the ledger may hold; the policy that says otherwise refuses for a reason nobody sees.

    Rules are looked at one by one: each that the gateway meets and the ledger does not, and that may apply to somebody.
    """
    binding = [
        rule for rule in policy.rules if rule.effect is not Effect.PERMIT and any(reach.may_meet(rule.when) for reach in reached)
    ]
    for sink in policy.sinks:
        mark = marks.get(sink.name)
        if mark is None:
            continue  # it inherits the gateway's labels, so what binds one binds the other
        for rule in _between(policy.gateway, sink, binding, at):
            wanted = (
                f"rule `{rule.id}` ({rule.line}) may apply, the gateway meets it and its {sink.name} does not: "
                "such a request would have no record"
            )
            problems.add(mark, f"the sink `{sink.name}`", wanted)
        for instant in sorted(edge for edge in _edges(policy.gateway, sink) if edge > at):
            for rule in _between(policy.gateway, sink, binding, instant):
                warnings.add(
                    mark,
                    f"the sink `{sink.name}`",
                    f"after {last_day(instant)} it does not meet rule `{rule.id}`, and the gateway still does",
                )


def _between(gateway: Keeper, sink: Keeper, rules: Iterable[Rule], at: float) -> list[Rule]:
    here, there = gateway.as_of(at), sink.as_of(at)
    return [rule for rule in rules if rule.spares(here) and not rule.spares(there)]


def _edges(*keepers: Keeper) -> set[float]:
    found = set()
    for keeper in keepers:
        found |= {keeper.processed_in.until, keeper.operated_under.until, *(held.until for held in keeper.assurances)}
    return {edge for edge in found if edge is not None}


def warn_of_rules(
    policy: Policy, marks: dict[str, Mark], trusting: frozenset[str], reached: tuple[Reach, ...], at: float, warnings: Problems
) -> None:
    """Requires that nothing in the catalogue can meet, and hard rules that clients can leave."""
    subjects = [deployment.as_of(at) for deployment in policy.deployments]
    for rule in policy.rules:
        if rule.effect is Effect.REQUIRE and not any(rule.spares(subject) for subject in subjects):
            warnings.add(
                marks[rule.id],
                f"the require {show(rule.id)}",
                "nothing in the catalogue meets it: whatever it applies to is refused",
            )
        if rule.id in trusting:
            _warn_of_trust(rule, marks[rule.id], reached, warnings)


def _warn_of_trust(rule: Rule, mark: Mark, reached: tuple[Reach, ...], warnings: Problems) -> None:
    soft = [test for test in rule.when if test.fact in SOFT_FACTS]
    hard = tuple(test for test in rule.when if test.fact not in SOFT_FACTS)
    who = []
    for reach in reached:
        # what a caller can't declare, such as a task without `within`, is what the access document says it is
        chosen = [test for test in soft if test.fact not in DECLARABLE or test.fact in reach.declares]
        if reach.may_meet(hard) and any(reach.may_leave(test) for test in chosen):
            who.append(reach.tenant)
    facts = " and ".join(f"`{test.fact}`" for test in soft)
    can = "come under" if rule.effect is Effect.PERMIT else "leave"
    people = f"clients of {listed(who)} can {can} it by what they send" if who else "no tenant can choose it now"
    warnings.add(mark, f"the {rule.effect} {show(rule.id)} rests on {facts}", people)


def warn_of_names(policy: Policy, marks: dict[str, Mark], warnings: Problems) -> None:
    """Aliases of which no model is deployed anywhere."""
    served = {deployment.model.id for deployment in policy.deployments}
    for alias, members in policy.aliases.items():
        if not members & served:
            warnings.add(marks[alias], f"the alias {show(alias)}", "no endpoint serves any of its models")
