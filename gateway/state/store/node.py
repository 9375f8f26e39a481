"""One server, kept connected, and the breaker before it: while `link` is None nobody asks it, and nobody waits for it.

A connection that is lost, or that answers nothing in time, is closed and made anew in the background, with pauses that grow while
it does not stay. It counts as there again when it has answered within the time that a request would give it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from gateway.state.store.link import Command, Link
from gateway.state.store.port import WAIT_S, StoreLost

PAUSE_S: Final = 0.05  # before the first new attempt; doubled with each that fails
PAUSE_S_MAX: Final = 2.0  # a store that is back is used again within about as long
STEADY_S: Final = 5.0  # a connection that lived so long was no false start
CHECK_S: Final = 1.0  # of silence, after which it is asked whether it still is there
PING: Final[tuple[Command, ...]] = (("PING",),)

Connect = Callable[[], Awaitable[tuple[Link, list[Any]]]]


class Node:
    """One server. `up` is called when it is there, `down` with why when it is not any more, or could not be reached."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Connect,
        up: Callable[[Link], None],
        down: Callable[[str], None],
        check: Sequence[Command] = PING,
    ) -> None:
        self.link: Link | None = None
        self.last_s = 0.0  # how long its last answer took
        self._connect = connect
        self._up = up
        self._down = down
        self._check = check
        self._task = loop.create_task(self._keep(loop))

    def drop(self, why: str) -> None:
        """Not to be asked any more as it is: connect anew."""
        if (link := self.link) is not None:
            self.link = None
            link.drop(why)

    async def close(self) -> None:
        """Connect no more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        pause_s = PAUSE_S
        while True:
            began, why = loop.time(), ""
            try:
                link, _ = await self._connect()
            except StoreLost as error:
                why = str(error)
            else:
                self.link = link
                began = loop.time()
                try:
                    self._up(link)
                    why = await self._watch(link)
                finally:
                    self.link = None
                    link.drop(why)
            self._down(why)
            pause_s = PAUSE_S if loop.time() - began > STEADY_S else min(2 * pause_s, PAUSE_S_MAX)
            # each worker of each machine lost it at the same moment, and must not come back at the same moment
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    async def _watch(self, link: Link) -> str:
        """Until `link` is lost; why."""
        while True:
            done, _ = await asyncio.wait((link.lost,), timeout=CHECK_S)
            self.last_s = link.last_s
            if done:
                return link.lost.result()
            if asyncio.get_running_loop().time() - link.answered_at >= CHECK_S:
                try:
                    await link.ask(self._check, WAIT_S)
                except StoreLost:
                    continue  # one may be a hiccup; `lost` tells after some
