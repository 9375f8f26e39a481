"""Heads of requests, and how one that was understood before is recognised by its bytes.

A client sends the same head again and again, but for the digits of its `content-length`. The parser, a call of Python for each
header and the digest of the key take 40 µs; recognising the whole takes 3. Promises: what is recognised was accepted by the parser,
byte for byte, and came with a good key; only the length of the body may differ, within the same limits. What a head means is told
by its bytes alone, so nothing here goes stale: whether its key is still good is asked each time, of the access in force. No key is
kept: a head goes by its sha256.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.core.answer import Answer, Problem
from gateway.core.exchange import Wish
from gateway.core.memo import Memo
from gateway.wire.declared import PREFIX, Declared
from gateway.wire.identity import Shown, shown
from gateway.wire.wishes import HEADER, wish_of

HEADS_MAX: Final = 1024  # remembered; a worker has fewer clients than that, and those with an id of their own in each head are many
HEAD_BYTES_MAX: Final = 4096  # of a head that is looked for: hashing it takes 3 µs. SDKs send some 600
DIGITS_MAX: Final = 8  # of a content-length that is not read by the parser
KEPT_CHARS_MAX: Final = 512  # of the headers of a remembered head: with HEADS_MAX, below 2 MB in all
SESSION: Final = "x-session-affinity"
SESSION_CHARS_MAX: Final = 128  # of it; more of an id tells no more apart
CLIENT_ID_CHARS_MAX: Final = 128  # of an x-request-id; it is echoed, so it must not be a way to fill logs

KEPT: Final = frozenset({"x-request-id", SESSION, HEADER})
"""Headers that are read of a head that was recognised, besides those that declare something."""

Mark = tuple[bytes, int, int, int]
"""Of bytes that may begin with a head: its digest without the digits of its length, its size, that length, and where it stands."""


class Head:
    """What the head of one HTTP request says. Header names are lower-case; values are decoded as Latin-1, as HTTP/1.1 has them.

    What follows from the headers is worked out when first asked for, and kept: it follows from nothing else.
    """

    __slots__ = (
        "_client_id", "_shown", "_wish", "chunked", "digest", "headers", "keep_alive", "method", "path", "said", "serve",
        "size_max",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        *,
        keep_alive: bool = True,
        chunked: bool = True,
        digest: bytes = b"",
        size_max: int = 0,
    ) -> None:
        """`chunked`: its answer may come in chunks. `digest`: of its bytes, if it may be remembered by them; `size_max`: what its
        headers may come to then, in bytes, with the longest of lengths.
        """
        self.method = method
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.chunked = chunked
        self.digest = digest
        self.size_max = size_max
        self.said: Declared | None = None  # what it declares, once the desk has read it
        self.serve: Callable[..., Awaitable[Answer]] | None = None  # what answers at its path, once that was looked up
        self._shown: Shown | None = None
        self._client_id: str | None = None
        self._wish: Wish | None = None

    def header(self, name: str) -> str | None:
        """The value of `name`, or None. Raises Problem (400) if it was sent twice."""
        values = [value for found, value in self.headers if found == name]
        if len(values) > 1:
            raise Problem(400, "duplicate_header", f"the header `{name}` was sent {len(values)} times", name)
        return values[0] if values else None

    def shown(self) -> Shown:
        """The key that it shows. Raises Problem (400, 401)."""
        if self._shown is None:
            self._shown = shown(self.header("authorization"))
        return self._shown

    def session(self) -> str:
        """What the caller calls its conversation, or "". Raises Problem (400)."""
        return (self.header(SESSION) or "")[:SESSION_CHARS_MAX]

    def client_id(self) -> str:
        """The caller's own id of the request, or "". Raises Problem (400)."""
        if self._client_id is None:
            self._client_id = (self.header("x-request-id") or "")[:CLIENT_ID_CHARS_MAX]
        return self._client_id

    def wish(self) -> Wish:
        """What it wishes of the cache."""
        if self._wish is None:
            self._wish = wish_of(self.headers)
        return self._wish


def names_a_length(data: bytes, at: int) -> bool:
    """Whether what stands at `at` of a head is the value of its `content-length`."""
    return data[at - 18 : at].lower() == b"\r\ncontent-length: "


class Heads(Memo[bytes, Head]):
    """The heads that a worker recognises, by digest."""

    __slots__ = ()
    entries_max = HEADS_MAX

    @staticmethod
    def mark(data: bytes) -> Mark | None:
        """What `data` begins with, if that may be a head with a length.

        The digits that are left out stand behind the first `ength: `, which is among what is hashed: so heads with equal digests
        are equal but for what stands there. That it is a length, and the only one, is for whoever remembers the head to know.
        """
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 2
        at = data.find(b"ength: ", 0, end) + 7  # of `Content-Length` and of `content-length`, and not of `Content-Type`
        if end < 2 or at < 7:
            return None
        after = data.find(b"\r\n", at)
        length = data[at:after]
        if not length.isdigit() or after - at > DIGITS_MAX:
            return None
        return hashlib.sha256(data[:at] + data[after:end]).digest(), end + 2, int(length), at

    def remember(self, head: Head) -> None:
        """Recognise `head` from now on, if it can be; its key is good, and is forgotten."""
        digest, head.digest = head.digest, b""
        kept = [(name, value) for name, value in head.headers if name in KEPT or name.startswith(PREFIX)]
        if digest and sum(len(name) + len(value) for name, value in kept) <= KEPT_CHARS_MAX:
            head.headers = kept
            self.keep(digest, head)
