"""The pump: what is paid for each chunk of each stream, once it is known what events of that stream look like (template.py).

Most servers send each event as one chunk of HTTP/1.1 of its own, and mostly a read is one such chunk. It is told by its bytes: the
chunk's line, the event up to its text, the text, the rest of the event, the chunk's end. It goes on to the client in a chunk of the
same make. No parser, no task, no search but within the text: two frames of Python instead of six.

Promises: takes nothing but what the parser would have read as one chunk and `template` would have passed, and gives what that
would have given. What it does not take is as if it had not been asked.
"""

from collections.abc import Callable
from typing import Final

from gateway.upstream.response import CHUNK_END, Shortcut
from gateway.upstream.sse import Splitter
from gateway.upstream.template import END, Template

QUOTE, NEWLINE, BACKSLASH = b'"\n\\'  # as numbers: `b"x" in text` first fails to be a number, which takes a third of a microsecond
SIZES_MAX: Final = 32  # of reads whose beginnings are remembered, a stream: tokens have few lengths, and each takes a kilobyte

Forward = Callable[[bytes, int], None]


class Tally:
    """What of one stream has been passed on, and how many bytes more of it may come."""

    __slots__ = ("bytes", "events", "room")

    def __init__(self, room: int) -> None:
        self.events = 0
        self.bytes = 0
        self.room = room


def pump(like: Template, splitter: Splitter, tally: Tally, forward: Forward) -> Shortcut:
    """Passes on what is like `like`, where no event is under way in `splitter`. `forward` is the client's."""
    theirs, ours, verbatim, padded = like.theirs, like.ours, like.verbatim, like.theirs.padding != b""
    between, step = theirs.between, len(theirs.between)
    tail = (END if padded else theirs.between) + CHUNK_END
    ours_between = ours.between if padded else ours.between + CHUNK_END
    tail_step = len(tail)
    longer = len(ours.before) + len(ours.between) - len(theirs.before) - len(theirs.between)  # than what came
    sizes: dict[int, tuple[bytes, int, bytes, int, int]] = {}

    def known(size: int) -> tuple[bytes, int, bytes, int, int]:
        """Of a read with `size` bytes: how it begins, how long that is; how ours begins, where its event does, how long that is."""
        line, held = _line(size)
        ours_held = held + longer
        ours_line = b"%x\r\n" % ours_held
        found = line + theirs.before, len(line) + len(theirs.before), ours_line + ours.before, len(ours_line), ours_held
        if len(sizes) < SIZES_MAX:
            sizes[size] = found
        return found

    def take(data: bytes) -> bool:
        size = len(data)
        begins, text_at, ours_begins, at, held = sizes.get(size) or known(size)
        if not data.startswith(begins) or not data.endswith(tail, text_at) or splitter.rest or tally.room < size:
            return False
        text = data[text_at:-tail_step]
        if QUOTE in text or NEWLINE in text or (not verbatim and (not text or BACKSLASH in text)):
            return False
        tally.room -= size
        tally.events += 1
        tally.bytes += held
        forward(b"%b%b%b" % (ours_begins, text, ours_between), at)
        return True

    def take_padded(data: bytes) -> bool:
        size = len(data)
        begins, text_at, ours_begins, at, held = sizes.get(size) or known(size)
        if not data.startswith(begins) or not data.endswith(tail, text_at) or splitter.rest or tally.room < size:
            return False
        close = data.find(b'"', text_at)
        padding_at, end = close + step, size - tail_step
        if not data.startswith(between, close) or data.find(b'"', padding_at) != end or data.find(b"\n", text_at, end) >= 0:
            return False
        text = data[text_at:close]
        if not verbatim and (not text or BACKSLASH in text):
            return False
        tally.room -= size
        tally.events += 1
        tally.bytes += held
        forward(b"%b%b%b%b" % (ours_begins, text, ours_between, data[padding_at:]), at)
        return True

    return take_padded if padded else take


def _line(size: int) -> tuple[bytes, int]:
    """The line of a chunk that takes `size` bytes with that line and its end, and how many bytes it holds; no read begins with the
    line that is given where there is no such chunk."""
    for digits in range(1, len(b"%x" % size) + 1):
        held = size - digits - 2 * len(CHUNK_END)
        line = b"%x\r\n" % max(held, 0)
        if held > 0 and len(line) == digits + len(CHUNK_END):
            return line, held
    return b"\r\n", 0
