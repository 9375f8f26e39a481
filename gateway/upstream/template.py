"""The shape that nearly all chunks of one stream share: the same bytes, but for the text.

A chunk that begins as an earlier one did, goes on to the next quotation mark, and ends as that one did, differs from it in nothing
but text, so what became of that one becomes of it: three comparisons, where a search for each mark or a parse would cost several
times that. Two providers add a string of random length to hide that of the text; it comes last, and may differ too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FROM: Final = (b'"content":"', b'"reasoning_content":"', b'"reasoning":"', b'"text":"')
INTO: Final = (b'"content":"', b'"reasoning_content":"', b'"text":"')
"""What stands before the text: as upstreams write it, and as clients get it."""

PADDINGS: Final = (b',"p":"', b',"obfuscation":"')
"""What stands before random text: Mistral's, OpenAI's."""

END: Final = b'"}\n\n'

Fits = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Template:
    """How events come in, and how they go out.

    `fits` takes a piece of the stream and returns what the client gets of it, or None if it is not such an event. `verbatim`: the
    text was passed on in its bytes, and is again; otherwise one with escapes does not pass, as it might be escaped in another way.
    """

    theirs: "Cut"
    ours: "Cut"
    verbatim: bool
    fits: Fits


def template(event: bytes, became: bytes, *, copied: bool) -> Template | None:
    """Made from one event, empty line and all, and what the client got of it; None if it has no text to differ in."""
    theirs = _cut(event, FROM)
    ours = _cut(became, INTO)
    if theirs is None or ours is None or theirs.text != ours.text or (theirs.padding == b"") != (ours.padding == b""):
        return None
    same = event == became
    return Template(theirs, ours, copied or same, _fits(theirs, ours, same=same, copied=copied))


def _fits(theirs: "Cut", ours: "Cut", *, same: bool, copied: bool) -> Fits:
    before, between, begin, step = theirs.before, theirs.between, len(theirs.before), len(theirs.between)
    ours_before, ours_between = ours.before, ours.between

    def fits(piece: bytes) -> bytes | None:
        if not piece.startswith(before) or not piece.endswith(between) or piece.find(b'"', begin) != len(piece) - step:
            return None
        if piece.find(b"\n", begin) != len(piece) - 2:  # one event, and no line within its text
            return None
        if same:
            return piece
        text = piece[begin:-step]
        if not copied and (not text or b"\\" in text):
            return None
        return ours_before + text + ours_between

    def fits_padded(piece: bytes) -> bytes | None:
        if not piece.startswith(before) or not piece.endswith(END) or piece.find(b"\n", begin) != len(piece) - 2:
            return None
        close = piece.find(b'"', begin)
        if not piece.startswith(between, close) or piece.find(b'"', close + step) != len(piece) - len(END):
            return None
        if same:
            return piece
        text = piece[begin:close]
        if not copied and (not text or b"\\" in text):
            return None
        return ours_before + text + ours_between + piece[close + step :]

    return fits_padded if theirs.padding else fits


@dataclass(frozen=True, slots=True)
class Cut:
    """An event in pieces. Without `padding` the `between` goes on to the end."""

    before: bytes
    text: bytes
    between: bytes
    padding: bytes


def _cut(event: bytes, openings: tuple[bytes, ...]) -> Cut | None:
    for opening in openings:
        begin = event.find(opening) + len(opening)
        close = event.find(b'"', begin)
        if begin < len(opening) or close <= begin or event[close - 1 : close] == b"\\":
            continue
        after = event[close:]
        for padding in PADDINGS:
            at = after.find(padding)
            if at >= 0 and after.endswith(END):
                at += len(padding)
                return Cut(event[:begin], event[begin:close], after[:at], after[at:])
        return Cut(event[:begin], event[begin:close], after, b"")
    return None
