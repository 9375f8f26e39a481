"""Requests for embeddings: one small table per dialect, beside that of chat, and the body that comes of it.

A vector is good only with others of its own kind. So what changes vectors is sent or refused, and never left out: `dimensions` that
a server does not know, token ids where only text is understood. What format the numbers come in changes nothing, so a server that
knows no base64 is asked for numbers, and vectors.py writes the base64.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.core.exchange import Ended, Fault, Outcome, Request, Scope
from gateway.core.policy import Deployment
from gateway.upstream.dialects.draft import Draft, Unsendable

if TYPE_CHECKING:
    from gateway.upstream.dialects.base import Dialect, Rule


@dataclass(frozen=True)
class EmbeddingRules:
    """How one server is asked. `fields`: as a dialect's own, beside `model`, `input` and `encoding_format`.

    `base64`: whether `encoding_format` is known. `ids`: whether token ids are taken for text.
    """

    fields: "Mapping[str, str | Rule]"
    base64: bool
    ids: bool


def build_embeddings(
    dialect: "Dialect", deployment: Deployment, request: Request, secret: str | None, _cached_from: int | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """The body to send, and the names of what was left out. Raises Unsendable. `secret` as `build` has it."""
    rules = dialect.embeddings
    draft = Draft(dialect, deployment, request, secret)
    if not rules.ids and _has_ids(request.body["input"]):
        raise Unsendable(TEXT_ONLY)
    draft.out["input"] = request.body["input"]
    for name, value in request.body.items():
        if value is None or name in _OURS:
            continue
        target = rules.fields.get(name)
        if isinstance(target, str):
            draft.out[target] = value
        elif target is not None:
            target(draft, name, value)
        elif name == "encoding_format" and rules.base64:
            draft.out[name] = value
        elif name != "encoding_format":
            draft.drop(name)
    try:
        return orjson.dumps(draft.out), tuple(draft.dropped)
    except TypeError as error:  # a number beyond 64 bits, or nested hundreds deep
        raise Unsendable(UNWRITABLE) from error


_OURS: Final = frozenset({"model", "input", "stream"})


def _has_ids(found: Any) -> bool:
    return isinstance(found, list) and not isinstance(found[0], str)


def one_length(draft: Draft, name: str, value: Any) -> None:
    """`dimensions` where vectors have the one length that they have. Raises Unsendable."""
    raise Unsendable(ONE_LENGTH)


def _refused(message: str, param: str | None = None, code: str = "unsupported_value") -> Outcome:
    return Outcome(Ended.REJECTED, Fault.CLIENT, Scope.REQUEST, code=code, message=message, param=param, sent=False)


UNWRITABLE: Final = _refused("the request holds a number or a nesting that can't be written as JSON again", code="invalid_request")
TEXT_ONLY: Final = _refused(
    "this model is served where only text is taken, and no token ids: send `input` as strings (LangChain's OpenAIEmbeddings does "
    "with `check_embedding_ctx_length=False`)",
    "input",
)
ONE_LENGTH: Final = _refused("this model is served where its vectors have one length only; leave out `dimensions`", "dimensions")
