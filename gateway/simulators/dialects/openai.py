"""OpenAI: a separate usage chunk when asked for, `usage: null` on the others, errors with string codes.

Facts: answers recorded at api.openai.com in October 2025 (fixtures/openai/SOURCES.md) and the vendor's SDK 3.54.0 for
the fields. The bodies of errors are widely copied ones; nobody here recorded them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.simulators import tokens
from gateway.simulators.answer import Answer, Header, Pace
from gateway.simulators.ask import Ask, Reply, Usage
from gateway.simulators.dialects.base import Dialect, Document, ErrorCase, World, choice_list, worded
from gateway.simulators.dialects.texts import OpenAITexts
from gateway.simulators.dialects.vectors import OpenAIVectors
from gateway.simulators.prompts import PromptAsk, TextReply
from gateway.simulators.tokens import PrefixCache
from gateway.simulators.vectors import VectorAsk

FIELDS = frozenset(
    [
        "messages",
        "model",
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)


class OpenAI(Dialect):
    """The wire of api.openai.com/v1."""

    name = "openai"
    who = "OpenAI"
    throttle = "rate_limited"
    pace = Pace(first=0.4, between=0.012)
    texts = OpenAITexts()
    vectors = OpenAIVectors()
    errors = (
        ErrorCase(
            "unauthorized",
            401,
            "invalid_api_key",
            "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
        ),
        ErrorCase(
            "model_not_found",
            404,
            "model_not_found",
            "The model `{model}` does not exist or you do not have access to it.",
            "invalid_request_error",
        ),
        ErrorCase(
            "unknown_parameter", 400, "unknown_parameter", "Unknown parameter: '{detail}'.", "invalid_request_error"
        ),
        ErrorCase("missing_parameter", 400, "missing_required_parameter", "{detail}", "invalid_request_error"),
        ErrorCase("too_long", 400, "context_length_exceeded", "{detail}", "invalid_request_error"),
        ErrorCase("content_filter", 400, "content_filter", "The prompt was refused.", "invalid_request_error"),
        ErrorCase("rate_limited", 429, "rate_limit_exceeded", "Rate limit reached for {model}.", "requests"),
        ErrorCase("tokens_limited", 429, "rate_limit_exceeded", "Rate limit reached for {model} on tokens.", "tokens"),
        ErrorCase(
            "no_quota",
            429,
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
        ),
        ErrorCase("internal", 500, None, "The server had an error while processing your request.", "server_error"),
        ErrorCase(
            "overloaded", 503, None, "The engine is currently overloaded, please try again later.", "server_error"
        ),
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cache = PrefixCache(block=128, at_least=1024)  # documented: from 1,024 tokens on, in steps of 128

    def refuse(self, ask: Ask, prompt_tokens: int) -> Answer | None:
        for name in ask.body:
            if name not in FIELDS:
                return self.error(self.case("unknown_parameter"), detail=name)
        for name, kind in (("model", str), ("messages", list)):
            if not isinstance(ask.body.get(name), kind):
                return self.error(self.case("missing_parameter"), detail=f"Missing required parameter: '{name}'.")
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("model_not_found"), model=ask.model)
        return super().refuse(ask, prompt_tokens)

    def refuse_text(self, ask: PromptAsk, prompt_tokens: int) -> Answer | None:
        for name in ask.body:
            if name not in self.texts.fields:
                return self.error(self.case("unknown_parameter"), detail=name)
        if (wrong := self.texts.mistake(ask)) is not None:
            return self.error(self.case("missing_parameter"), detail=wrong)
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("model_not_found"), model=ask.model)
        return super().refuse_text(ask, prompt_tokens)

    def refuse_vectors(self, ask: VectorAsk) -> Answer | None:
        for name in ask.body:
            if name not in self.vectors.fields:
                return self.error(self.case("unknown_parameter"), detail=name)
        if (wrong := self.vectors.mistake(ask)) is not None:
            return self.error(self.case("missing_parameter"), detail=wrong)
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("model_not_found"), model=ask.model)
        return super().refuse_vectors(ask)

    def unauthorized(self) -> Answer:
        return self.error(self.case("unauthorized"))

    def too_long(self, prompt_tokens: int) -> Answer:
        detail = (
            f"This model's maximum context length is {self.world.window} tokens. However, your messages resulted in"
            f" {prompt_tokens} tokens. Please reduce the length of the messages."
        )
        return self.error(self.case("too_long"), detail=detail)

    def error(self, case: ErrorCase, *, message: str | None = None, status: int | None = None, **words: Any) -> Answer:
        param = words.get("detail") if case.name == "unknown_parameter" else None
        document = self.error_document(case, message, param, **words)
        return Answer(status or case.status, self.headers(stream=False), (document,))

    def error_document(self, case: ErrorCase, message: str | None, param: str | None, **words: Any) -> Document:
        """`{"error": {message, type, param, code}}`, code a string or null."""
        return {
            "error": {"message": worded(case, message, words), "type": case.type, "param": param, "code": case.code}
        }

    def stream_error(self, case: ErrorCase) -> tuple[bytes, ...]:
        return (b"data: " + orjson.dumps(self.error_document(case, None, None)) + b"\n\n",)

    def not_json(self) -> Answer:
        words = "We could not parse the JSON body of your request."
        return self.error(ErrorCase("not_json", 400, None, words, "invalid_request_error"))

    def not_found(self, method: str, path: str) -> Answer:
        words = f"Invalid URL ({method} {path})"
        return self.error(ErrorCase("no_such_path", 404, None, words, "invalid_request_error"))

    def reasons(self, ask: Ask) -> bool:
        """Reasoning is billed but not shown: asked for, it counts in usage and appears nowhere else."""
        return ask.body.get("reasoning_effort") not in (None, "none")

    def plain(self, ask: Ask, reply: Reply) -> Document:
        message: Document = {"role": "assistant", "content": None if reply.calls else reply.text}
        if reply.calls:
            message["tool_calls"] = [
                {"id": call_id(c.seed), "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in reply.calls
            ]
        message |= {"refusal": None, "annotations": []}
        return {
            "id": f"chatcmpl-{reply.seed[:29]}",
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": choice_list(
                reply, lambda i: {"index": i, "message": message, "logprobs": None, "finish_reason": reply.finish}
            ),
            "usage": usage(reply.usage),
            "service_tier": "default",
            "system_fingerprint": "fp_simulated0",
        }

    def chunks(self, ask: Ask, reply: Reply) -> list[Document]:
        """Role, then one delta a token, then the finish alone, then usage alone if asked for."""
        out: list[Document] = []
        for index in range(reply.choices):
            deltas = call_deltas(reply) if reply.calls else [{"role": "assistant", "content": "", "refusal": None}]
            deltas += [{"content": piece} for piece in reply.content]
            out += [self._chunk(ask, reply, index, delta, None) for delta in deltas]
            out.append(self._chunk(ask, reply, index, {}, reply.finish))
        if ask.include_usage:
            last = self._envelope(reply) | {"choices": [], "usage": usage(reply.usage)}
            out.append(self._obfuscate(ask, reply, last, 10))
        return out

    def _chunk(self, ask: Ask, reply: Reply, index: int, delta: Document, finish: str | None) -> Document:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = self._envelope(reply) | {"choices": [choice]} | ({"usage": None} if ask.include_usage else {})
        return self._obfuscate(ask, reply, chunk, max(0, 16 - len(str(delta.get("content") or ""))))

    def _envelope(self, reply: Reply) -> Document:
        return {
            "id": f"chatcmpl-{reply.seed[:29]}",
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated0",
        }

    def _obfuscate(self, ask: Ask, reply: Reply, chunk: Document, length: int) -> Document:
        """Padding that hides the length of a delta, unless `stream_options.include_obfuscation` is false."""
        options = ask.body.get("stream_options")
        if isinstance(options, dict) and options.get("include_obfuscation") is False:
            return chunk
        return chunk | {"obfuscation": reply.seed[:length]}

    def headers(self, *, stream: bool, reply: Reply | TextReply | None = None) -> tuple[Header, ...]:
        out = [
            ("content-type", "text/event-stream; charset=utf-8" if stream else "application/json"),
            ("x-request-id", f"req_{uuid.uuid4().hex}"),
            ("openai-organization", "simulated"),
            ("openai-processing-ms", "322"),
            ("openai-version", "2020-10-01"),
        ]
        if reply is not None:
            self.quota.requests_left = max(0, self.quota.requests_left - 1)
            out += [
                ("x-ratelimit-limit-requests", "720"),
                ("x-ratelimit-remaining-requests", str(self.quota.requests_left)),
                ("x-ratelimit-reset-requests", "12ms"),
                ("x-ratelimit-limit-tokens", "800000"),
                ("x-ratelimit-remaining-tokens", str(800_000 - reply.usage.prompt)),
                ("x-ratelimit-reset-tokens", "2ms"),
            ]
        return tuple(out)

    def model_list(self, names: Sequence[str]) -> Document:
        return {
            "object": "list",
            "data": [{"id": n, "object": "model", "created": self.world.started, "owned_by": "system"} for n in names],
        }


def usage(used: Usage) -> Document:
    """Usage with all its details."""
    return {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.total,
        "prompt_tokens_details": {"cached_tokens": used.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def call_id(seed: str) -> str:
    """`call_` and 24 letters and digits."""
    return f"call_{seed[:24]}"


def call_deltas(reply: Reply) -> list[Document]:
    """The name in one delta (the first has the role too), the arguments token by token."""
    out: list[Document] = []
    for i, call in enumerate(reply.calls):
        function = {"name": call.name, "arguments": ""}
        start = {"index": i, "id": call_id(call.seed), "type": "function", "function": function}
        if i == 0:
            out.append({"role": "assistant", "content": None, "tool_calls": [start], "refusal": None})
        else:
            out.append({"tool_calls": [start]})
        pieces = tokens.pieces(call.arguments)
        out += [{"tool_calls": [{"index": i, "function": {"arguments": piece}}]} for piece in pieces]
    return out
