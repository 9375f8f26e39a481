"""llama.cpp's server. One model, whatever name is sent; usage also in `timings`.

A path on its own disk is a legal image to it: messages.py lets none through.
"""

from typing import Final

from gateway.upstream.dialects.base import Dialect, TextRules
from gateway.upstream.dialects.embedding import EmbeddingRules, one_length
from gateway.upstream.dialects.fields import OPENAI_CHOICES, kept, max_tokens, passed, response_format, stream_options, tools
from gateway.upstream.dialects.messages import MessageRules

LLAMACPP: Final = Dialect(
    name="llamacpp",
    fields={
        **passed("temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"),
        **passed("top_logprobs", "parallel_tool_calls", "top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"),
        "chat_template_kwargs": kept("enable_thinking"),
        "max_tokens": max_tokens,
        "max_completion_tokens": max_tokens,
        "tools": tools,
        "tool_choice": OPENAI_CHOICES,
        "response_format": response_format("schema"),
        "stream_options": stream_options(),
    },
    messages=MessageRules(reasoning="reasoning_content"),
    # tools/server/README.md, `POST /v1/embeddings`, and what its own tests send: tools/server/tests/unit/test_embedding.py
    embeddings=EmbeddingRules({"dimensions": one_length}, base64=True, ids=True),
    texts=TextRules(  # `echo` and `best_of` are ignored there, so they are reported as left out
        {
            **passed("temperature", "top_p", "max_tokens", "stop", "n", "seed", "presence_penalty", "frequency_penalty"),
            **passed("logit_bias", "logprobs", "top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "ignore_eos"),
            "stream_options": stream_options(),
        },
        says_limit=True,  # else it writes until the window is full
    ),
)
