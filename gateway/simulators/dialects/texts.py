"""Text completions, as each provider that has them spells its answers. Errors are those of its chat.

Facts: OpenAI's as recorded in 2024; vLLM's protocol source and a stream from its documentation; llama.cpp's recorded from the very
server that this project ships; Mistral's, which has them as fill-in-the-middle in the shape of chat, from its published schema
(fixtures/SOURCES.md).

What llama.cpp's does that nobody would guess: usage of a whole answer is that of the first choice alone; in a stream each choice's
last chunk has its own; a stream of several prompts may begin with an event `null`; `echo`, `suffix` and `best_of` are ignored, and
without `max_tokens` it writes until the window is full.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.simulators.ask import Usage
from gateway.simulators.dialects.base import Document
from gateway.simulators.prompts import TOKENS_DEFAULT, PromptAsk, Text, TextReply


class Texts(ABC):
    """One provider's text completions. `path` ends the path at which they are asked for."""

    path: ClassVar[str] = "/completions"
    tokens_default: ClassVar[int | None] = TOKENS_DEFAULT
    fields: ClassVar[frozenset[str] | None] = None
    """What a request may hold where anything else is refused; None: anything."""

    def mistake(self, ask: PromptAsk) -> str | None:
        """What this provider minds in a prompt that the others take, in its own words."""
        return None if ask.texts else self.missing

    missing: ClassVar[str]
    """What is said of a prompt that is not there."""

    @abstractmethod
    def plain(self, ask: PromptAsk, reply: TextReply) -> Document:
        """The whole answer as one document."""

    @abstractmethod
    def chunks(self, ask: PromptAsk, reply: TextReply) -> list[Document]:
        """The answer as stream events, in order, without `[DONE]`."""


def logprobs(content: tuple[str, ...], offset: int) -> Document:
    """What `logprobs: 1` brings: the tokens, each with its own probability, and where it begins in the text."""
    at = [offset + sum(map(len, content[:i])) for i in range(len(content))]
    return {
        "tokens": list(content),
        "token_logprobs": [-0.25] * len(content),
        "top_logprobs": [{token: -0.25} for token in content],
        "text_offset": at,
    }


def asked_logprobs(ask: PromptAsk) -> bool:
    """Whether probabilities are asked for."""
    wanted = ask.body.get("logprobs")
    return isinstance(wanted, int) and wanted is not False


def rounds(reply: TextReply) -> list[tuple[int, int, Text]]:
    """Every token of a stream as (choice, place, text), the choices taking turns as engines serve them."""
    longest = max((len(text.content) for text in reply.texts), default=0)
    turns = range(max(1, longest))
    return [(i, at, t) for at in turns for i, t in enumerate(reply.texts) if at < max(1, len(t.content))]


class OpenAITexts(Texts):
    """The finish comes with the last token; usage alone in the last chunk, if asked for, and null before."""

    missing = "you must provide a 'prompt' parameter"
    fields = frozenset({
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty",
        "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
    })  # fmt: skip

    def plain(self, ask: PromptAsk, reply: TextReply) -> Document:
        choices = [
            {
                "text": text.text,
                "index": index,
                "logprobs": logprobs(text.content, len(text.before)) if asked_logprobs(ask) else None,
                "finish_reason": text.finish,
            }
            for index, text in enumerate(reply.texts)
        ]
        return self._envelope(reply) | {"choices": choices, "model": reply.model, "usage": plain_usage(reply.usage)}

    def chunks(self, ask: PromptAsk, reply: TextReply) -> list[Document]:
        null = {"usage": None} if ask.include_usage else {}
        out = []
        for index, at, text in rounds(reply):
            last = at >= len(text.content) - 1
            offset = len(text.before) + sum(map(len, text.content[:at]))
            choice = {
                "text": (text.before if at == 0 else "") + "".join(text.content[at : at + 1]),
                "index": index,
                "logprobs": logprobs(text.content[at : at + 1], offset) if asked_logprobs(ask) else None,
                "finish_reason": text.finish if last else None,
            }
            out.append(self._envelope(reply) | {"choices": [choice], "model": reply.model} | null)
        if ask.include_usage:
            out.append(self._envelope(reply) | {"choices": [], "model": reply.model, "usage": plain_usage(reply.usage)})
        return out

    def _envelope(self, reply: TextReply) -> Document:
        return {"id": f"cmpl-{reply.seed[:29]}", "object": "text_completion", "created": reply.created}


