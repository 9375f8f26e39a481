"""The faults a script can ask for: each a frozen value that rewrites an answer, or the steps by which it is sent.

A fault in a script is its kind, or an object with `kind` and the fields of its class below: `"no_done"`,
`{"kind": "stall", "after": 3}`. Several in a list are applied in that order.

Where in an answer: `at` is `before_head`, `after_head`, `mid_body` or `after_chunks`, and `after` counts chunks (the
events of a stream; the body of a plain answer is one). `after` without `at` means `after_chunks`. More chunks than
there are means: after all of them, and before the end of the message. `mid_body` breaks chunk number `after` + 1 in
the middle of its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import orjson

from gateway.simulators.answer import Answer, Cut, Hold, Pause, Plan, Repeat, Step, Write
from gateway.simulators.dialects.base import Dialect

At = Literal["before_head", "after_head", "mid_body", "after_chunks"]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Both methods default to changing nothing."""

    kind: ClassVar[str] = ""

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        """The answer that is given in place of `answer`."""
        return answer

    def deliver(self, plan: Plan) -> Plan:
        """The steps that are carried out in place of `plan`'s."""
        return plan

    def mistakes(self, dialect: Dialect) -> list[str]:
        """What is wrong with the fields, beyond their types, in words for whoever wrote the script."""
        return []


def _with_retry_after(answer: Answer, seconds: float | None) -> Answer:
    if seconds is None:
        return answer
    return replace(answer, headers=(*answer.headers, ("retry-after", f"{seconds:g}")))


# -- the provider refuses


@dataclass(frozen=True)
class Error(Fault):
    """An error of the dialect's table, by `name` or `code`; or any `status` with any `body`.

    `message` and `status` take the place of the table's. `retry_after` is in seconds.
    """

    kind: ClassVar[str] = "error"
    name: str | None = None
    code: str | int | None = None
    status: int | None = None
    message: str | None = None
    body: Any = None
    retry_after: float | None = None

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return _with_retry_after(self._answer(dialect, model), self.retry_after)

    def _answer(self, dialect: Dialect, model: str) -> Answer:
        named = self.name if self.name is not None else self.code
        if self.body is not None:
            raw = self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)
            return Answer(self.status or 500, dialect.headers(stream=False), raw=raw)
        case = dialect.case(str(named)) if named is not None else dialect.case("internal")
        return dialect.error(case, message=self.message, status=self.status, model=model)

    def mistakes(self, dialect: Dialect) -> list[str]:
        if self.name is not None and self.code is not None:
            return ["give `name` or `code`, not both: each names a row of the dialect's error table"]
        named = self.name if self.name is not None else self.code
        if named is None and self.body is None and self.status is None:
            return ["name an error with `name` or `code`, or give a `status` and perhaps a `body`"]
        try:
            if named is not None:
                dialect.case(str(named))
        except KeyError as unknown:
            return [str(unknown.args[0])]
        return []


@dataclass(frozen=True)
class Throttle(Fault):
    """What this provider says to too many requests: 429 (503 at engines that only queue)."""

    kind: ClassVar[str] = "throttle"
    code: str | int | None = None
    status: int | None = None
    message: str | None = None
    retry_after: float | None = None

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        case = dialect.case(str(self.code) if self.code is not None else dialect.throttle)
        refused = dialect.error(case, message=self.message, status=self.status, model=model)
        return _with_retry_after(refused, self.retry_after)

    def mistakes(self, dialect: Dialect) -> list[str]:
        return Error(code=self.code).mistakes(dialect) if self.code is not None else []


@dataclass(frozen=True)
class Redirect(Fault):
    """A redirect to another URL, which a careful client does not follow."""

    kind: ClassVar[str] = "redirect"
    to: str = ""
    status: int = 302

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return Answer(self.status, (("location", self.to),), raw=b"")

    def mistakes(self, dialect: Dialect) -> list[str]:
        return [] if self.to else ["`to` is missing: the URL to redirect to"]


@dataclass(frozen=True)
class StreamError(Fault):
    """A stream that began well and fails after `after` chunks: an error event, then `[DONE]` if `done`."""

    kind: ClassVar[str] = "stream_error"
    after: int = 1
    name: str = "internal"
    done: bool = True

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        case = dialect.case(self.name)
        if not answer.stream:
            return dialect.error(case, model=model)
        events = dialect.stream_error(case)
        return replace(answer, documents=answer.documents[: self.after], trailing=events, done=self.done)

    def mistakes(self, dialect: Dialect) -> list[str]:
        return Error(name=self.name).mistakes(dialect)


