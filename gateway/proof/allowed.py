"""Where requests may go, over time: the semantics of rules as a formula. Written from the design, and without the engine's help.

A place's labels stand still between the instants at which one goes stale. So a place is a few versions, each with its stretch of
time, and a rule's verdict on a version is a constant; what is left to be solved is which rules apply.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from gateway.core.policy import Alternative, Deployment, Keeper, Rule
from gateway.core.terms import LEDGER, Effect, Subject
from gateway.proof.formula import TRUE, Formula
from gateway.proof.labels import hits, meets
from gateway.proof.space import Seen

Holder = Deployment | Keeper


@dataclass(frozen=True, slots=True)
class Version:
    """A place while its labels stand still. `used`: a literal, that content goes there (or is kept there) in that stretch."""

    subject: Subject
    index: int  # of the deployment; -1 of a keeper
    first: int  # of the moments in which it is like this
    last: int  # exclusive
    used: int


def untils(holder: Holder) -> list[tuple[str, float]]:
    """The labels of a place that end, with when (UTC seconds)."""
    found = [("processed_in", holder.processed_in.until), ("operated_under", holder.operated_under.until)]
    found += [(f"assurances.{assurance.name}", assurance.until) for assurance in holder.assurances]
    if isinstance(holder, Deployment):
        found.append(("origin", holder.model.origin.until))
    return [(label, until) for label, until in found if until is not None]


def moments(holders: Iterable[Holder], at: float, horizon: float) -> tuple[float, ...]:
    """`at`, and every instant before `horizon` from which some label is worth less (UTC seconds)."""
    edges = {until for holder in holders for _, until in untils(holder)}
    return (at, *sorted(edge for edge in edges if at < edge < horizon))


class Allowed:
    """Where requests may go under one snapshot, at each of `moments` (UTC seconds, ascending), of which `now` has a literal."""

    def __init__(self, seen: Seen, formula: Formula, moments: tuple[float, ...], now: list[int]) -> None:
        self.seen = seen
        self.formula = formula
        self.moments = moments
        self.now = now
        policy = seen.snapshot.policy
        self.rules = policy.rules
        self.applies = {rule.id: self._applies(rule) for rule in policy.rules}
        self._verdicts: dict[tuple[object, ...], bool] = {}
        keepers = (policy.gateway, *policy.stores, *policy.sinks)
        stretches = [(keeper, *stretch) for keeper in keepers for stretch in self._stretches(keeper)]
        needed = [stretch for stretch in stretches if self.needs(stretch[0])]
        self.refused = formula.some(
            formula.every((self.during(first, last), -self.cleared(subject))) for _, subject, first, last in needed
        )
        self.keepers = tuple(
            Version(subject, -1, first, last, self._kept(subject, first, last)) for _, subject, first, last in stretches
        )
        self.deployments = tuple(
            Version(subject, index, first, last, self._sent(deployment, subject, first, last))
            for index, deployment in enumerate(policy.deployments)
            if self.serves(deployment)
            for subject, first, last in self._stretches(deployment)
        )
        self.routed = formula.some(version.used for version in self.deployments)

    def needs(self, keeper: Keeper) -> bool:
        """Whether content that may not be with `keeper` is refused: the gateway reads it, and without a record nothing is sent."""
        return keeper.kind == "gateway" or (keeper.kind == "sink" and keeper.name == LEDGER)

    def serves(self, deployment: Deployment) -> bool:
        """Whether it is switched on."""
        return deployment.enabled and deployment.endpoint.enabled

    # --- what is encoded -------------------------------------------------------------------------------------------------

    def _applies(self, rule: Rule) -> int:
        """A permit must surely match; a require or a forbid does where it may."""
        return self.seen.must(rule.when) if rule.effect is Effect.PERMIT else self.seen.may(rule.when)

    def _stretches(self, holder: Holder) -> Iterator[tuple[Subject, int, int]]:
        """The versions of a place, each with its first moment and the one after its last."""
        edges = sorted({until for _, until in untils(holder) if self.moments[0] < until <= self.moments[-1]})
        starts = [0, *(self.moments.index(edge) for edge in edges), len(self.moments)]
        for first, last in pairwise(starts):
            yield holder.as_of(self.moments[first]), first, last

    def _kept(self, subject: Subject, first: int, last: int) -> int:
        return self.formula.every((self.during(first, last), -self.refused, self.cleared(subject)))

    def _sent(self, deployment: Deployment, subject: Subject, first: int, last: int) -> int:
        """The same as the specification of ten lines: permitted, with nothing against it, asked for, and not refused here."""
        asked = self.seen.asks_for(deployment.model.id)
        allowed = (self.permitted(subject), self.cleared(subject))
        return self.formula.every((self.during(first, last), asked, -self.refused, *allowed))

    def permitted(self, subject: Subject) -> int:
        """A literal: some permit surely matches and covers `subject`."""
        return self.formula.some(self.permits(subject))

    def cleared(self, subject: Subject) -> int:
        """A literal: no require or forbid that may apply is against `subject`."""
        return -self.formula.some(self.restrictions(subject))

    def permits(self, subject: Subject) -> list[int]:
        """For each permit that covers `subject`, a literal: it surely matches."""
        permits = (rule for rule in self.rules if rule.effect is Effect.PERMIT)
        return [self.applies[rule.id] for rule in permits if self.spares(subject, rule)]

    def restrictions(self, subject: Subject) -> list[int]:
        """For each require and forbid that is against `subject`, a literal: it may apply."""
        others = (rule for rule in self.rules if rule.effect is not Effect.PERMIT)
        return [self.applies[rule.id] for rule in others if not self.spares(subject, rule)]

    def during(self, first: int, last: int) -> int:
        """A literal: it is one of the moments from `first` to before `last`."""
        return TRUE if (first, last) == (0, len(self.now)) else self.formula.some(self.now[first:last])

    def spares(self, subject: Subject, rule: Rule) -> bool:
        """Whether `rule`, where it applies, lets `subject` be: permits it, is met by it, or surely does not hit it.

        Remembered by what the rule looks at, as many places are alike.
        """
        looked_at = tuple(getattr(subject, test.attribute) for tests in rule.says for test in tests)
        key = (rule.id, subject.kind == "deployment", looked_at)
        found = self._verdicts.get(key)
        if found is None:
            forbids = rule.effect is Effect.FORBID
            found = self._verdicts[key] = not self.hits(subject, rule.says) if forbids else self.meets(subject, rule.says)
        return found

    def meets(self, subject: Subject, says: tuple[Alternative, ...]) -> bool:
        """Whether `subject` surely is as `says` wants it."""
        return meets(subject, says)

    def hits(self, subject: Subject, says: tuple[Alternative, ...]) -> bool:
        """Whether `subject` may be as `says`."""
        return hits(subject, says)

    # --- what can be asked -----------------------------------------------------------------------------------------------

    def surely_where(self, says: tuple[Alternative, ...]) -> int:
        """A literal: some deployment that is allowed surely is as `says`."""
        return self.formula.some(version.used for version in self.deployments if self.meets(version.subject, says))

    def anywhere_but(self, says: tuple[Alternative, ...]) -> list[Version]:
        """Deployments and keepers that are not surely as `says`."""
        return [version for version in (*self.deployments, *self.keepers) if not self.meets(version.subject, says)]

    def maybe_where(self, says: tuple[Alternative, ...]) -> list[Version]:
        """Deployments and keepers that may be as `says`."""
        return [version for version in (*self.deployments, *self.keepers) if self.hits(version.subject, says)]
