"""Bodies of requests, as JSON: an object of which no name stands twice, not nested too deep. What it says is each API's to read.

Promises: a name that stands twice is never taken for one of its two values.
"""

import json
import re
from itertools import islice
from typing import Any, Final

import orjson

from gateway.core.answer import Problem
from gateway.core.bounds import Bounds
from gateway.wire.api import Glance, Parsed

BYTES_PER_FIND: Final = 300  # counted in the time that it takes to find one quote more
FEW: Final = 256  # quotes, in a body whatever its length

_NAME_END: Final = re.compile(rb'"\s*:')
"""Matches behind every name of an object, and now and then within text: never less often than there are names. It begins with a
literal, so that the search skips from quote to quote."""

MARKS: Final = (b",", b"[", b"{")  # outside of texts, a value has one of them at least before it
GLANCE_DEPTH: Final = 3  # a glance looks no deeper: the body, a list, what is in it
NESTING: Final = frozenset({dict, list})


def parse(glance: Glance, body: bytes, bounds: Bounds) -> Parsed:
    """The body as an object. Raises Problem (400): not JSON, not an object, too many values, nested too deep, a name twice."""
    if len(body) > bounds.json_values_max and _is_crowded(body, bounds.json_values_max):
        most = f"more than {bounds.json_values_max:,} values (counted by commas and opening brackets)"
        raise Problem(400, "invalid_json", f"the body holds {most}; send fewer, or in several requests")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # the decoder's message names a place and never quotes the text
        raise Problem(400, "invalid_json", f"the body is not valid JSON: {error.msg} (at character {error.pos})") from None
    if not isinstance(found, dict):
        raise Problem(400, "invalid_json", "the body must be a JSON object")
    if bounds.json_depth_max >= GLANCE_DEPTH and (seen := glance(found)) is not None:
        reading, names, texts = seen
        single = _adds_up(body, names, texts)
    else:
        reading = None
        _check_depth(found, bounds.json_depth_max)
        single = _is_all(body, found)
    if not single:
        _refuse_duplicates(body)
    return Parsed(found, reading)


def _is_crowded(body: bytes, values_max: int) -> bool:
    """Whether there are more than `values_max` MARKS outside of texts. Told before JSON is read, which is what takes long.

    What is no JSON may get either answer.
    """
    if sum(map(body.count, MARKS)) <= values_max:
        return False
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # the quotes that are left begin and end texts
    if bare.count(b'"') > 4 * values_max + 4:  # a mark has two texts at most: a name and a value
        return True
    outside = b"".join(bare.split(b'"')[::2])
    return sum(map(outside.count, MARKS)) > values_max


def _check_depth(value: dict[str, Any], depth_max: int) -> None:
    """Raises Problem (400) where values are nested too deep."""
    level: list[Any] = [value]
    for _ in range(depth_max):
        below: list[Any] = []
        for item in level:
            children = item.values() if type(item) is dict else item
            if not NESTING.isdisjoint(map(type, children)):
                below += [child for child in children if type(child) in NESTING]
        if not below:
            return
        level = below
    raise Problem(400, "invalid_json", f"the body is nested deeper than {depth_max} levels")


def _adds_up(body: bytes, names: int, texts: int) -> bool:
    """Whether `body` surely holds no name twice; a name that was overwritten has left its quotes behind.

    Counting its quotes takes 0.3 µs a kB. In a long one with few it is quicker to `find` them one by one, which skips through text
    as fast as memory goes: 7 µs for 100 kB, where a regular expression takes 50.
    """
    quotes = 2 * (names + texts)
    if len(body) <= quotes * BYTES_PER_FIND:
        last = body.count(b'"') == quotes
    else:
        at = -1
        for _ in range(quotes):
            at = body.find(b'"', at + 1)
        last = body.find(b'"', at + 1) < 0
    if last:
        return True  # all quotes are those around names and texts
    # some are escaped, within a text: what ends names has to do
    return len(list(islice(_NAME_END.finditer(body), names + 1))) == names


def _is_all(body: bytes, found: dict[str, Any]) -> bool:
    """Whether `found` surely is all that `body` says: a name that was overwritten is missing, with its quotes, when all is written
    again.

    For what was not seen at a glance. An agent's conversation is full of JSON and code within texts, where much looks like the end
    of a name.
    """
    try:
        again = orjson.dumps(found)
    except TypeError:  # nested hundreds deep, where that is allowed
        return False
    quotes = _quotes(body)
    if b"\\" in body:
        quotes += body.count(b"\\u0022")  # a quote within a text can be spelt so, too; too many, if that backslash is escaped
    return quotes == _quotes(again)


def _quotes(text: bytes) -> int:
    """How many quotes there are: found one by one while they are few (a picture is one text of megabytes), else counted."""
    at = -1
    for found in range(min(FEW, len(text) // BYTES_PER_FIND)):
        at = text.find(b'"', at + 1)
        if at < 0:
            return found
    return text.count(b'"')


def _refuse_duplicates(body: bytes) -> None:
    """The exact check, several times slower: reached when quotes and colons do not add up."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            raise Problem(400, "duplicate_name", f"the name `{twice[:64]}` stands twice in one object", twice[:64])
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=unique)
    except RecursionError:  # within a value that was overwritten: what is left of the body is not as deep
        raise Problem(400, "invalid_json", "the body is nested too deep") from None
