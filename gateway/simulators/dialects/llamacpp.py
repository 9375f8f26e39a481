"""llama.cpp's HTTP server: choices first, a null content to begin with, timings, integer error codes.

Facts: answers recorded from the very server that this project ships as its engine, and at another build by others
(fixtures/llamacpp/SOURCES.md). The real engine is in `gateway.simulators.engine`; this stand-in is for the faults and
models that it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.simulators import tokens
from gateway.simulators.answer import Answer, Header, Pace
from gateway.simulators.ask import Ask, Reply
from gateway.simulators.dialects.base import Dialect, Document, ErrorCase, World, choice_list, worded
from gateway.simulators.dialects.texts import LlamaCppTexts
from gateway.simulators.dialects.vectors import LlamaCppVectors
from gateway.simulators.prompts import PromptAsk, TextReply
from gateway.simulators.tokens import PrefixCache
from gateway.simulators.vectors import VectorAsk

FINGERPRINT = "b0-simulated"


class LlamaCpp(Dialect):
    """The wire of llama.cpp's server in single-model mode, which ignores the model's name."""

    name = "llamacpp"
    who = "llama.cpp"
    throttle = "unavailable"
    pace = Pace(first=0.1, between=0.01)
    texts = LlamaCppTexts()
    vectors = LlamaCppVectors()
    errors = (
        ErrorCase("bad_request", 400, 400, "{detail}", "invalid_request_error"),
        ErrorCase(
            "no_embeddings",
            501,
            501,
            "This server does not support embeddings. Start it with `--embeddings`",
            "not_supported_error",
        ),
        ErrorCase("too_long", 400, 400, "{detail}", "exceed_context_size_error"),
        ErrorCase("unauthorized", 401, 401, "Invalid API Key", "authentication_error"),
        ErrorCase("not_found", 404, 404, "File Not Found", "not_found_error"),
        ErrorCase("internal", 500, 500, "{detail}", "server_error"),
        ErrorCase("unsupported", 501, 501, "{detail}", "not_supported_error"),
        ErrorCase("unavailable", 503, 503, "Loading model", "unavailable_error"),
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cache = PrefixCache(block=1)

    def refuse(self, ask: Ask, prompt_tokens: int) -> Answer | None:
        if not isinstance(ask.body.get("messages"), list):
            return self.error(self.case("bad_request"), detail="'messages' is required")
        return super().refuse(ask, prompt_tokens)

    def refuse_text(self, ask: PromptAsk, prompt_tokens: int) -> Answer | None:
        if (wrong := self.texts.mistake(ask)) is not None:
            return self.error(self.case("bad_request"), detail=wrong)
        return super().refuse_text(ask, prompt_tokens)

    def refuse_vectors(self, ask: VectorAsk) -> Answer | None:
        if (wrong := self.vectors.mistake(ask)) is not None:
            return self.error(self.case("bad_request"), detail=wrong)
        return super().refuse_vectors(ask)

    def unauthorized(self) -> Answer:
        return self.error(self.case("unauthorized"))

    def too_long(self, prompt_tokens: int) -> Answer:
        detail = (
            f"request ({prompt_tokens} tokens) exceeds the available context size ({self.world.window} tokens),"
            " try increasing it"
        )
        answer = self.error(self.case("too_long"), detail=detail)
        error = {**answer.documents[0]["error"], "n_prompt_tokens": prompt_tokens, "n_ctx": self.world.window}
        return replace(answer, documents=({"error": error},))

    def error(self, case: ErrorCase, *, message: str | None = None, status: int | None = None, **words: Any) -> Answer:
        status = status or case.status
        document = self.error_document(case, message, status, **words)
        # Every error closes the connection, and says so in place of `keep-alive` (recorded).
        return Answer(status, self._headers("application/json; charset=utf-8"), (document,), keep_alive=False)

    def error_document(self, case: ErrorCase, message: str | None, status: int, **words: Any) -> Document:
        """`{"error": {code, message, type}}`, code an integer."""
        return {"error": {"code": status, "message": worded(case, message, words), "type": case.type}}

    def stream_error(self, case: ErrorCase) -> tuple[bytes, ...]:
        return (b"data: " + orjson.dumps(self.error_document(case, None, case.status)) + b"\n\n",)

    def not_json(self) -> Answer:
        return self.error(self.case("bad_request"), detail="the request body is not a JSON object")

    def not_found(self, method: str, path: str) -> Answer:
        return self.error(self.case("not_found"))

    def reasons(self, ask: Ask) -> bool:
        """When the request turns thinking on; the shipped model cannot think."""
        kwargs = ask.body.get("chat_template_kwargs")
        return isinstance(kwargs, dict) and kwargs.get("enable_thinking") is True

    def plain(self, ask: Ask, reply: Reply) -> Document:
        message: Document = {"role": "assistant", "content": reply.text}
        if reply.reasoning:
            message["reasoning_content"] = reply.thought
        if reply.calls:
            message["content"] = ""
            message["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}, "id": c.seed[:32]}
                for c in reply.calls
            ]
        return {
            "choices": choice_list(reply, lambda i: {"finish_reason": reply.finish, "index": i, "message": message}),
            "created": reply.created,
            "model": reply.model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion",
            "usage": usage(reply),
            "id": f"chatcmpl-{reply.seed[:32]}",
            "timings": timings(reply),
        }

    def chunks(self, ask: Ask, reply: Reply) -> list[Document]:
        """A null content, one delta a token, an empty delta with the finish, usage and timings alone if asked for."""
        deltas: list[Document] = [{"role": "assistant", "content": None}]
        deltas += [{"reasoning_content": piece} for piece in reply.reasoning]
        deltas += [{"content": piece} for piece in reply.content]
        for i, call in enumerate(reply.calls):
            pieces = tokens.pieces(call.arguments)
            function = {"name": call.name, "arguments": pieces[0]}
            start = {"index": i, "id": call.seed[:32], "type": "function", "function": function}
            deltas.append({"tool_calls": [start]})
            deltas += [{"tool_calls": [{"index": i, "function": {"arguments": p}}]} for p in pieces[1:]]
        out = [self._chunk(reply, [{"finish_reason": None, "index": 0, "delta": delta}]) for delta in deltas]
        end = self._chunk(reply, [{"finish_reason": reply.finish, "index": 0, "delta": {}}])
        if not ask.include_usage:
            return [*out, end | {"timings": timings(reply)}]
        return [*out, end, self._chunk(reply, []) | {"usage": usage(reply), "timings": timings(reply)}]

    def _chunk(self, reply: Reply, choices: list[Document]) -> Document:
        return {
            "choices": choices,
            "created": reply.created,
            "id": f"chatcmpl-{reply.seed[:32]}",
            "model": reply.model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion.chunk",
        }

    def headers(self, *, stream: bool, reply: Reply | TextReply | None = None) -> tuple[Header, ...]:
        """Those of its HTTP library, which closes a connection after 5 idle seconds or 100 requests, and says so."""
        limits = ("keep-alive", "timeout=5, max=100")
        if stream:
            return (*self._headers("text/event-stream"), ("x-accel-buffering", "no"), limits)
        return (*self._headers("application/json; charset=utf-8"), limits)

    def _headers(self, content: str) -> tuple[Header, ...]:
        return (("server", "llama.cpp"), ("access-control-allow-origin", ""), ("content-type", content))

    def model_list(self, names: Sequence[str]) -> Document:
        meta = {"n_ctx": self.world.window or 8192, "n_ctx_train": 8192}
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "aliases": [name],
                    "tags": [],
                    "object": "model",
                    "created": self.world.started,
                    "owned_by": "llamacpp",
                    "meta": meta,
                }
                for name in names
            ],
        }

    def route(self, method: str, path: str) -> Answer | None:
        """`/health` needs no key and answers with JSON; `/metrics` is there as if the server had been started with it."""
        if method == "GET" and path in ("/health", "/v1/health"):
            return Answer(200, self.headers(stream=False), ({"status": "ok"},))
        if method == "GET" and path == "/metrics":
            text = "".join(
                f"# HELP llamacpp:{name} {about}\n# TYPE llamacpp:{name} gauge\nllamacpp:{name} 0\n"
                for name, about in (
                    ("requests_processing", "Number of requests processing."),
                    ("requests_deferred", "Number of requests deferred."),
                )
            )
            return Answer(200, self._headers("text/plain; version=0.0.4"), raw=text.encode())
        return None


def usage(reply: Reply) -> Document:
    """Usage with cached tokens, in the order of the real server."""
    used = reply.usage
    return {
        "completion_tokens": used.completion,
        "prompt_tokens": used.prompt,
        "total_tokens": used.total,
        "prompt_tokens_details": {"cached_tokens": used.cached},
    }


def timings(reply: Reply) -> Document:
    """What the engine measured; here 3.2 ms a prompt token and 7 ms an answer token, as the small model takes."""
    fresh, said = max(1, reply.usage.prompt - reply.usage.cached), max(1, reply.usage.completion)
    return {
        "cache_n": reply.usage.cached,
        "prompt_n": fresh,
        "prompt_ms": 3.2 * fresh,
        "prompt_per_token_ms": 3.2,
        "prompt_per_second": 312.5,
        "predicted_n": said,
        "predicted_ms": 7.0 * said,
        "predicted_per_token_ms": 7.0,
        "predicted_per_second": 142.857,
    }
