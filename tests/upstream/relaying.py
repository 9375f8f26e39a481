"""What the tests of dialects, outcomes and streams share: a small catalogue, requests, a transport that is fed by hand, a client
that keeps what it gets, and a clock that stands still. No sockets here.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import orjson
from small_world import snapshot

from gateway.core.bounds import Bounds
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Needs, Request
from gateway.core.facts import RequestFacts
from gateway.core.live import LiveState
from gateway.core.order import Route
from gateway.core.policy import Deployment, Endpoint, Model, Places, Tls
from gateway.core.pricing import Price, Tariff
from gateway.core.view import Eligibility, View
from gateway.ports import Callback, Flow
from gateway.upstream.address import Address, address_of
from gateway.upstream.call import Failure, Sink
from gateway.upstream.calling import Calling
from gateway.upstream.response import Shortcut
from gateway.upstream.upstreams import Upstreams

NOW = 1_795_000_000.0  # 2026-11-18T08:26:40Z
SECRET = "test-secret-of-the-endpoint"
DIALECTS = ("mistral", "zai", "vllm", "llamacpp", "openai")
T = TypeVar("T")
Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""What the fixture `run` is: it plays a test on one kind of event loop."""


def play(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one test's coroutine, on a loop of its own, and for no longer than ten seconds."""

    async def limited() -> T:
        async with asyncio.timeout(10):
            return await coroutine

    return asyncio.run(limited())


# --- a catalogue, requests ----------------------------------------------------------------------------------------------------


def deployment(dialect: str, *, host: str = "upstream.test", port: int = 80, path: str = "/v1", **more: Any) -> Deployment:
    """One model at one endpoint that speaks `dialect`."""
    anywhere = Places(None)
    endpoint = Endpoint(
        id=f"at-{dialect}",
        provider=dialect,
        dialect=dialect,
        scheme="http",
        host=host,
        port=port,
        path=path,
        secret="env:KEY",
        resolves_to=(),
        tls=Tls(),
        processed_in=anywhere,
        operated_under=anywhere,
        assurances=(),
        apis=frozenset({"chat"}),
        tools=more.pop("tools", frozenset({"function"})),
        remote_content=more.pop("remote_content", False),
    )
    model = Model("our-model", anywhere, 200_000, frozenset(), frozenset(), {})
    return Deployment(
        id=f"at-{dialect}/our-model",
        endpoint=endpoint,
        model=model,
        upstream_model=more.pop("upstream_model", "their-model"),
        tariff=Tariff(Price(Decimal(1), Decimal(2), Decimal(1), Decimal(1))),
        processed_in=anywhere,
        operated_under=anywhere,
        assurances=(),
        context=200_000,
        abilities=more.pop("abilities", frozenset({"tools", "reasoning"})),
    )


def one(value: str) -> frozenset[str]:
    return frozenset((value,))


FACTS = RequestFacts(
    tenant=one("clinic"),
    group=one("-"),
    key=one("ward-3"),
    region=one("DE"),
    data_class=one("internal"),
    categories=frozenset(),
    asked=one("our-model"),
    api=one("chat"),
    task=one("chat"),
    tag=one("none"),
    language=one("en"),
    ability=frozenset(),
    stream=one("false"),
    prompt_tokens=12,
)


def request(body: Mapping[str, Any] | None = None, *, stream: bool = False, wants_usage: bool = False) -> Request:
    """A request as the wire would make it; `body` beyond model and messages."""
    whole = {"model": "our-model", "messages": [{"role": "user", "content": "Hello"}], **(body or {})}
    return Request(
        id="01TEST",
        client_id="",
        api="chat",
        asked="our-model",
        facts=FACTS,
        needs=Needs("chat", prompt_tokens=12),
        body=whole,
        body_bytes=100,
        stream=stream,
        wants_usage=wants_usage,
        disclose=frozenset(),
        began=NOW,
    )


class Clock:
    def now(self) -> float:
        return NOW


ANY_VIEW = View(snapshot(), NOW)


def decided(*deployments: Deployment) -> Decision:
    """A decision whose routes are these; nothing else of it means anything."""
    asked = request()
    nothing = Eligibility(0, 0, (), (), 0, 0, (), frozenset())
    routes = tuple(Route(index, each) for index, each in enumerate(deployments))
    return Decision(ANY_VIEW, asked.facts, asked.needs, LiveState(), 0, nothing, 0, routes)


# --- a transport that is fed by hand ------------------------------------------------------------------------------------------


class FakeCall:
    peer = "192.0.2.1:443"
    sent = True

    def __init__(self, address: Address, payload: bytes, sink: Sink) -> None:
        self.address, self.payload, self.sink = address, payload, sink
        self.aborted = False
        self.paused = False
        self.deeds: list[str] = []

    def abort(self) -> None:
        self.aborted = True
        self.deeds.append("abort")

    def pause(self) -> None:
        self.paused = True
        self.deeds.append("pause")

    def resume(self) -> None:
        self.paused = False
        self.deeds.append("resume")

    def take_by(self, shortcut: Shortcut | None) -> None: ...  # nothing comes in chunks here

    # what an upstream does; as with the real transport, a call that was aborted hears nothing more

    def head(self, status: int = 200, kind: str | None = "text/event-stream", **headers: str) -> "FakeCall":
        given = {**({"content-type": kind} if kind else {}), **{name.replace("_", "-"): value for name, value in headers.items()}}
        if not self.aborted:
            self.sink.on_head(status, [(name.encode(), value.encode()) for name, value in given.items()])
        return self

    def data(self, *pieces: bytes) -> "FakeCall":
        for piece in pieces:
            if piece and not self.aborted:
                self.sink.on_data(piece)
        return self

    def end(self) -> None:
        if not self.aborted:
            self.sink.on_end()

    def fail(self, code: str, *, sent: bool = True) -> None:
        if not self.aborted:
            self.sink.on_failed(Failure(code, sent, "for the test"))

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        """A whole JSON answer."""
        self.head(status, "application/json", **headers)
        self.data(body if isinstance(body, bytes) else orjson.dumps(body)).end()

    @property
    def body(self) -> Any:
        """The body that was sent, parsed."""
        return orjson.loads(self.payload.partition(b"\r\n\r\n")[2])


class FakeTransport:
    def __init__(self) -> None:
        self.calls: list[FakeCall] = []

    def start(self, address: Address, payload: bytes, sink: Sink) -> FakeCall:
        call = FakeCall(address, payload, sink)
        self.calls.append(call)
        return call


def upstreams(transport: Any, *deployments: Deployment, bounds: Bounds | None = None, secret: str | None = SECRET) -> Upstreams:
    """Call from within the test's loop."""
    endpoints = [d.endpoint for d in deployments]
    addresses = {e.id: address_of(e, secret) for e in endpoints}
    secrets = {e.id: secret for e in endpoints}
    return Upstreams(transport, addresses, secrets, bounds or Bounds(), Clock(), asyncio.get_running_loop())


def opened(dialect: str | Deployment, asked: Request | None = None, *, bounds: Bounds | None = None) -> tuple[Calling, FakeCall]:
    """A call that is under way, and the fake's end of it. From within the test's loop."""
    to = deployment(dialect) if isinstance(dialect, str) else dialect
    transport = FakeTransport()
    decision = decided(to)
    call = upstreams(transport, to, bounds=bounds).open(decision, Attempt(1, to), asked or request(stream=True))
    return call, transport.calls[0]


# --- a client -----------------------------------------------------------------------------------------------------------------


class FakeClient:
    """Keeps what is written. `writes` are single writes, `text` all of them."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.gone = False
        self.gone_callback: Callback | None = None
        self.flow: Flow | None = None

    def on_gone(self, callback: Callback | None) -> None:
        self.gone_callback = callback
        if callback is not None and self.gone:
            callback()

    def on_writable(self, callback: Flow | None) -> None:
        self.flow = callback

    def begin_stream(self, headers: Mapping[str, str]) -> None: ...

    def write(self, events: bytes) -> None:
        self.writes.append(events)

    def forward(self, chunk: bytes, begin: int) -> None:
        assert chunk[:begin] == b"%x\r\n" % (len(chunk) - begin - 2)
        assert chunk.endswith(b"\r\n")
        self.writes.append(chunk[begin:-2])

    def end_stream(self, problem: Any) -> None: ...

    def hang_up(self) -> None:
        self.gone = True
        if self.gone_callback is not None:
            self.gone_callback()

    @property
    def text(self) -> bytes:
        return b"".join(self.writes)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return chunks(self.text)


def chunks(text: bytes) -> list[dict[str, Any]]:
    """The JSON events of a client's stream."""
    return [orjson.loads(e[6:]) for e in text.split(b"\n\n") if e.startswith(b"data: {")]


def said(found: Iterable[Mapping[str, Any]], field: str = "content") -> str:
    """All text of one field of the deltas, put together."""
    return "".join(c["choices"][0]["delta"].get(field) or "" for c in found if c["choices"])


# --- streams ------------------------------------------------------------------------------------------------------------------


def sse(*events: Any) -> bytes:
    """Events, from dicts or bytes, as servers write them."""
    return b"".join(b"data: " + (e if isinstance(e, bytes) else orjson.dumps(e)) + b"\n\n" for e in events)


def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A well-formed chunk of an upstream."""
    return {
        "id": "cmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_795_000_000,
        "model": "their-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def counts(prompt: int = 5, output: int = 3, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **more}
