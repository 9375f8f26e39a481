"""Recorded decisions made again: under the snapshot that they were made under, and under another one.

What a recorded decision was made under is looked for in the history beside the ledger, and in a folder that is given. Facts are as
they were settled then; labels are as of then; a key that the new access document does not have is refused, as it would be.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from gateway.config.compile import load
from gateway.core.decide import Decision
from gateway.core.policy import Deployment, Snapshot
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.ledger.decisions import Damaged, Recorded
from gateway.ledger.replay import Inputs, Kept, Replay, Unreadable, inputs
from gateway.reload.history import History, short

NEWLY_ALLOWED: Final = "newly_allowed"
NEWLY_REFUSED: Final = "newly_refused"
MOVED: Final = "moved"
DEARER: Final = "dearer"
CHEAPER: Final = "cheaper"
KINDS: Final = (NEWLY_ALLOWED, NEWLY_REFUSED, MOVED, DEARER, CHEAPER)
LISTED_MAX: Final = 100
EXAMPLES_MAX: Final = 3  # of each kind; ids, for `gateway policy explain --decision`
USAGE: Final = ("uncached", "cached", "cache_write", "output", "reasoning", "reported")


class Snapshots:
    """The snapshots that decisions name, from `folder` (the policy of today, if it is that) and the history of `state`."""

    def __init__(self, state: Path | None, given: Iterable[Snapshot] = ()) -> None:
        self._history = None if state is None else History(state)
        self._found: dict[tuple[str, str], Snapshot | None] = {(one.policy.hash, one.access.hash): one for one in given}

    def of(self, decision: dict[str, Any]) -> Snapshot | None:
        """The snapshot that a record (a line's `decision`) names, or None if nobody has kept it."""
        policy, access = str(decision.get("policy", "")), str(decision.get("access", ""))
        if (policy, access) not in self._found:
            self._found[policy, access] = self._kept(policy, access)
        return self._found[policy, access]

    def _kept(self, policy: str, access: str) -> Snapshot | None:
        folder = None if self._history is None else self._history.folder(short(policy, access))
        if folder is None or not folder.is_dir():
            return None
        snapshot = load(folder).snapshot
        same = snapshot is not None and (snapshot.policy.hash, snapshot.access.hash) == (policy, access)
        return snapshot if same else None


@dataclass(slots=True)
class Listed:
    """Things that were found: how many, and the first of them. A ledger may be all wrong, and nobody reads a million lines."""

    count: int = 0
    some: list[str] = field(default_factory=list)

    @property
    def more(self) -> int:
        return self.count - len(self.some)

    def add(self, what: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.some) < LISTED_MAX:
            self.some.append(what)

    def as_record(self) -> dict[str, Any]:
        """The list as JSON can hold it."""
        return {"count": self.count, "some": self.some}


@dataclass(slots=True)
class Tally:
    """Decisions of one kind: how many, of whom, and the ids of some."""

    count: int = 0
    tenants: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, recorded: Recorded, before: str, after: str) -> None:
        """Count one. `before` and `after` are what became of it, for people."""
        self.count += 1
        self.tenants[recorded.tenant] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append({"id": recorded.id, "tenant": recorded.tenant, "before": before, "after": after})

    def as_record(self) -> dict[str, Any]:
        """The tally as JSON can hold it."""
        return {"count": self.count, "tenants": dict(self.tenants.most_common()), "examples": self.examples}


@dataclass(slots=True)
class Replayed:
    """What making decisions again came to. Money in USD, of the `costed` decisions that were served, with usage, then and now."""

    decisions: int = 0
    verified: int = 0  # made again under their own snapshot, to the same bytes
    differing: Listed = field(default_factory=Listed)  # ids: made again, and not the same
    missing: Counter[str] = field(default_factory=Counter)  # what a decision needs to be made again and nobody has
    damaged: Listed = field(default_factory=Listed)  # lines that can't be relied on, with their places
    tallies: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    rerouted: int = 0  # to another deployment in the same countries
    costed: int = 0
    cost_before: Decimal = Decimal(0)
    cost_after: Decimal = Decimal(0)

    @property
    def sound(self) -> bool:
        """Whether every decision could be made again and is the same."""
        return not (self.differing.count or self.missing or self.damaged.count)

    @property
    def changes(self) -> bool:
        """Whether anything would come otherwise."""
        return bool(self.rerouted) or any(tally.count for tally in self.tallies.values())

    def as_record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "decisions": self.decisions,
            "verified": self.verified,
            "differing": self.differing.as_record(),
            "missing": dict(self.missing),
            "damaged": self.damaged.as_record(),
            **{kind: tally.as_record() for kind, tally in self.tallies.items()},
            "rerouted": self.rerouted,
            "cost_usd": {
                "decisions": self.costed,
                "before": f"{self.cost_before:f}",
                "after": f"{self.cost_after:f}",
                "difference": f"{self.cost_after - self.cost_before:f}",
            },
        }


