"""The reader's half of shared parts: what lines of one segment lean on, gathered as they are met, and decisions written out of it.

Promise: a decision comes out in the very bytes that `Shorthand.decision` would write of it today, if nothing has changed.
"""

import re
from typing import Any, Final

import orjson

from gateway.ledger.record import written_out
from gateway.ledger.segments import FORMAT

BASIS: Final = re.compile(rb'\{"prev":"[0-9a-f]{64}","kind":"basis","name":([0-9]{1,9}),"is":(\{.*\})\}', re.DOTALL)
# within a JSON string every quotation mark has a backslash before it, so this can't be part of a text
MARK: Final = b'"decision":{"basis":'
DECISION: Final = re.compile(
    MARK + rb'\[([0-9,]{1,200})\],("prompt_tokens":[0-9]+,"output_tokens":(?:null|[0-9]+),"draw":[0-9]+'
    rb'(?:,"longest_tokens":[0-9]+)?(?:,"warm":\{[^{}]*\})?)\}'
)


class Groundless(Exception):
    """A decision that leans on what is not there."""

    def __str__(self) -> str:
        return "its decision leans on a line that does not stand before it in its segment"


class Bases:
    """The parts of one segment. As long as the segment at the most."""

    def __init__(self) -> None:
        self._parts: dict[bytes, bytes] = {}  # as they were written

    def met(self, line: bytes) -> bool:
        """Whether `line` (without its end) is such a part; then it is remembered."""
        found = BASIS.fullmatch(line)
        if found is not None:
            self._parts.setdefault(found[1], found[2])  # no name is given twice
        return found is not None

    def decision(self, line: bytes) -> bytes | None:
        """The decision of `line` as one JSON object; None if it has none. Raises Groundless."""
        if MARK not in line:
            return None
        found = DECISION.search(line)
        if found is None:
            raise Groundless
        try:
            return written_out([self._parts[name] for name in found[1].split(b",")], found[2])
        except KeyError as error:
            raise Groundless from error

    def whole(self, line: bytes) -> dict[str, Any]:
        """`line`, read, with its decision written out. Raises Groundless, and orjson.JSONDecodeError."""
        record: dict[str, Any] = orjson.loads(line)
        if (text := self.decision(line)) is not None:
            record["decision"] = orjson.loads(text)
        return record


def foreign(opened: dict[str, Any]) -> str:
    """Why a segment that begins with the line `opened` can't be read by this program; "" if it can."""
    found = opened.get("format")
    return "" if found == FORMAT else f"it has format {found}, and this program reads format {FORMAT}"