class VllmTexts(Texts):
    """As OpenAI's, with a stop reason, and nulls written out in whole answers. `suffix` is refused."""

    missing = "Either prompt or prompt_embeds must be provided and non-empty."

    def mistake(self, ask: PromptAsk) -> str | None:
        return "suffix is not currently supported" if ask.body.get("suffix") is not None else super().mistake(ask)

    def plain(self, ask: PromptAsk, reply: TextReply) -> Document:
        choices = [
            {
                "index": index,
                "text": text.text,
                "logprobs": logprobs(text.content, len(text.before)) if asked_logprobs(ask) else None,
                "finish_reason": text.finish,
                "stop_reason": None,
                **dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts")),
            }
            for index, text in enumerate(reply.texts)
        ]
        return self._envelope(reply) | {
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": "vllm-0.33.0-tp8-simulated",
            "usage": plain_usage(reply.usage) | {"prompt_tokens_details": None},
            **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics")),
        }

    def chunks(self, ask: PromptAsk, reply: TextReply) -> list[Document]:
        out = []
        for index, at, text in rounds(reply):
            last = at >= len(text.content) - 1
            offset = len(text.before) + sum(map(len, text.content[:at]))
            choice = {
                "index": index,
                "text": (text.before if at == 0 else "") + "".join(text.content[at : at + 1]),
                "logprobs": logprobs(text.content[at : at + 1], offset) if asked_logprobs(ask) else None,
                "finish_reason": text.finish if last else None,
                "stop_reason": None,
            }
            out.append(self._envelope(reply) | {"choices": [choice]})
        out[-1]["system_fingerprint"] = "vllm-0.33.0-tp8-simulated"
        if ask.include_usage:
            out.append(self._envelope(reply) | {"choices": [], "usage": plain_usage(reply.usage)})
        return out

    def _envelope(self, reply: TextReply) -> Document:
        return {"id": f"cmpl-{reply.seed[:32]}", "object": "text_completion", "created": reply.created, "model": reply.model}


class LlamaCppTexts(Texts):
    """Choices first; probabilities in the shape of chat; usage whether or not it is asked for, of one choice at a time."""

    tokens_default = None
    missing = "[json.exception.out_of_range.403] key 'prompt' not found"

    def plain(self, ask: PromptAsk, reply: TextReply) -> Document:
        choices = [
            {
                "text": "".join(text.content),
                "index": index,
                "logprobs": self._logprobs(ask, text.content),
                "finish_reason": text.finish,
            }
            for index, text in enumerate(reply.texts)
        ]
        own = reply.own[0]
        return self._envelope(reply, choices) | {"usage": cached_usage(own), "timings": timings(own)}

    def chunks(self, ask: PromptAsk, reply: TextReply) -> list[Document]:
        out = []
        for index, at, text in rounds(reply):
            piece = text.content[at : at + 1]
            choice = {"text": "".join(piece), "index": index, "logprobs": self._logprobs(ask, piece), "finish_reason": None}
            if piece:
                out.append(self._envelope(reply, [choice]))
            if at >= len(text.content) - 1:
                own = reply.own[index]
                end = {"text": "", "index": index, "logprobs": None, "finish_reason": text.finish}
                out.append(self._envelope(reply, [end]) | {"usage": cached_usage(own), "timings": timings(own)})
        return out

    def _logprobs(self, ask: PromptAsk, content: tuple[str, ...]) -> Document | None:
        if not ask.body.get("logprobs"):  # 0 counts as no wish
            return None
        one = {"id": 1, "token": "", "bytes": [0], "logprob": -0.25}
        each = [{**one, "token": token, "bytes": list(token.encode())} for token in content]
        return {"content": [{**token, "top_logprobs": [token]} for token in each]}

    def _envelope(self, reply: TextReply, choices: list[Document]) -> Document:
        return {
            "choices": choices,
            "created": reply.created,
            "model": reply.model,
            "system_fingerprint": "b0-simulated",
            "object": "text_completion",
            "id": f"chatcmpl-{reply.seed[:32]}",
        }


class MistralTexts(Texts):
    """Fill-in-the-middle at a path of its own, of one prompt that is text, answered in the shape of chat."""

    path = "/fim/completions"
    tokens_default = None
    missing = "Field required"
    fields = frozenset({
        "model", "prompt", "suffix", "temperature", "top_p", "max_tokens", "min_tokens", "stream", "stop", "random_seed",
        "metadata",
    })  # fmt: skip

    def plain(self, ask: PromptAsk, reply: TextReply) -> Document:
        (text,) = reply.texts
        message = {"role": "assistant", "content": text.text}
        choice = {"index": 0, "message": message, "finish_reason": text.finish}
        return self._envelope(reply, "chat.completion") | {"usage": cached_usage(reply.usage), "choices": [choice]}

    def chunks(self, ask: PromptAsk, reply: TextReply) -> list[Document]:
        (text,) = reply.texts
        deltas: list[tuple[Mapping[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": piece}, None) for piece in text.content]
        deltas.append(({"content": ""}, text.finish))
        out = [
            self._envelope(reply, "chat.completion.chunk") | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            for delta, finish in deltas
        ]
        out[-1]["usage"] = cached_usage(reply.usage)
        return out

    def _envelope(self, reply: TextReply, what: str) -> Document:
        return {"id": reply.seed[:32], "object": what, "created": reply.created, "model": reply.model}


def plain_usage(used: Usage) -> Document:
    """Three numbers."""
    return {"prompt_tokens": used.prompt, "completion_tokens": used.completion, "total_tokens": used.total}


def cached_usage(used: Usage) -> Document:
    """And what was cached."""
    return plain_usage(used) | {"prompt_tokens_details": {"cached_tokens": used.cached}}


def timings(used: Usage) -> Document:
    """What llama.cpp measured, of one choice."""
    fresh, spoken = max(1, used.prompt - used.cached), max(1, used.completion)
    return {
        "cache_n": used.cached,
        "prompt_n": fresh,
        "prompt_ms": 3.2 * fresh,
        "prompt_per_token_ms": 3.2,
        "prompt_per_second": 312.5,
        "predicted_n": spoken,
        "predicted_ms": 7.0 * spoken,
        "predicted_per_token_ms": 7.0,
        "predicted_per_second": 142.857,
    }
