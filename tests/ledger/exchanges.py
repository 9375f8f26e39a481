"""Exchanges of the small world, to be recorded: its snapshot with a limit and a preference by latency, and requests that differ."""

from dataclasses import replace
from decimal import Decimal

from small_world import NOW, snapshot

from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Fault, Needs, Outcome, Request, Scope, Tried
from gateway.core.facts import NO, RequestFacts
from gateway.core.live import ALL_WELL, LiveState
from gateway.core.policy import Limits, Preference, Snapshot
from gateway.core.settlement import Settlement, settle
from gateway.core.usage import Usage
from gateway.core.view import View

SERVED = Outcome(Ended.SERVED, status=200, usage=Usage(uncached=80, cached=20, output=7, reported=True), finish="stop")
FAILED = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, status=503, code="server_error")


def world(limit: str = "0.5") -> Snapshot:
    """The small world, with what a record must reckon with."""
    plain = snapshot()
    preference = Preference("quick", (), rank={"cost": 1.0, "latency": 1.0})
    return replace(plain, policy=replace(plain.policy, limits=Limits(Decimal(limit)), preferences=(preference,)))


def facts(**changed: object) -> RequestFacts:
    """What is known of a plain request of the clinic, but for what is `changed`."""
    plain: dict[str, object] = {
        "tenant": frozenset({"clinic"}),
        "group": frozenset({"health"}),
        "key": frozenset({"ward"}),
        "region": frozenset({"DE"}),
        "data_class": frozenset({"personal"}),
        "categories": frozenset(),
        "asked": frozenset({"auto"}),
        "api": frozenset({"chat"}),
        "task": frozenset({"other"}),
        "tag": frozenset({"other"}),
        "language": frozenset({"de"}),
        "ability": frozenset(),
        "stream": NO,
        "prompt_tokens": 100,
    }
    return RequestFacts(**plain | changed)  # type: ignore[arg-type]


def decided(view: View, needs: Needs | None = None, live: LiveState = ALL_WELL, draw: int = 0, **changed: object) -> Decision:
    """A decision in `view`."""
    needs = needs or Needs("chat", prompt_tokens=100)
    return decide(view, facts(prompt_tokens=needs.prompt_tokens, **changed), needs, live, draw)


def request(decision: Decision, name: str = "rg-1", *, asked: str = "auto", client_id: str = "") -> Request:
    """The request that `decision` is of."""
    return Request(
        id=name,
        client_id=client_id,
        api="chat",
        asked=asked,
        facts=decision.facts,
        needs=decision.needs,
        body={"messages": [{"role": "user", "content": "the content"}]},
        body_bytes=300,
        stream=False,
        wants_usage=False,
        disclose=frozenset(),
        began=NOW,
    )


def settlement(decision: Decision, *outcomes: Outcome, name: str = "rg-1", dropped: tuple[str, ...] = ()) -> Settlement:
    """An exchange whose attempts ended so, a second each, on the decision's routes in order. None: a refusal."""
    tried = tuple(
        Tried(Attempt(n + 1, decision.routes[n].deployment), outcome, NOW + n, NOW + n + 1, NOW + n + 0.5, "127.0.0.1:9", dropped)
        for n, outcome in enumerate(outcomes)
    )
    status, code = (200, "") if outcomes else (403, "no_route_allowed")
    return settle(request(decision, name), decision, tried, status, code, NOW + len(tried))
