"""Opening a connection: resolve, ask the guard, connect, ask the guard again.

Rule 1: names are resolved anew for each connection, and only answers that the guard admits are tried, in their order.
Rule 2: what counts is the peer that was reached, not the one that was asked for: its real address must pass as well.
Rule 3: nothing of a request is written here, so every failure from here says `sent: False`.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, Protocol

from gateway.refused import is_own_lack
from gateway.upstream.address import Address
from gateway.upstream.call import Failure
from gateway.upstream.connection import Connection
from gateway.upstream.guard import Guard, real_ip
from gateway.upstream.tls import Contexts

TRIES_MAX: Final = 4
"""Addresses tried for one connection. They share the limit, and a fifth of 3 s is too little for a handshake across an ocean."""

ANEW_S: Final = 10.0
"""Past it a name is looked up beside the look-up under way: servers that are back answer at once, and that one may hang on."""

_TLS_GOODBYE_S_MAX: Final = 1.0
"""How long a closing connection waits for the peer's close_notify; the loop's default of 30 s would keep the socket for nothing."""


class Resolver(Protocol):
    """Who turns names into addresses."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """IP addresses of `host` in the order to try them. Raises OSError where there are none."""
        ...


class Lookups(Protocol):
    """What is asked of the event loop."""

    async def getaddrinfo(self, host: str, port: int, *, type: int) -> Sequence[tuple[Any, ...]]: ...


class SystemResolver:
    """The machine's own resolver, asked each time: its cache and its time to live are the operator's.

    Whoever wants a name while it is being looked up waits for that. The loop has a few threads for all names, and none of them can
    be called back: of a name whose servers are silent, each request would take one, and no other name would resolve.
    """

    def __init__(self, loop: Lookups) -> None:
        self._loop = loop
        self._under_way: dict[tuple[str, int], tuple[asyncio.Task[Sequence[str]], float]] = {}  # and since when, loop time

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        key = host, port
        task, since = self._under_way.get(key, (None, 0.0))
        if task is None or loop.time() - since >= ANEW_S:
            task = loop.create_task(self._look_up(host, port))
            task.add_done_callback(partial(self._over, key))
            self._under_way[key] = task, loop.time()
        return await asyncio.shield(task)

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _over(self, key: tuple[str, int], task: "asyncio.Task[Sequence[str]]") -> None:
        if self._under_way.get(key, (None, 0.0))[0] is task:
            del self._under_way[key]
        if not task.cancelled():
            task.exception()  # it is for those who wait, of whom there may be none left


class DialFailed(Exception):
    """No connection. `failure` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(code, False, detail)


class Dialler:
    """Opens connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, resolver: Resolver, guard: Guard) -> None:
        self.contexts = Contexts()
        self._loop = loop
        self._resolver = resolver
        self._guard = guard

    async def open(self, address: Address, limit_s: float, make: Callable[[], Connection]) -> Connection:
        """A connection made by `make`, open, to a peer that the guard admits, in at most `limit_s` seconds. Raises DialFailed."""
        deadline = self._loop.time() + limit_s
        context = self._context(address)
        candidates = await self._candidates(address, limit_s)
        failed: DialFailed | None = None
        told = []
        for tried, ip in enumerate(candidates):
            share_s = (deadline - self._loop.time()) / (len(candidates) - tried)
            try:
                return await self._try(address, ip, share_s, context, make)
            except DialFailed as failure:
                failed = failure
                told.append(f"{ip}: {failure.failure.detail}")
        assert failed is not None  # there is at least one candidate
        raise DialFailed(failed.failure.code, "; ".join(told)) from failed

    def _context(self, address: Address) -> ssl.SSLContext | None:
        if address.scheme != "https":
            return None
        try:
            return self.contexts.get(address.tls)
        except OSError as error:
            detail = f"the TLS files of endpoint `{address.endpoint}` can't be used: {error}"
            raise DialFailed(_code(error, "tls"), detail) from error

    async def _candidates(self, address: Address, limit_s: float) -> list[str]:
        answers = [address.host] if _is_ip(address.host) else await self._resolve(address, limit_s)
        admitted = [ip for ip in answers if self._guard.admits(address, real_ip(ip))]
        if not admitted:
            networks = ", ".join(map(str, address.resolves_to))
            detail = f"`{address.host}` is at {', '.join(answers)}, and none of that lies in `resolves_to`: {networks}"
            raise DialFailed("address_refused", detail)
        return admitted[:TRIES_MAX]

    async def _resolve(self, address: Address, limit_s: float) -> list[str]:
        try:
            async with asyncio.timeout(limit_s):
                answers = await self._resolver.resolve(address.host, address.port)
        except TimeoutError as error:
            raise DialFailed("dns", f"`{address.host}` was not resolved within {limit_s:g} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be one
            raise DialFailed(_code(error, "dns"), f"`{address.host}` does not resolve: {error}") from error
        proper = [ip for ip in answers if _is_ip(ip)]
        if not proper:
            raise DialFailed("dns", f"`{address.host}` resolves to nothing")
        return proper

    async def _try(
        self, address: Address, ip: str, share_s: float, context: ssl.SSLContext | None, make: Callable[[], Connection]
    ) -> Connection:
        connection = make()
        try:
            async with asyncio.timeout(share_s):
                await self._connected(connection, address, ip, context)
        except TimeoutError as error:
            raise DialFailed("connect_timeout", f"no connection within {max(share_s, 0):.2g} s") from error
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as error:
            code = "connect_refused" if context is None else "tls"
            raise DialFailed(code, str(error) or type(error).__name__) from error
        except (OSError, ValueError) as error:  # ValueError: a host name that TLS can't ask for
            raise DialFailed(_code(error, "connect_refused"), getattr(error, "strerror", None) or str(error)) from error
        if connection.peer_ip is None or not connection.is_open:
            fate = connection.fate or Failure("closed_early", False, "the upstream closed the connection as soon as it was open")
            connection.drop()
            raise DialFailed(fate.code, fate.detail)
        if not self._guard.admits(address, connection.peer_ip):
            connection.drop()
            raise DialFailed("address_refused", f"the peer is really {connection.peer}, which is not in `resolves_to`")
        return connection

    async def _connected(self, connection: Connection, address: Address, ip: str, context: ssl.SSLContext | None) -> None:
        """Have `connection` be open. One that is given up before that is known here is told so: the loop may not do it."""
        more = {} if context is None else _tls(context, address)
        try:
            await self._loop.create_connection(lambda: connection, ip, address.port, **more)
        except BaseException:
            connection.forsake()
            raise


def _code(error: Exception, otherwise: str) -> str:
    """What a failure goes by: nobody else is to blame where something lacks here."""
    return "no_socket" if is_own_lack(error) else otherwise


def _tls(context: ssl.SSLContext, address: Address) -> dict[str, Any]:
    return {"ssl": context, "server_hostname": address.host, "ssl_shutdown_timeout": _TLS_GOODBYE_S_MAX}


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
