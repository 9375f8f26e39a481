"""A model of who may be given what of the cache, written by hand, and a world whose clients are watched for anything else.

Answers name the call that made them, so what a client was given is judged by what it reads, and not by what the gateway says of it.
"""

import math
import re
import struct
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from embedding_world import embedding
from fake_ports import FakeAside, FakeClient, FakeClock, FakeLedger, FakeLive, FakeMeter
from small_world import NOW, Place, snapshot
from store_servers import Server

from gateway.core.answer import Answer
from gateway.core.bounds import Bounds
from gateway.core.decide import Decision
from gateway.core.exchange import ANY, Attempt, Ended, Fault, Needs, Outcome, Recall, Request, Scope, Wish
from gateway.core.facts import NO, YES, RequestFacts
from gateway.core.policy import Caching, FactTest, Keeper, LabelTest, Places, Policy, Rule, Semantic, Snapshot
from gateway.core.terms import Effect
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.pipeline import World, exchange
from gateway.ports import Client
from gateway.state.cache.cache import SharedCache
from gateway.state.cache.purging import purge, scopes_of
from gateway.state.store.remote import RemoteStore
from gateway.upstream.kept import ChatForm

SECRET: Final = b"a secret that both workers have, and nobody else"
TENANTS: Final = ("clinic", "lab")
HOME: Final = {"DE": frozenset({"DE", "FR"}), "CN": frozenset({"CN"})}
CHAT_AT: Final = {"one": "DE", "two": "FR", "three": "DE", "far": "CN"}
WHERE: Final = {f"{place}/{model}": CHAT_AT[place] for place in CHAT_AT for model in ("alpha", "beta")}
EMBED_AT: Final = {"here": "DE", "there": "CN"}
MODELS: Final = {"alpha": ("alpha",), "auto": ("alpha", "beta")}  # by what is asked
QUESTIONS: Final = ("spring", "autumn")
WORDINGS: Final = ("plainly", "nicely", "oddly")
YEARS: Final = (1984, 2001)
SYSTEMS: Final = ("", "Be brief.")
TURN: Final = math.radians(10)  # from one wording to the next; questions are at right angles
USAGE: Final = Usage(uncached=10, output=5, reported=True)
DOWN: Final = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, 500, "server_error")
Exchange = Callable[[World, View, Request, Client], Coroutine[Any, Any, Answer]]


@dataclass(frozen=True)
class Line:
    """An entry of `cache:`: for whom (None: everybody), shared how, for how long; to like requests with which thresholds."""

    tenant: str | None
    share: str | None
    ttl_s: int
    near: tuple[tuple[str, float], ...] = ()

    def entry(self, name: str) -> Caching:
        when = () if self.tenant is None else (FactTest("tenant", frozenset({self.tenant})),)
        semantic = Semantic("embed", dict(self.near), 3) if self.near else None
        return Caching(name, when, self.ttl_s, self.share, semantic=semantic)


@dataclass(frozen=True)
class Rulebook:
    """One policy: where content of each region may go, whether personal data stays at home, where the store is, what is kept."""

    german: frozenset[str]
    chinese: frozenset[str]
    strict: bool
    store_in: str
    lines: tuple[Line, ...]

    # --- the model: what it means, in the fewest words

    def may_go(self, asked: "Asked", country: str) -> bool:
        allowed = self.german if asked.region == "DE" else self.chinese
        return country in allowed and (not self._homebound(asked) or country in HOME[asked.region])

    def may_be_stored(self, asked: "Asked") -> bool:
        return not self._homebound(asked) or self.store_in in HOME[asked.region]

    def ttl_s(self, asked: "Asked") -> int:
        return min((line.ttl_s for line in self._lines(asked)), default=0)

    def scope(self, asked: "Asked") -> str:
        shares = {line.share for line in self._lines(asked)}
        return f"shared {shares.pop()}" if len(shares) == 1 and None not in shares else f"only {asked.tenant}"

    def least(self, asked: "Asked", model: str) -> float:
        """How like another request's message must be whose answer `model` made."""
        found = [dict(line.near).get(model, math.inf) for line in self._lines(asked)]
        return max(found, default=math.inf)

    def _lines(self, asked: "Asked") -> list[Line]:
        return [line for line in self.lines if line.tenant in (None, asked.tenant)]

    def _homebound(self, asked: "Asked") -> bool:
        return self.strict and asked.personal

    # --- and the policy that says so

    def policy(self) -> Snapshot:
        found = embedding(snapshot({name: Place() for name in CHAT_AT}), EMBED_AT)
        rules = [
            Rule("german", Effect.PERMIT, (FactTest("region", frozenset({"DE"})),), ((LabelTest("processed_in", self.german),),)),
            Rule("chinese", Effect.PERMIT, (FactTest("region", frozenset({"CN"})),), ((LabelTest("processed_in", self.chinese),),)),
        ]
        for region, home in HOME.items() if self.strict else ():
            when = FactTest("region", frozenset({region})), FactTest("data_class", frozenset({"personal", "special"}))
            rules.append(Rule(f"home-{region}", Effect.REQUIRE, when, ((LabelTest("processed_in", home),),)))
        store = Places(frozenset({self.store_in}))
        both = Places(frozenset({"DE"}))
        policy: Policy = replace(
            found.policy,
            hash=f"{hash(self):x}",
            rules=tuple(rules),
            gateway=replace(found.policy.gateway, processed_in=both),
            stores=(Keeper("cache", "store", "ours", store, store, (), "env:URL"),),
            caching=tuple(line.entry(f"{number}") for number, line in enumerate(self.lines)),
        )
        return replace(found, policy=policy)


