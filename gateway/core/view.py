"""A snapshot as of an instant, with each rule's verdict on each place worked out beforehand.

Labels stand still within a view, so a rule's verdict on a deployment is one bit, and deciding is and-ing rows of bits: that is why
rows are ints here and nowhere else. What is remembered (`_eligible`, `_ranked`) only saves work: it never changes an answer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

from gateway.core.facts import RequestFacts
from gateway.core.policy import Deployment, FactTest, Keeper, Rule, Snapshot, When
from gateway.core.terms import Because, Effect, Reason, Subject

MEMO_MAX = 4096  # entries; a policy distinguishes far fewer classes of facts, and a flood of odd ones must not eat the memory


@dataclass(frozen=True, slots=True)
class Row:
    """A rule with its verdicts: bit i of `spared` is `rule.spares(deployment i)`; `keepers` names the keepers it rules out."""

    rule: Rule
    spared: int
    keepers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What the rules leave for one class of facts. `mask` has a bit for each deployment that they, the name and the catalogue allow."""

    mask: int
    permitted: int
    permits: tuple[str, ...]  # ids of the permits that surely match
    against: tuple[Row, ...]  # requires and forbids that may match and spare not everything
    asked: int
    enabled: int
    gateway_rules: tuple[str, ...]  # rules that this gateway itself does not meet for such content: it may not process it
    keepers: frozenset[str]  # names of the stores and sinks that such content may be kept in

    def reasons(self, index: int, subject: Subject) -> tuple[Reason, ...]:
        """Every reason that the rules, the name and the catalogue have against deployment `index`."""
        bit = 1 << index
        found = [Reason(Because.RULE, row.rule.id, describe(row.rule, subject)) for row in self.against if not row.spared & bit]
        found += [
            Reason(Because.GATEWAY, f"gateway: {rule}", "such content may not be processed by this gateway")
            for rule in self.gateway_rules
        ]
        if not self.permitted & bit:
            found.append(Reason(Because.NO_PERMIT, Because.NO_PERMIT, "no permit surely matches this request and this deployment"))
        if not self.asked & bit:
            found.append(Reason(Because.ASKED, Because.ASKED, f"the name in the request does not stand for `{subject.model}`"))
        if not self.enabled & bit:
            found.append(Reason(Because.DISABLED, Because.DISABLED, "`enabled: false` in the catalogue"))
        return tuple(found)


def describe(rule: Rule, subject: Subject) -> str:
    """What was found and what `rule` wants of it, for people."""
    found = []
    for attribute in dict.fromkeys(test.attribute for tests in rule.says for test in tests):
        found.append(f"{attribute}: {_shown(getattr(subject, attribute))}")
    verb = "is not met by" if rule.effect is Effect.REQUIRE else "hits"
    return f"{rule.effect} {verb} {'; '.join(found)}. {rule.because}".rstrip()


def _shown(value: object) -> str:
    if value is None:
        return "nobody vouches for it"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    return str(value)


@dataclass(frozen=True, slots=True)
class Fit:
    """Of some mask, those that have all a request needs but perhaps the window; `windows` are (tokens, index)."""

    mask: int
    smallest: int  # tokens
    windows: tuple[tuple[int, int], ...]


