"""Hints: trouble that one worker has seen makes another look for itself, and nothing else."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from fake_ports import FakeClock
from fake_store import FakeStore
from hypothesis import given
from hypothesis import strategies as st
from inprocess import run
from small_world import NOW
from store_servers import eventually, opened, single
from test_live import BOUNDS, DEPLOYMENTS, DOWN, LATER, NO_BALANCE, OUTCOMES, SERVED, attempt, tell

from gateway.core.live import ALL_WELL, Blocked
from gateway.state.breaker import HALF_OPEN, Breaker, Phase
from gateway.state.hints import CHANNEL, TOLD_MAX, Hints
from gateway.state.live import LocalLive
from gateway.state.store.port import Asked

AT = "http://127.0.0.1:9"


class HintStore(FakeStore):
    """Keeps hints."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}

    def answer(self, asked: Asked) -> Any:
        if asked.script.name == "hints":
            return list(self.kept.values())
        place, hint, _ = asked.args
        assert isinstance(place, str) and isinstance(hint, bytes)
        self.kept[place] = hint
        return 1


def watched() -> LocalLive:
    live = LocalLive(BOUNDS, DEPLOYMENTS.values())
    live.watched = True
    return live


def hearing(store: Any, who: str) -> tuple[LocalLive, Hints]:
    live = watched()
    return live, Hints(store, live, FakeClock(), who, lambda error: pytest.fail(repr(error)))


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("outcomes", "place"), [([DOWN] * 3, "one"), ([LATER], "one/alpha"), ([NO_BALANCE], "one")])
def test_who_hears_of_trouble_sends_one_request_to_see(outcomes: list[Any], place: str) -> None:
    async def main() -> None:
        store = HintStore()
        (one, _), (other, _) = hearing(store, "a"), hearing(store, "b")
        tell(one, *outcomes)
        await turn()
        assert other.rows(NOW)[place]["phase"] == "half open"
        assert not other.read(NOW).blocked  # at most half: nothing is taken away yet
        probe = attempt()
        assert other.opened(probe, NOW)
        assert other.read(NOW).blocked
        other.report(probe, SERVED, NOW, 0.1)
        assert not other.read(NOW).blocked
        assert one.read(NOW).blocked, "what somebody else found closes nothing"
        late, _ = hearing(store, "c")  # it starts afterwards
        await turn()
        assert late.rows(NOW)[place]["phase"] == "half open"

    run(main)


def test_a_lost_store_is_no_trouble_of_ours() -> None:
    async def main() -> None:
        store = HintStore()
        store.lost = True
        one, _ = hearing(store, "a")
        tell(one, *[DOWN] * 3)
        await turn()
        assert one.read(NOW).blocked
        store.up = False
        tell(one, LATER, of=DEPLOYMENTS["two/alpha"])
        await turn()
        assert "two/alpha" in one.read(NOW).blocked

    run(main)


def test_hints_that_wait_for_a_slow_store_are_few() -> None:
    async def main() -> None:
        store = HintStore()
        stuck = asyncio.Event()
        store.publish = lambda channel, message: stuck.wait()  # type: ignore[method-assign, assignment, return-value]
        live, hints = hearing(store, "a")
        await turn()
        for number in range(TOLD_MAX * 2):
            assert live.tell is not None
            live.tell(f"place-{number}", AT, "breaker", NOW + 9)
        await turn()
        assert len(hints._tasks) == TOLD_MAX
        hints.close()
        await turn()
        assert not hints._tasks and live.tell is None

    run(main)


WORDS = st.sampled_from(["one", "one/alpha", "far/alpha", "nowhere", "two/gamma"])
HINTS = st.tuples(WORDS, st.sampled_from([AT, "http://elsewhere:1"]), st.floats(-100, 4_000))
STEPS = st.one_of(HINTS, st.tuples(st.sampled_from(sorted(DEPLOYMENTS)), st.sampled_from(OUTCOMES)))


def go(hinted: LocalLive, course: Sequence[Any]) -> None:
    """Go through outcomes and hints: a hint opens at most half, only while it is young and of this very place; and whoever never
    heard of one lets all pass that this one does."""
    hinted.watched = True
    alone = watched()
    for step in course:
        if len(step) == 2:
            for live in (hinted, alone):
                tell(live, step[1], of=DEPLOYMENTS[step[0]])
        else:
            place, at, for_s = step
            before, rows = hinted.read(NOW), hinted.rows(NOW)
            hinted.hint(place, at, NOW + for_s, NOW)
            assert hinted.read(NOW) is before, "it takes nothing away by itself"
            breaker = hinted._places.get(place)
            changed = hinted.rows(NOW) != rows
            assert not changed or (breaker is not None and breaker.phase is Phase.HALF_OPEN and for_s > 0 and at == AT)
        assert alone.read(NOW).blocked.keys() <= hinted.read(NOW).blocked.keys(), "it adds no route"