def cosine(one: "Asked", other: "Asked") -> float:
    """How like their messages are."""
    return math.cos(_angle(one) - _angle(other))


def _angle(asked: "Asked") -> float:
    return asked.question * math.pi / 2 + asked.wording * TURN


@dataclass(frozen=True)
class Asked:
    """One request."""

    tenant: str
    region: str = "DE"
    personal: bool = False
    question: int = 0
    stream: bool = False
    wish: Wish = ANY
    down: frozenset[str] = frozenset()  # endpoints that fail it
    worker: int = 0
    asked: str = "alpha"
    draw: int = 0
    wording: int = 0
    year: int = 0
    system: int = 0

    @property
    def text(self) -> str:
        return f"{QUESTIONS[self.question]} {WORDINGS[self.wording]} in {YEARS[self.year]}"

    @property
    def body(self) -> dict[str, Any]:
        said = [{"role": "system", "content": SYSTEMS[self.system]}] if self.system else []
        return {"model": self.asked, "messages": [*said, {"role": "user", "content": self.text}]}


@dataclass(frozen=True)
class Reloaded:
    rulebook: Rulebook


@dataclass(frozen=True)
class Passed:
    s: int


@dataclass(frozen=True)
class Purged:
    tenant: str


@dataclass(frozen=True)
class Moved:
    """Whoever can write into the store puts one value where another was, as it is or saying that it was made elsewhere; or
    swaps what two entries are found by, `like`."""

    source: int
    target: int
    made_at: str = ""
    like: bool = False


Step = Asked | Reloaded | Passed | Purged | Moved


@dataclass(frozen=True)
class Made:
    """One call of an upstream."""

    asked: Asked
    rulebook: Rulebook
    deployment: str
    at: float
    id: str


@dataclass
class Call:
    upstream: "Upstream"
    attempt: Attempt
    request: Request
    dropped: tuple[str, ...] = ()
    queued_s: float = 0.0
    address: str = "127.0.0.1:1"
    body: bytes = b""

    def outcome(self) -> Outcome:
        return Outcome(Ended.SERVED, status=200, usage=USAGE, finish="stop")

    async def wait(self, timeout_s: float | None) -> "Call | Outcome":
        upstream = self.upstream
        if self.attempt.deployment.endpoint.id in upstream.asked.down:
            return DOWN
        if self.request.api == "embeddings":
            upstream.embedded.append(self.attempt.deployment.endpoint.id)
            assert self.request.body == {"model": "embed", "input": upstream.asked.text}
            angle = _angle(upstream.asked)
            self.body = orjson.dumps({"data": [{"embedding": [math.cos(angle), math.sin(angle)]}]})
            return self
        made_at = self.attempt.deployment.id
        upstream.made.append(Made(upstream.asked, upstream.rulebook, made_at, upstream.clock.now(), self.request.id))
        message = {"role": "assistant", "content": f"call-{len(upstream.made) - 1}."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": "1", "created": 1, "model": "alpha"}
        self.body = orjson.dumps({**head, "object": "chat.completion", "choices": [choice]})
        return self

    async def relay(self, client: Client) -> Outcome:
        client.write(ChatForm().events(self.body, None))
        return self.outcome()

    def used(self) -> Usage | None:
        return None

    def abort(self) -> None: ...


@dataclass
class Upstream:
    clock: FakeClock
    rulebook: Rulebook
    asked: Asked = Asked("")
    made: list[Made] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)  # where

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> Call:
        return Call(self, attempt, request)


