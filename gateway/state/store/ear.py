"""A connection of its own for what others publish, made when somebody first listens, and made anew whenever it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway import defects
from gateway.state.store.link import Command, Link, connect
from gateway.state.store.node import Node
from gateway.state.store.port import WAIT_S
from gateway.state.store.url import Host, Where


class Ear:
    """`host` says where to listen; `back` is called whenever all channels are heard again, since in between nothing was."""

    def __init__(
        self, where: Where, loop: asyncio.AbstractEventLoop, host: Callable[[], Awaitable[Host]], back: Callable[[], None]
    ) -> None:
        self._where = where
        self._tls = where.tls_context()
        self._loop = loop
        self._host = host
        self._back = back
        self._heard: dict[bytes, list[Callable[[bytes], None]]] = {}
        self._node: Node | None = None

    def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        """Have `heard` called for each message from now on."""
        self._heard.setdefault(channel.encode(), []).append(heard)
        if self._node is None:
            self._node = Node(self._loop, self._connect, lambda _: self._back(), lambda _: None)
        else:
            self._node.drop("one more channel")  # told to the server by connecting anew, the one way there is

    async def close(self) -> None:
        """Hear nothing more."""
        if self._node is not None:
            await self._node.close()

    async def _connect(self) -> tuple[Link, list[Any]]:
        await asyncio.sleep(0)  # those who begin together are heard together
        first: list[Command] = [("SUBSCRIBE", channel) for channel in self._heard]
        return await connect(await self._host(), self._where.login, self._tls, WAIT_S, heard=self._took, first=first)

    def _took(self, channel: bytes, message: bytes) -> None:
        for heard in self._heard.get(channel, ()):
            try:
                heard(message)
            except Exception as error:  # noqa: BLE001 - as in a callback of the loop
                defects.report(error)
