"""The splitter: the same events wherever the bytes are cut, within its limit; and what stands in an event."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.sse import EventTooLarge, Splitter, fields

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=10)
EVENTS = st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=6)
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])


def split(pieces: list[bytes], bytes_max: int = 10_000) -> list[bytes]:
    splitter = Splitter(bytes_max)
    found = [event for piece in pieces for event in splitter.feed(piece)]
    last = splitter.end()
    return [*found, last] if last else found


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[a:b] for a, b in pairwise(marks)]


@given(EVENTS, NEWLINES, st.integers(2, 4), st.booleans(), st.lists(st.integers(0, 10_000), max_size=12))
def test_the_events_are_those_that_were_written(
    events: list[list[str]], newline: str, blank: int, mark: bool, places: list[int]
) -> None:
    first = events and events[0] and events[0][0]
    if first and first.startswith("\ufeff"):
        return  # a text that begins as the mark does, at the very beginning
    raw = "".join(newline.join(lines) + newline * blank for lines in events).encode()
    if mark:
        raw = b"\xef\xbb\xbf" + raw
    wanted = ["\n".join(lines).encode() for lines in events]
    assert split([raw]) == wanted
    assert split(cut(raw, places)) == wanted
    assert split([raw[at : at + 1] for at in range(len(raw))]) == wanted


@given(st.binary(max_size=80), st.lists(st.integers(0, 100), max_size=10))
def test_the_cuts_of_any_bytes_make_no_difference(raw: bytes, places: list[int]) -> None:
    whole = split([raw])
    assert split(cut(raw, places)) == whole
    assert split([raw[at : at + 1] for at in range(len(raw))]) == whole


@pytest.mark.parametrize(
    "raw", [b"data: " + b"x" * 200, b"data: " + b"x" * 200 + b"\n\n", b"data: y\n\ndata: " + b"x" * 200 + b"\n\n"]
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_beyond_the_limit_is_refused_however_it_comes(raw: bytes, size: int) -> None:
    with pytest.raises(EventTooLarge):
        split([raw[at : at + size] for at in range(0, len(raw), size)], bytes_max=100)


def test_events_within_it_may_be_many() -> None:
    assert len(split([b"data: " + b"x" * 80 + b"\n\n"] * 1000, bytes_max=100)) == 1000


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"data: {}", b"", b"{}"),
        (b"data:{}", b"", b"{}"),
        (b"data:  {}", b"", b" {}"),
        (b"data: a: b", b"", b"a: b"),
        (b": comment", b"", None),
        (b": comment\ndata: x", b"", b"x"),
        (b"event: error\ndata: x\nid: 5\nretry: 9", b"error", b"x"),
        (b"data: a\ndata: b", b"", b"a\nb"),
        (b"data", b"", b""),
        (b"nonsense", b"", None),
    ],
)
def test_fields(event: bytes, name: bytes, data: bytes | None) -> None:
    assert fields(event) == (name, data)
