"""The APIs that this version serves."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.wire.api import Api
from gateway.wire.chat import CHAT
from gateway.wire.completions import COMPLETIONS
from gateway.wire.embeddings import EMBEDDINGS

APIS: Final[Mapping[str, Api]] = MappingProxyType({api.name: api for api in (CHAT, COMPLETIONS, EMBEDDINGS)})
"""By name. Another one takes its line here, its file, and how upstreams are asked for it (upstream/spoken.py)."""
