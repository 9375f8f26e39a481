"""A snapshot as of an instant, with each rule's verdict on each place worked out beforehand.

Labels stand still within a view, so a rule's verdict on a deployment is one bit, and deciding is and-ing masks. Rules are taken in
the order of their ids, so that the order of documents changes nothing. What is remembered only saves work: it never changes an
answer, and it goes when the view does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.core.applying import Applying, Holds
from gateway.core.facts import RequestFacts
from gateway.core.masks import bits, where
from gateway.core.memo import Memo
from gateway.core.order import Order, Route
from gateway.core.policy import Deployment, Keeper, Rule, Snapshot, resolve
from gateway.core.terms import LEDGER, Effect


@dataclass(frozen=True, slots=True)
class Row:
    """A rule with its verdicts: bit i of `spared` is `rule.spares(deployment i)`; `keepers` names the keepers it rules out."""

    rule: Rule
    spared: int
    keepers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What the rules leave for one class of facts; `mask` has a bit for each deployment they, the name and the catalogue allow."""

    mask: int
    permitted: int
    permits: tuple[str, ...]  # ids of the permits that surely match
    against: tuple[Row, ...]  # requires and forbids that may match and spare not everything
    asked: int
    enabled: int
    gateway_rules: tuple[str, ...]  # rules that the gateway or its ledger does not meet: it may not process such content
    keepers: frozenset[str]  # names of the stores and sinks that such content may be kept in


@dataclass(frozen=True, slots=True)
class Fit:
    """Of some mask, those that have all a request needs but perhaps the window: `masks[n]` take `sizes[n]` tokens, ascending."""

    sizes: tuple[int, ...]
    masks: tuple[int, ...]  # one more than sizes: nothing takes more than the last


class View:
    """A snapshot as of `instant` (UTC seconds), good for every instant before `valid_until`."""

    __slots__ = (
        "_asked", "_eligible", "_ranked", "_ranked_for", "_rules", "all_mask", "applying", "caching", "dearest", "deployments",
        "enabled", "fits", "gateway", "indices", "indispensable", "instant", "keepers", "limit_usd", "permits", "restrictions",
        "routes", "snapshot", "subjects", "valid_until",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, instant: float) -> None:
        policy = snapshot.policy
        self.snapshot = snapshot
        self.instant = instant
        self.valid_until = min((edge for edge in edges(snapshot) if edge > instant), default=float("inf"))
        self.deployments: tuple[Deployment, ...] = policy.deployments
        self.routes = tuple(Route(index, deployment) for index, deployment in enumerate(self.deployments))
        self.indices = {deployment.id: index for index, deployment in enumerate(self.deployments)}
        self.subjects = tuple(deployment.as_of(instant) for deployment in self.deployments)
        self.gateway = policy.gateway.as_of(instant)
        self.indispensable = {self.gateway.name} | {sink.name for sink in policy.sinks if sink.name == LEDGER}
        self.keepers = tuple(keeper.as_of(instant) for keeper in (*policy.stores, *policy.sinks))
        self.all_mask = (1 << len(self.deployments)) - 1
        prices = [price for d in self.deployments if (price := d.tariff.marginal) is not None]
        # USD per million tokens in and out, at the most: no request costs more than this anywhere
        self.dearest = float(max((p.input for p in prices), default=0)), float(max((p.output for p in prices), default=0))
        limit = policy.limits.usd_per_request
        self.limit_usd = None if limit is None else float(limit)  # a request; read for each, so not made of a Decimal each time
        self.enabled = where(d.enabled and d.endpoint.enabled for d in self.deployments)
        rows = [self._row(rule) for rule in sorted(policy.rules, key=lambda rule: rule.id)]
        self.permits = tuple(row for row in rows if row.rule.effect is Effect.PERMIT)
        self.restrictions = tuple(row for row in rows if row.rule.effect is not Effect.PERMIT)
        self._rules = (1 << len(rows)) - 1
        self.applying = Applying(  # its lines: permits, restrictions, preferences
            [(row.rule.when, Holds.MUST) for row in self.permits]
            + [(row.rule.when, Holds.MAY) for row in self.restrictions]
            + [(preference.when, Holds.BOTH) for preference in policy.preferences]
        )
        self.caching = Applying([(entry.when, Holds.BOTH) for entry in policy.caching])
        self._asked: Memo[frozenset[str], int] = Memo()
        self._eligible: Memo[tuple[int, frozenset[str]], Eligibility] = Memo()
        self._ranked: Memo[object, Order] = Memo()
        self._ranked_for: object = None
        self.fits: Memo[object, Fit] = Memo()  # what fit.py remembers

    def _row(self, rule: Rule) -> Row:
        spared = where(rule.spares(subject) for subject in self.subjects)
        if rule.effect is Effect.PERMIT:  # keepers and the gateway need no permit
            return Row(rule, spared, frozenset())
        out = frozenset(subject.name for subject in (self.gateway, *self.keepers) if not rule.spares(subject))
        return Row(rule, spared, out)

    def asked_mask(self, asked: frozenset[str]) -> int:
        """The deployments of the models that every name in `asked` stands for; no name stands for nothing."""
        mask = self._asked.get(asked)
        if mask is None:
            mask = self.all_mask if asked else 0
            for name in asked:
                resolved = resolve(self.snapshot.policy, name)
                mask &= where(resolved is not None and d.model.id in resolved.models for d in self.deployments)
            self._asked.keep(asked, mask)
        return mask

    def eligible(self, facts: RequestFacts) -> Eligibility:
        """What the rules allow for `facts`."""
        return self.judged(self.applying(facts), facts.asked)

    def judged(self, applying: int, asked: frozenset[str]) -> Eligibility:
        """What the rules among the lines `applying` allow of what is `asked`. Requests that share both are judged once."""
        key = (applying & self._rules, asked)
        found = self._eligible.get(key)
        if found is None:
            found = self._eligible.keep(key, judge(self, *key))
        return found

    def preferences(self, applying: int) -> int:
        """The preferences among the lines `applying`: bit i is the policy's preference i."""
        return applying >> self._rules.bit_length()

    def ranked(self, latencies: object) -> Memo[object, Order]:
        """Where `rank` keeps what it has worked out under these latencies, which nobody changes in place; emptied with others."""
        if self._ranked_for is not latencies:
            self._ranked = Memo()
            self._ranked_for = latencies
        return self._ranked


