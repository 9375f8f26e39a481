"""Why a route stands where it stands: what each preference made of it, and which other routes that put behind it.

`rank` orders by the same keys in the same order; a property holds the two against each other.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.core.decide import Decision
from gateway.core.estimate import money
from gateway.core.masks import bits
from gateway.core.policy import Preference, surely_meets
from gateway.core.rank import Basis, basis, coldness, value, weighed

WARMTH: Final = "warmth"  # no preference of the policy: it breaks the ties of them all


@dataclass(frozen=True, slots=True)
class Weighed:
    """One value that a preference weighs. `share`: 0 is the best of what is allowed, 1 the worst; what is unknown is worst."""

    name: str  # cost, latency, score.NAME
    value: str  # USD, ms, or the score; "" where it is not known
    share: float
    weight: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What one preference made of one route: less is better. `parts` are empty where it only asks whether a label is met."""

    preference: str
    key: float
    parts: tuple[Weighed, ...]
    ahead_of: tuple[str, ...]  # routes that are behind this one because of it


def ranked_on(decision: Decision) -> tuple[int, int]:
    """Tokens in and out that prices are compared on: rounded up, so that requests of about one size share an order."""
    on = _basis(decision)
    return on.prompt, on.output


def _basis(decision: Decision) -> Basis:
    return basis(decision.view, decision.needs, decision.live)


def standings(decision: Decision) -> dict[int, tuple[Standing, ...]]:
    """For each route, by its index: what each preference that applies made of it, in their order; last, what warmth did, if any."""
    view, on = decision.view, _basis(decision)
    allowed = bits(decision.fitting)
    lines = bits(view.preferences(view.applying(decision.facts)))
    columns = [_keys(decision, allowed, view.snapshot.policy.preferences[line]) for line in lines]
    routes = [(route.index, route.deployment.id) for route in decision.routes]
    found = {}
    for index, _ in routes:
        told = []
        tied = [other for other in routes if other[0] != index]  # with all keys before this one
        for line, keys in zip(lines, columns, strict=True):
            preference = view.snapshot.policy.preferences[line]
            behind = tuple(name for other, name in tied if keys[other] > keys[index])
            tied = [other for other in tied if keys[other[0]] == keys[index]]
            told.append(Standing(preference.id, keys[index], _parts(decision, allowed, index, preference), behind))
        if on.warm:
            behind = tuple(name for other, name in tied if coldness(on, other) > coldness(on, index))
            told.append(Standing(WARMTH, coldness(on, index), (), behind))
        found[index] = tuple(told)
    return found


def _keys(decision: Decision, allowed: list[int], preference: Preference) -> dict[int, float]:
    if preference.rank:
        return weighed(decision.view, allowed, preference.rank, _basis(decision))
    subjects = decision.view.subjects
    return {index: 0.0 if surely_meets(subjects[index], preference.prefer) else 1.0 for index in allowed}


def _parts(decision: Decision, allowed: list[int], index: int, preference: Preference) -> tuple[Weighed, ...]:
    on = _basis(decision)
    return tuple(
        Weighed(
            name,
            _shown(name, value(decision.view, index, name, on)),
            weighed(decision.view, allowed, {name: 1.0}, on)[index],
            weight,
        )
        for name, weight in preference.rank.items()
    )


def _shown(name: str, found: float | None) -> str:
    if found is None:
        return ""
    number = -found + 0.0 if name.startswith("score.") else found  # `value` turns scores round
    return money(Decimal(f"{number:.10g}"))  # without the dust of binary fractions
