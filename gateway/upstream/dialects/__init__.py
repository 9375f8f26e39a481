"""How each provider wants its requests: one small table per dialect.

`build` makes a body for chat, `build_text` one for text completions, `build_embeddings` one for embeddings; `DIALECTS` names them
all. What comes back is brought into one shape by canonical.py or texts/shape.py, whoever sent it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.upstream.dialects.base import Dialect, build
from gateway.upstream.dialects.draft import Unsendable
from gateway.upstream.dialects.embedding import build_embeddings
from gateway.upstream.dialects.llamacpp import LLAMACPP
from gateway.upstream.dialects.mistral import MISTRAL
from gateway.upstream.dialects.openai import OPENAI
from gateway.upstream.dialects.prompts import build_text
from gateway.upstream.dialects.vllm import VLLM
from gateway.upstream.dialects.zai import ZAI

__all__ = ["DIALECTS", "Dialect", "Unsendable", "build", "build_embeddings", "build_text"]

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({d.name: d for d in (MISTRAL, ZAI, VLLM, LLAMACPP, OPENAI)})
