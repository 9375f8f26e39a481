"""What makes two requests equal: a digest of all of their bodies, but for the form in which the answer is given."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

ASIDE: Final = frozenset({"stream", "stream_options"})
"""What is no part of it: an answer is given in either form. All else is, `user` and `metadata` too: who names end users keeps them
apart, and nobody can find out what another asked."""


def digested(body: Mapping[str, Any]) -> bytes:
    """The digest of a body. Raises TypeError for one that can't be written: a number beyond 64 bits, or nested hundreds deep."""
    sent = {name: value for name, value in body.items() if value is not None and name not in ASIDE}
    return sha256(orjson.dumps(sent, option=orjson.OPT_SORT_KEYS)).digest()
