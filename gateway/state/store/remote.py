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
from gateway.state.store.cluster import Cluster, slot_of
from gateway.state.store.ear import Ear
from gateway.state.store.link import Command, Link, code_of
from gateway.state.store.places import One, Places
from gateway.state.store.port import WAIT_S, Asked, Script, StoreLost
from gateway.state.store.url import Host, Where

UNFIT: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN"})
"""Errors of a server that is not, or not yet, the one to ask: it is connected to anew, and its place looked for."""
HOPS_MAX: Final = 3  # NOSCRIPT after MOVED is two; more is a Cluster that does not know its own mind


def nothing(*_: object) -> None:
    """For who wants to hear of nothing."""


class RemoteStore:
    """A store at `where`. Use inside a running loop. `waited` is told how long each question waited (s), answered or not, and
    `failed` each that was not, in a word of STORE_FAILURES. `why` says why it is not there; it is empty while it is, whole."""

    def __init__(
        self,
        where: Where,
        loop: asyncio.AbstractEventLoop,
        *,
        waited: Callable[[float], None] = nothing,
        failed: Callable[[str], None] = nothing,
    ) -> None:
        self._loop = loop
        self._waited = waited
        self._failed = failed
        self._ids: dict[str, str] = {}  # of scripts, by their text; there are as many as the gateway has
        self._backs: list[Callable[[], None]] = []
        self.why = "it has not answered yet"
        places = Cluster if where.kind == "cluster" else One
        self._places: Places = places(where, loop, self._up, self._down)
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
            answer, link = answers[index], links[index]
            if isinstance(answer, hiredis.ReplyError) and isinstance(link, Link):
                answers[index] = await self._after(one, link, answer, began + wait_s)
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

    async def _after(self, asked: Asked, link: Link, error: hiredis.ReplyError, deadline: float) -> Any:
        """What comes of an error: another try where the server says that it has done nothing, else a StoreLost."""
        for _ in range(HOPS_MAX):
            code, asking = code_of(error), False
            if code == "NOSCRIPT":
                link.known.discard(self._id(asked.script))
            elif code in ("MOVED", "ASK"):
                node = self._places.node_at(_place_in(error))
                if node is None or node.link is None:
                    return StoreLost("down")
                link, asking = node.link, code == "ASK"
            else:
                break
            before: list[Command] = [("ASKING",)] if asking else []
            try:
                found = await link.ask([*before, self._command(asked, link)], max(0.0, deadline - self._loop.time()))
            except StoreLost as lost:
                return lost
            if not isinstance(found[-1], hiredis.ReplyError):
                return found[-1]
            error = found[-1]
        if code in UNFIT:
            link.drop(f"it said {code}")
        return StoreLost("full" if code == "OOM" else "refused")

    def _command(self, asked: Asked, link: Link) -> Command:
        """By the script's id; the first time on a connection by its text, from which the server learns it."""
        known = self._id(asked.script)
        if known in link.known:
            return ("EVALSHA", known, len(asked.keys), *asked.keys, *asked.args)
        if len({slot_of(key) for key in asked.keys}) != 1:
            raise ValueError(f"the keys of the script `{asked.script.name}` are not of one hash tag")
        link.known.add(known)
        return ("EVAL", asked.script.text, len(asked.keys), *asked.keys, *asked.args)

    def _id(self, script: Script) -> str:
        found = self._ids.get(script.text)
        if found is None:
            found = self._ids[script.text] = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
        return found

    def _up(self) -> None:
        if self._places.whole:
            self.why = ""
        self._back()

    def _down(self, why: str) -> None:
        self.why = why

    def _back(self) -> None:
        if not self.up:  # it can be heard before it can be asked, and there is another call when it can
            return
        for back in self._backs:
            try:
                back()
            except Exception as error:  # noqa: BLE001 - one part's defect must not keep the others from hearing
                defects.report(error)


def _place_in(error: hiredis.ReplyError) -> Host:
    """Where `MOVED 3999 127.0.0.1:6381` points."""
    name, _, port = str(error).split()[2].rpartition(":")
    return Host(name, int(port))