def judge(view: View, rules: int, asked_for: frozenset[str]) -> Eligibility:
    """The rules that apply, applied: what some permit allows, less what any require or forbid takes away."""
    count = len(view.permits)
    permits = [view.permits[line] for line in bits(rules & ((1 << count) - 1))]
    against = [view.restrictions[line] for line in bits(rules >> count)]
    asked = view.asked_mask(asked_for)
    permitted = 0
    for row in permits:
        permitted |= row.spared
    allowed = permitted & asked & view.enabled
    for row in against:
        allowed &= row.spared
    gateway_rules = tuple(row.rule.id for row in against if row.keepers & view.indispensable)
    ruled_out = frozenset(name for row in against for name in row.keepers)
    return Eligibility(
        mask=0 if gateway_rules else allowed,
        permitted=permitted,
        permits=tuple(row.rule.id for row in permits if row.spared & asked),
        against=tuple(row for row in against if row.spared != view.all_mask or row.keepers),
        asked=asked,
        enabled=view.enabled,
        gateway_rules=gateway_rules,
        keepers=frozenset(keeper.name for keeper in view.keepers) - ruled_out,
    )


def edges(snapshot: Snapshot) -> Iterator[float]:
    """Every instant (UTC seconds) at which some label of the policy goes stale or some assurance ends."""
    policy = snapshot.policy
    for keeper in (policy.gateway, *policy.stores, *policy.sinks):
        yield from _edges_of(keeper)
    for deployment in policy.deployments:
        yield from _edges_of(deployment)
        if (until := deployment.model.origin.until) is not None:
            yield until


def _edges_of(holder: Keeper | Deployment) -> Iterator[float]:
    untils = [holder.processed_in.until, holder.operated_under.until, *(assurance.until for assurance in holder.assurances)]
    yield from (until for until in untils if until is not None)


@dataclass(slots=True)
class Timeline:
    """The views of one snapshot over time. A clock that steps back changes nothing."""

    snapshot: Snapshot
    _view: View | None = field(default=None, init=False)

    def at(self, instant: float) -> View:
        """The view to pin for a request that starts at `instant` (UTC seconds)."""
        view = self._view
        if view is None or instant >= view.valid_until:
            view = self._view = View(self.snapshot, instant)
        return view
