"""Mistral La Plateforme: strict about what it is sent, flat in its errors, usage in the last content chunk.

Facts: the vendor's OpenAPI document (August 2026) and SDK 3.7.0 for fields; recorded answers of Nov 2025 to Sep 2026
for shapes and errors (tests/simulators/fixtures/mistral/SOURCES.md). Where schema and SDK differ, fields are accepted
only if both know them: a gateway that passes here passes either.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from gateway.simulators.answer import Answer, Header, Pace
from gateway.simulators.ask import Ask, Reply, Usage
from gateway.simulators.dialects.base import Dialect, Document, ErrorCase, World, worded
from gateway.simulators.dialects.mistral_rules import bad_call_id, order_problem, problem, schema_problems
from gateway.simulators.dialects.texts import MistralTexts
from gateway.simulators.dialects.vectors import MistralVectors
from gateway.simulators.prompts import PromptAsk, TextReply
from gateway.simulators.tokens import PrefixCache
from gateway.simulators.vectors import VectorAsk

PADDING = "abcdefghijklmnopqrstuvwxyz0123456"


class Mistral(Dialect):
    """The wire of api.mistral.ai, api.eu.mistral.ai and api.us.mistral.ai, which differ in nothing but host."""

    name = "mistral"
    who = "Mistral"
    throttle = "rate_limited"
    pace = Pace(first=0.3, between=0.012)
    texts = MistralTexts()
    vectors = MistralVectors()
    errors = (
        ErrorCase("rate_limited", 429, "1300", "Rate limit exceeded", "rate_limited"),
        ErrorCase(
            "capacity",
            429,
            "3505",
            "Service tier capacity exceeded for this model.",
            "service_tier_capacity_exceeded",
        ),
        ErrorCase(
            "capacity_503", 503, "3505", "Service tier capacity exceeded for this model.", "backend_out_of_capacity"
        ),
        ErrorCase("invalid_model", 400, "1500", "Invalid model: {model}", "invalid_model"),
        ErrorCase("message_order", 400, "3230", "{detail}", "invalid_request_message_order"),
        ErrorCase(
            "tool_call_id",
            400,
            "3280",
            "Tool call id was {detail} but must be a-z, A-Z, 0-9, with a length of 9.",
            "invalid_function_call",
        ),
        ErrorCase("tool_choice", 400, None, "Tool choice requires tools to be set.", "invalid_request_error"),
        # The code of this one is not known; that it is a 400 is documented.
        ErrorCase("too_long", 400, None, "{detail}", "invalid_request_error"),
        ErrorCase("labs", 403, "1913", "Labs models are not enabled for this organization.", "invalid_request_error"),
        ErrorCase("guardrail", 403, None, "Request blocked by a guardrail.", "guardrail_blocked"),
        ErrorCase("retired", 404, None, "Model {model} is not available anymore.", "invalid_request_error"),
        ErrorCase("unauthorized", 401, None, "Unauthorized", None),
        ErrorCase("internal", 500, None, "Internal server error", "internal_server_error"),
        ErrorCase("unavailable", 503, None, "Service unavailable.", "internal_server_error"),
        ErrorCase("gateway_timeout", 504, None, "", None),
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cache = PrefixCache(block=64)

    # -- what may be refused

    def refuse(self, ask: Ask, prompt_tokens: int) -> Answer | None:
        """Schema first (422), then model, then the order of messages and the ids of tool calls (400)."""
        if problems := list(schema_problems(ask.body)):
            return self.unprocessable(problems)
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("invalid_model"), model=ask.model)
        if ask.body.get("tool_choice") not in (None, "auto", "none") and not ask.body.get("tools"):
            return self.error(self.case("tool_choice"))
        if (wrong := order_problem(ask.messages)) is not None:
            return self.error(self.case("message_order"), detail=wrong)
        if (bad := bad_call_id(ask.messages)) is not None:
            return self.error(self.case("tool_call_id"), detail=bad)
        return super().refuse(ask, prompt_tokens)

    def refuse_text(self, ask: PromptAsk, prompt_tokens: int) -> Answer | None:
        unknown = [name for name in ask.body if name not in self.texts.fields]
        problems = [problem("extra_forbidden", ["body", n], "Extra inputs are not permitted", ask.body[n]) for n in unknown]
        if not isinstance(ask.body.get("prompt"), str):
            problems.append(problem("string_type", ["body", "prompt"], "Input should be a valid string", ask.body.get("prompt")))
        if problems:
            return self.unprocessable(problems)
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("invalid_model"), model=ask.model)
        return super().refuse_text(ask, prompt_tokens)

    def refuse_vectors(self, ask: VectorAsk) -> Answer | None:
        given = ask.body.get("input")
        unknown = [name for name in ask.body if name not in self.vectors.fields]
        problems = [problem("extra_forbidden", ["body", n], "Extra inputs are not permitted", ask.body[n]) for n in unknown]
        if not given or not isinstance(given, str | list) or not all(isinstance(text, str) for text in given):
            problems.append(problem("string_type", ["body", "input"], "Input should be a valid string", given))
        if problems:
            return self.unprocessable(problems)
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("invalid_model"), model=ask.model)
        return super().refuse_vectors(ask)

    def unprocessable(self, problems: Sequence[Document]) -> Answer:
        """The 422 of a field that the schema does not know: `message` is an object that holds the list."""
        document = {
            "object": "error",
            "message": {"detail": list(problems)},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        return Answer(422, self.headers(stream=False), (document,))

    def unauthorized(self) -> Answer:
        return self.error(self.case("unauthorized"))

    def too_long(self, prompt_tokens: int) -> Answer:
        detail = (
            f"Prompt contains {prompt_tokens} tokens and 0 draft tokens, too large for model with"
            f" {self.world.window} maximum context length"
        )
        return self.error(self.case("too_long"), detail=detail)

    def error(self, case: ErrorCase, *, message: str | None = None, status: int | None = None, **words: Any) -> Answer:
        status = status or case.status
        if case.name == "gateway_timeout":  # recorded with an empty body
            return Answer(status, self.headers(stream=False), raw=b"")
        return Answer(status, self.headers(stream=False), (self.error_document(case, message, status, **words),))

    def error_document(self, case: ErrorCase, message: str | None, status: int, **words: Any) -> Document:
        """The flat error body; a 401 comes from the proxy in front and has another shape."""
        text = worded(case, message, words)
        if case.name == "unauthorized":
            return {"message": text, "request_id": uuid.uuid4().hex}
        document = {"object": "error", "message": text, "type": case.type, "param": None, "code": case.code}
        return document | ({"raw_status_code": status} if case.code is not None else {})

    def stream_error(self, case: ErrorCase) -> tuple[bytes, ...]:
        # The published event schema has no error event; the finish reason `error` is what it offers.
        return (b"data: " + orjson.dumps(self.error_document(case, None, case.status)) + b"\n\n",)

    def not_json(self) -> Answer:
        return self.unprocessable([problem("json_invalid", ["body", 0], "JSON decode error", {})])

    def not_found(self, method: str, path: str) -> Answer:
        return Answer(
            404,
            self.headers(stream=False),
            ({"message": "no Route matched with those values", "request_id": uuid.uuid4().hex},),
        )

    # -- what is said

    def reasons(self, ask: Ask) -> bool:
        """With `reasoning_effort: high` (or anything but `none`) or `prompt_mode: reasoning`."""
        return ask.body.get("reasoning_effort") not in (None, "none") or ask.body.get("prompt_mode") == "reasoning"

    def cached(self, ask: Ask, prompt: Sequence[str]) -> int:
        """Caching is opted into with `prompt_cache_key`, in blocks of 64 tokens."""
        key = ask.body.get("prompt_cache_key")
        return self.cache.hit(f"{ask.model}\n{key}", prompt) if isinstance(key, str) else 0

    def plain(self, ask: Ask, reply: Reply) -> Document:
        message: Document = {"role": "assistant", "content": reply.text}
        if reply.reasoning:
            message["content"] = [thinking(reply.thought), {"type": "text", "text": reply.text}]
        message["tool_calls"] = [
            {"id": call_id(c.seed), "function": {"name": c.name, "arguments": c.arguments}, "index": i}
            for i, c in enumerate(reply.calls)
        ] or None
        choices = [{"index": i, "finish_reason": reply.finish, "message": message} for i in range(reply.choices)]
        return {
            "id": reply.seed[:32],
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": choices,
            "usage": usage(reply.usage),
        }

    def chunks(self, ask: Ask, reply: Reply) -> list[Document]:
        out = []
        for index in range(reply.choices):
            deltas: list[Document] = [{"role": "assistant", "content": ""}]
            deltas += [{"content": [thinking(piece)]} for piece in reply.reasoning]
            content = list(reply.content)
            if reply.reasoning:  # one list closes the thinking and carries the first text; plain strings from then on
                deltas.append({"content": [thinking("", closed=True), {"type": "text", "text": "".join(content[:1])}]})
                content = content[1:]
            deltas += [{"content": piece} for piece in content]
            deltas += call_deltas(reply)
            out += [self._chunk(reply, index, delta, None, padded=i > 0) for i, delta in enumerate(deltas)]
            last = self._chunk(reply, index, {"content": ""}, reply.finish, padded=False)
            if index == reply.choices - 1:
                last["usage"] = usage(reply.usage)
            out.append(last | {"p": padding(reply.seed, len(out))})
        return out

    def _chunk(self, reply: Reply, index: int, delta: Document, finish: str | None, *, padded: bool) -> Document:
        chunk: Document = {
            "id": reply.seed[:32],
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
            "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        }
        if padded:
            chunk["p"] = padding(reply.seed, len(str(delta)))
        return chunk

    def headers(self, *, stream: bool, reply: Reply | TextReply | None = None) -> tuple[Header, ...]:
        """A correlation id on everything; the rate-limit headers on completions only (recorded: not on /models)."""
        correlation = str(uuid.uuid4())
        content = "text/event-stream; charset=utf-8" if stream else "application/json"
        out = [
            ("content-type", content),
            ("access-control-allow-origin", "*"),
            ("mistral-correlation-id", correlation),
            ("x-kong-request-id", correlation),
            ("x-envoy-upstream-service-time", "131"),
            ("x-kong-upstream-latency", "131"),
            ("x-kong-proxy-latency", "7"),
        ]
        if reply is not None:
            cost = reply.usage.total - reply.usage.cached
            self.quota.requests_left = max(0, self.quota.requests_left - 1)
            self.quota.tokens_left = max(0, self.quota.tokens_left - cost)
            out += [
                ("x-ratelimit-limit-req-minute", "720"),
                ("x-ratelimit-remaining-req-minute", str(self.quota.requests_left)),
                ("x-ratelimit-limit-tokens-minute", "5000000"),
                ("x-ratelimit-remaining-tokens-minute", str(self.quota.tokens_left)),
                ("x-ratelimit-tokens-query-cost", str(cost)),
            ]
        return tuple(out)

    def model_list(self, names: Sequence[str]) -> Document:
        abilities = [
            "completion_chat",
            "function_calling",
            "completion_fim",
            "fine_tuning",
            "vision",
            "ocr",
            "classification",
        ]
        abilities += ["moderation", "audio", "audio_transcription"]
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "created": self.world.started,
                    "owned_by": "mistralai",
                    "capabilities": {a: a in ("completion_chat", "function_calling") for a in abilities},
                    "name": name,
                    "description": "A simulated model.",
                    "max_context_length": self.world.window or 262144,
                    "aliases": [],
                    "deprecation": None,
                    "deprecation_replacement_model": None,
                    "default_model_temperature": 0.7,
                    "type": "base",
                }
                for name in names
            ],
        }


def usage(used: Usage) -> Document:
    """Usage as Mistral spells it: total before completion, cached tokens under the details."""
    return {
        "prompt_tokens": used.prompt,
        "total_tokens": used.total,
        "completion_tokens": used.completion,
        "prompt_tokens_details": {"cached_tokens": used.cached},
    }


def thinking(text: str, *, closed: bool = False) -> Document:
    """A content chunk that holds reasoning."""
    chunk: Document = {"type": "thinking", "thinking": [{"type": "text", "text": text}] if text else []}
    return chunk | ({"closed": True} if closed else {})


def call_id(seed: str) -> str:
    """Nine letters and digits, the only form that Mistral makes or takes."""
    return seed[:9]


def call_deltas(reply: Reply) -> Iterator[Document]:
    """A tool call in two deltas: without `type`, and with the id spelled `null` in the continuation (recorded)."""
    for i, call in enumerate(reply.calls):
        half = len(call.arguments) // 2
        for identity, name, text in (
            (call_id(call.seed), call.name, call.arguments[:half]),
            ("null", "", call.arguments[half:]),
        ):
            yield {"tool_calls": [{"id": identity, "function": {"name": name, "arguments": text}, "index": i}]}


def padding(seed: str, salt: int) -> str:
    """The random-looking `p` of a chunk, which hides the length of its content from an observer. Deterministic here."""
    return PADDING[: 1 + (int(seed[:4], 16) + 7 * salt) % len(PADDING)]
