"""What is well written and does nothing, or more than anybody meant: warnings that take a solver, as they are about all requests.

A rule that can never match, or changes nothing; a deployment that no request reaches; a tenant that is never served for some of
what it may declare; a preference that never decides; a permit to which no require answers. All as of one instant.

Restrictions are there for the day on which somebody writes a careless permit. So a require or forbid changes nothing only if the
others take away all that it does, whatever permits say. And a refusal that a case wants is meant: of it nothing is told.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.config.cases import Case
from gateway.config.words import listed
from gateway.core.facts import DECLARABLE, HARD_FACTS
from gateway.core.policy import Key, Preference, Rule, Snapshot
from gateway.core.terms import Effect, Subject
from gateway.proof.allowed import Allowed, Holder, Version
from gateway.proof.counterexample import flow, given
from gateway.proof.formula import FALSE, TRUE, Formula, MakeSolver
from gateway.proof.labels import meets
from gateway.proof.plain import plain, simplest
from gateway.proof.space import Seen, Space, usable_keys
from gateway.proof.universe import said

Chosen = list[tuple[Version, int]]
"""A literal for each deployment, of which at most one is true: one route of a request, whichever."""

SERVED_FACTS: Final = tuple(fact for fact in DECLARABLE if fact in HARD_FACTS)
"""What may be declared and changes where a request may go."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One warning. `line` is file:line as compiling found it, or the name of a tenant or key that `place` looks up; "" nowhere."""

    line: str
    found: str
    wanted: str
    tenant: str = ""
    key: str = ""


def lint(snapshot: Snapshot, cases: Iterable[Case], at: float, make_solver: MakeSolver) -> tuple[Advice, ...]:
    """All warnings on `snapshot` as of `at` (UTC seconds). Raises GaveUp."""
    return tuple(_Lint(snapshot, tuple(cases), at, make_solver).all())