@given(st.lists(STEPS, max_size=40))
def test_a_hint_opens_at_most_half_and_closes_nothing(course: list[Any]) -> None:
    go(LocalLive(BOUNDS, DEPLOYMENTS.values()), course)


class Closes(LocalLive):
    """Believes that what is told of is all there is."""

    def hint(self, place: str, at: str, until: float, now: float) -> None:
        self._places.clear()
        self._publish()
        super().hint(place, at, until, now)


class Forgives(LocalLive):
    """Sends a request to see for itself though it knows of trouble."""

    def hint(self, place: str, at: str, until: float, now: float) -> None:
        if self._at.get(place.partition("/")[0]) == at:
            self._set(place, HALF_OPEN)
            self._publish()


class Shuts(LocalLive):
    """Takes it on trust."""

    def hint(self, place: str, at: str, until: float, now: float) -> None:
        if self._at.get(place.partition("/")[0]) == at and until > now:
            self._set(place, Breaker(Phase.OPEN, until=until, blocked=Blocked("breaker", "it is said", until)))
            self._publish()


class Outlives(LocalLive):
    """Believes what was true once."""

    def hint(self, place: str, at: str, until: float, now: float) -> None:
        super().hint(place, at, max(until, now + 60), now)


class Confuses(LocalLive):
    """Takes another's place of the same name for its own."""

    def hint(self, place: str, at: str, until: float, now: float) -> None:
        super().hint(place, AT, until, now)


BAD_DAY = [("one/alpha", DOWN)] * 3
LIES: dict[type[LocalLive], list[Any]] = {
    Closes: [*BAD_DAY, ("two", AT, 60)],
    Forgives: [*BAD_DAY, ("one", AT, 60)],
    Shuts: [("one", AT, 60)],
    Outlives: [("one", AT, -1)],
    Confuses: [("one", "http://elsewhere:1", 60)],
}


@pytest.mark.source_only
@pytest.mark.parametrize("planted", LIES)
def test_who_believes_too_much_is_found_out(planted: type[LocalLive]) -> None:
    go(LocalLive(BOUNDS, DEPLOYMENTS.values()), LIES[planted])
    with pytest.raises(AssertionError):
        go(planted(BOUNDS, DEPLOYMENTS.values()), LIES[planted])


@pytest.mark.parametrize(
    "hint",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"from": "b", "place": 1, "at": 2, "until": "x"}',
        orjson.dumps({"from": "a", "place": "one", "at": AT, "word": "breaker", "until": NOW + 60}),  # our own
        orjson.dumps({"from": "b", "place": "one", "at": AT, "word": "breaker", "until": NOW - 1}),  # over
        orjson.dumps({"from": "b", "place": "one", "at": "http://other:9", "word": "breaker", "until": NOW + 60}),  # another place
        orjson.dumps({"from": "b", "place": "nowhere", "at": AT, "word": "breaker", "until": NOW + 60}),
    ],
)
def test_what_is_no_hint_for_us_changes_nothing(hint: bytes) -> None:
    async def main() -> None:
        store = HintStore()
        live, _ = hearing(store, "a")
        await store.publish(CHANNEL, hint)
        assert live.read(NOW) is ALL_WELL and live.rows(NOW) == {}

    run(main)


def test_over_a_real_store_they_reach_who_listens_and_who_comes_later() -> None:
    async def main() -> None:
        with single() as server:
            async with opened(server.url) as first, opened(server.url) as second, opened(server.url) as third:
                (one, _), (other, _) = hearing(first, "a"), hearing(second, "b")
                tell(one, *[DOWN] * 3)
                await eventually(lambda: "one" in other.rows(NOW) or told_again(one))
                late, _ = hearing(third, "c")
                await eventually(lambda: "one" in late.rows(NOW))

    def told_again(live: LocalLive) -> bool:  # the other's subscription may have come later than the first hint
        assert live.tell is not None
        live.tell("one", AT, "breaker", NOW + 15)
        return False

    run(main)
