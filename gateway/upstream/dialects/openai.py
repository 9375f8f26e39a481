"""OpenAI's own API, and servers that speak it closely.

Left out on purpose: `store` and `metadata` (they keep content at the provider), `web_search_options` (it sends content elsewhere),
`service_tier` (another price than the catalogue's).
"""

from typing import Final

from gateway.upstream.dialects.base import Dialect, TextRules
from gateway.upstream.dialects.embedding import EmbeddingRules
from gateway.upstream.dialects.fields import (
    OPENAI_CHOICES,
    SAME_EFFORT,
    hashed_user,
    passed,
    response_format,
    stream_options,
    tools,
)
from gateway.upstream.dialects.messages import PARTS, MessageRules

OPENAI: Final = Dialect(
    name="openai",
    fields={
        **passed("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "n", "seed", "presence_penalty"),
        **passed("frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "prediction", "verbosity"),
        **passed("prompt_cache_key", "functions", "function_call"),
        "tools": tools,
        "tool_choice": OPENAI_CHOICES,
        "response_format": response_format(),
        "reasoning_effort": SAME_EFFORT,
        "stream_options": stream_options("include_obfuscation"),
        "user": hashed_user("user"),
        "safety_identifier": hashed_user("safety_identifier"),
    },
    messages=MessageRules(
        fields=frozenset({"tool_calls", "tool_call_id", "refusal", "function_call"}),
        roles={},
        names=frozenset({"developer", "system", "user", "assistant", "function"}),
        parts={**PARTS, "file": frozenset({"type", "file"}), "refusal": frozenset({"type", "refusal"})},
    ),
    # developers.openai.com/api/reference/resources/embeddings
    embeddings=EmbeddingRules({**passed("dimensions"), "user": hashed_user("user")}, base64=True, ids=True),
    tool_kinds=frozenset({"function", "custom"}),
    texts=TextRules(
        {
            **passed("temperature", "top_p", "max_tokens", "stop", "n", "best_of", "seed", "presence_penalty", "frequency_penalty"),
            **passed("logit_bias", "logprobs", "echo"),
            "stream_options": stream_options("include_obfuscation"),
            "user": hashed_user("user"),
        },
        takes_suffix=True,
    ),
)