class _Lint:
    def __init__(self, snapshot: Snapshot, cases: tuple[Case, ...], at: float, make_solver: MakeSolver) -> None:
        policy = snapshot.policy
        self.snapshot = snapshot
        self.cases = cases
        self.at = at
        formula = self.formula = Formula()
        whens = [rule.when for rule in policy.rules] + [preference.when for preference in policy.preferences]
        self.space = Space(formula, (snapshot,), at, whens)
        self.seen = Seen(self.space, 0)
        formula.demand(self.seen.valid)
        self.allowed = Allowed(self.seen, formula, (at,), [TRUE])
        self.solver = make_solver(formula)
        # whether at most one rule permits a place, and whether at most one is against it: then nothing else does its work
        self._alone_permitted = {
            version.index: formula.every((version.used, formula.lonely(self.allowed.permits(version.subject))))
            for version in self.allowed.deployments
        }
        restricted = [(subject, frozenset(self.allowed.restrictions(subject))) for subject in self._subjects()]
        alone = {against: formula.lonely(against) for _, against in restricted}
        self._alone_restricted = [(subject, alone[against]) for subject, against in restricted]

    def all(self) -> Iterator[Advice]:
        if self.space.empty:
            return  # nobody can ask anything: loading has said so
        idle = set()
        for rule in self.snapshot.policy.rules:
            if not self._can(self.allowed.applies[rule.id]):
                idle.add(rule.id)
                yield Advice(rule.line, f"the {rule.effect} `{rule.id}`", "no request that any key can make matches it")
        for rule in self.snapshot.policy.rules:
            if rule.id not in idle and (wanted := self._changes_nothing(rule)):
                yield Advice(rule.line, f"the {rule.effect} `{rule.id}`", wanted)
        yield from self._unreached()
        yield from self._unserved()
        yield from self._undecided()
        for rule in self.snapshot.policy.rules:
            if rule.effect is Effect.PERMIT and rule.id not in idle:
                yield from self._wider(rule)

    def _can(self, *literals: int) -> bool:
        return FALSE not in literals and self.solver.solve(literals) is not None

    # --- rules -----------------------------------------------------------------------------------------------------------

    def _changes_nothing(self, rule: Rule) -> str:
        """Why `rule` could go; empty if some request would be treated otherwise without it."""
        formula, allowed = self.formula, self.allowed
        applies = allowed.applies[rule.id]
        if rule.effect is Effect.PERMIT:
            covered = [version for version in allowed.deployments if allowed.spares(version.subject, rule)]
            if self._can(applies, formula.some(self._alone_permitted[version.index] for version in covered)):
                return ""
            return "it changes nothing: other permits cover whatever it lets through, or other rules take it away"
        against = [alone for subject, alone in self._alone_restricted if not allowed.spares(subject, rule)]
        if not against:
            why = "everything in the catalogue meets it" if rule.effect is Effect.REQUIRE else "it hits nothing in the catalogue"
            return f"it changes nothing: {why}"
        if self._can(applies, formula.some(against)):
            return ""
        return "it changes nothing: other rules take away whatever it does"

    def _subjects(self) -> list[Subject]:
        """Everything that rules bind, as it is now, and as it will be when all labels that end have ended."""
        policy = self.snapshot.policy
        holders: tuple[Holder, ...] = (policy.gateway, *policy.stores, *policy.sinks, *policy.deployments)
        return [holder.as_of(instant) for holder in holders for instant in (self.at, math.inf)]

    def _wider(self, rule: Rule) -> Iterator[Advice]:
        """A permit that lets content out to places that no require of the policy would accept, and none is asked.

        Content that surely is of the lowest class is anybody's.
        """
        policy, formula, allowed = self.snapshot.policy, self.formula, self.allowed
        requires = [other for other in policy.rules if other.effect is Effect.REQUIRE]
        unasked = formula.every(-allowed.applies[other.id] for other in requires)
        lowest = self._surely_lowest()
        wide = [
            version
            for version in allowed.deployments
            if allowed.spares(version.subject, rule) and not any(meets(version.subject, other.says) for other in requires)
        ]
        wanted = (allowed.applies[rule.id], unasked, -lowest, formula.some(version.used for version in wide))
        if not requires or not self._can(*wanted):
            return
        model = simplest(self.solver, wanted, plain(self.space))
        names = listed(version.subject.name for version in wide if model(version.used))
        example = flow(given(self.space.sending(model), self.snapshot, None))
        yield Advice(rule.line, f"the permit `{rule.id}`", f"wider than any require: none answers for {names}, given {example}")

    def _surely_lowest(self) -> int:
        """A literal: the data class is the lowest one, and that is known."""
        lowest = self.snapshot.policy.vocabulary.data_classes[0]
        if "data_class" not in self.space.among:
            return FALSE
        members = zip(self.space.classes["data_class"], self.seen.bits("data_class"), strict=True)
        return self.formula.every(-bit for of, bit in members if of != frozenset((lowest,)))

    # --- places and people -----------------------------------------------------------------------------------------------

    def _unreached(self) -> Iterator[Advice]:
        left = list(self.allowed.deployments)
        while left:
            model = self.solver.solve((self.formula.some(version.used for version in left),))
            if model is None:
                break
            left = [version for version in left if not model(version.used)]
        for version in left:
            deployment = self.snapshot.policy.deployments[version.index]
            wanted = "no request can reach it: no permit covers it for anybody, or other rules take it away"
            if not self._can(self.seen.asks_for(deployment.model.id)):
                wanted = "no request can reach it: no name stands for its model"
            yield Advice(deployment.endpoint.line, f"the deployment `{deployment.id}`", wanted)

    def _unserved(self) -> Iterator[Advice]:
        """Keys and what they may declare, under which nothing is ever served, whatever is asked."""
        for key in usable_keys(self.snapshot, self.at):
            mine = self.space.keys[key.id]
            if not self._can(mine, self.allowed.routed):
                if not self._meant(key, "", frozenset()):
                    yield self._never(key, "no request of it is ever served, whatever it asks and declares")
                continue
            for fact in SERVED_FACTS:
                yield from self._unserved_for(key, mine, fact)

    def _unserved_for(self, key: Key, mine: int, fact: str) -> Iterator[Advice]:
        within = said(self.snapshot, key, fact).within or frozenset()
        if fact not in self.space.declared:
            return
        members = list(zip(self.space.classes[fact], self.space.among[fact], strict=True))
        refused: set[str] = set()
        for values, literal in members:
            others = [-other for _, other in members if other != literal]
            if values & within and not self._can(mine, literal, *others, self.allowed.routed):
                refused |= values & within
        if refused and not self._meant(key, fact, frozenset(refused)):
            meant = "if that is meant, write a case that wants it"
            yield self._never(key, f"it may declare {fact} {listed(refused)}, and then is never served; {meant}")

    def _never(self, key: Key, wanted: str) -> Advice:
        return Advice("", f"the key `{key.id}` of `{key.tenant}`", wanted, tenant=key.tenant, key=key.id)

    def _meant(self, key: Key, fact: str, values: frozenset[str]) -> bool:
        """Whether some case of this tenant wants a refusal where it declares one of `values`."""
        for case in self.cases:
            asks = case.given.tenant == key.tenant and case.given.key in (None, key.id)
            if asks and case.want.refused is not None and (not fact or case.given.declared.get(fact, frozenset()) & values):
                return True
        return False

    # --- preferences -----------------------------------------------------------------------------------------------------

    def _undecided(self) -> Iterator[Advice]:
        """Preferences that never part two routes which all before them have left equal."""
        preferences = self.snapshot.policy.preferences
        if not preferences:
            return
        here, there = self._chosen(), self._chosen()
        tied = TRUE
        for preference in preferences:
            applies = self.seen.there(preference.when)
            if not self._can(applies):
                yield Advice(preference.line, f"the preference `{preference.id}`", "no request that any key can make matches it")
            elif not self._can(applies, tied, -self._same(preference, here, there, latency=True)):
                wanted = "it never decides: what it would part is parted before, or never allowed together"
                yield Advice(preference.line, f"the preference `{preference.id}`", wanted)
            tied = self.formula.every((tied, self.formula.some((-applies, self._same(preference, here, there, latency=False)))))

    def _chosen(self) -> Chosen:
        """One route of the request, whichever: a literal for each deployment, of which at most one is true."""
        formula, versions = self.formula, self.allowed.deployments
        found = [formula.variable() for _ in versions]
        formula.at_most_one(found)
        for version, literal in zip(versions, found, strict=True):
            formula.demand(-literal, version.used)
        return list(zip(versions, found, strict=True))

    def _same(self, preference: Preference, here: Chosen, there: Chosen, *, latency: bool) -> int:
        """A literal: unless two are chosen, `preference` holds both for equal; with `latency`, latencies being as they may."""
        formula = self.formula
        values: dict[object, tuple[list[int], list[int]]] = {}
        for place, chosen in enumerate((here, there)):
            for version, literal in chosen:
                value = version.index if latency and "latency" in preference.rank else self._value(preference, version)
                values.setdefault(value, ([], []))[place].append(literal)
        both = formula.every(formula.some(literal for _, literal in chosen) for chosen in (here, there))
        alike = formula.some(formula.every((formula.some(ours), formula.some(theirs))) for ours, theirs in values.values())
        return formula.some((alike, -both))

    def _value(self, preference: Preference, version: Version) -> object:
        """What `preference` sees of a deployment, latencies aside."""
        if preference.prefer:
            return meets(version.subject, preference.prefer)
        deployment = self.snapshot.policy.deployments[version.index]
        price, scores = deployment.tariff.marginal, deployment.model.scores
        cost = None if price is None else (price.input, price.output)
        weighed = sorted(name for name in preference.rank if name != "latency")
        return tuple(cost if name == "cost" else scores.get(name.removeprefix("score.")) for name in weighed)
