"""Answers to requests for embeddings: read whole, looked at number by number, brought into OpenAI's shape.

Promises: there is a vector for each text, in the order of the texts; all are of one length, and of the one that was asked for;
every number is finite. What is not so is a failure, and no answer: nobody looks at vectors before they are in an index. They come
in the format that the client wanted, whichever the upstream knows; base64 is of 32-bit floats, the lowest byte first, as OpenAI's
clients read it. The model goes by the catalogue's name.
"""

import asyncio
import sys
from array import array
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Outcome, Request
from gateway.core.usage import Usage
from gateway.ports import Opened
from gateway.upstream import outcomes, usage
from gateway.upstream.answer import AnswerCall, is_error, served
from gateway.upstream.canonical import NotCanonical, written
from gateway.upstream.unread import but_lists

NUMBERS: Final = frozenset({int, float})
FLOAT_BYTES: Final = 4
TURN_BYTES: Final = 262_144  # of what comes and of what is written: one or two milliseconds; then others have their turn


class VectorsCall(AnswerCall):
    """A call whose answer are vectors. A long one is read by whoever waits for it, a little in each turn of the loop."""

    _reading: Iterator[None] | None = None  # has come, and is not all read

    async def wait(self, timeout_s: float | None) -> Opened | Outcome | None:
        if self._reading is None:
            await super().wait(timeout_s)
        try:
            for _ in self._reading or ():
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.abort()
            raise
        return self.result

    def _let_go(self) -> None:
        self._reading = None
        super()._let_go()

    def _on_complete(self) -> None:
        if self.result is not None:
            return
        raw = self._gathered()
        found, lists = _parsed(raw)
        if isinstance(found, dict) and is_error(found):
            setting = self.setting
            self._settle(outcomes.of_error(setting.origin, self._status, (), found, setting.clock.now()))
            return
        self._reading = self._read(found, lists)
        if len(raw) > TURN_BYTES:
            self._wake()
            return
        for _ in self._reading:
            continue

    def _read(self, found: Any, lists: Mapping[str, bytes]) -> Iterator[None]:
        """Settle on what was found: an answer, written as the client gets it, or none."""
        try:
            yield from self._take(found, lists)
        except NotCanonical:
            self._settle(outcomes.spoilt("bad_vectors", self._status))
            return
        self.first_content = self.setting.clock.now()
        self._settle(self)

    def _take(self, found: Any, lists: Mapping[str, bytes]) -> Iterator[None]:
        """Write the answer that the client gets. Raises NotCanonical."""
        if not isinstance(found, dict):
            raise NotCanonical
        as_text = self.request.body.get("encoding_format") == "base64"
        lengths: set[int] = set()
        pieces = [b'{"object":"list","data":[']
        bytes_done = 0
        for index, given in enumerate(in_order(found, self.request)):
            came = lists.get(given, given) if isinstance(given, str) else given
            length, text = _vector(came, as_text=as_text)
            lengths.add(length)
            pieces += (b"," if index else b"", b'{"object":"embedding","index":%d,"embedding":' % index, text, b"}")
            bytes_done += len(came) + len(text)
            if bytes_done > TURN_BYTES:
                bytes_done = 0
                yield
        asked = _length_asked(self.request.body, self.dropped)
        if len(lengths) != 1 or (asked is not None and lengths != {asked}):
            raise NotCanonical
        said = usage.read(found.get("usage"))
        outcome = served(said, "", self._status, lambda: Usage(uncached=self.request.needs.prompt_tokens))
        used = outcome.usage or Usage()
        self._outcome = replace(outcome, usage=replace(used, output=0, reasoning=0))  # a vector is no tokens
        about = {"model": self.setting.model, "usage": {"prompt_tokens": used.input, "total_tokens": used.input}}
        pieces += (b"],", written(about).removeprefix(b"{"))
        self._body = b"".join(pieces)


def _parsed(raw: bytes) -> tuple[Any, Mapping[str, bytes]]:
    """What an answer holds, and the vectors that stand in it as lists, unread. In base64 they are texts, read as fast as copied."""
    try:
        found, lists = but_lists(raw)
        if isinstance(found, dict) and isinstance(found.get("data"), list):
            return found, lists
    except ValueError:
        pass  # brackets within a text, or no JSON
    try:
        return orjson.loads(raw), {}
    except ValueError:
        return None, {}


def in_order(found: Mapping[str, Any], request: Request) -> Sequence[Any]:
    """What stands for a vector in an answer, in the order of the texts. Raises NotCanonical where it is not one for each."""
    data, wanted = found.get("data"), _texts_in(request.body["input"])
    if not isinstance(data, list) or len(data) != wanted:
        raise NotCanonical
    placed: dict[int, Any] = {}
    for position, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise NotCanonical
        index = entry.get("index", position)
        if index.__class__ is not int or not 0 <= index < wanted or index in placed:
            raise NotCanonical
        placed[index] = entry.get("embedding")
    return [placed[index] for index in range(wanted)]


def _texts_in(given: Any) -> int:
    """How many texts an `input` is: a list of token ids is one."""
    return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)


def _length_asked(body: Mapping[str, Any], dropped: tuple[str, ...]) -> int | None:
    """How long vectors have to be; None: as long as they are. Numbers of fewer bits may come packed, eight to a byte."""
    packed = body.get("output_dtype") not in (None, "float") and "output_dtype" not in dropped
    wanted = body.get("dimensions")
    return None if packed or wanted is None else int(wanted)


def _vector(came: Any, *, as_text: bool) -> tuple[int, bytes]:
    """Its length, and the vector as JSON in the format that is wanted, of base64 or a list, read or not. Raises NotCanonical."""
    if isinstance(came, str):
        packed = _decoded(came)
        if not len(packed) or not _finite(packed):
            raise NotCanonical
        return len(packed), b'"%b"' % came.encode() if as_text else orjson.dumps(packed.tolist())
    numbers = _numbers(came)
    if not as_text:
        return len(numbers), came if isinstance(came, bytes) else orjson.dumps(numbers)
    packed = array("f", numbers)
    if not _finite(packed):  # once more: what is finite in 64 bits need not be in 32
        raise NotCanonical
    return len(packed), b'"%b"' % b64encode(_swapped(packed).tobytes())


def _numbers(came: Any) -> list[float]:
    """The numbers of a list, read or not. Raises NotCanonical for anything else."""
    try:
        found = orjson.loads(came) if isinstance(came, bytes) else came
    except ValueError as error:
        raise NotCanonical from error
    if not isinstance(found, list) or not found or not set(map(type, found)) <= NUMBERS or not _finite(found):
        raise NotCanonical
    return found


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
