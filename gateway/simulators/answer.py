"""An HTTP answer as a value, and the steps by which it is sent.

A dialect makes an `Answer`; faults rewrite it; `frame` turns it into steps; faults rewrite those too; the server
carries them out. So a fault is a pure function from a value to a value, and two faults can be combined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import orjson

Header = tuple[str, str]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """What will be said: one JSON document, or a stream of them.

    `documents` is the body, one element per stream event, or exactly one for a plain answer. `raw`, if set, takes the
    place of all that (a page that is not JSON, an empty body). `done` is whether a stream ends in `[DONE]`.
    `trailing` events come after the documents and are sent as they are; `comments` puts an SSE comment before each.
    """

    status: int
    headers: tuple[Header, ...]
    documents: tuple[Mapping[str, Any], ...] = ()
    stream: bool = False
    raw: bytes | None = None
    done: bool = True
    trailing: tuple[bytes, ...] = ()
    comments: bool = False
    keep_alive: bool = True

    def payloads(self) -> tuple[bytes, ...]:
        """The pieces of the body, each to be sent in one write."""
        if self.raw is not None:
            return (self.raw,)
        if not self.stream:
            return tuple(orjson.dumps(d) for d in self.documents)
        before = b": keep-alive\n\n" if self.comments else b""
        events = tuple(before + b"data: " + orjson.dumps(d) + b"\n\n" for d in self.documents)
        return events + self.trailing + ((DONE,) if self.done else ())


@dataclass(frozen=True)
class Write:
    """Bytes to send. Those of part `body` are counted as chunks in the journal; a `piece`, part of one, is not."""

    data: bytes
    part: Literal["head", "piece", "body", "end"]


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds: the rhythm of a slow upstream."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Wait until released through the simulator, or for ever: a stall."""

    forever: bool = False


@dataclass(frozen=True)
class Cut:
    """End the connection here: `fin` is an orderly close after what was written, `rst` a reset."""

    how: Literal["fin", "rst"]


@dataclass(frozen=True)
class Repeat:
    """Send the same body bytes until the client goes away, `seconds` apart."""

    data: bytes
    seconds: float = 0.0


Step = Write | Pause | Hold | Cut | Repeat


@dataclass(frozen=True)
class Pace:
    """The rhythm of an upstream: seconds before the first piece of the body, and between pieces."""

    first: float = 0.0
    between: float = 0.0


NO_PACE = Pace()


@dataclass(frozen=True)
class Plan:
    """The steps of one answer, and whether the connection is kept open after them."""

    steps: tuple[Step, ...]
    keep_alive: bool = True


def frame(answer: Answer, *, keep_alive: bool, pace: Pace = NO_PACE) -> Plan:
    """The steps that send `answer` over HTTP/1.1: a stream in chunked transfer encoding, all else with a length.

    `keep_alive` is what the client asked for; if it or the answer says no, `connection: close` is sent.
    """
    keep_alive = keep_alive and answer.keep_alive
    headers = list(answer.headers)
    if not keep_alive:
        headers.append(("connection", "close"))
    payloads = answer.payloads()
    steps: list[Step] = []
    if answer.stream and answer.raw is None:
        headers.append(("transfer-encoding", "chunked"))
        body = [Write(b"%x\r\n%b\r\n" % (len(p), p), "body") for p in payloads]
        tail = Write(b"0\r\n\r\n", "end")
    else:
        headers.append(("content-length", str(sum(map(len, payloads)))))
        body = [Write(p, "body") for p in payloads if p]
        tail = Write(b"", "end")
    if pace.first and not answer.stream:  # a plain answer is computed before its head is sent; a stream's head is not
        steps.append(Pause(pace.first + pace.between * _tokens(answer)))
    steps.append(Write(head(answer.status, headers), "head"))
    for i, write in enumerate(body):
        if answer.stream and (seconds := pace.between if i else pace.first):
            steps.append(Pause(seconds))
        steps.append(write)
    return Plan((*steps, tail), keep_alive)


def head(status: int, headers: list[Header]) -> bytes:
    """The status line and headers. `status` may be one that HTTP does not name (Z.ai uses 434)."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}"] + [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _tokens(answer: Answer) -> int:
    usage = answer.documents[0].get("usage") if answer.documents else None
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else 0
