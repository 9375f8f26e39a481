"""Z.ai and Zhipu (GLM). Narrow ranges, one stop sequence, `auto` for tools, no JSON schema, text as one string.

End users go as a hash: a `user_id` has 6 to 128 characters, and a name or address of a person is nobody's business there.
"""

from typing import Any, Final

from gateway.upstream.dialects.base import Dialect
from gateway.upstream.dialects.draft import Draft
from gateway.upstream.dialects.embedding import EmbeddingRules
from gateway.upstream.dialects.fields import (
    clamped,
    hashed_user,
    json_object_only,
    kept,
    max_tokens,
    one_stop,
    passed,
    stream_options,
    tools,
)
from gateway.upstream.dialects.messages import MessageRules


def choice(draft: Draft, name: str, value: Any) -> None:
    """Only `auto` is documented. `none` is kept by sending no tools (see settle); what demands a call is reported."""
    if value == "none":
        draft.out[name] = "none"
    else:
        if value != "auto":
            draft.drop(name)
        draft.out[name] = "auto"


def effort(draft: Draft, name: str, value: Any) -> None:
    """Reasoning is on or off here. A client's own `thinking`, which comes closer, wins."""
    if "reasoning" not in draft.deployment.abilities:
        if value not in ("none", "minimal"):
            draft.drop(name)
    elif "thinking" not in draft.out:
        draft.out["thinking"] = {"type": "disabled" if value in ("none", "minimal") else "enabled"}


def settle(draft: Draft) -> None:
    out = draft.out
    if out.get("tool_choice") == "none":
        del out["tool_choice"], out["tools"]
    if "tools" in out and "stream" in out:
        out.setdefault("tool_stream", True)  # without it a streamed call comes in one piece, or with some models not at all


ZAI: Final = Dialect(
    name="zai",
    fields={
        **passed("do_sample", "tool_stream", "seed"),
        "thinking": kept("type", "clear_thinking"),
        "reasoning_effort": effort,
        "max_tokens": max_tokens,
        "max_completion_tokens": max_tokens,
        "temperature": clamped(0, 1),
        "top_p": clamped(0.01, 1),
        "stop": one_stop,
        "tools": tools,
        "tool_choice": choice,
        "response_format": json_object_only,
        "stream_options": stream_options(),
        "user": hashed_user("user_id"),
        "safety_identifier": hashed_user("user_id"),
        "user_id": hashed_user("user_id"),
    },
    messages=MessageRules(names=frozenset(), reasoning="reasoning_content", flat=True),
    # docs.bigmodel.cn, api-reference, 文本嵌入: `dimensions` is all there is beside text, and answers are numbers
    embeddings=EmbeddingRules(passed("dimensions"), base64=False, ids=False),
    function_fields=frozenset({"name", "description", "parameters"}),
    tool_kinds=frozenset({"function", "retrieval", "web_search"}),
    headers=(("accept-language", "en-US,en"),),  # else messages come in Chinese
    settle=settle,
)
