"""Chunking: an answer is the same answer however its bytes are cut. No sockets: the reader alone."""

import itertools

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_transport import ANSWERS

from gateway.upstream.response import DONE, HEAD, REFUSED, ResponseReader


class Notes:
    def __init__(self) -> None:
        self.head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self.body = b""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert self.head is None
        self.head = (status, headers)

    def on_data(self, data: bytes) -> None:
        assert self.head is not None
        self.body += data


def read(pieces: list[bytes]) -> tuple[ResponseReader, Notes, bool]:
    """Feeds pieces until the answer is complete, as a connection does; the last value: whether the end was seen to be the end."""
    notes = Notes()
    reader = ResponseReader(notes, 65_536)
    for place, piece in enumerate(pieces):
        try:
            reader.feed(piece)
        except httptools.HttpParserError:
            return reader, notes, False
        if reader.stage == DONE:
            return reader, notes, reader.keep_alive and reader.ended_within(piece) and place == len(pieces) - 1
    return reader, notes, False


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


CASES = pytest.mark.parametrize(
    ("answer", "status", "body", "fit"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)


@CASES
def test_byte_by_byte(answer: bytes, status: int, body: bytes, fit: bool) -> None:
    reader, notes, _ = read([answer[place : place + 1] for place in range(len(answer))])
    assert reader.stage == DONE
    assert notes.head is not None
    assert (notes.head[0], notes.body) == (status, body)
    assert notes.head == read([answer])[1].head


@CASES
def test_at_every_place(answer: bytes, status: int, body: bytes, fit: bool) -> None:
    """And a tail that is left over never passes for the end, wherever the cut falls: what is not pooled whole is not pooled cut."""
    for place in range(1, len(answer)):
        reader, notes, ended = read([answer[:place], answer[place:]])
        assert reader.stage == DONE
        assert notes.head is not None and (notes.head[0], notes.body) == (status, body)
        assert fit or not ended


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 10_000), max_size=5))
def test_anywhere(case: tuple[str, bytes, int, bytes, bool], places: list[int]) -> None:
    _, answer, status, body, fit = case
    reader, notes, ended = read(cut(answer, places))
    assert reader.stage == DONE
    assert notes.head is not None and (notes.head[0], notes.body) == (status, body)
    assert fit or not ended


@given(st.binary(max_size=40), st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"]), st.booleans())
def test_line_ends_that_are_left_over_are_always_seen(body: bytes, tail: bytes, chunked: bool) -> None:
    if chunked and body:
        answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    assert not read([answer + tail])[2]
    assert read([answer])[2] or (body and body.isspace())


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    reader, _, _ = read([b"HTTP/1.1 200 OK\r\n" + data])
    assert HEAD <= reader.stage <= REFUSED


def test_a_closed_reader_says_nothing_more_and_asks_nothing() -> None:
    class Closing(Notes):
        reader: ResponseReader

        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            self.reader.close()

    notes = Closing()
    notes.reader = ResponseReader(notes, 65_536)
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    notes.reader.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n" + ok)
    assert notes.body == b"a"
