"""What the pipeline asks of the world. Every implementation has a fake that tests pass in; nothing is patched."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from gateway.core.answer import Answer, Problem
from gateway.core.caching import Keeping
from gateway.core.charging import Counted
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Outcome, Recalled, Request, Unlike
from gateway.core.live import LiveState
from gateway.core.settlement import Settlement
from gateway.core.usage import Usage


class Clock(Protocol):
    """Time as an input."""

    def now(self) -> float:
        """UTC seconds since 1970. Never steps back."""
        ...


class Client(Protocol):
    """The caller's connection, as one exchange sees it. Writes never block: `paused` tells the pump to stop reading upstream."""

    @property
    def gone(self) -> bool:
        """Whether the caller hung up."""
        ...

    def on_gone(self, callback: "Callback | None") -> None:
        """Have `callback` called once, when the caller hangs up (at once if it has); None: take it back."""
        ...

    def on_writable(self, callback: "Flow | None") -> None:
        """Have `callback(False)` called when writes should pause (at once if they should already), `callback(True)` when they may
        go on; None: take it back."""
        ...

    def begin_stream(self, headers: Mapping[str, str]) -> None:
        """Begin a stream of server-sent events: a 200 head, which may wait for the first of them. Once an exchange."""
        ...

    def write(self, events: bytes) -> None:
        """Send bytes of the event stream."""
        ...

    def forward(self, chunk: bytes, begin: int) -> None:
        """Send bytes of the event stream that are framed already, as one chunk of HTTP/1.1: they are `chunk[begin:-2]`."""
        ...

    def end_stream(self, problem: Problem | None) -> None:
        """End the event stream properly; with an error event in the API's shape if there is a problem."""
        ...


class Callback(Protocol):
    def __call__(self) -> None: ...


class Flow(Protocol):
    def __call__(self, writable: bool, /) -> None: ...


class Opened(Protocol):
    """An upstream call whose first content is in hand. Exactly one of `relay` and `body` is used, then it is over."""

    @property
    def address(self) -> str:
        """The peer contacted, `ip:port`."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields of the request that the dialect does not know."""
        ...

    @property
    def body(self) -> bytes:
        """The whole canonical answer, of a call that is not a stream."""
        ...

    async def relay(self, client: Client) -> Outcome:
        """Pump the held and the coming events to `client` until the end. The pump ends no stream and writes no error event."""
        ...

    def outcome(self) -> Outcome:
        """How a call that is not a stream ended: served, with usage."""
        ...


class Opening(Protocol):
    """A call under way: awaitable in slices, so that the pipeline can keep the client alive meanwhile."""

    async def wait(self, timeout_s: float | None) -> "Opened | Outcome | None":
        """The first content, or how it ended, or None when `timeout_s` passed first (the call goes on)."""
        ...

    @property
    def address(self) -> str:
        """The peer contacted so far, `ip:port`, or ""."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields of the request that the dialect does not know."""
        ...

    @property
    def queued_s(self) -> float:
        """How long it has waited for room of ours, before its place was asked: that is no silence of the place."""
        ...

    def used(self) -> Usage | None:
        """What it has used so far, as far as is known or by estimate; None: nothing that we know of."""
        ...

    def abort(self) -> None:
        """Close the call's connection now. Idempotent; fine after the end."""
        ...


class Upstream(Protocol):
    """The providers' side."""

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> Opening:
        """Start a call to a route of `decision`. Raises EgressRefused if the attempt's deployment is not one."""
        ...


class Ledger(Protocol):
    """Where records go. Both raise OSError when the line can't be kept: without a begun line nothing is sent."""

    def begun(self, request: Request, decision: Decision, attempt: Attempt | None) -> None: ...

    def settled(self, settlement: Settlement) -> None: ...


class Live(Protocol):
    """Breakers, throttles, latencies."""

    def read(self, now: float) -> LiveState: ...

    def report(self, attempt: Attempt, outcome: Outcome, now: float, first_content_s: float | None, streamed: bool) -> None: ...

    def may_fail_over(self, outcome: Outcome, now: float) -> bool:
        """Whether another route may be tried at `now`, after an attempt that ended so; if it may, it counts as tried."""
        ...


class Patience:
    """How long one request has waited for the shared store so far, in seconds: all of its waits together take no longer than one
    may. Whoever waits adds to it."""

    __slots__ = ("spent_s",)

    def __init__(self) -> None:
        self.spent_s = 0.0


