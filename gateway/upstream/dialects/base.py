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
    "best_of": (1,),
    "echo": (False,),
}
"""Values that say what holds anyway. A field with one of them is left out without a report."""


class Rule(Protocol):
    """Writes one top-level field of the client's body into the draft, in its own way. The value is never None."""

    def __call__(self, draft: Draft, name: str, value: Any, /) -> None: ...


def _nothing_more(draft: Draft) -> None:
    """Most dialects need no look at the whole."""


@dataclass(frozen=True)
class TextRules:
    """How text completions are asked for in a dialect; `fields` as a Dialect's.

    `one_text`: a request has one prompt, which is text. `says_limit`: what the API has as its longest answer by default is not what
    this upstream has, so it is written. `takes_suffix`: it fills gaps itself; where it does not, the model's template shows them.
    """

    fields: Mapping[str, str | Rule]
    takes_suffix: bool = False
    one_text: bool = False
    says_limit: bool = False


@dataclass(frozen=True)
class Dialect:
    """One way of speaking OpenAI's APIs: chat, `embeddings`, and `texts` where there are text completions.

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
    texts: TextRules | None = None
    paths: Mapping[str, str] = field(default_factory=dict)  # of APIs that are elsewhere than usual


def build(
    dialect: Dialect, deployment: Deployment, request: Request, secret: str | None, cached_from: int | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """The body to send, and the names of what was left out. Raises Unsendable.

    `secret` only keys the hashes that end users' names and beginnings of prompts are sent as; None where the endpoint has no
    credential. `cached_from`: of how many tokens on a prompt should be cached, where that has to be asked for; None: not at all.
    """
    draft = Draft(dialect, deployment, request, secret, cached_from)
    out = draft.out
    fill(draft, dialect.fields, _OURS)
    out["messages"] = convert(draft, dialect.messages, request.body.get("messages"))
    if "tools" not in out and not _NEED_TOOLS.isdisjoint(out):
        _without_tools(draft)
    ask_for_stream(draft)
    try:
        dialect.settle(draft)
        return orjson.dumps(out), tuple(draft.dropped)
    except TypeError as error:  # a number beyond 64 bits, or nested hundreds deep
        raise Unsendable(UNWRITABLE) from error


def fill(draft: Draft, fields: Mapping[str, str | Rule], ours: frozenset[str]) -> None:
    """Write what `fields` lists of the client's body; `ours` are the names that are written in another way."""
    out = draft.out
    for name, value in draft.request.body.items():
        if value is None or name in ours:  # OpenAI's clients write null for `not given`
            continue
        target = fields.get(name)
        if isinstance(target, str):
            out[target] = value
        elif target is None:
            if value not in NEUTRAL.get(name, ()):
                draft.drop(name)
        else:
            target(draft, name, value)


def ask_for_stream(draft: Draft) -> None:
    """A stream is asked for with its usage, which the gateway needs whether the client does or not."""
    out = draft.out
    if draft.request.stream:
        out["stream"] = True
        if draft.dialect.asks_usage:
            out["stream_options"] = {**out.get("stream_options", {}), "include_usage": True}
    else:
        out.pop("stream_options", None)


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
