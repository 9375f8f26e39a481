"""What of our own may touch a request's content: the gateway itself, its stores and sinks, and calls that it makes on the side.

A side call (a classifier, an embedding for a cache, a mirror) is routed by the same rules as the request, never around them: it may
go where a request with the same facts could go, had it asked for that model and that API. Live state, limits and rank are not
looked at: this says what is allowed, not what is up.
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.core.decide import Decision
from gateway.core.exchange import ANY, Needs, Request
from gateway.core.fit import fit, within_limits
from gateway.core.terms import EMBEDDINGS
from gateway.core.view import View

NOTHING: Final[frozenset[str]] = frozenset()
MARK: Final = "-side"  # behind the id of the request that it is made for, of which there is one such call at the most


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


def embedding_of(text: str, model: str, request: Request) -> Request:
    """The side call that has `model` embed `text`, which is of `request`: an exchange of its own, on the same key's behalf.

    Its facts are those of `request` but for what is asked and by which API, as `side` judges it. It is at most as long as all of
    `request`, and held for so much; what it costs in the end is what the provider reports.
    """
    facts = replace(request.facts, asked=frozenset((model,)), api=frozenset((EMBEDDINGS,)))
    return replace(
        request,
        id=request.id + MARK,
        api=EMBEDDINGS,
        asked=model,
        facts=facts,
        needs=Needs(EMBEDDINGS, prompt_tokens=request.needs.prompt_tokens),
        body={"model": model, "input": text},
        body_bytes=len(text.encode()),
        stream=False,
        wants_usage=False,
        disclose=NOTHING,
        wish=ANY,
        session="",
        side_of=request.id,
    )


def may_be_asked(view: View, call: Request) -> bool:
    """Whether any place at all may be asked a side call, and could answer it."""
    allowed = fit(view, view.eligible(call.facts).mask, call.needs)
    return within_limits(view, allowed, call.needs) != 0
