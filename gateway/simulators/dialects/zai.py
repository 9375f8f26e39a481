"""Z.ai and bigmodel.cn (GLM): reasoning first, usage with the finish, string error codes, failures with status 200.

Facts: answers recorded at api.z.ai (fixtures/zai/SOURCES.md), the vendor's error table and OpenAPI document. Unknown
fields are ignored, since recordings show `stream_options` ignored; the vendor says nothing about others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.simulators.answer import Answer, Header, Pace
from gateway.simulators.ask import Ask, Reply
from gateway.simulators.dialects.base import Dialect, Document, ErrorCase, World, worded
from gateway.simulators.dialects.vectors import ZaiVectors
from gateway.simulators.prompts import TextReply
from gateway.simulators.tokens import PrefixCache
from gateway.simulators.vectors import VectorAsk

VISION = re.compile(r"\dv")
"""What the names of models that see have in common (glm-4.6v, glm-5v-turbo). The vendor's schema gives only them lists
of content parts; what its servers do with one for another model is not known, and this is the stricter guess."""


class Zai(Dialect):
    """The OpenAI-style wire of api.z.ai (also under /api/coding/paas/v4) and open.bigmodel.cn."""

    name = "zai"
    who = "Z.ai"
    prefixes = ("/api/paas/v4", "/api/coding/paas/v4")
    throttle = "rate_limited"
    pace = Pace(first=0.6, between=0.02)
    vectors = ZaiVectors()
    errors = (
        ErrorCase("auth_failed", 401, "1000", "Authentication Failed"),
        ErrorCase("auth_missing", 401, "1001", "Authentication parameter not received in Header"),
        ErrorCase("auth_expired", 401, "1003", "Authentication Token expired, please regenerate/obtain a new one"),
        ErrorCase("auth_unknown", 401, "1005", "Authentication Token invalid"),
        ErrorCase("no_balance", 429, "1113", "Insufficient balance or no resource package. Please recharge."),
        ErrorCase("invalid_parameter", 400, "1210", "Invalid API parameter, please check the documentation.{detail}"),
        ErrorCase("unknown_model", 400, "1211", "Unknown Model, please check the model code."),
        ErrorCase("method_unsupported", 400, "1212", "Current model does not support {detail} calling method"),
        ErrorCase("parameter_missing", 400, "1213", "{detail} parameter not received normally"),
        ErrorCase("parameter_invalid", 400, "1214", "{detail} parameter invalid. Please check documentation"),
        ErrorCase("parameters_conflict", 400, "1215", "{detail} parameters cannot be set at the same time"),
        ErrorCase("no_permission", 403, "1220", "You do not have permission to access {model}"),
        ErrorCase("api_offline", 400, "1221", "API {detail} is offline"),
        ErrorCase("api_missing", 400, "1222", "API {detail} does not exist"),
        ErrorCase("too_long", 400, "1261", "Prompt exceeds max length"),
        ErrorCase(
            "sensitive",
            400,
            "1301",
            "System detected potentially unsafe or sensitive content in input or generation. Please avoid prompts that"
            " may generate sensitive content.",
        ),
        ErrorCase("rate_limited", 429, "1302", "Rate limit reached for requests"),
        ErrorCase("rate_limited_high", 429, "1303", "High frequency usage of this API, please reduce frequency"),
        ErrorCase("overloaded", 429, "1305", "The service may be temporarily overloaded, please try again later"),
        ErrorCase("usage_limit", 429, "1308", "Usage limit reached for 5 hour. Your limit will reset at {reset}"),
        ErrorCase("plan_expired", 429, "1309", "Your GLM Coding Plan package has expired"),
        ErrorCase("weekly_limit", 429, "1310", "Weekly/Monthly Limit Exhausted. Your limit will reset at {reset}"),
        ErrorCase("not_in_plan", 429, "1311", "Your current subscription plan does not yet include access to {model}"),
        ErrorCase("fair_use", 429, "1313", "Your account's usage pattern does not comply with the Fair Usage Policy"),
        ErrorCase("plan_expired_team", 429, "1314", "Your team's GLM Coding Plan package has expired"),
        *(
            ErrorCase(f"window_limit_{code}", 429, str(code), words)
            for code, words in (
                (1315, "Usage limit reached for the 5-hour window. Your limit will reset at {reset}"),
                (1316, "Usage limit reached for the 5-hour window. Insufficient balance for extra usage"),
                (1317, "Usage limit reached for the 7-day window. Insufficient balance for extra usage"),
                (1318, "Usage limit reached for the 7-day window. Your limit will reset at {reset}"),
                (1319, "Usage limit reached for the 5-hour window of your team. Your limit will reset at {reset}"),
                (1320, "Usage limit reached for the 7-day window of your team. Your limit will reset at {reset}"),
                (1321, "Usage limit reached for the 7-day window of your seat. Your limit will reset at {reset}"),
            )
        ),
        ErrorCase("beta_only", 434, "434", "No permission for this API, it is in beta"),
        ErrorCase("file_too_large", 435, "435", "File size over 100MB"),
        ErrorCase("internal", 500, "500", "Internal server error"),
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        # The granularity is not published. Recorded in March 2026 were 10,560 and 10,944, multiples of 64.
        self.cache = PrefixCache(block=64)

    def refuse(self, ask: Ask, prompt_tokens: int) -> Answer | None:
        """Unknown models, then parameters, then what may not be a conversation, then length."""
        if not ask.model:
            return self.error(self.case("parameter_missing"), detail="model")
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("unknown_model"), model=ask.model)
        if (wrong := parameter_problem(ask)) is not None:
            return self.error(self.case("invalid_parameter"), detail=f" {wrong}")
        if not any(m.get("role") in ("user", "tool") for m in ask.messages):
            return self.error(self.case("parameter_invalid"), detail="messages")
        return super().refuse(ask, prompt_tokens)

    def refuse_vectors(self, ask: VectorAsk) -> Answer | None:
        if not ask.model:
            return self.error(self.case("parameter_missing"), detail="model")
        if self.world.models is not None and ask.model not in self.world.models:
            return self.error(self.case("unknown_model"), model=ask.model)
        if (wrong := self.vectors.mistake(ask)) is not None:
            return self.error(self.case("parameter_invalid"), detail=wrong)
        return super().refuse_vectors(ask)

    def unauthorized(self) -> Answer:
        return self.error(self.case("auth_failed"))

    def too_long(self, prompt_tokens: int) -> Answer:
        return self.error(self.case("too_long"))

    def error(self, case: ErrorCase, *, message: str | None = None, status: int | None = None, **words: Any) -> Answer:
        document = self.error_document(case, message, **words)
        return Answer(status or case.status, self.headers(stream=False), (document,))

    def error_document(self, case: ErrorCase, message: str | None, **words: Any) -> Document:
        """The envelope; the content filter adds which side tripped it, and how badly (0 is worst)."""
        document: Document = {"error": {"code": case.code, "message": worded(case, message, words)}}
        return {"contentFilter": [{"level": 1, "role": "user"}], **document} if case.code == "1301" else document

    def stream_error(self, case: ErrorCase) -> tuple[bytes, ...]:
        return (b"data: " + orjson.dumps(self.error_document(case, None)) + b"\n\n",)

    def not_json(self) -> Answer:
        return self.error(self.case("invalid_parameter"))

    def not_found(self, method: str, path: str) -> Answer:
        return self.error(ErrorCase("no_such_path", 404, "404", "Not Found"))

    def reasons(self, ask: Ask) -> bool:
        """Unless `thinking.type` is `disabled`."""
        thinking = ask.body.get("thinking")
        return not (isinstance(thinking, dict) and thinking.get("type") == "disabled")

    def plain(self, ask: Ask, reply: Reply) -> Document:
        message: Document = {} if reply.calls else {"content": reply.text}
        if reply.reasoning:
            message["reasoning_content"] = reply.thought
        message["role"] = "assistant"
        if reply.calls:
            message["tool_calls"] = calls(reply)
        return {
            "choices": [{"finish_reason": reply.finish, "index": i, "message": message} for i in range(reply.choices)],
            "created": reply.created,
            "id": request_id(reply),
            "model": reply.model,
            "object": "chat.completion",
            "request_id": request_id(reply),
            "usage": usage(reply),
        }

    def chunks(self, ask: Ask, reply: Reply) -> list[Document]:
        """Each delta repeats the role, but that of a tool call, which comes whole; finish and usage come together."""
        deltas: list[Document] = [{"role": "assistant", "reasoning_content": piece} for piece in reply.reasoning]
        deltas += [{"role": "assistant", "content": piece} for piece in reply.content]
        deltas += [{"tool_calls": [call]} for call in streamed_calls(reply)]
        out: list[Document] = [self._chunk(reply, {"index": 0, "delta": delta}) for delta in deltas]
        end = {"index": 0, "finish_reason": reply.finish, "delta": {"role": "assistant", "content": ""}}
        out.append(self._chunk(reply, end) | {"usage": usage(reply)})
        return out

    def _chunk(self, reply: Reply, choice: Document) -> Document:
        return {
            "id": request_id(reply),
            "created": reply.created,
            "object": "chat.completion.chunk",
            "model": reply.model,
            "choices": [choice],
        }

    def headers(self, *, stream: bool, reply: Reply | TextReply | None = None) -> tuple[Header, ...]:
        """No rate-limit header and no retry-after: none was ever seen."""
        return (("content-type", "text/event-stream;charset=UTF-8" if stream else "application/json; charset=UTF-8"),)

    def model_list(self, names: Sequence[str]) -> Document:
        return {
            "object": "list",
            "data": [{"id": n, "object": "model", "created": self.world.started, "owned_by": "z-ai"} for n in names],
        }


def parameter_problem(ask: Ask) -> str | None:
    """What the vendor's schema forbids among the parameters, or None."""
    body = ask.body
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 1:
        return "stop: at most 1 stop word is supported"
    user = body.get("user_id")
    if user is not None and not (isinstance(user, str) and 6 <= len(user) <= 128):
        return "user_id: length must be between 6 and 128"
    for name, low, high in (("temperature", 0, 1), ("top_p", 0.01, 1), ("max_tokens", 1, 131072)):
        value = body.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            return f"{name}: must be between {low} and {high}"
    if not VISION.search(ask.model) and any(isinstance(m.get("content"), list) for m in ask.messages):
        return "messages: content must be a string"
    kind = body.get("response_format")
    if isinstance(kind, dict) and kind.get("type") not in ("text", "json_object"):
        return "response_format.type: only `text` and `json_object` are supported"
    return None


def request_id(reply: Reply) -> str:
    """Ids look like a moment in time and some hex: 20251023225946 63828723f48b468f."""
    return "20261123101500" + reply.seed[:16]


def calls(reply: Reply) -> list[Document]:
    """The tool calls of a plain answer, with ids that are negative numbers (recorded)."""
    return [
        {
            "function": {"arguments": call.arguments, "name": call.name},
            "id": f"call_-{int(call.seed[:15], 16)}",
            "index": i,
            "type": "function",
        }
        for i, call in enumerate(reply.calls)
    ]


def streamed_calls(reply: Reply) -> list[Document]:
    """The tool calls of a stream, each whole, with ids of another form (recorded)."""
    return [
        {
            "id": f"call_{call.seed[:24]}",
            "index": i,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for i, call in enumerate(reply.calls)
    ]


def usage(reply: Reply) -> Document:
    """Usage with cached tokens always, reasoning tokens where there was reasoning."""
    used = reply.usage
    out: Document = {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.total,
        "prompt_tokens_details": {"cached_tokens": used.cached},
    }
    return out | ({"completion_tokens_details": {"reasoning_tokens": used.reasoning}} if used.reasoning else {})
