"""What one policy changes against another, found by the solver: in sentences, each with a request that shows it.

Newly allowed and newly refused are complete: where nothing is told, no request changes so. Moves and prices hang on the order of
routes, which the engine is asked for, once for each different outcome that the solver finds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.decide import Decision, decide
from gateway.core.exchange import Needs
from gateway.core.live import ALL_WELL
from gateway.core.policy import Deployment, Snapshot
from gateway.core.terms import Effect
from gateway.core.view import View
from gateway.proof.allowed import Allowed
from gateway.proof.counterexample import question
from gateway.proof.formula import FALSE, TRUE, Formula, MakeSolver, Model
from gateway.proof.plain import plain, simplest
from gateway.proof.space import Seen, Space
from gateway.proof.universe import Sending, facts_of

NEWLY_ALLOWED: Final = "newly allowed"
NEWLY_REFUSED: Final = "newly refused"
MOVED: Final = "moved"
DEARER: Final = "dearer"
KINDS: Final = (NEWLY_ALLOWED, NEWLY_REFUSED, MOVED, DEARER)

EXAMPLES_MAX: Final = 5  # of one tenant and kind, each with its request: what is left is told in one sentence
OUTCOMES_MAX: Final = 40  # different outcomes of one tenant that are ranked twice; it is told where there are more
PLACES_SHOWN: Final = 4  # in one sentence
DRAWS: Final = 12  # equal routes are spread by a draw; ties are of two, three or four
NO_MONEY: Final = 1e-9  # USD: less than that is rounding
ANSWER_TOKENS: Final = 500  # with a prompt of 100: a short request, for comparing prices


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `before` and `after` are the routes of the example, best first; none: it is refused."""

    kind: str
    tenant: str
    sentence: str
    example: Mapping[str, Any]  # as `gateway policy explain` can be asked
    before: tuple[str, ...]
    after: tuple[str, ...]

    def as_record(self) -> dict[str, object]:
        """The change as JSON can hold it."""
        return {
            "kind": self.kind,
            "tenant": self.tenant,
            "sentence": self.sentence,
            "example": dict(self.example),
            "before": list(self.before),
            "after": list(self.after),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes, by kind and tenant. `left_off` names tenants of whom more outcomes differ than were ranked."""

    changes: tuple[Change, ...]
    left_off: tuple[str, ...] = ()


@dataclass(slots=True)
class Side:
    """One of the two policies: who sees what, where requests may go, and what the engine makes of an example."""

    snapshot: Snapshot
    seen: Seen
    allowed: Allowed
    view: View
    used: dict[str, int] = field(default_factory=dict)  # deployment -> a literal: the request is valid and may go there
    routed: int = FALSE

    def decision(self, sending: Sending) -> Decision | None:
        """The engine's decision; None for a request that does not get to one."""
        needs = Needs(sending.api, abilities=sending.abilities, prompt_tokens=sending.prompt_tokens, output_tokens=ANSWER_TOKENS)
        if sending.key not in self.snapshot.access.keys:
            return None
        return decide(self.view, facts_of(self.snapshot, sending), needs, ALL_WELL, 0)

    def first(self, decision: Decision) -> tuple[Deployment, ...]:
        """What equally good deployments come first."""
        found = {}
        for draw in range(DRAWS):
            routes = decide(decision.view, decision.facts, decision.needs, ALL_WELL, draw).routes
            found.update({route.deployment.id: route.deployment for route in routes[:1]})
        return tuple(found[name] for name in sorted(found))


def difference(old: Snapshot, new: Snapshot, at: float, make_solver: MakeSolver) -> Difference:
    """What changes from `old` to `new` as of `at` (UTC seconds). Raises GaveUp."""
    return _Comparison(old, new, at, make_solver).all()


class _Comparison:
    def __init__(self, old: Snapshot, new: Snapshot, at: float, make_solver: MakeSolver) -> None:
        formula = self.formula = Formula()
        whens = [rule.when for one in (old, new) for rule in one.policy.rules]
        whens += [preference.when for one in (old, new) for preference in one.policy.preferences]
        self.space = Space(formula, (old, new), at, whens)
        self.old, self.new = (self._side(number, snapshot, at) for number, snapshot in enumerate((old, new)))
        formula.demand(self.old.seen.valid, self.new.seen.valid)
        self.solver = make_solver(formula)
        before = {rule.id: rule for rule in old.policy.rules}
        same = ("effect", "when", "says")
        self._added = {  # requires and forbids that are new, or say something else
            rule.id: rule
            for rule in new.policy.rules
            if rule.effect is not Effect.PERMIT
            and not (rule.id in before and all(getattr(rule, part) == getattr(before[rule.id], part) for part in same))
        }

    def _side(self, number: int, snapshot: Snapshot, at: float) -> Side:
        seen = Seen(self.space, number)
        allowed = Allowed(seen, self.formula, (at,), [TRUE])
        side = Side(snapshot, seen, allowed, View(snapshot, at))
        side.used = {v.subject.name: self.formula.every((seen.valid, v.used)) for v in allowed.deployments}
        side.routed = self.formula.some(side.used.values())
        return side

    def all(self) -> Difference:
        changes: list[Change] = []
        left_off = []
        for tenant in dict.fromkeys((*self.old.snapshot.access.tenants, *self.new.snapshot.access.tenants)):
            whose = self.formula.some((self.old.seen.tenant_is(tenant), self.new.seen.tenant_is(tenant)))
            changes += self._newly_allowed(tenant, whose)
            changes += self._newly_refused(tenant, whose)
            ranked, more = self._ranked(tenant, whose)
            changes += ranked
            left_off += [tenant] if more else []
        return Difference(tuple(sorted(changes, key=lambda change: KINDS.index(change.kind))), tuple(left_off))

    # --- may, and may not ------------------------------------------------------------------------------------------------

    def _newly_allowed(self, tenant: str, whose: int) -> Iterator[Change]:
        """Places that content of `tenant` may go to and could not: each is told once, with those that come with it."""
        formula, before, after = self.formula, self.old.used, self.new.used
        untold = {name: formula.every((used, -before.get(name, FALSE))) for name, used in after.items()}
        for _ in range(EXAMPLES_MAX):
            wanted = (whose, formula.some(untold.values()))
            if self.solver.solve(wanted) is None:
                return
            model = simplest(self.solver, wanted, [self.new.seen.valid, self.old.seen.valid, *plain(self.space)])
            names = [name for name, gained in untold.items() if model(gained)]
            untold = {name: gained for name, gained in untold.items() if name not in names}
            yield self._gained(tenant, names, model)
        rest: list[str] = []
        while (model_of_rest := self.solver.solve((whose, formula.some(untold.values())))) is not None:
            model = model_of_rest
            names = [name for name, gained in untold.items() if model(gained)]
            untold = {name: gained for name, gained in untold.items() if name not in names}
            rest += names
        if rest:
            yield self._gained(tenant, rest, model)

    def _gained(self, tenant: str, names: list[str], model: Model) -> Change:
        was = "it was refused before" if not model(self.old.routed) else "it went elsewhere before"
        if not model(self.old.seen.valid):
            was = "it could not ask so before"
        shown = "; ".join(self._described(self.new, name) for name in names[:PLACES_SHOWN])
        more = f" and {len(names) - PLACES_SHOWN} more" if len(names) > PLACES_SHOWN else ""
        permits = ", ".join(self._permits(names, model)) or "the same permits"
        sentence = f"may now go to {shown}{more}, let through by {permits}; {was}"
        return self._change(NEWLY_ALLOWED, tenant, sentence, self.space.sending(model), model)

    def _permits(self, names: list[str], model: Model) -> list[str]:
        """The permits of the new policy that let a request through to any of these."""
        allowed, view = self.new.allowed, self.new.view
        subjects = [view.subjects[view.indices[name]] for name in names]
        permits = [rule for rule in allowed.rules if rule.effect is Effect.PERMIT and model(allowed.applies[rule.id])]
        return [rule.id for rule in permits if any(allowed.spares(subject, rule) for subject in subjects)]

    def _newly_refused(self, tenant: str, whose: int) -> Iterator[Change]:
        """Requests of `tenant` that were served and are not: for each set of reasons, one."""
        formula, old, new = self.formula, self.old, self.new
        lost = formula.every((whose, old.routed, -new.routed))
        if self.solver.solve((lost, -new.seen.valid)) is not None:
            model = simplest(self.solver, (lost, -new.seen.valid), plain(self.space))
            sending = self.space.sending(model)
            yield self._change(NEWLY_REFUSED, tenant, f"can no longer ask so: {self._unsaid(sending)}", sending, model)
        told = TRUE
        for _ in range(EXAMPLES_MAX):
            wanted = (lost, new.seen.valid, told)
            if self.solver.solve(wanted) is None:
                return
            model = simplest(self.solver, wanted, plain(self.space))
            sending = self.space.sending(model)
            words = self._words(sending)
            yield self._change(NEWLY_REFUSED, tenant, f"is refused now: {', '.join(words)}", sending, model)
            applying = [new.allowed.applies[rule] for rule in self._added if rule in words or f"gateway: {rule}" in words]
            told = formula.every((told, -formula.every(applying)))  # by no new rule: a permit is gone, which is told once

    def _words(self, sending: Sending) -> tuple[str, ...]:
        """Why the new policy refuses a request: by rules that are new, where it is those, or else by all that there are."""
        decision = self.new.decision(sending)
        words = () if decision is None else decision.refusing_rules
        return tuple(word for word in words if word.removeprefix("gateway: ") in self._added) or words

    def _unsaid(self, sending: Sending) -> str:
        """What of a request the new access document does not let it say."""
        if sending.key not in self.new.snapshot.access.keys:
            return f"there is no key `{sending.key}` any more"
        declared = ", ".join(f"{fact} {'/'.join(sorted(values))}" for fact, values in sending.declared.items())
        if declared:
            return f"its key may not say {declared}"
        return f"nothing goes by the name `{sending.asked}`, or its key is no longer good"

    # --- elsewhere, and dearer -------------------------------------------------------------------------------------------

    def _ranked(self, tenant: str, whose: int) -> tuple[list[Change], bool]:
        """Moves and prices of `tenant`, and whether there are more outcomes than were looked at."""
        formula, old, new = self.formula, self.old, self.new
        guard = formula.variable()
        wanted = (guard, whose, old.routed, new.routed, self._may_differ())
        watched = self._watched()
        found: dict[object, Change] = {}
        for _ in range(OUTCOMES_MAX):
            model = self.solver.solve(wanted)
            if model is None:
                return list(found.values()), False
            outcome = [literal if model(literal) else -literal for literal in watched]
            fixed = (whose, old.seen.valid, new.seen.valid, *outcome)
            for key, change in self._compared(tenant, model):
                if key not in found:  # and of it the plainest request; equal outcomes are ordered equally
                    plainly = dict(self._compared(tenant, simplest(self.solver, fixed, plain(self.space))))
                    found[key] = plainly.get(key, change)
            formula.demand(-guard, *(-literal for literal in outcome))
        return list(found.values()), self.solver.solve(wanted) is not None

    def _may_differ(self) -> int:
        """A literal: the order of routes may be another. True of all requests where preferences are not the same."""
        old, new = self.old.snapshot.policy, self.new.snapshot.policy
        if [(p.when, p.prefer, p.rank) for p in old.preferences] != [(p.when, p.prefer, p.rank) for p in new.preferences]:
            return TRUE
        before = {d.id: d for d in old.deployments}
        differing = []
        for deployment in new.deployments:
            was, name = before.get(deployment.id), deployment.id
            used = self.old.used.get(name, FALSE), self.new.used.get(name, FALSE)
            if was is not None and _ranked_by(was) == _ranked_by(deployment):
                differing += [self.formula.every((used[0], -used[1])), self.formula.every((used[1], -used[0]))]
            else:
                differing += used
        differing += [used for name, used in self.old.used.items() if name not in {d.id for d in new.deployments}]
        return self.formula.some(differing)

    def _watched(self) -> list[int]:
        """What decides an order: where a request may go and which preferences apply, before and after."""
        literals = [*self.old.used.values(), *self.new.used.values()]
        for side in (self.old, self.new):
            literals += [side.seen.there(preference.when) for preference in side.snapshot.policy.preferences]
        return [literal for literal in dict.fromkeys(literals) if literal not in (TRUE, FALSE)]

    def _compared(self, tenant: str, model: Model) -> Iterator[tuple[object, Change]]:
        """What is new of one outcome, each by what of it is told once: the countries it moves to, the places it costs more at."""
        sending = self.space.sending(model)
        decisions = self.old.decision(sending), self.new.decision(sending)
        if decisions[0] is None or decisions[1] is None or not decisions[0].routes or not decisions[1].routes:
            return  # what the request needs keeps it from a place: that is not the rules' affair
        before, after = self.old.first(decisions[0]), self.new.first(decisions[1])
        gained = self._countries(self.new, after) - self._countries(self.old, before)
        there, here = self._listed(self.old, before), self._listed(self.new, after)
        if gained:
            yield (MOVED, gained), self._change(MOVED, tenant, f"goes to {here} first, and went to {there}", sending, model)
        usd = [max(d.tariff.estimate_usd(sending.prompt_tokens, ANSWER_TOKENS) for d in found) for found in (before, after)]
        if usd[1] > usd[0] + NO_MONEY:
            where = f"at {here}" if here == there else f"at {here} instead of {there}"
            sentence = f"costs about ${usd[1]:.6f} instead of ${usd[0]:.6f} {where}"
            yield (DEARER, round(usd[0], 6), round(usd[1], 6)), self._change(DEARER, tenant, sentence, sending, model)

    def _countries(self, side: Side, found: Iterable[Deployment]) -> frozenset[str]:
        """Where these are processed; a place that nobody vouches for is one of its own."""
        subjects = (side.view.subjects[side.view.indices[deployment.id]] for deployment in found)
        return frozenset[str]().union(*(subject.processed_in or frozenset(("?",)) for subject in subjects))

    # --- for people ------------------------------------------------------------------------------------------------------

    def _change(self, kind: str, tenant: str, what: str, sending: Sending, model: Model) -> Change:
        asked = f"`{tenant}`, asking `{sending.asked}`"
        if sending.declared:
            said = "; ".join(f"{fact}: {', '.join(sorted(values)) or 'none'}" for fact, values in sending.declared.items())
            asked += f" ({said})"
        side = self.old if sending.key in self.old.snapshot.access.keys else self.new
        return Change(
            kind,
            tenant,
            f"{asked}, {what}",
            question(sending, side.snapshot),
            self._routes(self.old, sending, model),
            self._routes(self.new, sending, model),
        )

    def _routes(self, side: Side, sending: Sending, model: Model) -> tuple[str, ...]:
        decision = side.decision(sending) if model(side.seen.valid) else None
        return () if decision is None else tuple(route.deployment.id for route in decision.routes)

    def _listed(self, side: Side, found: Iterable[Deployment]) -> str:
        names = [deployment.id for deployment in found]
        more = f" and {len(names) - PLACES_SHOWN} more" if len(names) > PLACES_SHOWN else ""
        return ", ".join(self._described(side, name) for name in names[:PLACES_SHOWN]) + more

    def _described(self, side: Side, name: str) -> str:
        return f"{name} (in {_places(side.view.subjects[side.view.indices[name]].processed_in)})"


def _places(countries: frozenset[str] | None) -> str:
    if countries is None:
        return "a place that nobody vouches for"
    known = sorted(countries)
    return ", ".join(known[:4]) + (f" and {len(known) - 4} more" if len(known) > 4 else "")


def _ranked_by(deployment: Deployment) -> object:
    """All of a deployment that may change its place in an order, what it costs, or where it is."""
    model, endpoint = deployment.model, deployment.endpoint
    labels = deployment.processed_in, deployment.operated_under, deployment.assurances, deployment.abilities, deployment.context
    there = endpoint.provider, endpoint.dialect, deployment.apis, endpoint.tools
    return deployment.tariff, labels, there, model.origin, sorted(model.scores.items())
