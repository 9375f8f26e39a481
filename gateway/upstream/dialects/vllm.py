"""vLLM, and SGLang, which speaks nearly the same. Unknown fields are ignored with 200, so what must not be lost is translated.

Left out on purpose: `chat_template` (it runs), `kv_transfer_params`, `priority`, `vllm_xargs` and `cache_salt` (they reach into the
engine and into other tenants' caches), and all of `chat_template_kwargs` but the switches for reasoning.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.upstream.dialects.base import Dialect, TextRules
from gateway.upstream.dialects.draft import Draft
from gateway.upstream.dialects.embedding import EmbeddingRules
from gateway.upstream.dialects.fields import (
    OPENAI_CHOICES,
    SAME_EFFORT,
    kept,
    max_tokens,
    passed,
    response_format,
    stream_options,
    tools,
)
from gateway.upstream.dialects.messages import MessageRules

GUIDED: Final[Mapping[str, str]] = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
"""Fields that older versions knew. A newer one would ignore them, and answer without any structure."""


def guided(draft: Draft, name: str, value: Any) -> None:
    """An older spelling of `structured_outputs`."""
    draft.out.setdefault("structured_outputs", {GUIDED[name]: value})


VLLM: Final = Dialect(
    name="vllm",
    fields={
        **passed("temperature", "top_p", "stop", "n", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"),
        **passed("top_logprobs", "parallel_tool_calls", "top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids"),
        **passed("include_reasoning", "thinking_token_budget"),
        **dict.fromkeys(GUIDED, guided),
        "structured_outputs": kept("json", "regex", "choice", "grammar", "json_object"),
        "chat_template_kwargs": kept("enable_thinking", "thinking", "clear_thinking"),
        "max_tokens": max_tokens,
        "max_completion_tokens": max_tokens,
        "tools": tools,
        "tool_choice": OPENAI_CHOICES,
        "response_format": response_format(),
        "reasoning_effort": SAME_EFFORT,
        "stream_options": stream_options(),
    },
    messages=MessageRules(reasoning="reasoning"),
    # EmbeddingCompletionRequest in its embed/protocol.py. Not its `embed_dtype` and `endianness`, after which
    # base64 would be something else than OpenAI's clients read
    embeddings=EmbeddingRules(passed("dimensions", "truncate_prompt_tokens"), base64=True, ids=True),
    texts=TextRules(  # a vLLM answers 400 to `suffix`; an SGLang that was given a template fills gaps, and its deployment says so
        {
            **passed(
                "temperature", "top_p", "max_tokens", "stop", "n", "seed", "presence_penalty", "frequency_penalty", "logit_bias"
            ),
            **passed("logprobs", "echo", "top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos"),
            **passed("add_special_tokens", "skip_special_tokens", "include_stop_str_in_output"),
            **dict.fromkeys(GUIDED, guided),
            "structured_outputs": kept("json", "regex", "choice", "grammar", "json_object"),
            "response_format": response_format(),
            "stream_options": stream_options(),
        }
    ),
)
