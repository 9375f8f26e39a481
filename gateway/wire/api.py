"""What the data plane has to know of one of the clients' APIs. Each has a file of its own; apis.py has them all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.exchange import Needs
from gateway.wire.text import Estimator, Script


class Reading(Protocol):
    """What was read in a body that is of the right shape."""

    @property
    def script(self) -> Script | None:
        """That of its text; None: it has none, so it may be in any language, and says nothing of how long text is in tokens."""
        ...

    def needs(self, body: Mapping[str, Any], estimator: Estimator, /) -> Needs:
        """What the request needs, its prompt in tokens by estimate."""
        ...


@dataclass(slots=True)
class Parsed:
    """A body that is an object of its own shape, and what it holds if that was plain to see: then `check` has nothing to say."""

    body: dict[str, Any]
    reading: Reading | None


Glance = Callable[[dict[str, Any]], tuple[Reading, int, int] | None]
"""What a body holds, and how many names and texts, where it is of the usual shape; None: look closer."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API: `name` as facts and labels have it, the path it is asked at, and how its bodies are read.

    `check` raises Problem (400) for a field that can't be what it is; `read` is of a body that `check` has let pass, and may raise
    the same. What `glance` finds is what they would have found.
    """

    name: str
    path: str
    glance: Glance
    check: Callable[[Mapping[str, Any]], None]
    read: Callable[[Mapping[str, Any]], Reading]
    fact: frozenset[str] = field(init=False)  # `api`, of every request

    def __post_init__(self) -> None:
        object.__setattr__(self, "fact", frozenset((self.name,)))
