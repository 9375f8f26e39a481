"""The provider refuses: at once, or in the middle of a stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from gateway.simulators.answer import Answer
from gateway.simulators.dialects.base import Dialect
from gateway.simulators.faults.base import Fault


def _with_retry_after(answer: Answer, seconds: float | None) -> Answer:
    if seconds is None:
        return answer
    return replace(answer, headers=(*answer.headers, ("retry-after", f"{seconds:g}")))


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
