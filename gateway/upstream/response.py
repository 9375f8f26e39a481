"""One HTTP/1.1 answer, from bytes to callbacks; no sockets here.

Rule 1: a reader reads one answer. What follows it in the same bytes is left over, and is reported, never interpreted.
Rule 2: interim answers (1xx) are skipped, and their bytes count against the limit of the head; 101 is an error, as we never ask.
Rule 3: framing that two readers could take in two ways is an error: two lengths, a length with a transfer coding, or a coding
        other than exactly one `chunked`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import httptools

# Where a reader stands. Plain numbers: they are compared once for every chunk.
HEAD: Final = 0
BODY: Final = 1
DONE: Final = 2
REFUSED: Final = 3


class Listener(Protocol):
    """The part of a sink that hears an answer."""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    def on_data(self, data: bytes) -> None: ...


class Deaf:
    """Listens to nothing: what a reader is given when nobody may hear the rest."""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    def on_data(self, data: bytes) -> None: ...


DEAF: Final = Deaf()

CHUNK_END: Final = b"\r\n"

Shortcut = Callable[[bytes], bool]
"""Is given a read that follows the end of a chunk. True: it was one whole chunk, and what it holds was taken as `on_data` would
have; the parser need not see it, as it would be after it where it was before. False: go on as if it had not been asked."""


def report(error: BaseException) -> None:
    """Tell the event loop's exception handler of a listener's defect, which must not become an upstream's fault."""
    asyncio.get_running_loop().call_exception_handler({"message": "a listener to an upstream's answer raised", "exception": error})


def _ignore(data: bytes) -> None:
    """What a reader that has been closed does with what comes."""


class ResponseReader:
    """Reads one answer. Feed it, then look at `stage`; `feed` raises httptools.HttpParserError (or …Upgrade) on what is no HTTP.

    `sink` may be replaced at any time, from within its own callbacks too. `bodiless`: the answer to HEAD, which has no body.
    """

    __slots__ = (
        "_bodiless",
        "_coding",
        "_head_bytes",
        "_head_bytes_max",
        "_headers",
        "_last",
        "_length",
        "_over",
        "_parser",
        "between",
        "brought",
        "chunk_over",
        "feed",
        "heard",
        "keep_alive",
        "left_over",
        "refusal",
        "shortcut",
        "sink",
        "stage",
        "unproductive_bytes",
    )

    def __init__(self, sink: Listener, head_bytes_max: int, *, bodiless: bool = False) -> None:
        self.sink = sink
        self.stage = HEAD
        self.heard = False  # body bytes came since whoever watches for silence last looked
        self.brought = False  # body bytes came since the connection last looked
        self.shortcut: Shortcut | None = None
        self.chunk_over = False  # the last of the chunks' framing that came was the end of one
        self.between = False  # the read before ended with a chunk, so a shortcut may be asked of the next
        self.unproductive_bytes = 0  # since the last body byte: heads, trailers, chunk extensions
        self.keep_alive = False
        self.left_over = False
        self.refusal = ("", "")  # code and detail, when stage is REFUSED
        self._bodiless = bodiless
        self._coding: bytes | None = None
        self._length = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._head_bytes_max = head_bytes_max
        self._last = b""
        self._parser: Any = httptools.HttpResponseParser(self)
        self.feed: Callable[[bytes], None] = self._parser.feed_data

    def take_by(self, shortcut: Shortcut | None) -> None:
        """Ask `shortcut` from the next read on that follows the end of a chunk; None: ask none."""
        self.shortcut = shortcut
        self.between = False

    @property
    def ends_with_connection(self) -> bool:
        """Whether the body goes on until the connection ends, so that its end is the end of the answer."""
        return self.stage == BODY and self._coding is None and not self._length

    @property
    def answered(self) -> bool:
        """Whether any byte of an answer has come."""
        return self.stage != HEAD or self.unproductive_bytes > 0

    def count_unproductive(self, size: int) -> None:
        """Note a read of `size` bytes that brought no byte of the body; too many in a row are refused.

        Without this a head, a trailer or a chunk extension without end would fill memory, one read at a time.
        """
        self.unproductive_bytes += size
        if self.unproductive_bytes > self._head_bytes_max:
            detail = f"{self.unproductive_bytes} bytes without one of the body; at most {self._head_bytes_max}"
            self._refuse("head_too_large", detail)

    def ended_within(self, data: bytes) -> bool:
        """Whether the answer's last byte is the last byte of `data`, the read that completed it.

        The parser skips line ends before what it takes for a next answer, and says nothing; so the end is looked at here. A tail of
        stray line ends never passes. A proper end that was cut within its last five bytes does not either; that costs a connection.
        """
        if self.left_over:
            return False
        if self._last and self._coding is None:  # by length: the last piece of the body is the last thing there was
            return data.endswith(self._last) and not self._last.isspace()
        return data.endswith(b"\r\n\r\n") and data[-5:-4] not in b"\r\n"  # an empty line ends heads and trailers, and just one

    def close(self) -> None:
        """Hear and say nothing more. Lets go of the parser, which points back here: no garbage collector is needed.

        May be called from within a callback: the parser goes on to the end of its bytes, and no callback asks it anything then.
        """
        self.sink = DEAF
        self.stage = REFUSED
        self.shortcut = None
        self.between = False
        self._parser, self.feed = None, _ignore

    def _refuse(self, code: str, detail: str) -> None:
        if self.stage < DONE:
            self.stage = REFUSED
            self.refusal = (code, detail)
            self.sink = DEAF

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        if self.stage == DONE:
            self.left_over = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stage != HEAD:
            return  # a trailer, or of something left over
        name = name.lower()
        self._head_bytes += len(name) + len(value) + 4
        if name == b"content-length":
            self._length = True
        elif name == b"transfer-encoding":
            self._coding = value if self._coding is None else self._coding + b", " + value
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.stage != HEAD:
            return
        status = self._parser.get_status_code()
        if self._head_bytes > self._head_bytes_max:
            self._refuse("head_too_large", f"{self._head_bytes} bytes of headers; at most {self._head_bytes_max}")
        elif status < 200:
            self._interim(status)
        elif self._coding is not None and (self._length or self._coding.lower() != b"chunked"):
            self._refuse("protocol_error", "a transfer coding other than `chunked`, or one beside a length")
        else:
            headers, self._headers = self._headers, []
            self.stage = BODY
            self.heard = True  # silence is counted from here
            self.sink.on_head(status, headers)
            if self._bodiless and self.stage == BODY:
                self.stage = DONE
                self.sink = DEAF

    def _interim(self, status: int) -> None:
        if status < 100 or status == 101:  # the parser, too, stops at 101; what follows it would be another protocol
            self._refuse("protocol_error", f"status {status:03d}, which answers nothing that was asked")
        self._headers = []
        self._coding, self._length = None, False

    def on_body(self, body: bytes) -> None:
        self._last = body
        self.brought = self.heard = True
        self.unproductive_bytes = 0
        self.sink.on_data(body)

    def on_chunk_header(self) -> None:
        self.chunk_over = False

    def on_chunk_complete(self) -> None:
        self.chunk_over = True

    def on_message_complete(self) -> None:
        if self.stage == BODY:
            self.stage = DONE
            self.keep_alive = self._parser.should_keep_alive()
            self.sink = DEAF
