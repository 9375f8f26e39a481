"""What of our own may touch a request's content: the gateway itself, its stores and sinks, and calls that it makes on the side.

A side call (a classifier, an embedding for a cache, a mirror) is routed by the same rules as the request, never around them: it may
go where a request with the same facts could go, had it asked for that model and that API. Live state, limits and rank are not
looked at: this says what is allowed, not what is up.
"""

from dataclasses import dataclass, replace

from gateway.core.decide import Decision


@dataclass(frozen=True, slots=True)
class Call:
    """A deployment that may be called on the side, and the APIs that its labels hold for."""

    deployment: str
    apis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """`here`: whether this gateway may process the request at all; if not, `rules` say why and it may use nothing."""

    here: bool
    rules: tuple[str, ...]
    stores: tuple[str, ...]
    sinks: tuple[str, ...]
    calls: tuple[Call, ...]


def side(decision: Decision) -> Side:
    """What the request of `decision` may use beside its routes."""
    eligibility = decision.eligibility
    if eligibility.gateway_rules:
        return Side(False, eligibility.gateway_rules, (), (), ())
    kept = [keeper for keeper in decision.view.keepers if keeper.name in eligibility.keepers]
    return Side(
        here=True,
        rules=(),
        stores=tuple(keeper.name for keeper in kept if keeper.kind == "store"),
        sinks=tuple(keeper.name for keeper in kept if keeper.kind == "sink"),
        calls=_calls(decision),
    )


def _calls(decision: Decision) -> tuple[Call, ...]:
    view = decision.view
    found = []
    for index, subject in enumerate(view.subjects):
        asked = frozenset((subject.model,))
        apis = [
            api
            for api in sorted(subject.apis)
            if view.eligible(replace(decision.facts, asked=asked, api=frozenset((api,)))).mask >> index & 1
        ]
        if apis:
            found.append(Call(view.deployments[index].id, tuple(apis)))
    return tuple(found)
