"""The wire is wrong: bytes that are no HTTP, no SSE or no JSON, and messages that are too long, short or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from gateway.simulators.answer import Answer, Cut, Hold, Plan, Step, Write
from gateway.simulators.dialects.base import Dialect
from gateway.simulators.faults.base import Fault, split


@dataclass(frozen=True)
class NoDone(Fault):
    """A stream that ends without `[DONE]`."""

    kind: ClassVar[str] = "no_done"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return replace(answer, done=False)


@dataclass(frozen=True)
class Comments(Fault):
    """An SSE comment `: keep-alive` before each event: allowed, and easily mistaken for content."""

    kind: ClassVar[str] = "comments"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return replace(answer, comments=True)


GARBAGE = ("not_http", "bad_json", "bad_framing", "bad_sse", "html", "truncated_json", "not_utf8")


@dataclass(frozen=True)
class Garbage(Fault):
    """Something that is not what the API promises, after `after` good chunks where there are chunks.

    `not_http`: bytes that are no HTTP; `bad_framing`: a chunk whose length is no number; `bad_json` and
    `truncated_json`: a body or event that is no JSON, or half of one; `bad_sse`: a line that is no SSE field, and an
    event without its blank line; `html`: the page of a proxy, with status 502; `not_utf8`: bytes that are no UTF-8.
    """

    kind: ClassVar[str] = "garbage"
    what: str = "bad_json"
    after: int = 1

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        if self.what == "html":
            page = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
            return Answer(502, (("content-type", "text/html"),), raw=page)
        if self.what in ("not_http", "bad_framing"):
            return answer
        if not answer.stream:
            body = answer.payloads()[0] if answer.payloads() else b""
            broken = {"truncated_json": body[: len(body) // 2], "not_utf8": b'{"choices": "\xff\xfe"}'}
            return replace(answer, raw=broken.get(self.what, b'{"id": this is not JSON'))
        event = {
            "bad_json": b'data: {"id": this is not JSON\n\n',
            "truncated_json": b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"half\n\n',
            "bad_sse": b"this line is no field\ndata: {}\nno blank line follows\n",
            "not_utf8": b'data: {"choices": "\xff\xfe"}\n\n',
        }[self.what]
        return replace(answer, documents=answer.documents[: self.after], trailing=(event,))

    def deliver(self, plan: Plan) -> Plan:
        if self.what == "not_http":
            noise = b"\x15\x03\x01\x00\x02\x02\x28 this is not HTTP\r\n\r\n"
            return replace(plan, steps=(Write(noise, "head"), Cut("fin")))
        if self.what == "bad_framing":
            before, _ = split(plan.steps, "after_chunks", self.after, "after_chunks")
            return replace(plan, steps=(*before, Write(b"zz\r\nnot a chunk\r\n", "body"), Hold(forever=True)))
        return plan

    def mistakes(self, dialect: Dialect) -> list[str]:
        return [] if self.what in GARBAGE else [f"`what` is `{self.what}`; known are {', '.join(GARBAGE)}"]


@dataclass(frozen=True)
class HugeHeaders(Fault):
    """Headers of so many bytes altogether, in lines of 8 kB."""

    kind: ClassVar[str] = "huge_headers"
    bytes: int = 1_000_000

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        lines = max(1, self.bytes // 8192)
        return replace(answer, headers=answer.headers + tuple((f"x-huge-{i}", "h" * 8180) for i in range(lines)))


@dataclass(frozen=True)
class HugeBody(Fault):
    """A body of so many bytes: in a stream one event of that size, else a string in the answer."""

    kind: ClassVar[str] = "huge_body"
    bytes: int = 10_000_000

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        first, *rest = answer.documents or ({},)
        return replace(answer, documents=({**first, "padding": "p" * self.bytes}, *rest))


@dataclass(frozen=True)
class WrongLength(Fault):
    """A `content-length` that is off by so many bytes: too large and the body never ends, too small and it spills."""

    kind: ClassVar[str] = "wrong_length"
    by: int = 10

    def deliver(self, plan: Plan) -> Plan:
        def lied(line: bytes) -> bytes:
            name, _, value = line.partition(b": ")
            return b"%b: %d" % (name, max(0, int(value) + self.by)) if name == b"content-length" else line

        return replace(plan, steps=tuple(_map_head(plan.steps, lied)))


@dataclass(frozen=True)
class ExtraBytes(Fault):
    """Bytes after the end of the message, on a connection that is kept: they would begin somebody else's answer."""

    kind: ClassVar[str] = "extra_bytes"
    text: str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"

    def deliver(self, plan: Plan) -> Plan:
        return replace(plan, steps=(*plan.steps, Write(self.text.encode(), "end")))


def _map_head(steps: Sequence[Step], change: Callable[[bytes], bytes]) -> list[Step]:
    out: list[Step] = []
    for step in steps:
        if isinstance(step, Write) and step.part == "head":
            lines = step.data.split(b"\r\n")
            step = Write(b"\r\n".join(change(line) for line in lines), "head")
        out.append(step)
    return out
