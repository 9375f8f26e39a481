"""What a place has read is told to other workers: the next turn is warm there, too; nothing else comes of it, whatever is said."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fake_ports import FakeClock
from fake_store import FakeStore
from hypothesis import given
from hypothesis import strategies as st
from inprocess import run
from small_world import NOW, snapshot
from store_servers import cut_off, eventually, opened, single
from test_store_bad_days import lost
from test_warm import AFFINITY, PLACES, RULES, request, says, serve, terms, warm

from gateway.core.decide import Decision, decide
from gateway.core.exchange import Request
from gateway.core.live import ALL_WELL, LiveState
from gateway.core.policy import Policy
from gateway.core.view import Timeline, View
from gateway.state.cache.secret import derived
from gateway.state.warm import DIGEST_BYTES, WarmPrefixes
from gateway.state.warm_shared import BEAT_S, BYTES_MAX, CHANNEL, LABEL, NOTES_MAX, TAKEN_MAX, NoNote, WarmShared

POLICY = replace(snapshot().policy, affinity=AFFINITY)
SECRET = derived(b"a secret that all workers are given", LABEL)
NAMES = itertools.count()
FIRST = request(RULES, says("q" * 4_000), session="mine")
NEXT = request(RULES, says("q" * 4_000), says("a" * 4_000, "assistant"), says("and?"), tokens=6_000)


class Worker:
    """What one worker knows, and tells."""

    def __init__(
        self, store: Any, kind: type[WarmPrefixes] = WarmPrefixes, *, secret: bytes = SECRET, policy: Policy = POLICY,
        entries_max: int = 1_000,
    ) -> None:  # fmt: skip
        self.clock = FakeClock()
        self.defects: list[BaseException] = []
        self.known = kind(secret, entries_max)
        self.shared = WarmShared(store, self.known, self.clock, f"{next(NAMES):016x}", self.defects.append)
        self.shared.adopt(policy)
        self.warmth = terms(self.known)

    def serve(self, asked: Request, place: str = "one/alpha") -> None:
        serve(self.warmth, asked, place)

    def warm(self, asked: Request) -> dict[str, int]:
        return warm(self.warmth, asked)

    async def beat(self) -> None:
        """Tell now what has been noted."""
        self.shared._beat()
        await told(self)


async def told(worker: Worker) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    assert worker.defects == []


def said(of: FakeStore) -> list[tuple[str, str]]:
    """What all messages together say: digests (hexadecimal) and places."""
    messages = [orjson.loads(message.partition(b" ")[2]) for message in of.published]
    return [(digest, place["place"]) for message in messages for place in message for digest, _, _ in place["read"]]


def message(*notes: tuple[Any, Any, Any], place: Any = "one/alpha", at: Any = PLACES["one/alpha"].endpoint.at) -> bytes:
    return b"somebody " + orjson.dumps([{"place": place, "at": at, "read": notes}])


def test_the_next_turn_is_warm_at_another_worker_too() -> None:
    async def main() -> None:
        store = FakeStore()
        one, other, late = Worker(store), Worker(store), Worker(store)
        one.serve(FIRST)
        assert not other.warm(NEXT)
        await one.beat()
        found = other.warm(NEXT)
        assert set(found) == {"one/alpha"} and 3_500 <= found["one/alpha"] <= 4_000
        assert other.warm(request(says("b" * 9_000), session="mine")) == {"one/alpha": 3_840}
        other.serve(NEXT, "two/alpha")
        await other.beat()
        assert set(late.warm(NEXT)) == {"one/alpha", "two/alpha"}

    run(main)


def test_it_leaves_by_itself_a_moment_later_and_in_one_message() -> None:
    async def main() -> None:
        store = FakeStore()
        one, other = Worker(store), Worker(store)
        for number in range(5):
            one.serve(request(says(f"{number}"), says("q")))
        assert not store.published
        await eventually(lambda: store.published)
        assert len(store.published) == 1 and len(said(store)) == 10
        assert all(other.warm(request(says(f"{number}"), says("q"))) for number in range(5))

    run(main)


def test_what_was_heard_ends_when_it_would_where_it_was_noted() -> None:
    async def main() -> None:
        store = FakeStore()
        one, other = Worker(store), Worker(store)
        other.clock.time += 7_200  # clocks of machines differ, and no message says what time it is
        one.serve(FIRST)
        one.clock.time += 100
        await one.beat()
        late = replace(NEXT, began=NOW + 7_200)
        assert other.warm(replace(late, began=late.began + 199.9))
        assert not other.warm(replace(late, began=late.began + 200.1))
        assert len(other.known.heard) == 1, "the session, which nobody asked for, and nothing that is over"

    run(main)


def test_the_same_is_told_again_once_others_may_soon_forget_it_and_what_was_heard_is_not_told() -> None:
    async def main() -> None:
        store = FakeStore()
        one, other = Worker(store), Worker(store)
        for after_s, times in ((0, 1), (1, 1), (74, 1), (76, 2), (150, 2), (152, 3)):
            one.clock.time = other.clock.time = NOW + after_s
            for worker in (one, other):
                worker.serve(replace(FIRST, began=NOW + after_s))
                await worker.beat()
            assert len(said(store)) == 3 * times, after_s
            assert len(store.published) == times, "the other has heard it, and says nothing"

    run(main)


@pytest.mark.parametrize("secret", [derived(b"another", LABEL), b""])
def test_who_has_another_secret_learns_nothing_and_other_tenants_neither(secret: bytes) -> None:
    async def main() -> None:
        store = FakeStore()
        one, stranger = Worker(store), Worker(store, secret=secret)
        one.serve(FIRST)
        await one.beat()
        assert stranger.known.heard and not stranger.warm(NEXT) and not stranger.warm(FIRST)
        assert not one.warm(replace(FIRST, facts=replace(FIRST.facts, tenant=frozenset({"shop"}))))
        stranger.serve(FIRST)
        await stranger.beat()
        assert len(set(said(store))) == 6, "not one of the digests is the same"

    run(main)


def test_messages_say_no_prompt_no_tenant_and_no_session() -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store)
        one.serve(request(RULES, says("the canary sings"), session="a-session-of-theirs"))
        await one.beat()
        (found,) = store.published
        for secret in (b"canary", b"rrrr", b"clinic", b"a-session-of-theirs", SECRET, SECRET.hex().encode()):
            assert secret not in found
        assert all(len(digest) == 2 * DIGEST_BYTES for digest, _ in said(store))
        plain = sha256(orjson.dumps(None) + orjson.dumps(RULES, option=orjson.OPT_SORT_KEYS)).hexdigest()
        assert plain[: 2 * DIGEST_BYTES] not in dict(said(store))

    run(main)


def test_the_secret_is_one_of_its_own() -> None:
    wanted = HKDF(SHA256(), 32, None, b"a label").derive(b"what workers are given")
    assert derived(b"what workers are given", b"a label") == wanted
    assert derived(b"what workers are given", b"another") != wanted


# --- bounds -----------------------------------------------------------------------------------------------------------------


def test_what_is_told_in_a_beat_is_bounded_and_what_was_not_is_told_later() -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store)
        asked = [request(says(f"{number}"), says("q")) for number in range(NOTES_MAX)]
        for each in asked:
            one.serve(each)
        await one.beat()
        (found,) = store.published
        assert len(said(store)) == NOTES_MAX and len(found) <= BYTES_MAX
        for each in asked:
            one.serve(each)
        await one.beat()
        assert len(set(said(store))) == len(said(store)) == 2 * NOTES_MAX

    run(main)


def flood(worker: Worker, of: FakeStore, notes: int) -> None:
    """Others tell of very much."""
    digests = (f"{number:0{2 * DIGEST_BYTES}x}" for number in range(notes))
    while some := list(itertools.islice(digests, NOTES_MAX)):
        for heard in of.heard[CHANNEL]:
            heard(message(*((digest, 5_000, 300) for digest in some)))
        worker.clock.time += BEAT_S


def goes_on_in_a_flood(kind: type[WarmPrefixes]) -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store, kind, entries_max=20)
        one.serve(FIRST)
        flood(one, store, 2_000)
        assert set(one.warm(NEXT)) == {"one/alpha"}, "what was noted here is still known"
        assert len(one.known.noted) + len(one.known.heard) <= 40
        await one.beat()
        assert len(said(store)) == 3, "nothing that was heard is told"

    run(main)


def test_a_flood_of_notes_pushes_out_nothing_of_ours() -> None:
    goes_on_in_a_flood(WarmPrefixes)


def test_what_is_taken_in_at_a_time_is_bounded() -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store, entries_max=10 * TAKEN_MAX)
        one.clock.time += 5
        for number in range(2 * TAKEN_MAX // NOTES_MAX):
            digests = (f"{number:016x}{note:016x}" for note in range(NOTES_MAX))
            await store.publish(CHANNEL, message(*((digest, 5_000, 300) for digest in digests)))
        assert len(one.known.heard) == TAKEN_MAX
        for step_s in (BEAT_S, -3_600):  # a clock that steps back must not shut anybody out
            one.clock.time += step_s
            before = len(one.known.heard)
            await store.publish(CHANNEL, message((f"{before:0{2 * DIGEST_BYTES}d}", 5_000, 300)))
            assert len(one.known.heard) == before + 1

    run(main)


OK = "00" * DIGEST_BYTES


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"somebody",
        b"somebody \xff",
        b"somebody {}x",
        b"somebody 7",
        b'somebody ["one/alpha"]',
        b'somebody [{"place": "one/alpha"}]',
        message(("xx", 5_000, 300)),
        message(("00", 5_000, 300)),
        message((7, 5_000, 300)),
        message((OK, "5000", 300)),
        message((OK, 0, 300)),
        message((OK, 10**12, 300)),
        message((OK, 5_000, None)),
        message((OK, 5_000, 300), ("xx", 5_000, 300)),
        message((OK, 5_000, 300), place=["one/alpha"]),
        message((OK, 5_000, 300), at=7),
        message(*[(OK, 5_000, 300)] * (NOTES_MAX + 1)),
        message((OK, 5_000, 300)) + b" " * BYTES_MAX,
    ],
)
def test_what_is_no_note_changes_nothing_and_is_told_once(odd: bytes) -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store)
        for _ in range(3):
            await store.publish(CHANNEL, odd)
        assert len(one.known.heard) == 0
        assert [type(defect) for defect in one.defects] == [NoNote]
        assert str(one.defects[0]) == ""

    run(main)


@pytest.mark.parametrize(
    "other",
    [
        message((OK, 5_000, 300), place="nowhere/alpha"),  # of a policy that is not ours
        message((OK, 5_000, 300), at="http://elsewhere:1"),  # another place of the same name
        message((OK, 5_000, -1)),  # over
        b"somebody []",
    ],
)
def test_what_concerns_no_place_of_ours_is_passed_over(other: bytes) -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store)
        await store.publish(CHANNEL, other)
        assert len(one.known.heard) == 0 and one.defects == []

    run(main)


def test_nothing_is_believed_for_longer_than_the_policy_says() -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store)
        await store.publish(CHANNEL, message((OK, 5_000, 1e9)))
        (note,) = one.known.heard.of(bytes(DIGEST_BYTES), NOW).values()
        assert note[1] == NOW + AFFINITY.for_s

    run(main)


# --- policies ---------------------------------------------------------------------------------------------------------------


def test_without_affinity_nobody_listens_and_nothing_is_told() -> None:
    async def main() -> None:
        store = FakeStore()
        one = Worker(store, policy=snapshot().policy)
        assert not store.heard and one.known.tell is None
        for _ in range(2):
            one.shared.adopt(POLICY)
        other = Worker(store)
        assert len(store.heard[CHANNEL]) == 2
        one.serve(FIRST)
        one.shared.adopt(snapshot().policy)  # what waits to be told is not told any more
        await one.beat()
        other.serve(FIRST)
        await other.beat()
        assert len(store.published) == 1 and not one.known.heard and not other.known.heard
        one.serve(NEXT)
        one.shared.close()
        await told(one)
        assert len(store.published) == 1

    run(main)


LIES = st.dictionaries(st.sampled_from(sorted(PLACES)), st.tuples(st.integers(1, 10**7), st.floats(0.1, 1e4)))
Warmed = Callable[[View, Request, LiveState], Decision]


def deciding(view: View, asked: Request, live: LiveState) -> Decision:
    return decide(view, asked.facts, asked.needs, live, 0)


def only_orders(lies: Mapping[str, tuple[int, float]], tenant: str, decided: Warmed) -> None:
    """Whatever others say is warm, the routes are the same ones."""

    async def main() -> None:
        store = FakeStore()
        one = Worker(store)
        asked = request(RULES, says("q"), tenant=tenant, session="s")
        trail = one.warmth.trail(asked)
        digests = [digest.hex() for digest, _ in trail._beginnings] + [trail._session.hex()]
        for place, (tokens, for_s) in lies.items():
            notes = [(digest, tokens, for_s) for digest in digests]
            await store.publish(CHANNEL, message(*notes, place=place, at=PLACES[place].endpoint.at))
        view = Timeline(replace(snapshot(), policy=POLICY)).at(NOW)
        cold, hot = deciding(view, asked, ALL_WELL), decided(view, asked, trail.live(ALL_WELL))
        assert {route.deployment.id for route in hot.routes} == {route.deployment.id for route in cold.routes}
        assert hot.exclusions == cold.exclusions
        assert set(hot.live.warm) <= lies.keys()
        assert all(tokens <= asked.needs.prompt_tokens for tokens in hot.live.warm.values())

    run(main)


@given(LIES, st.sampled_from(["clinic", "lab", "shop"]))
def test_whatever_is_heard_only_orders(lies: dict[str, tuple[int, float]], tenant: str) -> None:
    only_orders(lies, tenant, deciding)


def follows(view: View, asked: Request, live: LiveState) -> Decision:
    """A planted bug: what is warm is a route."""
    found = deciding(view, asked, live)
    return replace(found, routes=(*found.routes, *(route for route in view.routes if route.deployment.id in live.warm)))


def test_who_follows_what_is_heard_is_found_out() -> None:
    only_orders({"far/alpha": (5_000, 300.0)}, "clinic", deciding)
    with pytest.raises(AssertionError):
        only_orders({"far/alpha": (5_000, 300.0)}, "clinic", follows)


# --- planted bugs -----------------------------------------------------------------------------------------------------------


class Mixes(WarmPrefixes):
    """Keeps what others say among what it noted itself."""

    def hear(self, digest: bytes, deployment: str, tokens: int, until: float) -> None:
        self.noted.put(digest, deployment, (tokens, until, until))


class Retells(WarmPrefixes):
    """Tells others what it heard, and they tell it what they heard."""

    def hear(self, digest: bytes, deployment: str, tokens: int, until: float) -> None:
        super().hear(digest, deployment, tokens, until)
        if self.tell is not None:
            self.tell(digest, deployment, tokens, until)


class Hoards(WarmPrefixes):
    """Knows all that was ever said."""

    def __init__(self, secret: bytes, entries_max: int) -> None:
        super().__init__(secret, entries_max)
        self.heard._entries_max = 10**9


@pytest.mark.parametrize("planted", [Mixes, Retells, Hoards])
def test_who_takes_in_too_much_is_found_out(planted: type[WarmPrefixes]) -> None:
    with pytest.raises(AssertionError):
        goes_on_in_a_flood(planted)


# --- bad days ---------------------------------------------------------------------------------------------------------------


def test_a_lost_store_costs_the_sharing_and_nothing_else() -> None:
    async def main() -> None:
        store = FakeStore()
        one, other = Worker(store), Worker(store)
        store.lost = True
        one.serve(FIRST)
        await one.beat()
        store.up = False
        one.serve(NEXT)
        assert one.shared._notes == [] and one.warm(NEXT) and not other.warm(NEXT)
        store.lost, store.up = False, True
        one.serve(NEXT)
        await one.beat()
        assert set(other.warm(NEXT)) == {"one/alpha"}

    run(main)


def test_while_the_store_is_slow_no_more_than_one_message_is_under_way() -> None:
    async def main() -> None:
        store = FakeStore()
        stuck, sent = asyncio.Event(), 0

        async def publish(channel: str, message: bytes) -> None:
            nonlocal sent
            sent += 1
            await stuck.wait()

        store.publish = publish  # type: ignore[method-assign]
        one = Worker(store)
        for number in range(5):
            one.serve(request(says(f"{number}"), says("q")))
            await one.beat()
        assert sent == 1 and one.shared._notes == []
        stuck.set()
        await told(one)
        one.serve(FIRST)
        await one.beat()
        assert sent == 2
        one.shared.close()

    run(main)


def test_our_own_bugs_are_told() -> None:
    async def main() -> None:
        store = FakeStore()

        async def publish(channel: str, message: bytes) -> None:
            raise RuntimeError

        store.publish = publish  # type: ignore[method-assign]
        one = Worker(store)
        one.serve(FIRST)
        one.shared._beat()
        await eventually(lambda: one.defects)
        assert [type(defect) for defect in one.defects] == [RuntimeError]

    run(main)


def asked(number: int) -> Request:
    return request(says(f"{number}"), says("q"))


async def heard(one: Worker, other: Worker) -> None:
    """What `one` notes reaches `other`, perhaps not at once: a subscription may be on its way."""
    for number in itertools.count(next(NAMES) * 1_000):
        one.serve(asked(number))
        one.shared._beat()
        try:
            async with asyncio.timeout(BEAT_S):
                await eventually(lambda number=number: other.warm(asked(number)))  # type: ignore[misc]
        except TimeoutError:
            continue
        return


def test_over_a_real_store_it_is_heard_and_after_each_bad_day_again() -> None:
    async def main() -> None:
        with single() as server:
            async with cut_off(server) as way, opened(server.url) as first, opened(way.url) as second, opened(server.url) as third:
                one, other, last = Worker(first), Worker(second), Worker(third)
                await heard(one, other)
                one.serve(FIRST)
                server.pause()
                one.shared._beat()  # nobody waits for it
                await lost(first)
                assert one.warm(NEXT)
                one.serve(NEXT)
                assert one.shared._notes == []
                server.resume()
                await heard(one, other)
                server.kill()
                await eventually(lambda: not first.up and not second.up)
                assert one.warm(NEXT)
                server.start()
                await heard(other, one)
                way.block()  # from one of them it can't be reached
                await lost(second)
                await heard(one, last)
                way.unblock()
                await heard(one, other)
                assert one.defects == other.defects == []

    run(main)