# -- the connection fails, or takes its time


@dataclass(frozen=True)
class Placed(Fault):
    """A fault that happens at a place in the answer."""

    at: At | None = None
    after: int | None = None

    place: ClassVar[At] = "after_head"
    """Where it happens if the script does not say."""

    def mistakes(self, dialect: Dialect) -> list[str]:
        if self.after is not None and self.at in ("before_head", "after_head"):
            return [f"`after` counts chunks, and `{self.at}` is before the first"]
        return []

    def deliver(self, plan: Plan) -> Plan:
        before, rest = split(plan.steps, self.at, self.after, self.place)
        return replace(plan, steps=(*before, *self.here(rest)))

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        """What happens at the place, given the steps that would have followed."""
        raise NotImplementedError


@dataclass(frozen=True)
class Stall(Placed):
    """Nothing more comes, and the connection stays open until the client leaves."""

    kind: ClassVar[str] = "stall"

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Hold(forever=True),)


@dataclass(frozen=True)
class HoldFault(Placed):
    """Nothing more comes until the simulator is told to release it. For tests: no clock decides when."""

    kind: ClassVar[str] = "hold"

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Hold(), *rest)


@dataclass(frozen=True)
class CutFault(Placed):
    """The connection ends: `rst` resets it, `fin` closes it as if all were said."""

    kind: ClassVar[str] = "cut"
    how: Literal["fin", "rst"] = "rst"
    place: ClassVar[At] = "after_chunks"

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Cut(self.how),)


@dataclass(frozen=True)
class SlowFirstToken(Placed):
    """So many seconds pass before the first token, by default after the head (`at: before_head` holds that too)."""

    kind: ClassVar[str] = "slow_first_token"
    seconds: float = 5.0

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Pause(self.seconds), *rest)


@dataclass(frozen=True)
class Slow(Fault):
    """The body dribbles: `bytes` at a time, `seconds` apart. Chunks are still counted as the dialect made them."""

    kind: ClassVar[str] = "slow"
    bytes: int = 1
    seconds: float = 0.0

    def deliver(self, plan: Plan) -> Plan:
        steps: list[Step] = []
        for step in plan.steps:
            if not isinstance(step, Write) or step.part == "head":
                steps.append(step)
                continue
            cuts = range(0, len(step.data), max(1, self.bytes))
            parts = [step.data[i : i + max(1, self.bytes)] for i in cuts] or [b""]
            for part in parts[:-1]:
                steps += [Write(part, "piece"), Pause(self.seconds)]
            steps.append(Write(parts[-1], step.part))
        return replace(plan, steps=tuple(steps))


