"""Answers to requests for embeddings: read whole, looked at number by number, brought into OpenAI's shape.

Promises: there is a vector for each text, in the order of the texts; all are of one length, and of the one that was asked for;
every number is finite. What is not so is a failure, and no answer: nobody looks at vectors before they are in an index. They come
in the format that the client wanted, whichever the upstream knows; base64 is of 32-bit floats, the lowest byte first, as OpenAI's
clients read it. The model goes by the catalogue's name.
"""

import sys
from array import array
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Outcome, Request, Usage
from gateway.upstream import outcomes, usage
from gateway.upstream.answer import AnswerCall, is_error, served
from gateway.upstream.canonical import NotCanonical, written

NUMBERS: Final = frozenset({int, float})
FLOAT_BYTES: Final = 4


class VectorsCall(AnswerCall):
    """A call whose answer are vectors."""

    def _on_complete(self) -> None:
        if self.result is not None:
            return
        raw = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        setting, now = self.setting, self.setting.clock.now()
        try:
            found = orjson.loads(raw)
        except ValueError:
            found = None
        if isinstance(found, dict) and is_error(found):
            self._settle(outcomes.of_error(setting.origin, self._status, (), found, now))
            return
        try:
            self._take(found)
        except NotCanonical:
            self._settle(outcomes.spoilt("bad_vectors", self._status))
            return
        self.first_content = now
        self._settle(self)

    def _take(self, found: Any) -> None:
        """Write the answer that the client gets. Raises NotCanonical."""
        if not isinstance(found, dict):
            raise NotCanonical
        vectors = vectors_of(found, self.request, self.dropped)
        said = usage.read(found.get("usage"))
        outcome = served(said, "", self._status, lambda: Usage(uncached=self.request.needs.prompt_tokens))
        used = outcome.usage or Usage()
        self._outcome = replace(outcome, usage=replace(used, output=0, reasoning=0))  # a vector is no tokens
        self._body = written({
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
            "model": self.setting.model,
            "usage": {"prompt_tokens": used.input, "total_tokens": used.input},
        })  # fmt: skip


def vectors_of(found: Mapping[str, Any], request: Request, dropped: tuple[str, ...]) -> list[list[float] | str]:
    """The vectors of an answer, in the order of the texts and the format that `request` asks for. Raises NotCanonical."""
    body, data = request.body, found.get("data")
    wanted = _texts_in(body["input"])
    if not isinstance(data, list) or len(data) != wanted:
        raise NotCanonical
    as_text = body.get("encoding_format") == "base64"
    placed: list[list[float] | str | None] = [None] * wanted
    lengths = set()
    for position, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise NotCanonical
        index = entry.get("index", position)
        if index.__class__ is not int or not 0 <= index < wanted or placed[index] is not None:
            raise NotCanonical
        length, placed[index] = _vector(entry.get("embedding"), as_text=as_text)
        lengths.add(length)
    asked = _length_asked(body, dropped)
    if len(lengths) != 1 or (asked is not None and lengths != {asked}):
        raise NotCanonical
    return [vector for vector in placed if vector is not None]


def _texts_in(given: Any) -> int:
    """How many texts an `input` is: a list of token ids is one."""
    return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)


def _length_asked(body: Mapping[str, Any], dropped: tuple[str, ...]) -> int | None:
    """How long vectors have to be; None: as long as they are. Numbers of fewer bits may come packed, eight to a byte."""
    packed = body.get("output_dtype") not in (None, "float") and "output_dtype" not in dropped
    wanted = body.get("dimensions")
    return None if packed or wanted is None else int(wanted)


def _vector(found: Any, *, as_text: bool) -> tuple[int, list[float] | str]:
    """Its length, and the vector in the format that is wanted. Raises NotCanonical."""
    if isinstance(found, str):
        numbers = _decoded(found)
        if not len(numbers) or not _finite(numbers):
            raise NotCanonical
        return len(numbers), found if as_text else numbers.tolist()
    if not isinstance(found, list) or not found or not set(map(type, found)) <= NUMBERS:
        raise NotCanonical
    if not as_text:
        if not _finite(found):
            raise NotCanonical
        return len(found), found
    numbers = array("f", found)
    if not _finite(numbers):  # once more: what is finite in 64 bits need not be in 32
        raise NotCanonical
    return len(found), b64encode(_swapped(numbers).tobytes()).decode()


def _finite(numbers: "array[float] | list[float]") -> bool:
    """Whether every number is finite. A sum tells in a third of the time: what is not finite stays so, whatever is added. Where the
    sum alone is beyond all numbers, they are looked at one by one."""
    return isfinite(sum(numbers)) or all(map(isfinite, numbers))


def _decoded(text: str) -> "array[float]":
    try:
        raw = a2b_base64(text, strict_mode=True)
    except (Error, ValueError) as error:  # ValueError: no ASCII
        raise NotCanonical from error
    if len(raw) % FLOAT_BYTES:
        raise NotCanonical
    numbers = array("f")
    numbers.frombytes(raw)
    return _swapped(numbers)


def _swapped(numbers: "array[float]") -> "array[float]":
    """From the machine's order of bytes to the wire's, or back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class EmbeddingsForm:
    """Embeddings as the cache keeps them: as they are. They are never streamed."""

    def answer(self, request: Request, outcome: Outcome, body: bytes) -> bytes | None:
        """The answer to keep; None: it is none that another request may be given."""
        return body if outcome.ended is Ended.SERVED else None

    def answer_of(self, request: Request, outcome: Outcome, events: bytes) -> bytes | None:
        """Nothing: no stream is embeddings."""
        return None

    def events(self, answer: bytes, usage: Usage | None) -> bytes:
        """Raises TypeError: no stream is embeddings."""
        raise TypeError("embeddings are not streamed")
