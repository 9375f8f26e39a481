"""Bodies of text completions: the prompt, and what the dialect's table lists. The rules of base.py hold."""

import re
from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Fault, Outcome, Request, Scope
from gateway.core.policy import Deployment
from gateway.core.rank import COMPLETION_TOKENS
from gateway.upstream.dialects.base import UNWRITABLE, Dialect, ask_for_stream, fill
from gateway.upstream.dialects.draft import Draft, Unsendable

_OURS: Final = frozenset({"model", "prompt", "stream", "suffix"})


def build_text(
    dialect: Dialect, deployment: Deployment, request: Request, secret: str | None, cached_from: int | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """The body to send, and the names of what was left out, as `build` for chat. Raises Unsendable."""
    rules = dialect.texts
    if rules is None:
        raise Unsendable(UNKNOWN)
    draft = Draft(dialect, deployment, request, secret, cached_from)
    out, prompt, suffix = draft.out, request.body.get("prompt"), request.body.get("suffix")
    out["prompt"] = _one_text(prompt) if rules.one_text else prompt
    fill(draft, rules.fields, _OURS)
    if suffix and deployment.model.fim and not rules.takes_suffix:
        out["prompt"] = _around_a_gap(deployment.model.fim, prompt, suffix)
    elif suffix:
        out["suffix"] = suffix
    if rules.says_limit:
        out.setdefault("max_tokens", COMPLETION_TOKENS)
    ask_for_stream(draft)
    try:
        return orjson.dumps(out), tuple(draft.dropped)
    except TypeError as error:
        raise Unsendable(UNWRITABLE) from error


def _one_text(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise Unsendable(NOT_ONE_TEXT)
    return prompt


def _around_a_gap(template: str, prompt: Any, suffix: str) -> Any:
    """Each prompt and the suffix, as the model was taught to see a gap between them."""
    if isinstance(prompt, list):
        return [_around_a_gap(template, one, suffix) for one in prompt]
    texts: dict[str, str] = {"{prefix}": prompt, "{suffix}": suffix}
    return "".join(texts.get(piece, piece) for piece in _PLACES.split(template))


_PLACES: Final = re.compile(r"(\{prefix\}|\{suffix\})")

UNKNOWN: Final = Outcome(Ended.FAILED, Fault.OURS, Scope.REQUEST, code="unknown_api", permanent=True, sent=False)
"""An endpoint whose `apis` list what its dialect does not have."""

NOT_ONE_TEXT: Final = Outcome(
    Ended.FAILED,  # another route may take it
    Fault.CLIENT,
    Scope.REQUEST,
    code="one_prompt_only",
    message="`prompt` must be one text here: the model's provider takes neither several in one request nor token ids",
    param="prompt",
    sent=False,
)