@dataclass(frozen=True)
class Endless(Fault):
    """A stream whose last content never comes: the same content chunk again and again, `seconds` apart."""

    kind: ClassVar[str] = "endless"
    seconds: float = 0.0

    def deliver(self, plan: Plan) -> Plan:
        bodies = [i for i, step in enumerate(plan.steps) if isinstance(step, Write) and step.part == "body"]
        if not bodies:
            return plan
        middle = bodies[len(bodies) // 2]
        repeated = plan.steps[middle]
        assert isinstance(repeated, Write)
        return replace(plan, steps=(*plan.steps[:middle], Repeat(repeated.data, self.seconds)))


@dataclass(frozen=True)
class Close(Fault):
    """The connection closes after the answer. `say: false` closes without having announced it."""

    kind: ClassVar[str] = "close"
    say: bool = True

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return replace(answer, keep_alive=False) if self.say else answer

    def deliver(self, plan: Plan) -> Plan:
        return replace(plan, keep_alive=False)


# -- the numbers are wrong


@dataclass(frozen=True)
class WrongUsage(Fault):
    """Usage that lies: the given numbers take the place of the true ones, or all are multiplied by `factor`."""

    kind: ClassVar[str] = "wrong_usage"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    factor: float | None = None

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return _each(answer, self._lie)

    def _lie(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        usage = document.get("usage")
        if not isinstance(usage, dict):
            return document
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        lied = dict(usage)
        for name in names:
            if self.factor is not None:
                lied[name] = int(usage[name] * self.factor)
            if (given := getattr(self, name)) is not None:
                lied[name] = given
        if self.cached_tokens is not None:
            lied["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return {**document, "usage": lied}


@dataclass(frozen=True)
class MissingUsage(Fault):
    """No usage anywhere; a chunk that held nothing else does not come."""

    kind: ClassVar[str] = "missing_usage"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        kept = tuple(d for d in answer.documents if d.get("choices") != [] or "usage" not in d)
        bare = tuple({k: v for k, v in d.items() if k != "usage"} for d in kept)
        return replace(answer, documents=bare)


@dataclass(frozen=True)
class EmptyStream(Fault):
    """An answer that bills and says nothing: content, reasoning and tool calls are gone, usage is not."""

    kind: ClassVar[str] = "empty_stream"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        if not answer.stream:
            return _each(answer, _silenced)
        said = ("content", "reasoning", "reasoning_content", "tool_calls")
        kept = [
            d
            for d in answer.documents
            if not any((c.get("delta") or {}).get(key) for c in d.get("choices", []) for key in said)
            or any(c.get("finish_reason") for c in d.get("choices", []))
        ]
        return _each(replace(answer, documents=tuple(kept)), _silenced)


def _silenced(document: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = []
    for choice in document.get("choices", []):
        for place in ("delta", "message"):
            if isinstance(said := choice.get(place), dict):
                quiet = {k: v for k, v in said.items() if k not in ("tool_calls", "reasoning", "reasoning_content")}
                choice = {**choice, place: quiet | ({"content": ""} if "content" in quiet else {})}
        choices.append(choice)
    return {**document, "choices": choices}


@dataclass(frozen=True)
class Finish(Fault):
    """Status 200 and another `finish_reason`: `network_error`, `sensitive`, `error`, `abort`, or any word."""

    kind: ClassVar[str] = "finish"
    reason: str = "network_error"

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return _each(answer, self._end)

    def _end(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        choices = [
            {**c, "finish_reason": self.reason} if c.get("finish_reason") else c for c in document.get("choices", [])
        ]
        return {**document, "choices": choices}


# -- the wire is wrong


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


FAULTS: dict[str, type[Fault]] = {
    f.kind: f
    for f in (
        Error, Throttle, Redirect, StreamError, Stall, HoldFault, CutFault, SlowFirstToken, Slow, Endless, Close,
        WrongUsage, MissingUsage, EmptyStream, Finish, NoDone, Comments, Garbage, HugeHeaders, HugeBody, WrongLength,
        ExtraBytes,
    )
}  # fmt: skip
"""Every fault, by the word a script uses for it."""


def split(
    steps: Sequence[Step], at: At | None, after: int | None, otherwise: At
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps before a place in an answer, and those from it on. See the head of this module for places."""
    place: At = at or ("after_chunks" if after is not None else otherwise)
    if place == "before_head":
        return (), tuple(steps)
    wanted = 0 if place == "after_head" else (after if after is not None else int(place == "after_chunks"))
    seen, past_head = 0, False
    for i, step in enumerate(steps):
        if past_head and seen >= wanted and place != "mid_body":
            return tuple(steps[:i]), tuple(steps[i:])
        if not isinstance(step, Write):
            continue
        if step.part == "end":  # fewer chunks than asked for: before the end of the message
            return tuple(steps[:i]), tuple(steps[i:])
        if step.part == "head":
            past_head = True
            continue
        if step.part == "piece":
            continue
        if place == "mid_body" and seen >= wanted:
            half = len(step.data) // 2
            first, second = Write(step.data[:half], "piece"), Write(step.data[half:], "body")
            return (*steps[:i], first), (second, *steps[i + 1 :])
        seen += 1
    return tuple(steps), ()


def _each(answer: Answer, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Answer:
    return replace(answer, documents=tuple(change(d) for d in answer.documents))


def _map_head(steps: Sequence[Step], change: Callable[[bytes], bytes]) -> list[Step]:
    out: list[Step] = []
    for step in steps:
        if isinstance(step, Write) and step.part == "head":
            lines = step.data.split(b"\r\n")
            step = Write(b"\r\n".join(change(line) for line in lines), "head")
        out.append(step)
    return out
