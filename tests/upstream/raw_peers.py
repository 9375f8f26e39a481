"""Real listeners that do exactly what a test says, byte for byte, and a sink that notes what it hears.

No HTTP library stands on the peers' side: what is tested is how we take what no library would send. Nobody sleeps here: a test
waits for a request, for an end, for bytes, and is told when they are there.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_network

from gateway.core.bounds import Bounds
from gateway.core.policy import Tls
from gateway.upstream.guard import Guard
from gateway.upstream.http import Address, Failure, Resolver, Transport
from gateway.upstream.pool import Pool

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def post(body: bytes = b"{}", path: str = "/v1/chat/completions") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: upstream\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


async def until(condition: Callable[[], object]) -> None:
    """Let everybody else run until `condition()` holds: for what the transport does inside, of which nobody is told."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


class Wire:
    """The peer's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.asked = asyncio.Event()  # a whole request has come
        self.over = asyncio.Event()  # the script has come to its end, as it does when the other side closes
        self.requests: list[bytes] = []
        self._end: asyncio.Future[bytes] | None = None

    async def request(self) -> bytes:
        """One whole request. Raises IncompleteReadError when the connection ends instead."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        request = head + await self.reader.readexactly(length)
        self.requests.append(request)
        self.asked.set()
        return request

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def gone(self) -> bytes:
        """Wait until the other side has closed; returns what it still sent. Any number may wait."""
        if self._end is None:
            self._end = asyncio.ensure_future(self._read_to_end())
        return await asyncio.shield(self._end)

    async def _read_to_end(self) -> bytes:
        rest = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while more := await self.reader.read(65_536):
                rest += more
        return rest

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with a reset, so that the other side reads an error, and not an end."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


class Peer:
    """A listener. Counts what it accepts and keeps the requests that scripts read with `answer`."""

    def __init__(self) -> None:
        self.accepts = 0
        self.requests: list[bytes] = []
        self.host = ""
        self.port = 0
        self.wires: list[Wire] = []
        self.errors: list[BaseException] = []
        self.changed = asyncio.Condition()

    def address(
        self,
        *,
        endpoint: str = "e",
        host: str | None = None,
        scheme: str = "http",
        resolves_to: Sequence[str] = (),
        tls: Tls | None = None,
        credential: str = "",
    ) -> Address:
        networks = tuple(ip_network(network) for network in resolves_to)
        return Address(endpoint, scheme, host or self.host, self.port, networks, tls or Tls(), credential)

    async def accepted(self, count: int = 1) -> Wire:
        """Wait until so many connections have come; returns the last of these."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.wires) >= count)
        return self.wires[count - 1]


async def answering(wire: Wire, peer: Peer, answer: bytes = OK) -> None:
    """A well-behaved server: answers each request until the other side has had enough."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        while True:
            peer.requests.append(await wire.request())
            wire.send(answer)


@contextlib.asynccontextmanager
async def listening(
    script: Callable[[Wire, Peer], Awaitable[None]] = answering,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Peer]:
    """A listener that runs `script` on each connection, and closes the connection after it. What a script raises is raised."""
    peer = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        wire = Wire(reader, writer)
        try:
            async with peer.changed:
                peer.accepts += 1
                peer.wires.append(wire)
                peer.changed.notify_all()
            await script(wire, peer)
        except asyncio.CancelledError:
            pass  # the test is over
        except Exception as error:  # noqa: BLE001 - raised below, in the test
            peer.errors.append(error)
        finally:
            wire.over.set()
            writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls, limit=64 * 1024)
    peer.host, peer.port = server.sockets[0].getsockname()[:2]
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if peer.errors:
        raise peer.errors[0]


@contextlib.asynccontextmanager
async def transport(
    bounds: Bounds | None = None,
    resolver: Resolver | None = None,
    *,
    guard: Guard | None = None,
    pool: Pool | None = None,
    tick_s: float = 0.01,
) -> AsyncIterator[Transport]:
    """A transport that is closed at the end of the test, and then has no connection open. Looks at limits often."""
    loop = asyncio.get_running_loop()
    made = Transport(loop, bounds or Bounds(), resolver, guard=guard, pool=pool, tick_s=tick_s)
    try:
        yield made
    finally:
        await made.close()
        assert made.stats.open == made.stats.calls == 0


class Heard:
    """A sink. `await heard` is the failure, or None; it fails the test that hears more than a sink may."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.failure: Failure | None = None
        self._over: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._more = asyncio.Event()

    @property
    def over(self) -> bool:
        return self._over.done()

    async def end(self) -> Failure | None:
        return await self._over

    async def failed(self) -> Failure:
        failure = await self._over
        assert failure is not None, f"ended well: {self.status} {self.body[:100]!r}"
        return failure

    async def ok(self, body: bytes = b"ok") -> None:
        failure = await self._over
        assert failure is None, failure
        assert (self.status, self.body) == (200, body)

    async def holds(self, size: int) -> None:
        """Wait until that many bytes of the body are there."""
        while len(self.body) < size:
            self._more.clear()
            await self._more.wait()

    async def begun(self) -> None:
        """Wait for the head."""
        while not self.status:
            self._more.clear()
            await self._more.wait()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.over
        assert not self.status, "two heads"
        self.status, self.headers = status, headers
        self._more.set()

    def on_data(self, data: bytes) -> None:
        assert not self.over
        assert self.status, "data before the head"
        assert data
        self.body += data
        self._more.set()

    def on_end(self) -> None:
        assert not self.over
        self._over.set_result(None)

    def on_failed(self, failure: Failure) -> None:
        assert not self.over
        self.failure = failure
        self._over.set_result(failure)


class Names:
    """A resolver whose answers tests change. Counts what it is asked."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers: dict[str, Sequence[str]] = dict(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError(f"no such name: {host}")
        return self.answers[host]
