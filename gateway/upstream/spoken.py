"""How upstreams are asked for each of the clients' APIs: at which path, with which body, and what reads the answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from gateway.core.exchange import Request
from gateway.core.policy import Deployment
from gateway.upstream.answer import AnswerCall
from gateway.upstream.calling import Calling, Setting
from gateway.upstream.dialects import Dialect, build, build_embeddings, build_text
from gateway.upstream.stream import StreamCall
from gateway.upstream.texts.calls import TextAnswerCall, TextStreamCall
from gateway.upstream.vectors import VectorsCall


class Build(Protocol):
    """Writes a body in a dialect, with the names of what was left out; as dialects.base.build, which does so for chat."""

    def __call__(
        self, dialect: Dialect, deployment: Deployment, request: Request, secret: str | None, cached_from: int | None, /
    ) -> tuple[bytes, tuple[str, ...]]: ...


@dataclass(frozen=True, slots=True)
class Spoken:
    """One API, as upstreams speak it. The path follows the endpoint's own, but for dialects that have another (`paths`); `streamed`
    None: it is never streamed."""

    path: str
    build: Build
    whole: Callable[[Setting, Request, tuple[str, ...]], Calling]
    streamed: Callable[[Setting, Request, tuple[str, ...]], Calling] | None = None


SPOKEN: Final[Mapping[str, Spoken]] = MappingProxyType({
    "chat": Spoken("/chat/completions", build, AnswerCall, StreamCall),
    "embeddings": Spoken("/embeddings", build_embeddings, VectorsCall),
    "completions": Spoken("/completions", build_text, TextAnswerCall, TextStreamCall),
})  # fmt: skip
"""By the name of the API, as facts and labels have it."""
