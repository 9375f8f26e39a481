"""The port Store on Redis or Valkey, wherever it is: single, behind Sentinels, or a Cluster; over TCP, TLS or a Unix socket.

Promises are those of port.py. A request never connects: connections are made and probed in the background (node.py), and where
there is none, asking fails at once. Nothing is asked a second time unless the server said that it did not do it (NOSCRIPT, MOVED).
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis

from gateway import defects
from gateway.state.store.ear import Ear
from gateway.state.store.link import Command, Link, code_of
from gateway.state.store.node import Node
from gateway.state.store.places import One, Places
from gateway.state.store.port import WAIT_S, Asked, Script, StoreLost
from gateway.state.store.url import Where

UNFIT: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "UNBLOCKED"})
"""Errors of a server that is not, or not yet, the one to ask: look for it anew."""


def nothing(*_: object) -> None:
    """For who wants to hear of nothing."""


class RemoteStore:
    """A store at `where`. Use inside a running loop. `waited` is told how long each answer took (s), `failed` each failure in a
    word, `changed` whether it is there and why not."""

    def __init__(
        self,
        where: Where,
        loop: asyncio.AbstractEventLoop,
        *,
        waited: Callable[[float], None] = nothing,
        failed: Callable[[str], None] = nothing,
        changed: Callable[[bool, str], None] = nothing,
    ) -> None:
        self._loop = loop
        self._waited = waited
        self._failed = failed
        self._changed = changed
        self._ids: dict[str, str] = {}  # of scripts, by their text; there are as many as the gateway has
        self._backs: list[Callable[[], None]] = []
        self._why = "it has not answered yet"
        self._places: Places = One(where, loop, self._up, self._down)
        self._ear = Ear(where, loop, self._places.some_host, self._back)

    # --- the port -----------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return any(node.link is not None for node in self._places.nodes)

    async def run(self, asked: Asked, wait_s: float = WAIT_S) -> Any:
        (answer,) = await self._ask((asked,), wait_s)
        if isinstance(answer, StoreLost):
            raise answer
        return answer

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        answers = await self._ask(asked, wait_s)
        if answers and all(isinstance(answer, StoreLost) for answer in answers):
            raise answers[0]
        return answers

    async def publish(self, channel: str, message: bytes) -> None:
        for node in self._places.nodes:
            if node.link is not None:
                (answer,) = await node.link.ask((("PUBLISH", channel, message),), WAIT_S)
                if isinstance(answer, hiredis.ReplyError):
                    raise StoreLost(code_of(answer))
                return
        raise StoreLost("down")

    def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        self._ear.listen(channel, heard)

    def on_back(self, back: Callable[[], None]) -> None:
        self._backs.append(back)
        if self.up:
            self._loop.call_soon(back)

    # --- and besides --------------------------------------------------------------------------------------------------

    @property
    def last_s(self) -> float:
        """How long the slowest server took for its last answer."""
        return max((node.link.last_s if node.link else node.last_s for node in self._places.nodes), default=0.0)

    async def close(self) -> None:
        """End all connections. What is on its way is lost."""
        await self._ear.close()
        await self._places.close()

    # --- how ----------------------------------------------------------------------------------------------------------

    async def _ask(self, asked: Sequence[Asked], wait_s: float) -> list[Any]:
        """An answer or a StoreLost for each."""
        began = self._loop.time()
        links: list[Link | StoreLost] = []
        for one in asked:
            try:
                node = self._places.node_of(one.keys[0])
                links.append(node.link or StoreLost("down"))
            except StoreLost as error:
                links.append(error)
        answers = await self._round(asked, links, wait_s)
        for index, one in enumerate(asked):
            answer = answers[index]
            if isinstance(answer, hiredis.ReplyError):
                answers[index] = await self._settled(one, links[index], answer, began + wait_s)
            if isinstance(answers[index], StoreLost):
                self._failed(str(answers[index]))
        self._waited(self._loop.time() - began)
        return answers

    async def _round(self, asked: Sequence[Asked], links: Sequence[Link | StoreLost], wait_s: float) -> list[Any]:
        """Ask each at its link, in one write for each link."""
        together: dict[Link, list[int]] = {}
        for index, link in enumerate(links):
            if isinstance(link, Link):
                together.setdefault(link, []).append(index)
        answers: list[Any] = list(links)
        waiting: list[tuple[list[int], asyncio.Future[list[Any]]]] = []
        for link, indices in together.items():
            try:
                waiting.append((indices, link.ask([self._command(asked[index], link) for index in indices], wait_s)))
            except StoreLost as error:
                for index in indices:
                    answers[index] = error
        for position, (indices, future) in enumerate(waiting):
            try:
                found: Sequence[Any] = await future
            except StoreLost as error:
                found = [error] * len(indices)
            except BaseException:
                for _, other in waiting[position:]:
                    other.cancel()
                raise
            for index, answer in zip(indices, found, strict=True):
                answers[index] = answer
        return answers

    async def _settled(self, asked: Asked, link: Link | StoreLost, error: hiredis.ReplyError, deadline: float) -> Any:
        """What comes of an error: another try where the server has done nothing, else StoreLost."""
        code = code_of(error)
        assert isinstance(link, Link)
        if code == "NOSCRIPT":
            link.known.discard(self._id(asked.script))
            (answer,) = await self._round((asked,), (link,), max(0.0, deadline - self._loop.time()))
            if not isinstance(answer, hiredis.ReplyError):
                return answer
            code = code_of(answer)
        if code in UNFIT:
            link.drop(f"it said {code}")
        return StoreLost("full" if code == "OOM" else "refused")

    def _command(self, asked: Asked, link: Link) -> Command:
        """By the script's id; the first time on a connection by its text, from which the server learns it."""
        known = self._id(asked.script)
        if known in link.known:
            return ("EVALSHA", known, len(asked.keys), *asked.keys, *asked.args)
        link.known.add(known)
        return ("EVAL", asked.script.text, len(asked.keys), *asked.keys, *asked.args)

    def _id(self, script: Script) -> str:
        found = self._ids.get(script.text)
        if found is None:
            found = self._ids[script.text] = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
        return found

    def _up(self, _node: Node, _link: Link) -> None:
        self._why = ""
        self._changed(True, "")
        self._back()

    def _down(self, why: str) -> None:
        if why != self._why:
            self._why = why
            self._changed(False, why)

    def _back(self) -> None:
        if not self.up:  # it can be heard before it can be asked, and there is another call when it can
            return
        for back in self._backs:
            try:
                back()
            except Exception as error:  # noqa: BLE001 - one part's defect must not keep the others from hearing
                defects.report(error)
