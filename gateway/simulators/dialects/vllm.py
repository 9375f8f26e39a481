"""vLLM: ignores what it does not know, checks the model's name, spells reasoning `reasoning`, writes nulls out.

Facts: vLLM's own protocol source (0.33), and a stream recorded in May 2026 (fixtures/vllm/SOURCES.md). Plain answers
are dumped whole, nulls included; stream events leave out what was not set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.simulators.answer import Answer, Header, Pace
from gateway.simulators.ask import Ask, Reply, Usage
from gateway.simulators.dialects.base import Dialect, Document, ErrorCase, World, choice_list, worded
from gateway.simulators.dialects.texts import VllmTexts
from gateway.simulators.dialects.vectors import VllmVectors
from gateway.simulators.prompts import PromptAsk, TextReply
from gateway.simulators.tokens import PrefixCache
from gateway.simulators.vectors import VectorAsk

FINGERPRINT = "vllm-0.33.0-tp8-simulated"


class Vllm(Dialect):
    """The OpenAI-style wire of a vLLM server started without `--enable-prompt-tokens-details`."""

    name = "vllm"
    who = "vLLM"
    throttle = "overloaded"
    pace = Pace(first=0.15, between=0.02)
    texts = VllmTexts()
    vectors = VllmVectors()
    errors = (
        ErrorCase("bad_request", 400, 400, "{detail}", "BadRequestError"),
        ErrorCase("too_long", 400, 400, "{detail}", "BadRequestError"),
        ErrorCase("model_not_found", 404, 404, "The model `{model}` does not exist.", "NotFoundError"),
        ErrorCase("unauthorized", 401, None, "Unauthorized", None),
        ErrorCase("internal", 500, 500, "EngineCore encountered an issue.", "InternalServerError"),
        ErrorCase("overloaded", 503, 503, "The request queue is full.", "ServiceUnavailableError"),
        ErrorCase("throttled", 429, 429, "Too many requests.", "TooManyRequestsError"),
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cache = PrefixCache(block=16)

    def refuse(self, ask: Ask, prompt_tokens: int) -> Answer | None:
        if self.world.models is not None and ask.model and ask.model not in self.world.models:
            return self.error(self.case("model_not_found"), model=ask.model)
        if not isinstance(ask.body.get("messages"), list):
            detail = "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}"
            return self.error(self.case("bad_request"), detail=detail)
        return super().refuse(ask, prompt_tokens)

    def refuse_text(self, ask: PromptAsk, prompt_tokens: int) -> Answer | None:
        if self.world.models is not None and ask.model and ask.model not in self.world.models:
            return self.error(self.case("model_not_found"), model=ask.model)
        if (wrong := self.texts.mistake(ask)) is not None:
            return self.error(self.case("bad_request"), detail=wrong)
        return super().refuse_text(ask, prompt_tokens)

    def refuse_vectors(self, ask: VectorAsk) -> Answer | None:
        if self.world.models is not None and ask.model and ask.model not in self.world.models:
            return self.error(self.case("model_not_found"), model=ask.model)
        if (wrong := self.vectors.mistake(ask)) is not None:
            detail = f"1 validation error:\n  {{'type': 'missing', 'loc': ('body', 'input'), 'msg': '{wrong}'}}"
            return self.error(self.case("bad_request"), detail=detail)
        return super().refuse_vectors(ask)

    def unauthorized(self) -> Answer:
        return self.error(self.case("unauthorized"))

    def too_long(self, prompt_tokens: int) -> Answer:
        detail = (
            f"This model's maximum context length is {self.world.window} tokens. However, your request has"
            f" {prompt_tokens} input tokens. Please reduce the length of the input messages."
        )
        return self.error(self.case("too_long"), detail=detail)

    def error(self, case: ErrorCase, *, message: str | None = None, status: int | None = None, **words: Any) -> Answer:
        status = status or case.status
        return Answer(status, self.headers(stream=False), (self.error_document(case, message, status, **words),))

    def error_document(self, case: ErrorCase, message: str | None, status: int, **words: Any) -> Document:
        """`{"error": {…}}` with an integer code, but a bare string for the 401 of the key check in front."""
        text = worded(case, message, words)
        if case.name == "unauthorized":
            return {"error": text}
        return {"error": {"message": text, "type": case.type, "param": None, "code": status}}

    def stream_error(self, case: ErrorCase) -> tuple[bytes, ...]:
        return (b"data: " + orjson.dumps(self.error_document(case, None, case.status)) + b"\n\n",)

    def not_json(self) -> Answer:
        return self.error(self.case("bad_request"), detail="There was an error parsing the body")

    def not_found(self, method: str, path: str) -> Answer:
        return Answer(404, self.headers(stream=False), ({"detail": "Not Found"},))

    def reasons(self, ask: Ask) -> bool:
        """When the request turns thinking on; without that it depends on the model's template, here off."""
        kwargs = ask.body.get("chat_template_kwargs")
        asked = isinstance(kwargs, dict) and kwargs.get("enable_thinking") is True
        effort = ask.body.get("reasoning_effort")
        return (asked or effort not in (None, "none")) and ask.body.get("include_reasoning") is not False

    def plain(self, ask: Ask, reply: Reply) -> Document:
        def one(index: int) -> Document:
            message: Document = {
                "role": "assistant",
                "content": reply.text if not reply.calls else None,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
            }
            if reply.calls:
                message["tool_calls"] = calls(reply)
            message["reasoning"] = reply.thought or None
            return {
                "index": index,
                "message": message,
                "logprobs": None,
                "finish_reason": reply.finish,
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }

        return {
            "id": f"chatcmpl-{reply.seed[:32]}",
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": choice_list(reply, one),
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": usage(reply.usage) | {"prompt_tokens_details": None},
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def chunks(self, ask: Ask, reply: Reply) -> list[Document]:
        """A role chunk; one per token, the last of which carries the finish; usage alone, if asked for."""
        out: list[Document] = []
        for index in range(reply.choices):
            start = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
            first = self._chunk(reply, [start | {"finish_reason": None}])
            out.append(first | {"prompt_token_ids": None, "prompt_text": None})
        for index in range(reply.choices):
            deltas: list[Document] = [{"reasoning": piece} for piece in reply.reasoning]
            deltas += [{"content": piece} for piece in reply.content]
            deltas += [{"tool_calls": [call]} for call in call_deltas(reply)]
            for i, delta in enumerate(deltas or [{"content": ""}]):
                choice: Document = {"index": index, "delta": delta, "logprobs": None}
                choice |= (
                    {"finish_reason": reply.finish, "stop_reason": None}
                    if i >= len(deltas) - 1
                    else {"finish_reason": None}
                )
                out.append(self._chunk(reply, [choice | {"token_ids": None}]))
        if ask.include_usage:
            out.append(self._chunk(reply, []) | {"usage": usage(reply.usage), "system_fingerprint": FINGERPRINT})
        return out

    def _chunk(self, reply: Reply, choices: list[Document]) -> Document:
        return {
            "id": f"chatcmpl-{reply.seed[:32]}",
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
            "choices": choices,
        }

    def headers(self, *, stream: bool, reply: Reply | TextReply | None = None) -> tuple[Header, ...]:
        """uvicorn's."""
        content = "text/event-stream; charset=utf-8" if stream else "application/json"
        return (("server", "uvicorn"), ("content-type", content))

    def model_list(self, names: Sequence[str]) -> Document:
        permission = {
            "id": "modelperm-simulated",
            "object": "model_permission",
            "created": self.world.started,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "created": self.world.started,
                    "owned_by": "vllm",
                    "root": name,
                    "parent": None,
                    "max_model_len": self.world.window or 202752,
                    "permission": [permission],
                }
                for name in names
            ],
        }

    def route(self, method: str, path: str) -> Answer | None:
        """`/health` is empty, `/metrics` is for Prometheus, and neither asks for a key."""
        if method != "GET":
            return None
        if path == "/health":
            return Answer(200, (("server", "uvicorn"),), raw=b"")
        if path == "/version":
            return Answer(200, self.headers(stream=False), ({"version": "0.33.0"},))
        if path == "/metrics":
            text = "".join(
                f'# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0",model_name="{model}"}} 0.0\n'
                for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
                for model in sorted(self.world.models or {"any"})
            )
            kind = "text/plain; version=0.0.4; charset=utf-8"
            return Answer(200, (("server", "uvicorn"), ("content-type", kind)), raw=text.encode())
        return None


def usage(used: Usage) -> Document:
    """Usage without cached tokens, which vLLM reports only if told to at start."""
    return {"prompt_tokens": used.prompt, "total_tokens": used.total, "completion_tokens": used.completion}


def calls(reply: Reply) -> list[Document]:
    """Tool calls of a plain answer."""
    return [
        {
            "id": f"chatcmpl-tool-{c.seed[:32]}",
            "type": "function",
            "function": {"name": c.name, "arguments": c.arguments},
        }
        for c in reply.calls
    ]


def call_deltas(reply: Reply) -> list[Document]:
    """A tool call as vLLM's parsers stream it: the name with empty arguments, then the arguments."""
    out: list[Document] = []
    for i, call in enumerate(reply.calls):
        function = {"name": call.name, "arguments": ""}
        out.append({"id": f"chatcmpl-tool-{call.seed[:32]}", "type": "function", "index": i, "function": function})
        out.append({"index": i, "function": {"arguments": call.arguments}})
    return out