@dataclass(frozen=True)
class Parts:
    """The gateway's own, or one with a bug."""

    exchange: Exchange = exchange
    cache: Callable[..., SharedCache] = SharedCache


class Watching:
    """Takes steps, and complains of what nobody may see."""

    def __init__(self, server: Server, stores: list[RemoteStore], rulebook: Rulebook, parts: Parts, loop: Any) -> None:
        self.server, self.parts = server, parts
        self.complaints: list[str] = []
        self.hits = 0
        self.near = 0
        self._stores = stores
        self._clock = FakeClock()
        self._upstream = Upstream(self._clock, rulebook)
        self._ledger = FakeLedger()
        self._defects: list[BaseException] = []
        self._purged: dict[int, set[str]] = {}  # by call: nothing may bring it back
        self._sure: dict[tuple[object, ...], int] = {}  # what must be there, if the store was
        self._counted: list[str] = []
        self._caches = [
            parts.cache(
                store, SECRET, {"chat": ChatForm()}, Bounds(), self._clock, loop, self._counted.append, self._defects.append
            )
            for store in stores
        ]
        self._adopt(rulebook)

    async def close(self) -> None:
        for cache in self._caches:
            await cache.close()

    async def take(self, step: Step) -> None:
        match step:
            case Asked():
                await self._ask(step)
            case Reloaded(rulebook):
                self._adopt(rulebook)
            case Passed(s):
                self._clock.time += s
            case Purged(tenant):
                await purge(self._stores[0], await scopes_of(self._stores[0], self._view.snapshot, tenant), "", "")
                self._sure.clear()
                for number, made in enumerate(self._upstream.made):
                    if made.asked.tenant == tenant:
                        self._purged.setdefault(number, set()).add(tenant)
            case Moved():
                self._move(step)
                self._sure.clear()
        self.complaints += [f"a defect: {error!r}" for error in self._defects]
        self._defects.clear()

    def _adopt(self, rulebook: Rulebook) -> None:
        self._upstream.rulebook = rulebook
        self._view = View(rulebook.policy(), NOW)

    async def _ask(self, asked: Asked) -> None:
        upstream, rulebook = self._upstream, self._upstream.rulebook
        upstream.asked, before = asked, len(upstream.made)
        upstream.embedded.clear()
        client, cache = FakeClient(), self._caches[asked.worker]
        world = World(
            self._clock, upstream, self._ledger, FakeLive(), FakeMeter(), Bounds(), lambda: asked.draw, self._defects.append,
            cache=cache, aside=FakeAside(),
        )  # fmt: skip
        answer = await self.parts.exchange(world, self._view, self._request(asked), client)
        await cache.idle()
        settlement = self._ledger.settlements[-1]
        recalled = settlement.recalled
        read = re.search(rb"call-(\d+)\.", b"".join(client.written) if asked.stream else answer.body)
        fresh = len(upstream.made) > before
        key = (replace(asked, stream=False, wish=ANY, down=frozenset(), worker=0, draw=0), rulebook)
        self.complaints += self._aside(asked, rulebook)
        if read is None:
            return
        number = int(read[1])
        if not fresh:
            self.hits += 1
            self.near += recalled is not None and recalled.how is Recall.NEAR
            self.complaints += self._of(asked, rulebook, number, upstream.made[number])
            if answer.headers.get("x-gateway-cache-of", upstream.made[number].id) != upstream.made[number].id:
                self.complaints.append("it says that another request's answer is given")
            if recalled is None or recalled.deployment is None or recalled.deployment.id != upstream.made[number].deployment:
                self.complaints.append("the record says that it was made elsewhere")
            if settlement.cost.usd or settlement.tried:
                self.complaints.append("it cost something")
        elif recalled is not None and recalled.how is Recall.MISS and asked.wish == ANY and key in self._sure:
            made = upstream.made[self._sure[key]]
            if made.deployment.split("/")[0] not in asked.down and self._clock.now() - made.at < rulebook.ttl_s(asked):
                self.complaints.append("it was kept, and not given")
        if fresh and asked.wish.keep and self._counted and self._counted[-1] == "kept" and rulebook.ttl_s(asked):
            self._sure[key] = number
        if fresh and (self._counted and self._counted[-1] != "kept"):
            self._sure.clear()

    def _of(self, asked: Asked, rulebook: Rulebook, number: int, made: Made) -> list[str]:
        age_s = self._clock.now() - made.at
        equal = made.asked.body == asked.body
        least = rulebook.least(asked, made.deployment.split("/")[1])
        wrong = {
            "an answer to another question": not equal and cosine(asked, made.asked) < min(least, 1.0) - 1e-3,
            "an answer to a like question, where none was to be given": not equal and least == math.inf,
            "an answer to one that differs in more than its words": _rest(made.asked) != _rest(asked),
            "an answer found by likeness that was asked nowhere": not equal and not self._upstream.embedded,
            "an answer of another policy": made.rulebook != rulebook,
            "an answer of another tenant": rulebook.scope(made.asked) != rulebook.scope(asked),
            "an answer from where it may not go": not rulebook.may_go(asked, WHERE[made.deployment]),
            "an answer out of a store that may not have it": not rulebook.may_be_stored(asked),
            "an answer that was put into a store that may not have it": not made.rulebook.may_be_stored(made.asked),
            "an answer that is too old": age_s >= min(rulebook.ttl_s(asked), made.rulebook.ttl_s(made.asked)),
            "an answer older than it wished": asked.wish.age_s_max is not None and age_s > asked.wish.age_s_max,
            "an answer although it wished for none": not asked.wish.look,
            "an answer that was to leave no trace": not made.asked.wish.keep,
            "an answer that was purged": number in self._purged,
        }
        return [f"{what}: {asked} was given what {made} made" for what, is_so in wrong.items() if is_so]

    def _aside(self, asked: Asked, rulebook: Rulebook) -> list[str]:
        """What is wrong with where its message was sent to find out what it is like."""
        embedded = self._upstream.embedded
        wrong = {
            "its message was embedded where it may not go": any(not rulebook.may_go(asked, EMBED_AT[name]) for name in embedded),
            "its message was embedded, and nobody has it so": bool(embedded) and self._unlike(asked, rulebook),
            "its message was embedded although it wished for nothing kept": bool(embedded) and not asked.wish.look,
            "its message was embedded for a store that may not have it": bool(embedded) and not rulebook.may_be_stored(asked),
        }
        return [f"{what}: {asked} at {embedded}" for what, is_so in wrong.items() if is_so]

    @staticmethod
    def _unlike(asked: Asked, rulebook: Rulebook) -> bool:
        return all(rulebook.least(asked, model) == math.inf for model in MODELS[asked.asked])

    def _request(self, asked: Asked) -> Request:
        one = frozenset
        facts = RequestFacts(
            tenant=one((asked.tenant,)), group=one(("-",)), key=one((asked.tenant,)), region=one((asked.region,)),
            data_class=one(("personal" if asked.personal else "public",)), categories=one(), asked=one((asked.asked,)),
            api=one(("chat",)), task=one(("other",)), tag=one(("other",)), language=one(("en",)), ability=one(),
            stream=YES if asked.stream else NO, prompt_tokens=10,
        )  # fmt: skip
        return Request(
            f"rg-{len(self._ledger.settlements)}", "", "chat", asked.asked, facts, Needs("chat", prompt_tokens=10), asked.body, 60,
            asked.stream, False, frozenset({"cache"}), self._clock.now(), asked.wish,
        )  # fmt: skip

    def _move(self, step: Moved) -> None:
        if step.like:
            self._move_like(step)
            return
        keys = sorted(self.server.ask("KEYS", "*:entries"))
        places = [(key, name) for key in keys for name in sorted(self.server.ask("HKEYS", key))]
        if not places:
            return
        (key, name), (to, other) = places[step.source % len(places)], places[step.target % len(places)]
        value = self.server.ask("HGET", key, name)
        if step.made_at:
            version, length = struct.unpack_from("!BH", value)
            value = struct.pack("!BH", version, len(step.made_at)) + step.made_at.encode() + value[3 + length :]
        self.server.ask("HSET", to, other, value)

    def _move_like(self, step: Moved) -> None:
        """The partition, which is not sealed, is made to fit."""
        keys = sorted(self.server.ask("KEYS", "*:like"))
        places = [(key, name) for key in keys for name in sorted(self.server.ask("HKEYS", key)) if name.startswith(b"v")]
        if places:
            (key, name), (to, other) = places[step.source % len(places)], places[step.target % len(places)]
            one, two = self.server.ask("HGET", key, name), self.server.ask("HGET", to, other)
            self.server.ask("HSET", to, other, two[:32] + one[32:])
            self.server.ask("HSET", key, name, one[:32] + two[32:])


def _rest(asked: Asked) -> Mapping[str, Any]:
    """All of a request that must be equal, whatever it is like."""
    return {"asked": asked.asked, "system": asked.system, "year": asked.year}
