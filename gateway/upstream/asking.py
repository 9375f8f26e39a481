"""Asking an endpoint how it is: one GET to its own address, past the same guard as any call.

No prompt is in it and no redirect is followed; the connection is opened for it and closed after it, so that the name is resolved,
and the peer looked at, each time. The endpoint's credential is shown, as it is with every call to it.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from gateway.core.bounds import Bounds
from gateway.core.policy import Endpoint
from gateway.upstream.address import address_of
from gateway.upstream.call import Call, Failure
from gateway.upstream.dial import Resolver
from gateway.upstream.head import question_of
from gateway.upstream.http import Transport

ANSWER_BYTES_MAX: Final = 4_194_304  # metrics of an engine with a dozen histograms are below 200 kB


class NotAnswered(Exception):
    """Why there is no answer. `code` is one of CODES (call.py), or `answer_too_large`; `detail` is for operators."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. A redirect is a status like any other."""

    status: int
    body: bytes


class Asker:
    """Asks endpoints. Connections are its own, and none is kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bounds: Bounds, resolver: Resolver | None = None) -> None:
        self._loop = loop
        self._transport = Transport(loop, bounds, resolver)
        self._transport.retire(())

    def adopt(self, bounds: Bounds) -> None:
        """Go by another snapshot's limits, and read TLS files again."""
        self._transport.bounds = bounds
        self._transport.retire(())

    async def get(self, endpoint: Endpoint, secret: str | None, path: str, limit_s: float) -> Answer:
        """The whole answer to `GET path`, within `limit_s` seconds. Raises NotAnswered."""
        heard = _Heard(self._loop)
        try:
            payload = question_of(endpoint, secret, path)
        except ValueError as error:
            raise NotAnswered("unusable", str(error)) from error
        heard.call = call = self._transport.start(address_of(endpoint, secret), payload, heard)
        try:
            async with asyncio.timeout(limit_s):
                return await heard.answer
        except TimeoutError as error:
            raise NotAnswered("total_timeout", f"no whole answer within {limit_s:g} s") from error
        finally:
            call.abort()

    async def close(self) -> None:
        """End what is under way."""
        await self._transport.close()


class _Heard:
    """Listens to one answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.call: Call | None = None
        self._status = 0
        self._body = bytearray()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > ANSWER_BYTES_MAX and self.call is not None:
            self.call.abort()
            self._fail(NotAnswered("answer_too_large", f"more than {ANSWER_BYTES_MAX} bytes"))

    def on_end(self) -> None:
        if not self.answer.done():
            self.answer.set_result(Answer(self._status, bytes(self._body)))

    def on_failed(self, failure: Failure) -> None:
        self._fail(NotAnswered(failure.code, failure.detail))

    def _fail(self, why: NotAnswered) -> None:
        if not self.answer.done():
            self.answer.set_exception(why)
