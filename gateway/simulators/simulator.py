"""A stand-in for a provider: answers as its wire does, fails as a script says, and remembers what it received.

    async with Simulator("mistral", script=[{"match": {"nth": 1}, "fault": "throttle"}]) as sim:
        ...send requests to sim.base_url...
        entry, = await sim.received(1)
        assert entry.header("authorization") == "Bearer key"

On the same port, for those outside the process: `PUT /_simulator/script`, `POST /_simulator/release`,
`GET` and `DELETE /_simulator/journal`. Requests to these are not in the journal and no fault touches them.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, assert_never
from urllib.parse import unquote

import orjson

from gateway.simulators import script as scripts
from gateway.simulators.answer import NO_PACE, Answer, Cut, Hold, Pace, Pause, Plan, Repeat, Write, frame
from gateway.simulators.ask import Ask, compose
from gateway.simulators.dialects import DIALECTS, Dialect, World
from gateway.simulators.faults import Fault
from gateway.simulators.http1 import ClientGone, Connection, Request
from gateway.simulators.journal import PATIENCE_SECONDS, Entry, Journal
from gateway.simulators.prompts import PromptAsk
from gateway.simulators.prompts import compose as compose_text
from gateway.simulators.script import CHAT, VECTORS, Script, ScriptError
from gateway.simulators.vectors import VectorAsk

CONTROL = "/_simulator/"
BACKLOG = 1024
"""Connections that may wait to be accepted: a load test opens hundreds at once."""


class Simulator:
    """A simulated provider on a port of its own. Use as an async context manager, or `start` and `stop`.

    `dialect`    one of `mistral`, `zai`, `vllm`, `openai`, `llamacpp`;
    `script`     rules as in `gateway.simulators.script`, as JSON values, a path, or None;
    `port`       0 takes a free one; `host` is loopback unless you say otherwise;
    `models`     the model names that exist; None takes any;
    `window`     the longest prompt in tokens; None takes any;
    `api_key`    the key that must be sent as a bearer token; None asks for none;
    `ssl_context` serves TLS, and `base_url` says https;
    `pace`       the rhythm of answers; none by default, `"real"` for the dialect's own;
    `name`       how it calls itself in its answers, by default after the dialect.

    Raises ScriptError for a script that makes no sense, and ValueError for an unknown dialect.
    """

    def __init__(
        self,
        dialect: str,
        *,
        script: Sequence[Any] | Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        models: Iterable[str] | None = None,
        window: int | None = None,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        pace: Pace | str | None = None,
        name: str | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ValueError(f"there is no dialect `{dialect}`; known are {', '.join(DIALECTS)}")
        names = frozenset(models) if models is not None else None
        self.world = World(names, window, api_key, started=int(time.time()))
        self.dialect: Dialect = DIALECTS[dialect](self.world)
        self.name = name or self.dialect.who
        self.journal = Journal()
        self.host, self.port = host, port
        self._ssl = ssl_context
        self._pace = self.dialect.pace if pace == "real" else pace if isinstance(pace, Pace) else NO_PACE
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._holding: list[asyncio.Event] = []
        self._held = asyncio.Event()
        self.script = Script()
        self.set_script(script if script is not None else [])

    # -- life

    @property
    def base_url(self) -> str:
        """The base URL a client is configured with, ending in the dialect's prefix and no slash."""
        return self.url + self.dialect.prefixes[0]

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, self.host, self.port, ssl=self._ssl, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end every connection, whatever it was doing."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cut("rst")
        await self.journal.disconnected()
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- what tests ask

    def set_script(self, script: Sequence[Any] | Path) -> None:
        """Take a new script from the next request on. Raises ScriptError, and keeps the old one then."""
        if isinstance(script, Path):
            self.script = scripts.load(script, self.dialect)
        else:
            self.script = scripts.parse(script, self.dialect)

    async def received(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Entry]:
        """The first `n` requests, once they have arrived. Raises TimeoutError naming what came instead."""
        return await self.journal.received(n, patience_seconds=patience_seconds)

    async def finished(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Entry]:
        """The first `n` requests whose answers have ended in any way. Raises TimeoutError as above."""
        return await self.journal.finished(n, patience_seconds=patience_seconds)

    async def aborted(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Entry]:
        """The first `n` requests whose client left early. Raises TimeoutError as above."""
        return await self.journal.aborted(n, patience_seconds=patience_seconds)

    async def holding(self, n: int = 1, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Return once `n` answers wait at a `hold`. Raises TimeoutError as above."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        while len(self._holding) < n:
            self._held.clear()
            try:
                await asyncio.wait_for(self._held.wait(), deadline - loop.time())
            except TimeoutError:
                found = f"{len(self._holding)} wait at a `hold`; {self.journal.summary()}"
                raise TimeoutError(f"waited {patience_seconds:g} s for {n} held answers; {found}") from None

    def release(self) -> int:
        """Let go every answer that waits at a `hold` now. Returns how many there were."""
        released, self._holding = self._holding, []
        for event in released:
            event.set()
        return len(released)

    # -- a request

    def _accept(self) -> Connection:
        self.journal.accepted += 1
        return Connection(self.journal.accepted, self._handle, self._opened, self._closed, self._malformed)

    def _opened(self, connection: Connection) -> None:  # under TLS this is after the handshake, accepting before it
        self._connections.add(connection)
        self.journal.open_connections += 1
        self.journal.touch()

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.journal.open_connections -= 1
        self.journal.touch()

    def _malformed(self, why: str) -> None:
        self.journal.malformed.append(why)
        self.journal.touch()

    async def _handle(self, request: Request, connection: Connection) -> bool:
        path = unquote(request.path)
        if path.startswith(CONTROL):
            plan = frame(self._control(request.method, path, request.body), keep_alive=request.keep_alive)
            await self._send(plan, Entry(0, 0, "", "", "", (), b""), connection)
            return plan.keep_alive
        entry = Entry(
            len(self.journal.entries) + 1,
            request.connection,
            request.method,
            path,
            request.query,
            request.headers,
            request.body,
        )
        try:
            entry.body = orjson.loads(request.body) if request.body else None
        except orjson.JSONDecodeError:
            entry.body = None
        self.journal.add(entry)
        plan = self._plan(entry, request.keep_alive)
        try:
            await self._send(plan, entry, connection)
            entry.complete = True
        except Finished:
            return False
        except (ClientGone, asyncio.CancelledError):
            entry.aborted = not connection.cut_here
            raise
        finally:
            entry.ended = True
            self.journal.touch()
        return plan.keep_alive

    def _plan(self, entry: Entry, keep_alive: bool) -> Plan:
        ask = self._ask(entry)
        faults = self.script.pick(entry, ask)
        answer = self._answer(entry, ask)
        model = ask.model if ask is not None else ""
        for fault in faults:
            answer = fault.rewrite(answer, self.dialect, model)
        entry.status = answer.status
        entry.fault = "+".join(f.kind for f in faults) or None
        plan = frame(answer, keep_alive=keep_alive, pace=self._pace)
        return deliver(plan, faults)

    def _ask(self, entry: Entry) -> Ask | None:
        """The body as the request that its path makes it; None: it is no object."""
        if not isinstance(entry.body, dict):
            return None
        if self._asks_for_vectors(entry):
            return VectorAsk(entry.body, entry.number)
        kind = PromptAsk if self._asks_for_text(entry) else Ask
        return kind(entry.body, entry.number)

    def _asks_for_vectors(self, entry: Entry) -> bool:
        return self.dialect.vectors is not None and entry.path.endswith(VECTORS)

    def _asks_for_text(self, entry: Entry) -> bool:
        texts = self.dialect.texts
        return texts is not None and entry.path.endswith(texts.path) and not entry.path.endswith(CHAT)

    def _answer(self, entry: Entry, ask: Ask | None) -> Answer:
        if (own := self.dialect.route(entry.method, entry.path)) is not None:
            return own
        if self.world.api_key is not None and entry.header("authorization") != f"Bearer {self.world.api_key}":
            return self.dialect.unauthorized()
        if entry.method == "GET" and entry.path.endswith("/models"):
            return self.dialect.models()
        known = entry.path.endswith(CHAT) or self._asks_for_text(entry) or self._asks_for_vectors(entry)
        if entry.method != "POST" or not known:
            return self.dialect.not_found(entry.method, entry.path)
        if ask is None:
            return self.dialect.not_json()
        if isinstance(ask, PromptAsk):
            return self._text(ask)
        if isinstance(ask, VectorAsk):
            seed = hashlib.sha256(ask.text.encode()).hexdigest()
            return self.dialect.refuse_vectors(ask) or self.dialect.answer_vectors(ask, created=int(time.time()), seed=seed)
        prompt = ask.prompt()
        if (refusal := self.dialect.refuse(ask, len(prompt))) is not None:
            return refusal
        reply = compose(
            ask,
            who=self.name,
            created=int(time.time()),
            reasons=self.dialect.reasons(ask),
            cached=self.dialect.cached(ask, prompt),
            prompt_tokens=len(prompt),
        )
        return self.dialect.answer(ask, reply)

    def _text(self, ask: PromptAsk) -> Answer:
        dialect, prompt = self.dialect, ask.prompt()
        assert dialect.texts is not None
        if (refusal := dialect.refuse_text(ask, len(prompt))) is not None:
            return refusal
        reply = compose_text(
            ask,
            who=self.name,
            created=int(time.time()),
            cached=dialect.cached(ask, prompt),
            prompt_tokens=len(prompt),
            tokens_default=dialect.texts.tokens_default,
        )
        return dialect.answer_text(ask, reply)

    async def _send(self, plan: Plan, entry: Entry, connection: Connection) -> None:
        for step in plan.steps:
            match step:
                case Write(data, part):
                    entry.chunks += part == "body"
                    await connection.write(data)
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Hold(forever):
                    await self._hold(forever)
                case Cut(how):
                    connection.cut(how)
                    raise Finished
                case Repeat(data, seconds):
                    while True:
                        entry.chunks += 1
                        await connection.write(data)
                        await asyncio.sleep(seconds)  # also with 0: others must run, and the client may leave
                case _:
                    assert_never(step)

    async def _hold(self, forever: bool) -> None:
        released = asyncio.Event()
        if not forever:
            self._holding.append(released)
            self._held.set()
        try:
            await released.wait()
        finally:
            if released in self._holding:
                self._holding.remove(released)

    # -- the control API

    def _control(self, method: str, path: str, body: bytes) -> Answer:
        match method, path.removeprefix(CONTROL):
            case "PUT", "script":
                try:
                    self.set_script(orjson.loads(body))
                except orjson.JSONDecodeError as bad:
                    return control(400, {"mistakes": [f"the script is no JSON: {bad}"]})
                except ScriptError as wrong:
                    return control(400, {"mistakes": list(wrong.mistakes)})
                return control(200, {"rules": len(self.script.rules)})
            case "POST", "release":
                return control(200, {"released": self.release()})
            case "GET", "journal":
                journal = self.journal
                entries = [e.as_json() for e in journal]
                counts = {"accepted": journal.accepted, "open_connections": journal.open_connections}
                return control(200, {**counts, "malformed": journal.malformed, "entries": entries})
            case "DELETE", "journal":
                self.journal.clear()
                return control(200, {"entries": 0})
            case _:
                known = "PUT script, POST release, GET journal, DELETE journal"
                return control(404, {"mistakes": [f"no `{method} {path}` here; known under {CONTROL} are {known}"]})


class Finished(Exception):
    """The script ended the answer by cutting the connection."""


def control(status: int, document: dict[str, Any]) -> Answer:
    """An answer of the control API."""
    return Answer(status, (("content-type", "application/json"),), (document,))


def deliver(plan: Plan, faults: Sequence[Fault]) -> Plan:
    """The plan, changed by each fault in turn."""
    for fault in faults:
        plan = fault.deliver(plan)
    return plan
