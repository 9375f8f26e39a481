"""A request for embeddings as a simulator reads it, and the vectors that it gives: of a text's words, so that near texts are near.

Each word points in a direction of its own, out of its hash; a text is the sum of its words, of length 1. So the cosine of two texts
is about the share of words that they have in common: a paraphrase is near, another subject is not, and the same words in another
order are the same. The same text has the same vector in every simulator, whatever it calls itself.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gateway.simulators.ask import TextsAsk

DIMENSIONS_MAX = 8_192
"""The longest vectors of any model on offer; more are not given."""

DIRECTION = 16
"""Numbers that make up the direction of a word. With so many, words that share one by chance hardly turn a text."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
"""A CJK character, or a run of other letters and digits."""


@dataclass(frozen=True)
class VectorAsk(TextsAsk):
    """A request for embeddings whose body is a JSON object. Wrong types inside it read as absent."""

    field = "input"

    def length(self, name: str, otherwise: int) -> int:
        """How long vectors are to be, as `name` says; `otherwise`, where it says nothing that can be."""
        found = self.body.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= DIMENSIONS_MAX else otherwise


def vector(text: str, dimensions: int) -> list[float]:
    """The vector of `text`: so many numbers, of length 1 together. A text without words points where its own hash does."""
    whole = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        for place, sign in _direction(word, dimensions):
            whole[place] += sign
    length = math.sqrt(math.fsum(number * number for number in whole))
    return [number / length for number in whole] if length else [1.0] + [0.0] * (dimensions - 1)


@lru_cache(maxsize=4_096)
def _direction(word: str, dimensions: int) -> tuple[tuple[int, float], ...]:
    drawn = hashlib.shake_256(word.encode()).digest(DIRECTION * 4)
    return tuple((number // 2 % dimensions, 1.0 if number % 2 else -1.0) for number in struct.unpack(f"<{DIRECTION}I", drawn))


def as_base64(numbers: Sequence[float]) -> str:
    """A vector as 32-bit floats, the lowest byte first, in base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def as_floats(numbers: Sequence[float]) -> list[float]:
    """A vector as it is after 32 bits have held it."""
    return list(array("f", numbers))
