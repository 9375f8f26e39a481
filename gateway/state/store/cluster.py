"""A Cluster: which server has which slots, learnt from them, and anew whenever one is lost or says that a key has moved.

Replicas are not asked: they may not know yet what their master has said. A server that has not been heard of is connected to when
the map names it; until then, asking for its keys fails at once, and those of the others are answered.
"""

import asyncio
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from gateway.state.store.link import Command, Link, connect
from gateway.state.store.node import Node
from gateway.state.store.port import WAIT_S, StoreLost
from gateway.state.store.url import Host, Where

SLOTS: Final = 16384
MAP: Final[Command] = ("CLUSTER", "SLOTS")
LOOK_S: Final = 0.1  # between two looks at the map; doubled while they bring nothing, up to LOOK_S_MAX
LOOK_S_MAX: Final = 2.0


def slot_of(key: str) -> int:
    """The slot of a key, by its hash tag where it has one."""
    _, brace, after = key.partition("{")
    tag, closed, _ = after.partition("}")
    return crc_hqx((tag if brace and closed and tag else key).encode(), 0) % SLOTS


class Cluster:
    """All masters of one Cluster."""

    def __init__(
        self, where: Where, loop: asyncio.AbstractEventLoop, up: Callable[[], None], down: Callable[[str], None]
    ) -> None:
        self._where = where
        self._tls = where.tls_context()
        self._loop = loop
        self._up = up
        self._down = down
        self._nodes: dict[Host, Node] = {}
        self._slots: Sequence[Node | None] = [None] * SLOTS
        self._stale = asyncio.Event()
        self._stale.set()
        self._task = loop.create_task(self._learn())

    @property
    def nodes(self) -> Iterable[Node]:
        return self._nodes.values()

    @property
    def whole(self) -> bool:
        """Whether every key can be asked for."""
        return all(node is not None for node in self._slots) and all(node.link is not None for node in self._nodes.values())

    def node_of(self, key: str) -> Node:
        if (node := self._slots[slot_of(key)]) is None:
            raise StoreLost("down")
        return node

    def node_at(self, host: Host) -> Node | None:
        """Who is at `host`, to which somebody says that a key has moved. The map is looked at again."""
        self._stale.set()
        return self._nodes.get(host)

    async def some_host(self) -> Host:
        for host, node in self._nodes.items():
            if node.link is not None:
                return host
        raise StoreLost("down")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        for node in self._nodes.values():
            await node.close()

    # --- the map ------------------------------------------------------------------------------------------------------

    async def _learn(self) -> None:
        """Keep the map. As long as something is missing it is looked at again and again: nobody tells when a replica takes over."""
        pause_s = LOOK_S
        while True:
            if self.whole:
                await self._stale.wait()
                pause_s = LOOK_S
            self._stale.clear()
            try:
                await self._adopt(await self._look())
            except StoreLost as error:
                self._down(str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_S_MAX)

    async def _look(self) -> list[tuple[int, int, Host]]:
        """First slot, last slot and master of each range, from whoever answers first. Raises StoreLost."""
        why = StoreLost("none of its servers answers")
        for node in list(self._nodes.values()):
            if node.link is not None:
                try:
                    (answer,) = await node.link.ask((MAP,), WAIT_S)
                    return _ranges(answer, next(host for host, one in self._nodes.items() if one is node))
                except StoreLost as error:
                    why = error
        for host in dict.fromkeys((*self._where.hosts, *self._nodes)):
            try:
                link, (answer,) = await connect(host, self._where.login, self._tls, WAIT_S, first=(MAP,))
                link.drop("asked")
                return _ranges(answer, host)
            except StoreLost as error:
                why = error
        raise why

    async def _adopt(self, ranges: Sequence[tuple[int, int, Host]]) -> None:
        named = {host for _, _, host in ranges}
        gone = [self._nodes.pop(host) for host in set(self._nodes) - named]
        for host in named - set(self._nodes):
            link_to = partial(self._connect, host)
            self._nodes[host] = Node(self._loop, link_to, lambda _: self._up(), self._lost)
        slots: list[Node | None] = [None] * SLOTS
        for first, last, host in ranges:
            slots[first : last + 1] = [self._nodes[host]] * (last + 1 - first)
        self._slots = slots
        for node in gone:
            await node.close()

    async def _connect(self, host: Host) -> tuple[Link, list[Any]]:
        return await connect(host, self._where.login, self._tls, WAIT_S)

    def _lost(self, why: str) -> None:
        self._stale.set()
        self._down(why)


def _ranges(answer: Any, asked: Host) -> list[tuple[int, int, Host]]:
    """What CLUSTER SLOTS says. A server that does not know its own name leaves it out, and means the one it was asked by.

    Raises StoreLost.
    """
    if not isinstance(answer, list) or not answer:
        raise StoreLost("it is no cluster, or has no slots yet")
    found = []
    try:
        for first, last, master, *_ in answer:
            name = master[0].decode() if master[0] not in (None, b"", b"?") else asked.name
            found.append((int(first), int(last), Host(name, int(master[1]))))
    except (TypeError, ValueError, AttributeError, IndexError):
        raise StoreLost("it says where its slots are as no cluster would") from None
    return found
