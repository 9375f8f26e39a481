"""A whole gateway within a test: the clients' side, the pipeline and the providers' side, on real sockets, against simulators.

    async with in_process({"one": "mistral"}) as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"))
        ...
        entry, = await gateway.simulators["one"].received(1)

The policy is `small_world`'s. What an exchange left behind is in `gateway.ledger`.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import uvloop
from embedding_world import embedding
from fake_ports import FakeLedger, FakeMeter
from small_world import Place, key_text, snapshot

from gateway.aside import Asides
from gateway.clock import SystemClock
from gateway.core.bounds import Bounds
from gateway.core.budgets import Budget
from gateway.core.policy import Affinity, Caching, Snapshot
from gateway.core.pricing import Capacity, Tariff
from gateway.core.rates import Rates
from gateway.pipeline import World
from gateway.simulators import Simulator
from gateway.state.accounts.local import LocalAccounts
from gateway.state.cache.cache import LEASE_S, SharedCache
from gateway.state.cache.form import Form
from gateway.state.limits import AccountLimiter
from gateway.state.live import LocalLive
from gateway.state.store.port import Store
from gateway.state.warm import WarmPrefixes
from gateway.state.watching import Watched
from gateway.upstream.address import address_of
from gateway.upstream.http import Transport
from gateway.upstream.kept import ChatForm
from gateway.upstream.texts.kept import CompletionForm
from gateway.upstream.upstreams import Upstreams
from gateway.upstream.vectors import EmbeddingsForm
from gateway.wire.plane import Plane
from gateway.wire.server import Server

SECRET = b"a secret that all gateways of a test share"
NOWHERE: Mapping[str, str] = {}
UNLIMITED: Mapping[str, tuple[Budget, ...]] = {}
PATIENCE_S = 30.0  # a test that takes longer hangs
DIALECTS = {"one": "mistral", "two": "zai", "three": "vllm", "far": "openai"}


@dataclass
class InProcess:
    """A running gateway, and the simulators behind it, by endpoint."""

    port: int
    plane: Plane
    server: Server
    transport: Transport
    live: LocalLive
    ledger: FakeLedger
    meter: FakeMeter
    simulators: dict[str, Simulator]
    cache: SharedCache | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def key(self, name: str) -> str:
        """The text of a key of `small_world`."""
        return key_text(name)


def offering(snapshot: Snapshot, apis: frozenset[str]) -> Snapshot:
    """The same world, whose endpoints and models are all for `apis`."""
    policy = snapshot.policy
    endpoints = {d.endpoint.id: replace(d.endpoint, apis=apis) for d in policy.deployments}
    models = {name: replace(model, apis=apis) for name, model in policy.models.items()}
    moved = tuple(replace(d, endpoint=endpoints[d.endpoint.id], model=models[d.model.id]) for d in policy.deployments)
    return replace(snapshot, policy=replace(policy, deployments=moved, models=models))


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a loop of its own; whatever reaches the loop's exception handler fails it."""
    reported: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        async with asyncio.timeout(PATIENCE_S):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())
    assert not reported, reported


@asynccontextmanager
async def in_process(
    dialects: Mapping[str, str] | None = None,
    scripts: Mapping[str, Sequence[Any]] | None = None,
    bounds: Bounds | None = None,
    rates: Mapping[str, Rates] | None = None,
    room: Mapping[str, int | Capacity] | None = None,
    caching: Sequence[Caching] = (),
    store: Store | None = None,
    affinity: Affinity | None = None,
    apis: frozenset[str] | None = None,
    embeds: Mapping[str, str] = NOWHERE,
    budgets: Mapping[str, tuple[Budget, ...]] = UNLIMITED,
    cache_lease_s: float = LEASE_S,
) -> AsyncIterator[InProcess]:
    """Simulators of these dialects (by endpoint, besides DIALECTS) with these fault scripts, and a gateway before them.

    `rates` and `budgets` are by the id of a key; `room`, by endpoint, is how many requests it works on at once. Answers are kept in
    `store` as `caching` says; a gateway that has died is waited for as long as `cache_lease_s`. With `apis`, all endpoints and
    models are for those instead of chat alone. `embeds` are endpoints that embed, besides, and the country of each.
    """
    bounds = bounds or Bounds()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        simulators, places = {}, {}
        for endpoint, dialect in {**DIALECTS, **dict.fromkeys(embeds, "mistral"), **(dialects or {})}.items():
            simulator = Simulator(dialect, script=list((scripts or {}).get(endpoint, ())), name=endpoint)
            simulators[endpoint] = await stack.enter_async_context(simulator)
            places[endpoint] = Place(simulator.port, dialect, simulator.dialect.prefixes[0])
        policy = embedding(snapshot(places, bounds), embeds, places) if embeds else snapshot(places, bounds)
        policy = replace(policy, policy=replace(policy.policy, caching=tuple(caching)))
        keys = {
            name: replace(key, rates=(rates or {}).get(name), budgets=budgets.get(name, ()))
            for name, key in policy.access.keys.items()
        }
        policy = replace(policy, access=replace(policy.access, keys=keys))
        for endpoint, has in (room or {}).items():
            tariff = Tariff(capacity=has if isinstance(has, Capacity) else Capacity(Decimal(0), has))
            moved = [replace(d, tariff=tariff) if d.endpoint.id == endpoint else d for d in policy.policy.deployments]
            policy = replace(policy, policy=replace(policy.policy, deployments=tuple(moved)))
        policy = replace(policy, policy=replace(policy.policy, affinity=affinity))
        if apis is not None:
            policy = offering(policy, apis)
        deployments = policy.policy.deployments
        clock = SystemClock()
        transport = Transport(loop, bounds)
        stack.push_async_callback(transport.close)
        addresses = {deployment.endpoint.id: address_of(deployment.endpoint, None) for deployment in deployments}
        live = LocalLive(bounds, deployments)
        upstreams = Upstreams(transport, addresses, dict.fromkeys(addresses), bounds, clock, loop, affinity)
        ledger, meter, counter = FakeLedger(), FakeMeter(), itertools.count()
        defects: list[BaseException] = []
        limiter = AccountLimiter(LocalAccounts(clock.now), policy, clock.now())
        cache: SharedCache | None = None
        if store is not None:
            forms: dict[str, Form] = {"chat": ChatForm(), "completions": CompletionForm(), "embeddings": EmbeddingsForm()}
            cache = SharedCache(store, SECRET, forms, bounds, clock, loop, meter.kept, defects.append, cache_lease_s)
            stack.push_async_callback(cache.close)
        watched, warmth = Watched(upstreams, live, clock), WarmPrefixes(b"secret").under(affinity)
        draw = lambda: next(counter)  # noqa: E731
        world = World(clock, watched, ledger, live, meter, bounds, draw, defects.append, limiter, cache, warmth, Asides())
        plane = Plane(world, policy, demo=False)
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(plane, listener, tick_s=0.01)
        running = loop.create_task(server.run())
        try:
            yield InProcess(listener.getsockname()[1], plane, server, transport, live, ledger, meter, simulators, cache)
        finally:
            running.cancel()
            await asyncio.wait([running])
            listener.close()
        assert not defects, defects
        assert len(ledger.settlements) == meter.count
        await transport.close()
        assert transport.stats.open == 0