class View:
    """A snapshot as of `instant` (UTC seconds), good for every instant before `valid_until`."""

    __slots__ = (
        "_asked", "_classes", "_eligible", "_ranked", "_ranked_for", "_tested", "all_mask", "dearest", "deployments", "enabled", "fits",
        "gateway", "instant", "keepers", "permits", "restrictions", "snapshot", "subjects", "valid_until",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, instant: float) -> None:
        policy = snapshot.policy
        self.snapshot = snapshot
        self.instant = instant
        self.valid_until = min((edge for edge in edges(snapshot) if edge > instant), default=float("inf"))
        self.deployments: tuple[Deployment, ...] = policy.deployments
        self.subjects = tuple(deployment.as_of(instant) for deployment in self.deployments)
        self.gateway = policy.gateway.as_of(instant)
        self.keepers = tuple(keeper.as_of(instant) for keeper in (*policy.stores, *policy.sinks))
        self.all_mask = (1 << len(self.deployments)) - 1
        self.enabled = _mask(d.enabled and d.endpoint.enabled for d in self.deployments)
        rows = [self._row(rule) for rule in policy.rules]
        self.permits = tuple(row for row in rows if row.rule.effect is Effect.PERMIT)
        self.restrictions = tuple(row for row in rows if row.rule.effect is not Effect.PERMIT)
        self._asked: dict[frozenset[str], int] = {}
        self._eligible: dict[object, Eligibility] = {}
        self.fits: dict[object, Fit] = {}  # what fit.py remembers
        self.dearest: dict[object, float] = {}
        self._ranked: dict[object, object] = {}
        self._ranked_for: object = None
        # Facts are told apart only as far as some rule does: two regions that lie in the same zones are one class.
        tests: dict[str, list[FactTest]] = {item.name: [] for item in fields(RequestFacts)}
        for row in rows:
            for test in row.rule.when:
                if test not in tests[test.fact]:
                    tests[test.fact].append(test)
        self._tested = tuple((fact, tuple(found)) for fact, found in tests.items() if found)
        self._classes: dict[str, dict[object, int]] = {fact: {} for fact, _ in self._tested}

    def _row(self, rule: Rule) -> Row:
        spared = _mask(rule.spares(subject) for subject in self.subjects)
        if rule.effect is Effect.PERMIT:  # keepers and the gateway need no permit
            return Row(rule, spared, frozenset())
        out = frozenset(subject.name for subject in (self.gateway, *self.keepers) if not rule.spares(subject))
        return Row(rule, spared, out)

    def asked_mask(self, asked: frozenset[str]) -> int:
        """The deployments of the models that every name in `asked` stands for."""
        mask = self._asked.get(asked)
        if mask is None:
            policy = self.snapshot.policy
            mask = self.all_mask
            for name in asked:
                models = policy.aliases.get(name, frozenset((name,)))
                mask &= _mask(deployment.model.id in models for deployment in self.deployments)
            if len(self._asked) < MEMO_MAX:
                self._asked[asked] = mask
        return mask

    def eligible(self, facts: RequestFacts) -> Eligibility:
        """What the rules allow for `facts`; remembered by the classes of facts that some rule tells apart."""
        key = (facts.asked, *[self._class(facts, fact, tests) for fact, tests in self._tested])
        found = self._eligible.get(key)
        if found is None:
            found = judge(self, facts)
            if len(self._eligible) >= MEMO_MAX:
                self._eligible.clear()
            self._eligible[key] = found
        return found

    def _class(self, facts: RequestFacts, fact: str, tests: tuple[FactTest, ...]) -> int:
        value = getattr(facts, fact)
        known = self._classes[fact]
        found = known.get(value)
        if found is None:
            found = 0
            for test in tests:
                found = found << 2 | test.may_hold(facts) << 1 | test.must_hold(facts)
            if len(known) >= MEMO_MAX:
                known.clear()
            known[value] = found
        return found

    def ranked(self, latencies: object) -> dict[object, object]:
        """Where `rank` keeps what it has worked out under these latencies; emptied whenever they change."""
        if self._ranked_for is not latencies or len(self._ranked) >= MEMO_MAX:
            self._ranked = {}
            self._ranked_for = latencies
        return self._ranked


def judge(view: View, facts: RequestFacts) -> Eligibility:
    """The rules, applied: what some permit surely allows, less what any require or forbid may take away."""
    permits = tuple(row for row in view.permits if _must(row.rule.when, facts))
    against = tuple(row for row in view.restrictions if _may(row.rule.when, facts))
    permitted = 0
    for row in permits:
        permitted |= row.spared
    allowed = permitted
    for row in against:
        allowed &= row.spared
    gateway_rules = tuple(row.rule.id for row in against if view.gateway.name in row.keepers)
    asked = view.asked_mask(facts.asked)
    ruled_out = frozenset(name for row in against for name in row.keepers)
    return Eligibility(
        mask=0 if gateway_rules else allowed & asked & view.enabled,
        permitted=permitted,
        permits=tuple(row.rule.id for row in permits if row.spared & asked),
        against=tuple(row for row in against if row.spared != view.all_mask or row.keepers),
        asked=asked,
        enabled=view.enabled,
        gateway_rules=gateway_rules,
        keepers=frozenset(keeper.name for keeper in view.keepers) - ruled_out,
    )


def _may(when: When, facts: RequestFacts) -> bool:
    # `policy.may_hold`, unrolled: all() over a generator costs as much as the tests
    for test in when:  # noqa: SIM110
        if not test.may_hold(facts):
            return False
    return True


def _must(when: When, facts: RequestFacts) -> bool:
    for test in when:  # noqa: SIM110
        if not test.must_hold(facts):
            return False
    return True


def _mask(bits: Iterable[bool]) -> int:
    mask = 0
    for index, bit in enumerate(bits):
        if bit:
            mask |= 1 << index
    return mask


def edges(snapshot: Snapshot) -> Iterator[float]:
    """Every instant (UTC seconds) at which some label of the policy goes stale or some assurance ends."""
    policy = snapshot.policy
    for keeper in (policy.gateway, *policy.stores, *policy.sinks):
        yield from _edges_of(keeper)
    for deployment in policy.deployments:
        yield from _edges_of(deployment)
    for model in policy.models.values():
        if model.origin.until is not None:
            yield model.origin.until


def _edges_of(holder: Keeper | Deployment) -> Iterator[float]:
    for places in (holder.processed_in, holder.operated_under):
        if places.until is not None:
            yield places.until
    for assurance in holder.assurances:
        if assurance.until is not None:
            yield assurance.until


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
