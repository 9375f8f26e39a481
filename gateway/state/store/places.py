"""Which server has a key: one for all (`One`), or one for each part of a Cluster's slots (cluster.py)."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from gateway.state.store.link import TIME, Command, Link, connect
from gateway.state.store.node import Node
from gateway.state.store.port import WAIT_S, StoreLost
from gateway.state.store.url import Host, Where

ROLE: Final[Command] = ("ROLE",)


class Places(Protocol):
    """What the store asks of it."""

    @property
    def nodes(self) -> Iterable[Node]:
        """All servers that are asked for keys."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every key can be asked for."""
        ...

    def node_of(self, key: str) -> Node:
        """The server that has `key`. Raises StoreLost if none is known."""
        ...

    def node_at(self, host: Host) -> Node | None:
        """The server at `host`, to which another has said that a key has moved."""
        ...

    async def some_host(self) -> Host:
        """Where messages can be heard now. Raises StoreLost."""
        ...

    async def close(self) -> None: ...


class One:
    """A single server, or the one of several that the Sentinels say is the master."""

    def __init__(
        self, where: Where, loop: asyncio.AbstractEventLoop, up: Callable[[], None], down: Callable[[str], None]
    ) -> None:
        self._where = where
        self._tls = where.tls_context()
        self._sentinels = list(where.hosts)  # the one that answered last comes first
        self._node = Node(loop, self._connect, lambda _: up(), down)
        self.nodes = (self._node,)

    @property
    def whole(self) -> bool:
        return self._node.link is not None

    def node_of(self, key: str) -> Node:
        return self._node

    def node_at(self, host: Host) -> Node | None:
        return None  # it is no Cluster, whatever it says

    async def some_host(self) -> Host:
        return await self._master() if self._where.kind == "sentinel" else self._where.hosts[0]

    async def close(self) -> None:
        await self._node.close()

    async def _connect(self) -> tuple[Link, list[Any]]:
        where = self._where
        if where.kind != "sentinel":
            return await connect(where.hosts[0], where.login, self._tls, WAIT_S)
        link, (role, _) = await connect(await self._master(), where.login, self._tls, WAIT_S, first=(ROLE, TIME))
        if not isinstance(role, list) or role[:1] != [b"master"]:  # the Sentinels have not agreed yet
            link.drop("given up")
            raise StoreLost("the server that the sentinels name is not a master")
        return link, []

    async def _master(self) -> Host:
        where = self._where
        why = "no sentinel answers"
        question: Command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", where.service)
        for sentinel in list(self._sentinels):
            try:
                link, (found,) = await connect(sentinel, where.sentinels, self._tls, WAIT_S, first=(question,))
            except StoreLost:
                continue
            link.drop("asked")
            if found is None:
                why = f"the sentinels know no service `{where.service}`"
                continue
            try:
                master = Host(found[0].decode(), int(found[1]))
            except (TypeError, ValueError, AttributeError, IndexError):
                why = "a sentinel answers what none would"
                continue
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return master
        raise StoreLost(why)