class Hold(Protocol):
    """What an exchange holds of limits. It is there before anything is taken, so that whoever stops settles it."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What answers say of it."""
        ...

    @property
    def books(self) -> tuple[Counted, ...]:
        """The books that the exchange counts toward so far."""
        ...

    @property
    def at_price(self) -> bool:
        """Whether the attempt that was last let begin is paid for by the token, its plan being used up."""
        ...

    def admit(self, now: float) -> Problem | Awaitable[Problem | None] | None:
        """Hold what the request needs of its caller's limits, or say why it can't begin; then nothing is held."""
        ...

    def attempt(self, attempt: Attempt, now: float) -> Outcome | Awaitable[Outcome | None] | None:
        """Hold what `attempt` needs besides, or say how it ended before it began; then nothing more is held than before."""
        ...

    def attempted(self, outcome: Outcome, now: float) -> None:
        """The attempt that was let begin has ended."""
        ...

    def settle(self, settlement: Settlement | None, now: float) -> None:
        """The exchange has ended; without a settlement, what it held is given back. Another time does nothing."""
        ...


class Trail(Protocol):
    """What of one request may have been read before: the beginnings of its prompt, and its session."""

    def live(self, state: LiveState) -> LiveState:
        """`state` with the places that read some of it, as far as is known."""
        ...

    def read(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The place of `attempt` has read the prompt by `now`: it answered. `outcome` is how that ended."""
        ...


class Warmth(Protocol):
    """Which places read what, a short while ago."""

    def trail(self, request: Request) -> Trail: ...


class Limiter(Protocol):
    """How much is left: to each caller, and of each place."""

    def live(self, request: Request, state: LiveState, now: float) -> LiveState:
        """`state` without the places that limits take away from `request`."""
        ...

    def hold(self, request: Request, decision: Decision, patience: Patience) -> Hold:
        """A hold on nothing as yet."""
        ...


class Place(Protocol):
    """Where the answer to one request is, or will be: equal requests have one place, and one of them at a time fills it."""

    async def find(self, patience_s: float | None) -> Recalled | None:
        """What was kept and is what the request wishes, or why there is nothing; None when `patience_s` passed first: an equal
        request is under way, so ask again. Without an answer it is the caller's turn to fill the place."""
        ...

    async def near(self, text: str, said: bytes, said_by: str, least: Mapping[str, float]) -> Recalled | Unlike:
        """What was kept for the request that is most like this one, if it is like enough, or why there is nothing.

        `said` is what an embedding model answered, at `said_by`, to the `text` that is compared; what is kept here afterwards can
        be found by it. `least` are the least cosines, by the deployment that an answer was made at: no other may be given.
        """
        ...

    def collecting(self, client: Client) -> Client:
        """A client that passes everything on to `client`, and has it remembered here."""
        ...

    def keep(self, attempt: Attempt, outcome: Outcome, body: bytes | None) -> None:
        """Keep the answer with which `attempt` was served, or, where `body` is None, what was collected. Waits for nothing."""
        ...

    def leave(self) -> None:
        """The exchange is over: whoever waits for it goes on. Another time does nothing."""
        ...


class Aside(Protocol):
    """Exchanges of our own, on behalf of one that waits for them."""

    async def ask(self, begin: Callable[[Client], Awaitable[Answer]], client: Client, wait_s_max: float) -> Answer | None:
        """How the exchange ended that `begin` begins with a client of ours; None: not within `wait_s_max`, so it was cancelled.
        Ours has hung up where `client` has, and then."""
        ...


class Cache(Protocol):
    """Answers of other times. A store that is lost, slow or full is never the caller's trouble."""

    def place(self, request: Request, keeping: Keeping, patience: Patience) -> Place | None:
        """The place of `request`, whose answers may be kept as `keeping` says. None: it has no form that could be kept."""
        ...


class Meter(Protocol):
    """Metrics: called once for each settlement, and for what no settlement says."""

    def settled(self, settlement: Settlement) -> None: ...

    def ledger_failed(self) -> None: ...

    def failover_refused(self) -> None:
        """A route that was left is not tried: failovers are too many just now."""
        ...


class EgressRefused(Exception):
    """A connection was asked for that the decision at hand does not allow. Always a defect of ours; nothing was sent."""