def replay(found: Iterable[Recorded | Damaged], snapshots: Snapshots, new: Snapshot | None = None) -> Replayed:
    """Make all decisions again: each under its own snapshot, to verify it, and under `new`, to see what would come."""
    summary = Replayed()
    own: dict[int, Replay] = {}
    views = None if new is None else Kept(lambda instant: View(new, instant))
    for recorded in found:
        if isinstance(recorded, Damaged):
            summary.damaged.add(f"{recorded.path}:{recorded.number}: {recorded.why}")
            continue
        summary.decisions += 1
        snapshot = snapshots.of(recorded.decision)
        before = None
        try:
            if snapshot is None:
                names = (f"{kind} {str(recorded.decision.get(kind))[:12]}" for kind in ("policy", "access"))
                summary.missing[" with ".join(names)] += 1
            else:
                if id(snapshot) not in own:
                    own[id(snapshot)] = Replay(snapshot)
                before, same = own[id(snapshot)].made(recorded.decision, recorded.text)
                if same:
                    summary.verified += 1
                else:
                    summary.differing.add(recorded.id)
            if new is not None and views is not None:
                given = inputs(recorded.decision, new.policy.vocabulary)
                _compare(summary, recorded, before, _under(new, given, views.at(given.instant)))
        except Unreadable as error:
            summary.damaged.add(f"{recorded.path}:{recorded.number}: {error}")
    return summary


def _under(new: Snapshot, given: Inputs, view: View) -> Decision | None:
    """The decision under `new`; None where nobody would be let in to have one made."""
    keys = [new.access.keys.get(name) for name in given.facts.key]
    known = all(key is not None and not key.revoked and key.tenant in given.facts.tenant for key in keys)
    return given.decided(view) if known else None


def _compare(summary: Replayed, recorded: Recorded, before: Decision | None, after: Decision | None) -> None:
    was = [str(name) for name in recorded.decision.get("routes", ())]
    now = [] if after is None else [route.deployment.id for route in after.routes]
    if not was and not now:
        return
    if not was:
        summary.tallies[NEWLY_ALLOWED].add(recorded, "refused", now[0])
        return
    if not now:
        summary.tallies[NEWLY_REFUSED].add(recorded, was[0], "no such key" if after is None else _why(after))
        return
    assert after is not None
    first = after.routes[0].deployment
    old = _deployment(before, was[0]) or _deployment(after, was[0])
    places = None if old is None else _places(old, recorded.decision["instant"])
    if was[0] != now[0] or places != _places(first, recorded.decision["instant"]):
        there = _places(first, recorded.decision["instant"])
        if places != there:
            summary.tallies[MOVED].add(recorded, f"{was[0]} ({places or 'nobody knows where'})", f"{now[0]} ({there})")
        else:
            summary.rerouted += 1
    _cost(summary, recorded, was == now, after)


def _cost(summary: Replayed, recorded: Recorded, same_routes: bool, after: Decision) -> None:
    """Compare what was paid with what the same tokens cost where the request would go first now."""
    settled = recorded.settled or {}
    usage = settled.get("usage")
    if settled.get("result") != "served" or not isinstance(usage, dict):
        return
    served = str(settled["attempts"][-1]["route"]) if settled.get("attempts") else ""
    route = next((route for route in after.routes if same_routes and route.deployment.id == served), after.routes[0])
    before = Decimal(str(settled["cost_usd"]))
    now = route.deployment.tariff.settle(Usage(**{name: usage[name] for name in USAGE})).usd
    summary.costed += 1
    summary.cost_before += before
    summary.cost_after += now
    if now != before:
        kind = DEARER if now > before else CHEAPER
        summary.tallies[kind].add(recorded, f"{served} at {before:f} USD", f"{route.deployment.id} at {now:f} USD")


def _deployment(decision: Decision | None, name: str) -> Deployment | None:
    if decision is None:
        return None
    return next((one for one in decision.view.deployments if one.id == name), None)


def _places(deployment: Deployment, instant: float) -> str:
    countries = deployment.processed_in.at(instant)
    return "anywhere" if countries is None else ", ".join(sorted(countries))


def _why(decision: Decision) -> str:
    return "refused: " + (", ".join(sorted(decision.refusing_rules)) or "nothing is left")
