"""Server-sent events, taken apart. Wherever the pieces of a stream are cut, the same events come out.

An event ends at an empty line; lines end in LF, CRLF or CR. A stream may begin with a byte order mark. Events come out as bytes
without their empty line, line ends as LF, comments among them. No text is decoded here.
"""

from typing import Final

BOM: Final = b"\xef\xbb\xbf"
DONE: Final = b"[DONE]"


class EventTooLarge(Exception):
    """An event that exceeds the limit, complete or not."""


class Splitter:
    """Feeds on pieces of a stream, gives events. `rest` is what stands there of an event that is not complete; empty in between."""

    __slots__ = ("_bytes_max", "_carriage", "_first", "rest")

    def __init__(self, event_bytes_max: int) -> None:
        self.rest = bytearray()
        self._bytes_max = event_bytes_max
        self._first = True  # until it is known whether there is a byte order mark
        self._carriage = False  # a CR ended the last piece: an LF that follows belongs to it

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises EventTooLarge."""
        if self._carriage or b"\r" in data:
            data = self._only_lf(data)
        rest = self.rest
        begin = max(0, len(rest) - 1)
        rest += data
        if self._first:
            if len(rest) < 3 and BOM.startswith(rest):
                return []
            self._first = False
            if rest.startswith(BOM):
                del rest[:3]
                begin = 0
        if rest.find(b"\n\n", begin) < 0:
            if len(rest) > self._bytes_max:
                raise EventTooLarge
            if len(rest) == 1 and rest[0] == 10:  # an empty line more than needed
                rest.clear()
            return []
        *complete, last = bytes(rest).split(b"\n\n")
        self.rest = bytearray(b"" if last == b"\n" else last)
        events = [event for event in (piece.strip(b"\n") for piece in complete) if event]
        if len(last) > self._bytes_max or any(len(event) > self._bytes_max for event in events):
            raise EventTooLarge
        return events

    def end(self) -> bytes:
        """What stood there when the stream ended: servers forget the last empty line. b"" for nothing."""
        event, self.rest = bytes(self.rest).strip(b"\n"), bytearray()
        return event

    def _only_lf(self, data: bytes) -> bytes:
        if self._carriage and data.startswith(b"\n"):
            data = data[1:]
        self._carriage = data.endswith(b"\r") if data else False
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def fields(event: bytes) -> tuple[bytes, bytes | None]:
    """The name and the data of an event; data None: it has none, such as a comment."""
    if event.startswith(b"data: ") and b"\n" not in event:  # nearly all are so
        return b"", event[6:]
    name = b""
    data: list[bytes] = []
    for line in event.split(b"\n"):
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"data":
            data.append(value)
        elif key == b"event":
            name = value
    return name, b"\n".join(data) if data else None
