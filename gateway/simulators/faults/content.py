"""The wire is right and what it says is not: wrong usage, no content, another reason to finish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from gateway.simulators.answer import Answer
from gateway.simulators.dialects.base import Dialect
from gateway.simulators.faults.base import Fault, each


@dataclass(frozen=True)
class WrongUsage(Fault):
    """Usage that lies: the given numbers take the place of the true ones, or all are multiplied by `factor`."""

    kind: ClassVar[str] = "wrong_usage"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    factor: float | None = None

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return each(answer, self._lie)

    def _lie(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        usage = document.get("usage")
        if not isinstance(usage, dict):
            return document
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        lied = dict(usage)
        for name in names:
            if self.factor is not None:
                lied[name] = int(usage[name] * self.factor)
            if (given := getattr(self, name)) is not None:
                lied[name] = given
        if self.cached_tokens is not None:
            lied["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return {**document, "usage": lied}


@dataclass(frozen=True)
class MissingUsage(Fault):
    """No usage anywhere; a chunk that held nothing else does not come."""

    kind: ClassVar[str] = "missing_usage"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        kept = tuple(d for d in answer.documents if d.get("choices") != [] or "usage" not in d)
        bare = tuple({k: v for k, v in d.items() if k != "usage"} for d in kept)
        return replace(answer, documents=bare)


@dataclass(frozen=True)
class EmptyStream(Fault):
    """An answer that bills and says nothing: content, reasoning and tool calls are gone, usage is not."""

    kind: ClassVar[str] = "empty_stream"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        if not answer.stream:
            return each(answer, _silenced)
        said = ("content", "reasoning", "reasoning_content", "tool_calls")
        kept = [
            d
            for d in answer.documents
            if not any((c.get("delta") or {}).get(key) or c.get("text") for c in d.get("choices", []) for key in said)
            or any(c.get("finish_reason") for c in d.get("choices", []))
        ]
        return each(replace(answer, documents=tuple(kept)), _silenced)


def _silenced(document: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = []
    for choice in document.get("choices", []):
        if "text" in choice:
            choice = {**choice, "text": ""}
        for place in ("delta", "message"):
            if isinstance(said := choice.get(place), dict):
                quiet = {k: v for k, v in said.items() if k not in ("tool_calls", "reasoning", "reasoning_content")}
                choice = {**choice, place: quiet | ({"content": ""} if "content" in quiet else {})}
        choices.append(choice)
    return {**document, "choices": choices}


@dataclass(frozen=True)
class BadVectors(Fault):
    """Embeddings that are none: one `fewer` than texts, one in `another_place`, one `short`, or one with a `null` in it."""

    kind: ClassVar[str] = "bad_vectors"
    how: Literal["fewer", "another_place", "short", "null"] = "fewer"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return each(answer, self._spoil)

    def _spoil(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        data = document.get("data")
        if not isinstance(data, list):
            return document
        last = dict(data[-1])
        match self.how:
            case "fewer":
                return {**document, "data": data[:-1]}
            case "another_place":
                last["index"] = len(data)
            case "short":
                last["embedding"] = last["embedding"][:-8]
            case "null":
                last["embedding"] = None if isinstance(last["embedding"], str) else [None, *last["embedding"][1:]]
        return {**document, "data": [*data[:-1], last]}


@dataclass(frozen=True)
class Finish(Fault):
    """Status 200 and another `finish_reason`: `network_error`, `sensitive`, `error`, `abort`, or any word."""

    kind: ClassVar[str] = "finish"
    reason: str = "network_error"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return each(answer, self._end)

    def _end(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        choices = [
            {**c, "finish_reason": self.reason} if c.get("finish_reason") else c for c in document.get("choices", [])
        ]
        return {**document, "choices": choices}
