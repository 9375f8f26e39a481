"""What a dialect has to say for itself, and the rules all of them share.

A dialect answers from tables: the errors it knows are rows, and a fault script names a row by its code or its name.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.simulators.answer import Answer, Header, Pace
from gateway.simulators.ask import Ask, Reply
from gateway.simulators.prompts import PromptAsk, TextReply
from gateway.simulators.tokens import PrefixCache
from gateway.simulators.vectors import VectorAsk

if TYPE_CHECKING:
    from gateway.simulators.dialects.texts import Texts
    from gateway.simulators.dialects.vectors import Vectors

Document = dict[str, Any]


@dataclass(frozen=True)
class ErrorCase:
    """One error of a dialect: its name here, the HTTP status, and the words of the wire.

    `message` may hold `{model}`, `{detail}` and `{reset}`; what a request does not fill stays readable.
    """

    name: str
    status: int
    code: str | int | None
    message: str
    type: str | None = None


@dataclass(frozen=True)
class World:
    """What a simulator was told about itself: which models exist (None: any), how long a prompt may be in tokens
    (None: any length), which key opens it (None: any, or no key at all)."""

    models: frozenset[str] | None = None
    window: int | None = None
    api_key: str | None = None
    address: str = "127.0.0.1"
    started: int = 0


@dataclass
class Quota:
    """Counters that some dialects show in their headers. They only count down; nothing is ever refused by them."""

    requests_left: int = 720
    tokens_left: int = 5_000_000


class Dialect(ABC):
    """A provider's wire. An instance belongs to one simulator and keeps what the provider would: a prompt cache."""

    name: ClassVar[str]
    who: ClassVar[str]
    """How the simulator calls itself in its answers."""
    prefixes: ClassVar[tuple[str, ...]] = ("/v1",)
    """The paths under which the real API lives; the first is the one in `base_url`. Any other prefix is served too."""
    errors: ClassVar[Sequence[ErrorCase]]
    throttle: ClassVar[str]
    """The name of the error that `throttle` means where the script does not say."""
    pace: ClassVar[Pace] = Pace(first=0.25, between=0.015)
    """A believable rhythm, used by the command line; tests run without one. About 65 tokens a second."""
    cache: PrefixCache
    texts: ClassVar[Texts | None] = None
    """Its text completions, where it has them."""
    vectors: ClassVar[Vectors | None] = None
    """Its embeddings, where it has them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.quota = Quota()

    # -- what may be refused

    def refuse(self, ask: Ask, prompt_tokens: int) -> Answer | None:
        """The error with which this provider would answer `ask`, or None. `prompt_tokens` in tokens."""
        if self.world.window is not None and prompt_tokens > self.world.window:
            return self.too_long(prompt_tokens)
        return None

    def refuse_text(self, ask: PromptAsk, prompt_tokens: int) -> Answer | None:
        """As `refuse`, of a request for text completions."""
        if self.world.window is not None and prompt_tokens > self.world.window:
            return self.too_long(prompt_tokens)
        return None

    def refuse_vectors(self, ask: VectorAsk) -> Answer | None:
        """As `refuse`, of a request for embeddings, of which each text has the window to itself."""
        longest = max(map(len, ask.texts), default=0)
        if self.world.window is not None and longest > self.world.window:
            return self.too_long(longest)
        return None

    @abstractmethod
    def unauthorized(self) -> Answer:
        """The answer to a missing or wrong key."""

    @abstractmethod
    def too_long(self, prompt_tokens: int) -> Answer:
        """The answer to a prompt longer than the window. `prompt_tokens` in tokens."""

    @abstractmethod
    def error(self, case: ErrorCase, *, message: str | None = None, status: int | None = None, **words: Any) -> Answer:
        """`case` as this provider spells it. `message` and `status` take the place of the table's."""

    @abstractmethod
    def stream_error(self, case: ErrorCase) -> tuple[bytes, ...]:
        """The events with which a stream that began well ends in `case`, after status 200."""

    def case(self, name: str) -> ErrorCase:
        """The row of the error table with this name or code. Raises KeyError naming the nearest rows."""
        for case in self.errors:
            if name == case.name or name == str(case.code):
                return case
        known = [c.name for c in self.errors] + [str(c.code) for c in self.errors if c.code is not None]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(dict.fromkeys(known))}"
        raise KeyError(f"`{name}` is no error of the {self.name} dialect; {hint}")

    # -- what is said

    def reasons(self, ask: Ask) -> bool:
        """Whether the model would show its reasoning for this request."""
        return False

    def cached(self, ask: Ask, prompt: Sequence[str]) -> int:
        """How many prompt tokens the provider's cache already held, in tokens; remembers this prompt."""
        return self.cache.hit(ask.model, prompt)

    @abstractmethod
    def plain(self, ask: Ask, reply: Reply) -> Document:
        """The whole answer as one document."""

    @abstractmethod
    def chunks(self, ask: Ask, reply: Reply) -> list[Document]:
        """The answer as stream events, in order, without `[DONE]`."""

    @abstractmethod
    def headers(self, *, stream: bool, reply: Reply | TextReply | None = None) -> tuple[Header, ...]:
        """The headers of an answer, content-type included, lengths and framing not."""

    def answer(self, ask: Ask, reply: Reply) -> Answer:
        """The whole answer, as a stream if one was asked for."""
        headers = self.headers(stream=ask.stream, reply=reply)
        if ask.stream:
            return Answer(200, headers, tuple(self.chunks(ask, reply)), stream=True)
        return Answer(200, headers, (self.plain(ask, reply),))

    def answer_text(self, ask: PromptAsk, reply: TextReply) -> Answer:
        """As `answer`, of text completions."""
        assert self.texts is not None
        headers = self.headers(stream=ask.stream, reply=reply)
        if ask.stream:
            return Answer(200, headers, tuple(self.texts.chunks(ask, reply)), stream=True)
        return Answer(200, headers, (self.texts.plain(ask, reply),))

    def answer_vectors(self, ask: VectorAsk, *, created: int, seed: str) -> Answer:
        """The embeddings. `created` is in seconds since 1970; `seed` is hex, the same for the same texts."""
        assert self.vectors is not None
        return Answer(200, self.headers(stream=False), (self.vectors.plain(ask, created=created, seed=seed),))

    @abstractmethod
    def model_list(self, names: Sequence[str]) -> Document:
        """The body of `GET {prefix}/models`."""

    def models(self) -> Answer:
        """The answer to `GET {prefix}/models`: the configured models, or one that stands for any."""
        names = sorted(self.world.models) if self.world.models is not None else [f"any-{self.name}-model"]
        return Answer(200, self.headers(stream=False), (self.model_list(names),))

    def route(self, method: str, path: str) -> Answer | None:
        """The answer to a path that only this dialect has, or None."""
        return None

    @abstractmethod
    def not_json(self) -> Answer:
        """The answer to a body that is no JSON object."""

    @abstractmethod
    def not_found(self, method: str, path: str) -> Answer:
        """The answer to a path that does not exist."""


def worded(case: ErrorCase, message: str | None, words: Mapping[str, Any]) -> str:
    """The message of an error: `message` as it is, or the table's, filled with what is known of the request."""
    if message is not None:
        return message
    return case.message.format_map({"model": "", "detail": "", "reset": "2026-12-01 08:00:00", **words})


def choice_list(reply: Reply, one: Callable[[int], Document]) -> list[Document]:
    """`n` choices, each made by `one` from its index."""
    return [one(index) for index in range(reply.choices)]
