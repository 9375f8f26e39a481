"""What a dialect is, and how a request body is built in it.

Rule 1: a body is built afresh from what the dialect's table lists, and serialised; nothing of the client's text is spliced in.
Rule 2: what is not listed is not sent, and is reported by its name; so is a value that was sent otherwise than it was written.
Rule 3: a value that needs no change is not copied, and no text is looked at: a plain request costs a few microseconds, and a
        100 kB prompt what its serialisation costs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from gateway.core.exchange import Ended, Fault, Outcome, Request, Scope
from gateway.core.policy import Deployment
from gateway.upstream.dialects.draft import Draft, Unsendable
from gateway.upstream.dialects.embedding import EmbeddingRules
from gateway.upstream.dialects.messages import MessageRules, convert

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "metadata": ({},),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "tool_choice": ("auto", "none"),
    "stream": (True, False),
}
"""Values that say what holds anyway. A field with one of them is left out without a report."""


class Rule(Protocol):
    """Writes one top-level field of the client's body into the draft, in its own way. The value is never None."""

    def __call__(self, draft: Draft, name: str, value: Any, /) -> None: ...


def _nothing_more(draft: Draft) -> None:
    """Most dialects need no look at the whole."""


@dataclass(frozen=True)
class Dialect:
    """One way of speaking OpenAI's APIs: chat, and `embeddings`.

    `fields` maps a client's top-level field to its name here, or to a Rule. `asks_usage`: whether `stream_options` is known.
    `settle` looks at the whole draft once, after all fields.
    """

    name: str
    fields: Mapping[str, str | Rule]
    messages: MessageRules
    embeddings: EmbeddingRules
    function_fields: frozenset[str] = frozenset({"name", "description", "parameters", "strict"})
    tool_kinds: frozenset[str] = frozenset({"function"})
    asks_usage: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    settle: Callable[[Draft], None] = field(default=_nothing_more)


def build(
    dialect: Dialect, deployment: Deployment, request: Request, secret: str | None, cached_from: int | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """The body to send, and the names of what was left out. Raises Unsendable.

    `secret` only keys the hashes that end users' names and beginnings of prompts are sent as; None where the endpoint has no
    credential. `cached_from`: of how many tokens on a prompt should be cached, where that has to be asked for; None: not at all.
    """
    draft = Draft(dialect, deployment, request, secret, cached_from)
    out, fields = draft.out, dialect.fields
    for name, value in request.body.items():
        if value is None or name in _OURS:  # OpenAI's clients write null for `not given`
            continue
        target = fields.get(name)
        if isinstance(target, str):
            out[target] = value
        elif target is None:
            if value not in NEUTRAL.get(name, ()):
                draft.drop(name)
        else:
            target(draft, name, value)
    out["messages"] = convert(draft, dialect.messages, request.body.get("messages"))
    if "tools" not in out and not _NEED_TOOLS.isdisjoint(out):
        _without_tools(draft)
    if request.stream:
        out["stream"] = True
        if dialect.asks_usage:
            out["stream_options"] = {**out.get("stream_options", {}), "include_usage": True}
    else:
        out.pop("stream_options", None)
    try:
        dialect.settle(draft)
        return orjson.dumps(out), tuple(draft.dropped)
    except TypeError as error:  # a number beyond 64 bits, or nested hundreds deep
        raise Unsendable(UNWRITABLE) from error


UNWRITABLE: Final = Outcome(
    Ended.REJECTED,
    Fault.CLIENT,
    Scope.REQUEST,
    code="invalid_request",
    message="the request holds a number or a nesting that can't be written as JSON again",
    sent=False,
)

_OURS: Final = frozenset({"model", "messages", "stream"})
_NEED_TOOLS: Final = frozenset({"tool_choice", "parallel_tool_calls"})


def _without_tools(draft: Draft) -> None:
    """Leave out what OpenAI and Mistral answer with 400 when there are no tools."""
    draft.out.pop("parallel_tool_calls", None)
    choice = draft.out.pop("tool_choice", None)
    if choice is not None and choice not in ("auto", "none"):
        draft.drop("tool_choice")
