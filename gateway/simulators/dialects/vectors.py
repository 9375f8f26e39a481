"""Embeddings, as each provider spells its answers. Errors are those of its chat.

Facts: Mistral's from recordings of June 2025 and its published schema; OpenAI's recorded; vLLM's protocol source; llama.cpp's
recorded from the very server that this project ships, started with `--embeddings`; Zhipu's from its published reference
(fixtures/SOURCES.md).

What nobody would guess: Mistral knows the word `base64` and answers with numbers all the same; llama.cpp repeats the model's name
that was asked, whatever it serves, and adds `encoding_format` to each vector in base64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gateway.simulators.dialects.base import Document
from gateway.simulators.vectors import VectorAsk, as_base64, as_floats, vector


class Vectors(ABC):
    """One provider's embeddings."""

    dimensions: ClassVar[int]
    """How long its usual model's vectors are."""
    wished: ClassVar[str | None] = "dimensions"
    """The field that asks for another length; None: there is none."""
    base64: ClassVar[bool] = True
    fields: ClassVar[frozenset[str] | None] = None
    """What a request may hold where anything else is refused; None: anything."""
    missing: ClassVar[str]
    """What is said of an input that is not there."""

    def mistake(self, ask: VectorAsk) -> str | None:
        """What this provider minds in an input that the others take, in its own words."""
        return None if ask.texts else self.missing

    def vectors(self, ask: VectorAsk) -> list[Any]:
        """The vector of each text, in the format that is asked for."""
        length = self.dimensions if self.wished is None else ask.length(self.wished, self.dimensions)
        numbers = [vector("".join(pieces), length) for pieces in ask.texts]
        if self.base64 and ask.body.get("encoding_format") == "base64":
            return [as_base64(found) for found in numbers]
        return [as_floats(found) for found in numbers]

    def data(self, ask: VectorAsk) -> list[Document]:
        """The list of vectors, as OpenAI has it."""
        return [{"object": "embedding", "index": at, "embedding": found} for at, found in enumerate(self.vectors(ask))]

    @abstractmethod
    def plain(self, ask: VectorAsk, *, created: int, seed: str) -> Document:
        """The whole answer. `created` is in seconds since 1970; `seed` is hex, the same for the same texts."""


class MistralVectors(Vectors):
    """Of the text models; `output_dtype` is known, and numbers are whole then."""

    dimensions = 1_024
    wished = "output_dimension"
    base64 = False
    fields = frozenset({"model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format"})
    missing = "Field required"

    def vectors(self, ask: VectorAsk) -> list[Any]:
        found = super().vectors(ask)
        if ask.body.get("output_dtype") in ("int8", "uint8"):
            middle = 128 if ask.body["output_dtype"] == "uint8" else 0
            return [[middle + round(127 * number) for number in numbers] for numbers in found]
        return found

    def plain(self, ask: VectorAsk, *, created: int, seed: str) -> Document:
        count = len(ask.prompt())
        return {
            "id": seed[:32],
            "object": "list",
            "data": self.data(ask),
            "model": ask.model,
            "usage": {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0},
        }


class OpenAIVectors(Vectors):
    """text-embedding-3-small, whatever the model is called."""

    dimensions = 1_536
    fields = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
    missing = "you must provide an 'input' parameter"

    def plain(self, ask: VectorAsk, *, created: int, seed: str) -> Document:
        count = len(ask.prompt())
        return {
            "object": "list",
            "data": self.data(ask),
            "model": ask.model,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }


class VllmVectors(Vectors):
    """A model of its own, such as BAAI/bge-m3."""

    dimensions = 1_024
    missing = "Field required"

    def plain(self, ask: VectorAsk, *, created: int, seed: str) -> Document:
        count = len(ask.prompt())
        return {
            "id": f"embd-{seed[:32]}",
            "object": "list",
            "created": created,
            "model": ask.model,
            "data": self.data(ask),
            "usage": {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0, "prompt_tokens_details": None},
        }


class LlamaCppVectors(Vectors):
    """Vectors are as long as they are."""

    dimensions = 576
    wished = None
    missing = '"input" or "content" must be provided'

    def plain(self, ask: VectorAsk, *, created: int, seed: str) -> Document:
        count = len(ask.prompt())
        named = {"encoding_format": "base64"} if ask.body.get("encoding_format") == "base64" else {}
        return {
            "model": ask.model,
            "object": "list",
            "usage": {"prompt_tokens": count, "total_tokens": count},
            "data": [{**entry, **named} for entry in self.data(ask)],
        }


class ZaiVectors(Vectors):
    """embedding-3 at open.bigmodel.cn: 64 texts at most, four lengths, numbers only."""

    dimensions = 2_048
    base64 = False
    missing = "input"
    texts_max: ClassVar[int] = 64
    lengths: ClassVar[frozenset[int]] = frozenset({256, 512, 1_024, 2_048})

    def mistake(self, ask: VectorAsk) -> str | None:
        wished = ask.body.get("dimensions")
        if wished is not None and wished not in self.lengths:
            return "dimensions"
        return "input" if len(ask.texts) > self.texts_max else super().mistake(ask)

    def plain(self, ask: VectorAsk, *, created: int, seed: str) -> Document:
        count = len(ask.prompt())
        return {
            "model": ask.model,
            "object": "list",
            "data": self.data(ask),
            "usage": {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count},
        }
