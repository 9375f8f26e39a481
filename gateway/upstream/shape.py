"""What the answers of one API look like: how a chunk and a whole answer are brought into its form. Chat's is canonical.py's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.usage import Usage
from gateway.upstream import canonical
from gateway.upstream import usage as tokens
from gateway.upstream.canonical import Identity, Seen
from gateway.upstream.usage import Unusable


@dataclass(frozen=True, slots=True)
class Shape:
    """`mend_chunk` and `mend_answer` work in place, and raise NotCanonical; the number that `mend_chunk` remembers things by, from
    one chunk to the next, is a choice's index.
    """

    ids: str  # what an id that is made here begins with
    chunk: str  # the `object` of a chunk
    mend_chunk: Callable[[dict[str, Any], dict[int, Any]], Seen]
    mend_answer: Callable[[dict[str, Any], Identity], Seen]
    as_events: Callable[[Mapping[str, Any]], list[bytes]]  # a mended answer, as a stream would have brought it
    usage: Callable[[Mapping[str, Any]], Usage | Unusable]  # of a whole answer
    choices: Callable[[Mapping[str, Any]], int]  # how many a request wants
    may_say_nothing: Callable[[Mapping[str, Any]], bool]  # whether an answer without a word is one, to such a request


def read_usage(answer: Mapping[str, Any]) -> Usage | Unusable:
    """The usage of a whole answer that says it once."""
    return tokens.read(answer.get("usage"), answer.get("timings"))


def wanted(body: Mapping[str, Any], name: str = "n") -> int:
    """The number that a request writes at `name`; 1 where it writes none."""
    n = body.get(name)
    return n if isinstance(n, int) and n > 0 else 1


def never(body: Mapping[str, Any]) -> bool:
    """A chat that says nothing is a defect of whoever led it."""
    return False


CHAT: Final = Shape(
    ids="chatcmpl-",
    chunk=canonical.CHUNK,
    mend_chunk=canonical.mend_chunk,
    mend_answer=canonical.mend_answer,
    as_events=canonical.as_events,
    usage=read_usage,
    choices=wanted,
    may_say_nothing=never,
)
