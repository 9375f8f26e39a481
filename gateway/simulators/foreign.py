"""A listener that should never be reached: it counts who came anyway. For tests of the egress guard.

It stands for a host outside a decision. It accepts, reads, answers a plausible 200 so that a client which went there
notices nothing, and remembers every accept and every byte. `accepts == 0` is the proof; a mock could not give it.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self, cast

from gateway.simulators.journal import PATIENCE_SECONDS

ANSWER_BODY = (
    b'{"id":"foreign","object":"chat.completion","created":0,"model":"foreign","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"you should not have come here"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER_BODY),
    ANSWER_BODY,
)


class ForeignListener:
    """Counts `accepts` and `bytes` received, keeps what was received in `received`, and answers 200 to anything.

    Use as an async context manager. `host` may be another loopback address, such as 127.0.0.2, to stand for another
    network; `url` is where it listens. With `ssl_context` it speaks TLS; `accepts` counts before the handshake.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.host, self.port = host, port
        self.accepts = 0
        self.received = b""
        self._ssl = ssl_context
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()
        self._changed = asyncio.Event()

    @property
    def bytes(self) -> int:
        """How many bytes anyone has sent here."""
        return len(self.received)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._ssl else 'http'}://{self.host}:{self.port}"

    async def reached(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Return once `n` connections were accepted. Raises TimeoutError. For planted faults, which must be seen."""
        async with asyncio.timeout(patience_seconds):
            while self.accepts < n:
                self._changed.clear()
                await self._changed.wait()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, self.host, self.port, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for transport in list(self._transports):
            transport.abort()

    def _accept(self) -> asyncio.Protocol:
        self.accepts += 1
        self._changed.set()
        return _Visitor(self)


class _Visitor(asyncio.Protocol):
    """One connection: keeps what it is sent, and answers once for each time something came."""

    def __init__(self, listener: ForeignListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour, not by class
        self._listener._transports.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._listener.received += data
        if self._transport is not None:
            self._transport.write(ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._listener._transports.discard(self._transport)
