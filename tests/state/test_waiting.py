"""Waiting for room at a machine of our own: who waits, whose turn it is, and that nothing is left of whoever does not wait on."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from fake_ports import FakeCall, FakeClock, FakeUpstream
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import NOW, snapshot
from test_live import facts

from gateway.core.bounds import Bounds
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Fault, Needs, Outcome, Request, Scope
from gateway.core.policy import Snapshot
from gateway.core.pricing import Capacity, Tariff, Waiting, even_share
from gateway.core.view import View
from gateway.ports import Opening
from gateway.state.live import LocalLive
from gateway.state.watching import Watched

SERVED = Outcome(Ended.SERVED, status=200)
GONE = Outcome(Ended.CLIENT_GONE, Fault.CLIENT)
DOWN = Outcome(Ended.FAILED, Fault.UPSTREAM, Scope.ENDPOINT, code="connect_failed")


@dataclass
class Call:
    """One request at `far`: what was opened for it, and what its waiting came to."""

    attempt: Attempt
    opening: Opening
    waiting: asyncio.Future[Any]


class Stage:
    """A worker whose requests all go to the endpoint `far`, which has `room` for them; `length` may wait."""

    def __init__(self, room: int = 1, length: int = 3, wait_s: float = 60.0, workers: int = 1) -> None:
        self.snapshot = world(room, length, wait_s)
        self.clock, self.upstream = FakeClock(), FakeUpstream()
        self.live = LocalLive(Bounds(breaker_failures=1), self.snapshot.policy.deployments, workers)
        self.watched = Watched(self.upstream, self.live, self.clock)

    def decided(self, tenant: str = "shop", region: str = "CN") -> tuple[Decision, Request]:
        of = facts(region=frozenset({region}), tenant=frozenset({tenant}), data_class=frozenset({"internal"}))
        needs = Needs("chat", prompt_tokens=10)
        decision = decide(View(self.snapshot, NOW), of, needs, self.live.read(self.clock.time), 0)
        return decision, Request("rg-1", "", "chat", "auto", of, needs, {}, 2, True, False, frozenset(), NOW)

    def ask(self, tenant: str = "shop") -> Call:
        decision, request = self.decided(tenant)
        attempt = Attempt(1, decision.routes[0].deployment)
        opening = self.watched.open(decision, attempt, request)
        return Call(attempt, opening, asyncio.ensure_future(opening.wait(None)))

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def end(self, call: Call, outcome: Outcome = SERVED, first_content_s: float | None = None) -> None:
        """As the pipeline does, at the end of an attempt."""
        call.waiting.cancel()
        call.opening.abort()
        self.live.report(call.attempt, outcome, self.clock.time, first_content_s)


def world(room: int, length: int, wait_s: float) -> Snapshot:
    found = snapshot()
    tariff = Tariff(capacity=Capacity(Decimal(0), room, Waiting(length, wait_s)))
    moved = [replace(d, tariff=tariff) if d.endpoint.id == "far" else d for d in found.policy.deployments]
    tenants = {name: replace(tenant, priority=5 if name == "lab" else 0) for name, tenant in found.access.tenants.items()}
    return replace(found, policy=replace(found.policy, deployments=tuple(moved)), access=replace(found.access, tenants=tenants))


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 20))


def test_who_finds_it_full_waits_and_is_opened_in_turn() -> None:
    async def main() -> None:
        stage = Stage()
        first, second, third = stage.ask(), stage.ask(), stage.ask()
        await stage.settle()
        assert first.waiting.done() and not second.waiting.done() and stage.live.queued == {"far": 2}
        assert (second.opening.address, second.opening.dropped, second.opening.used()) == ("", (), None)
        assert len(stage.upstream.calls) == 1 and stage.live.in_flight == {"far": 1}
        stage.end(first)
        assert stage.live.in_flight == {"far": 1}  # kept for the next
        await stage.settle()
        assert isinstance(second.waiting.result(), FakeCall) and not third.waiting.done()
        stage.end(second)
        await stage.settle()
        stage.end(third)
        assert stage.live.in_flight == {"far": 0} and stage.live.queued == {"far": 0}
        assert stage.live.read(NOW).blocked == {}

    run(main)


def test_a_place_where_one_may_wait_is_a_route_after_all_others_and_a_full_queue_is_none() -> None:
    async def main() -> None:
        stage = Stage(length=1)
        public = facts(tenant=frozenset({"lab"}))
        calls = [stage.ask()]

        def routes() -> list[str]:
            needs = Needs("chat", prompt_tokens=10)
            decision = decide(View(stage.snapshot, NOW), public, needs, stage.live.read(NOW), 0)
            return [route.deployment.id for route in decision.routes]

        assert routes()[-1] == "far/alpha" and len(routes()) == 6
        calls.append(stage.ask())
        assert "far/alpha" not in routes()
        assert stage.live.read(NOW).blocked["far/alpha"].word == "full"
        stage.end(calls[1], GONE)
        assert stage.live.read(NOW).blocked["far/alpha"].word == "busy"
        assert stage.live.rows(NOW)["far"]["word"] == "busy"
        stage.end(calls[0])
        assert "far" not in stage.live.rows(NOW)

    run(main)


def test_nobody_waits_while_a_later_route_is_open() -> None:
    async def main() -> None:
        stage = Stage()
        of, needs = facts(tenant=frozenset({"lab"})), Needs("chat", prompt_tokens=10)
        decision = decide(View(stage.snapshot, NOW), of, needs, stage.live.read(NOW), 0)
        index = next(i for i, route in enumerate(decision.routes) if route.deployment.id == "far/alpha")
        request = Request("rg-1", "", "chat", "auto", of, needs, {}, 2, True, False, frozenset(), NOW)
        first = stage.ask()
        late = stage.watched.open(decision, Attempt(1, decision.routes[index].deployment), request)
        if index + 1 < len(decision.routes):
            found = await late.wait(None)
            assert isinstance(found, Outcome) and (found.code, found.tries_next, found.sent) == ("no_room", True, False)
        stage.end(first)

    run(main)


def test_a_deadline_that_passes_means_the_next_route() -> None:
    async def main() -> None:
        stage = Stage(wait_s=0.01)
        first, second = stage.ask(), stage.ask()
        found = await second.waiting
        assert isinstance(found, Outcome) and (found.code, found.sent, found.retry_after_s) == ("no_room", False, 1.0)
        stage.end(second, found)
        assert stage.live.queued == {"far": 0} and stage.live.in_flight == {"far": 1}
        stage.end(first)
        assert stage.live.in_flight == {"far": 0}

    run(main)


def test_a_slice_of_waiting_gives_the_client_its_comment() -> None:
    async def main() -> None:
        stage = Stage()
        first, second = stage.ask(), stage.ask()
        second.waiting.cancel()
        assert await second.opening.wait(0.001) is None
        assert stage.live.queued == {"far": 1}
        stage.end(first)
        assert isinstance(await second.opening.wait(0.001), FakeCall)
        stage.end(second)

    run(main)


def test_the_higher_priority_goes_first() -> None:
    async def main() -> None:
        stage = Stage(length=5)
        first = stage.ask()
        late, early = stage.ask("shop"), stage.ask("lab")
        stage.end(first)
        await stage.settle()
        assert early.waiting.done() and not late.waiting.done()

    run(main)


@pytest.mark.parametrize("how", ["cordon", "breaker", "no queue any more"])
def test_who_waits_for_what_would_not_serve_is_sent_on_at_once(how: str) -> None:
    async def main() -> None:
        stage = Stage(room=2)
        calls = [stage.ask() for _ in range(4)]
        if how == "cordon":
            stage.live.cordon(frozenset({"far"}))
        elif how == "breaker":
            stage.end(calls[0], DOWN)
        else:
            stage.live.adopt(Bounds(), snapshot().policy.deployments)
        await stage.settle()
        asked = calls[1:] if how == "breaker" else calls
        sent_on = [call for call in asked if call.waiting.done() and isinstance(call.waiting.result(), Outcome)]
        assert [call.waiting.result().code for call in sent_on] == ["no_room"] * len(sent_on)
        assert len(sent_on) == (1 if how == "breaker" else 2)  # one had been let in before the bad news
        for call in sent_on:
            stage.end(call, call.waiting.result())
        for call in asked:
            if call not in sent_on:
                stage.end(call)
        assert stage.live.in_flight == {"far": 0}
        assert not any(stage.live.queued.values())

    run(main)


def test_more_room_after_a_reload_lets_more_in() -> None:
    async def main() -> None:
        stage = Stage()
        calls = [stage.ask() for _ in range(4)]
        stage.live.adopt(Bounds(), world(3, 3, 60.0).policy.deployments)
        await stage.settle()
        assert [call.waiting.done() for call in calls] == [True, True, True, False]
        for call in calls:
            stage.end(call)
            await stage.settle()
        assert stage.live.in_flight == {"far": 0}

    run(main)


def test_waiting_is_not_the_places_slowness() -> None:
    async def main() -> None:
        stage = Stage()
        first, second = stage.ask(), stage.ask()
        stage.clock.time += 30
        assert (first.opening.queued_s, second.opening.queued_s) == (0.0, 30.0)
        stage.end(first)
        await stage.settle()
        stage.clock.time += 1
        assert second.opening.queued_s == 30.0
        stage.end(second, first_content_s=31.0)
        assert stage.live.read(stage.clock.time).latency_ms == {"far/alpha": 1_000}

    run(main)


STEPS = st.lists(st.tuples(st.sampled_from(["ask", "turn", "end", "leave", "cordon", "share"]), st.integers(0, 30)), max_size=40)


@settings(max_examples=60)
@given(room=st.integers(1, 3), length=st.integers(1, 4), steps=STEPS)
def test_whatever_happens_room_is_kept_to_and_nothing_is_left(room: int, length: int, steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        stage, calls, cordoned, workers = Stage(room, length), list[Call](), False, 1
        for step, number in steps:
            before, waited = stage.live.in_flight.get("far", 0), stage.live.queued["far"]
            if step == "ask" and stage.decided()[0].routes:
                calls.append(stage.ask(["shop", "lab", "clinic"][number % 3]))
            elif step == "turn":
                await stage.settle()
            elif step == "cordon":
                cordoned = not cordoned
                stage.live.cordon(frozenset({"far"} if cordoned else ()))
            elif step == "share":
                workers = 1 + number % 3
                stage.live.share(workers)
            elif calls and step in ("end", "leave"):
                call = calls.pop(number % len(calls))
                stage.end(call, SERVED if step == "end" and call.waiting.done() else GONE)
            opened = sum(not call.aborted for call in stage.upstream.calls)
            under_way, share = stage.live.in_flight.get("far", 0), even_share(room, workers)
            assert opened <= under_way <= max(before, share)
            assert stage.live.queued["far"] <= max(waited, even_share(length, workers))
            assert under_way >= share or cordoned or not stage.live.queued["far"], "nobody waits while there is room"
        for call in list(calls):
            stage.end(call, GONE)
            await stage.settle()
        stage.live.cordon(frozenset())
        stage.live.share(1)
        assert stage.live.in_flight.get("far", 0) == 0
        assert stage.live.queued == {"far": 0}
        assert all(call.aborted for call in stage.upstream.calls)
        assert stage.live.read(NOW).blocked == {}
        assert not stage.live._unopened and not stage.live._waited_s

    run(main)
