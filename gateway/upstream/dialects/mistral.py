"""Mistral La Plateforme. It answers 422 to any field that it does not know, and 400 to tool-call ids of another form.

Sent is what the published schema lists, not what a newer SDK adds, since the older servers refuse it. `metadata` and `guardrails`
are left out: neither is among what the regional promise names.
"""

from typing import Final

from gateway.upstream.dialects.base import Dialect, TextRules
from gateway.upstream.dialects.embedding import EmbeddingRules
from gateway.upstream.dialects.fields import (
    cache_key,
    clamped,
    effort,
    max_tokens,
    ours_to_ask,
    passed,
    response_format,
    tool_choice,
    tools,
)
from gateway.upstream.dialects.messages import PARTS, MessageRules

MISTRAL: Final = Dialect(
    name="mistral",
    fields={
        **passed("top_p", "stop", "n", "presence_penalty", "frequency_penalty", "parallel_tool_calls", "prediction"),
        **passed("safe_prompt", "prompt_mode", "prompt_cache_key", "random_seed"),
        "seed": "random_seed",
        "max_tokens": max_tokens,
        "max_completion_tokens": max_tokens,
        "temperature": clamped(0, 1.5),  # OpenAI's ends at 2
        "tools": tools,
        "tool_choice": tool_choice({"auto": "auto", "none": "none", "required": "any", "any": "any"}, named=True),
        "response_format": response_format(),
        # documented are two levels; a wish for a little reasoning is nearer to some than to none
        "reasoning_effort": effort(
            {"none": "none", "minimal": "none", "low": "high", "medium": "high", "high": "high", "xhigh": "high", "max": "high"}
        ),
        "stream_options": ours_to_ask,
    },
    messages=MessageRules(
        fields=frozenset({"tool_calls", "tool_call_id", "prefix"}),
        names=frozenset({"tool"}),
        reasoning="thinking",
        parts={
            **PARTS,
            "reference": frozenset({"type", "reference_ids"}),
        },
        short_ids=True,
    ),
    # docs.mistral.ai/api/endpoint/embeddings: text only; `output_dimension` of models that have a choice, and `output_dtype` for
    # numbers of fewer bits. `base64` is in its schema, and was answered with numbers all the same (Mintplex-Labs/anything-llm#5794,
    # June 2026: OpenAI's JavaScript client read them as vectors of zeros). `metadata` is left out here as above
    embeddings=EmbeddingRules(
        {**passed("output_dimension", "output_dtype"), "dimensions": "output_dimension"}, base64=False, ids=False
    ),
    asks_usage=False,
    settle=cache_key,
    texts=TextRules(  # fill-in-the-middle, of Codestral
        {
            **passed("top_p", "max_tokens", "min_tokens", "stop", "random_seed"),
            "seed": "random_seed",
            "temperature": clamped(0, 1.5),
            "stream_options": ours_to_ask,
        },
        takes_suffix=True,
        one_text=True,
        says_limit=True,
    ),
    paths={"completions": "/fim/completions"},
)
