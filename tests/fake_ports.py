"""A fake for each port of the pipeline, and scripts for what upstreams do. Nothing here opens a connection."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from small_world import NOW

from gateway.core.answer import Answer, Problem
from gateway.core.caching import Keeping
from gateway.core.charging import Counted
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Fault, Kept, Outcome, Recall, Recalled, Request
from gateway.core.live import ALL_WELL, LiveState
from gateway.core.settlement import Settlement
from gateway.core.usage import Usage
from gateway.ports import Callback, Client, EgressRefused, Flow, Patience

T = TypeVar("T")
USAGE = Usage(uncached=90, cached=10, output=20, reported=True)
SERVED = Outcome(Ended.SERVED, status=200, usage=USAGE, finish="stop")
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
BODY = b'{"object":"chat.completion","choices":[]}'


@dataclass
class Script:
    """What one call does: `silent` waits without content, then `refuses`, or an answer that ends as `outcome`.

    `silent`: so many waits pass without content, in no time; None: content never comes. In the first `queued` it waits for room.
    `hangs`: a wait does not even end.
    `gate`: the relay waits for it before its last event. `flood`: the relay writes this over and over, for as long as it may.
    """

    silent: int | None = 0
    queued: int = 0
    hangs: bool = False
    refuses: Outcome | None = None
    outcome: Outcome = SERVED
    events: tuple[bytes, ...] = (EVENT, EVENT, DONE)
    body: bytes = BODY
    gate: asyncio.Event | None = None
    flood: bytes = b""


@dataclass
class FakeCall:
    """Opening and Opened in one, as the real one is."""

    script: Script
    attempt: Attempt
    request: Request
    dropped: tuple[str, ...] = ()
    waits: int = 0
    queued_s: float = 0.0
    aborted: bool = False
    over: bool = False
    paused: bool = False
    relayed: int = 0
    relaying: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    pausing: asyncio.Event = field(default_factory=asyncio.Event)
    resuming: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.attempt.deployment.id

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.attempt.number}"

    @property
    def body(self) -> bytes:
        return self.script.body

    def outcome(self) -> Outcome:
        return self.script.outcome

    async def wait(self, timeout_s: float | None) -> "FakeCall | Outcome | None":
        self.waits += 1
        if self.script.hangs:
            await self.closed.wait()
        await asyncio.sleep(0)
        if timeout_s is not None and (self.script.silent is None or self.waits <= self.script.silent):
            self.queued_s += timeout_s if self.waits <= self.script.queued else 0.0
            return None
        return self.script.refuses if self.script.refuses is not None else self

    async def relay(self, client: Client) -> Outcome:
        self.relaying = True
        client.on_gone(self._gone.set)
        client.on_writable(self._flow)
        try:
            for event in self.script.events[:-1]:
                client.write(event)
                await asyncio.sleep(0)
            if self.script.flood:
                return await self._flood(client)
            if self.script.gate is not None:
                await self._or_gone(self.script.gate)
            if self._gone.is_set():
                return Outcome(Ended.CLIENT_GONE, Fault.CLIENT, usage=USAGE)
            if self.script.outcome.ended is Ended.SERVED:
                client.write(self.script.events[-1])
            self.over = True
            return self.script.outcome
        finally:
            client.on_gone(None)
            client.on_writable(None)

    async def _flood(self, client: Client) -> Outcome:
        while not self._gone.is_set():
            if self.paused:
                await self._or_gone(self.resuming)
            else:
                client.write(self.script.flood)
                self.relayed += len(self.script.flood)
                await asyncio.sleep(0)
        return Outcome(Ended.CLIENT_GONE, Fault.CLIENT, usage=USAGE)

    async def _or_gone(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._gone.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()

    def _flow(self, writable: bool) -> None:
        self.paused = not writable
        if writable:
            self.pausing.clear()
            self.resuming.set()
        else:
            self.resuming.clear()
            self.pausing.set()

    def used(self) -> Usage | None:
        return USAGE if self.relaying else None

    def abort(self) -> None:
        self.aborted = True
        self.closed.set()


@dataclass
class FakeUpstream:
    """Serves what `scripts` say: one for each call in turn, or by deployment id; and `otherwise` when there is none."""

    scripts: list[Script] = field(default_factory=list)
    by_name: dict[str, Script] = field(default_factory=dict)
    otherwise: Script = field(default_factory=Script)
    calls: list[FakeCall] = field(default_factory=list)
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> FakeCall:
        if all(route.deployment is not attempt.deployment for route in decision.routes):
            raise EgressRefused(attempt.deployment.id)
        script = self.by_name.get(attempt.deployment.id) or (self.scripts.pop(0) if self.scripts else self.otherwise)
        call = FakeCall(script, attempt, request)
        self.calls.append(call)
        self._opened.set()
        return call

    async def call(self, number: int = 1) -> FakeCall:
        """The call of that number, once it is made."""
        while len(self.calls) < number:
            self._opened.clear()
            await self._opened.wait()
        return self.calls[number - 1]

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.calls]


@dataclass
class FakeAside:
    """Lets exchanges of our own take as long as they take, or, where `late`, cancels each at its first wait."""

    late: bool = False
    asked: int = 0

    async def ask(self, begin: Callable[[Client], Awaitable[Answer]], client: Client, wait_s_max: float) -> Answer | None:
        self.asked += 1
        if not self.late:
            return await begin(FakeClient())
        ours = FakeClient(gone=True)
        task = asyncio.ensure_future(begin(ours))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return None


@dataclass
class FakeClock:
    time: float = NOW

    def now(self) -> float:
        return self.time


@dataclass
class FakeLedger:
    """`broken` makes each line fail as a full disk does."""

    broken: bool = False
    begun_lines: list[str] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def begun(self, request: Request, decision: Decision, attempt: Attempt | None) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.begun_lines.append(attempt.deployment.id if attempt is not None else "-")

    def settled(self, settlement: Settlement) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.settlements.append(settlement)
        self._settled.set()

    async def settlement(self, number: int = 1) -> Settlement:
        """The settlement of that number, once it stands."""
        while len(self.settlements) < number:
            self._settled.clear()
            await self._settled.wait()
        return self.settlements[number - 1]


@dataclass
class FakeLive:
    state: LiveState = ALL_WELL
    failovers: int = 1_000  # how many may be made
    reports: list[tuple[str, Outcome]] = field(default_factory=list)

    def read(self, now: float) -> LiveState:
        return self.state

    def report(self, attempt: Attempt, outcome: Outcome, now: float, first_content_s: float | None, streamed: bool = False) -> None:
        self.reports.append((attempt.deployment.id, outcome))

    def may_fail_over(self, outcome: Outcome, now: float) -> bool:
        if not self.failovers:
            return False
        self.failovers -= 1
        return True


@dataclass
class FakeLimiter:
    """Lets everything in unless `refuses`; `over` does not let attempts begin, by deployment id. `asks`: it answers after an await.

    `held`: ids of requests that hold something; `settled`: (id, tokens) of the others. `at_places`: attempts that hold something.
    """

    refuses: Problem | None = None
    over: Mapping[str, Outcome] = field(default_factory=dict)
    asks: bool = False
    held: list[str] = field(default_factory=list)
    at_places: list[str] = field(default_factory=list)
    most_at_places: int = 0
    patience: Patience | None = None  # of the last request
    settled: list[tuple[str, int]] = field(default_factory=list)

    def live(self, request: Request, state: LiveState, now: float) -> LiveState:
        return state

    def hold(self, request: Request, decision: Decision, patience: Patience) -> "FakeHold":
        self.patience = patience
        return FakeHold(self, request.id)


@dataclass
class FakeHold:
    limiter: FakeLimiter
    id: str
    headers: Mapping[str, str] = field(default_factory=lambda: {"x-ratelimit-remaining-requests": "7"})
    books: tuple[Counted, ...] = ()
    at_price: bool = False

    def admit(self, now: float) -> Problem | Awaitable[Problem | None] | None:
        if self.limiter.refuses is None:
            self.limiter.held.append(self.id)
        return Later(self.limiter.refuses) if self.limiter.asks else self.limiter.refuses

    def attempt(self, attempt: Attempt, now: float) -> Outcome | Awaitable[Outcome | None] | None:
        over = self.limiter.over.get(attempt.deployment.id)
        if over is None:
            self.limiter.at_places.append(attempt.deployment.id)
            self.limiter.most_at_places = max(self.limiter.most_at_places, len(self.limiter.at_places))
        return Later(over) if self.limiter.asks else over

    def attempted(self, outcome: Outcome, now: float) -> None:
        self.limiter.at_places.pop()  # raises if nothing was let begin

    def settle(self, settlement: Settlement | None, now: float) -> None:
        if self.id in self.limiter.held:
            self.limiter.held.remove(self.id)
            usage = None if settlement is None else settlement.usage
            self.limiter.settled.append((self.id, 0 if usage is None else usage.input + usage.output))
        self.limiter.at_places.clear()


@dataclass
class Later(Generic[T]):
    """`answer`, after one await. No coroutine, since nobody minds one that is never awaited."""

    answer: T

    def __await__(self) -> Generator[None, None, T]:
        yield
        return self.answer


@dataclass
class FakePlace:
    """One place of a FakeCache. `left` counts; `kept` is what was to be kept: where from, and the body or what was collected."""

    cache: "FakeCache"
    keeping: Keeping
    patience: Patience
    finds: int = 0
    left: int = 0
    kept: list[tuple[str, bytes]] = field(default_factory=list)
    collected: list[bytes] | None = None

    async def find(self, patience_s: float | None) -> Recalled | None:
        self.finds += 1
        await asyncio.sleep(0)
        if patience_s is not None and self.finds <= self.cache.waits:
            return None
        found = self.cache.holds
        return Recalled(self.cache.how) if found is None else Recalled(Recall.HIT, found)

    def collecting(self, client: Client) -> Client:
        self.collected = []
        return FakeCollecting(client, self.collected)

    def keep(self, attempt: Attempt, outcome: Outcome, body: bytes | None) -> None:
        if body is None and self.collected is not None:
            body = b"".join(self.collected)
        if body is not None:
            self.kept.append((attempt.deployment.id, body))

    def leave(self) -> None:
        self.left += 1


@dataclass
class FakeCollecting:
    client: Client
    collected: list[bytes]

    @property
    def gone(self) -> bool:
        return self.client.gone

    def on_gone(self, callback: Callback | None) -> None:
        self.client.on_gone(callback)

    def on_writable(self, callback: Flow | None) -> None:
        self.client.on_writable(callback)

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        self.client.begin_stream(headers)

    def write(self, events: bytes) -> None:
        self.client.write(events)
        self.collected.append(events)

    def forward(self, chunk: bytes, begin: int) -> None:
        self.client.forward(chunk, begin)
        self.collected.append(chunk[begin:-2])

    def end_stream(self, problem: Problem | None) -> None:
        self.client.end_stream(problem)


@dataclass
class FakeCache:
    """Has `holds` for everybody, once a stream has waited `waits` times; and nothing, because of `how`, where it is None."""

    holds: Kept | None = None
    how: Recall = Recall.MISS
    waits: int = 0
    places: list[FakePlace] = field(default_factory=list)

    def place(self, request: Request, keeping: Keeping, patience: Patience) -> FakePlace:
        self.places.append(FakePlace(self, keeping, patience))
        return self.places[-1]


@dataclass
class FakeMeter:
    count: int = 0
    failures: int = 0
    refused_failovers: int = 0
    keeps: list[str] = field(default_factory=list)

    def settled(self, settlement: Settlement) -> None:
        self.count += 1

    def ledger_failed(self) -> None:
        self.failures += 1

    def kept(self, how: str) -> None:
        self.keeps.append(how)

    def failover_refused(self) -> None:
        self.refused_failovers += 1


@dataclass
class FakeClient:
    """A caller without a socket. `ends`: the problems, or None, that its stream ended with; `wrongs`: what it should not get."""

    gone: bool = False
    head: Mapping[str, str] | None = None
    written: list[bytes] = field(default_factory=list)
    ends: list[Problem | None] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    _on_gone: Callable[[], None] | None = None

    def on_gone(self, callback: Callback | None) -> None:
        self._on_gone = callback
        if callback is not None and self.gone:
            callback()

    def on_writable(self, callback: Flow | None) -> None: ...

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        if self.head is not None:
            self.wrongs.append("a second head")
        self.head = headers

    def write(self, events: bytes) -> None:
        if self.head is None or self.ends:
            self.wrongs.append("events outside of a stream")
        self.written.append(events)

    def forward(self, chunk: bytes, begin: int) -> None:
        self.write(chunk[begin:-2])

    def end_stream(self, problem: Problem | None) -> None:
        if self.head is None or self.ends:
            self.wrongs.append("an end without a beginning, or a second one")
        self.ends.append(problem)

    def hang_up(self) -> bool:
        """Go away; returns whether somebody was told. Who was not is to be cancelled."""
        self.gone = True
        if self._on_gone is None:
            return False
        self._on_gone()
        return True
