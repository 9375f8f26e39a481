"""What matters: where the content of each tenant goes, for each data class and each kind of region; and what of it is written down.

A matrix of cells: tenant x data class x class of regions. Countries that no rule, zone or fact of a tenant or key tells apart are
one class. A cell is pinned if a passing case of that tenant, whose data class is known to be that one and whose regions all lie in
that class, wants `routes` or `refused`, whatever else it gives: somebody has thought about where such content goes, and would hear
of a change. Where a request says nothing and its tenant's facts leave several values open, that is a cell too: nobody declares what
nobody has to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.config.cases import Case
from gateway.config.check import facts_of as facts_of_case
from gateway.core.decide import decide
from gateway.core.facts import FactError, RequestFacts
from gateway.core.live import ALL_WELL
from gateway.core.policy import Key, Snapshot
from gateway.core.view import View
from gateway.coverage.needing import Need
from gateway.coverage.share import Share
from gateway.coverage.worlds import value_classes, widest_name
from gateway.proof.counterexample import given
from gateway.proof.space import usable_keys
from gateway.proof.universe import Sending, facts_of, said

MEMBERS_SHOWN: Final = 3  # of a class of countries: enough to know it again


@dataclass(frozen=True, slots=True)
class Kind:
    """A row or column: values of a fact that are alike (`known`), or all that it may be where nothing is said."""

    name: str
    values: frozenset[str]
    known: bool = True

    def holds(self, values: frozenset[str]) -> bool:
        """Whether a fact with these possible values is of this kind."""
        return bool(values) and values <= self.values if self.known else values == self.values


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, with a plain request in it: the first key that can make one, and the name that stands for most deployments."""

    tenant: str
    data_class: Kind
    region: Kind
    sending: Sending

    def holds(self, facts: RequestFacts) -> bool:
        """Whether a request with these facts falls into this cell."""
        return self.tenant in facts.tenant and self.data_class.holds(facts.data_class) and self.region.holds(facts.region)


@dataclass(frozen=True, slots=True)
class Unpinned:
    """A cell that no case pins, and what would happen there: routes, best first, or the words of the refusal."""

    cell: Cell
    given: Mapping[str, object]  # as a case or `gateway policy explain` takes it
    routes: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.cell.tenant}, {self.cell.data_class.name}, {self.cell.region.name}"

    def as_record(self) -> dict[str, object]:
        """The cell as JSON can hold it."""
        return {
            "tenant": self.cell.tenant,
            "data_class": self.cell.data_class.name,
            "region": self.cell.region.name,
            "given": dict(self.given),
            "routes": list(self.routes),
            "refused": list(self.refused),
        }


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many cells there are, and those that no case pins, tenant by tenant."""

    total: int
    unpinned: tuple[Unpinned, ...]

    @property
    def share(self) -> Share:
        return Share(self.total, tuple(one.name for one in self.unpinned))

    def as_record(self) -> dict[str, object]:
        """The matrix as JSON can hold it."""
        return {**self.share.as_record(), "missing": [one.as_record() for one in self.unpinned]}


def outcome_coverage(snapshot: Snapshot, passing: Iterable[Case], at: float) -> Outcomes:
    """The matrix as of `at` (UTC seconds), against the `passing` cases."""
    pinning = [facts for case in passing if (facts := _pinning(snapshot, case)) is not None]
    every, view = cells(snapshot, at), View(snapshot, at)
    return Outcomes(len(every), tuple(_told(view, cell) for cell in every if not any(cell.holds(facts) for facts in pinning)))


def cells(snapshot: Snapshot, at: float) -> list[Cell]:
    """Every cell that a request with a key usable at `at` (UTC seconds) falls into, tenant by tenant."""
    data_classes = [frozenset((name,)) for name in snapshot.policy.vocabulary.data_classes]
    regions = value_classes(snapshot, "region")
    asked = widest_name(snapshot.policy)
    found: dict[tuple[str, Kind, Kind], Cell] = {}
    for key in sorted(usable_keys(snapshot, at), key=lambda key: (key.tenant, key.id)) if asked else ():
        columns = list(_kinds(snapshot, key, "region", regions))
        for data_class, said_class in _kinds(snapshot, key, "data_class", data_classes):
            for region, said_region in columns:
                declared = {"data_class": said_class, "region": said_region}
                sending = Sending(key.id, asked, {fact: values for fact, values in declared.items() if values is not None})
                found.setdefault((key.tenant, data_class, region), Cell(key.tenant, data_class, region, sending))
    return list(found.values())


def _kinds(
    snapshot: Snapshot, key: Key, fact: str, classes: Sequence[frozenset[str]]
) -> Iterator[tuple[Kind, frozenset[str] | None]]:
    """The kinds that `fact` can be of in requests with `key`, each with what is declared for it (None: nothing)."""
    says = said(snapshot, key, fact)
    within, undeclared = says.within or frozenset(), says.undeclared
    for members in classes:
        if undeclared <= members:
            yield Kind(called(snapshot, members), members), None
        elif members & within:
            yield Kind(called(snapshot, members), members), frozenset((min(members & within),))
    if not any(undeclared <= members for members in classes):
        yield Kind(f"not said (any of {len(undeclared)})", undeclared, known=False), None


def called(snapshot: Snapshot, members: frozenset[str]) -> str:
    """A class of values, for people: `DE`, `UK`, `EU (AT, BE, BG and 23 more)`."""
    if len(members) == 1:
        return min(members)
    zones = snapshot.policy.vocabulary.zones
    around = min((name for name, zone in zones.items() if members <= zone), key=lambda name: (len(zones[name]), name), default="")
    if around and members == zones[around]:
        return around
    some = ", ".join(sorted(members)[:MEMBERS_SHOWN])
    more = f" and {len(members) - MEMBERS_SHOWN} more" if len(members) > MEMBERS_SHOWN else ""
    return f"{around} ({some}{more})" if around else some + more


def _pinning(snapshot: Snapshot, case: Case) -> RequestFacts | None:
    """The facts of a case that says where content goes, or that it goes nowhere; None of any other."""
    if case.want.routes is None and case.want.refused is None:
        return None
    try:
        return facts_of_case(snapshot, case.given)
    except FactError:
        return None


def _told(view: View, cell: Cell) -> Unpinned:
    sending = cell.sending
    decision = decide(view, facts_of(view.snapshot, sending), Need().needs(sending), ALL_WELL, 0)
    routes = tuple(route.deployment.id for route in decision.routes)
    return Unpinned(cell, given(sending, view.snapshot, None), routes, () if routes else tuple(map(str, decision.refusing_rules)))
