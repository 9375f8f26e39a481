"""One file per dialect: what each provider's wire looks like, in shapes, headers, usage and errors."""

from gateway.simulators.dialects.base import Dialect, ErrorCase, World
from gateway.simulators.dialects.llamacpp import LlamaCpp
from gateway.simulators.dialects.mistral import Mistral
from gateway.simulators.dialects.openai import OpenAI
from gateway.simulators.dialects.vllm import Vllm
from gateway.simulators.dialects.zai import Zai

DIALECTS: dict[str, type[Dialect]] = {d.name: d for d in (Mistral, Zai, Vllm, OpenAI, LlamaCpp)}
"""Every dialect that can be simulated, by the name that configuration and the command line use."""

__all__ = ["DIALECTS", "Dialect", "ErrorCase", "World"]
