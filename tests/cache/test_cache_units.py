"""The parts of the cache by themselves: wishes of clients, entries of a policy, seals, what answers are kept as, and what stays."""

import asyncio
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import run
from processes import write_policies
from small_world import NOW, snapshot
from store_servers import Server, eventually, opened, single

from gateway.config.caching import CACHED_APIS
from gateway.config.compile import Loaded, load
from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping, authorised, keeping
from gateway.core.decide import Decision, decide
from gateway.core.exchange import ANY, Ended, Fault, Needs, Outcome, Recall, Request, Wish
from gateway.core.facts import NO, RequestFacts
from gateway.core.live import ALL_WELL
from gateway.core.policy import Caching, FactTest, Keeper, Places, Policy
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.ports import Patience
from gateway.state.cache.cache import SharedCache
from gateway.state.cache.looked import Found
from gateway.state.cache.opening import Opener
from gateway.state.cache.purging import purge
from gateway.state.cache.scripts import TALLY_KEYS, keys_of
from gateway.state.cache.sealing import Entry, Sealer, Spoilt
from gateway.state.cache.secret import FILE, BadSecret, own
from gateway.state.cache.secret import given as given_secret
from gateway.state.store.port import WAIT_S, StoreLost
from gateway.upstream.kept import ChatForm
from gateway.wire.wishes import wish_of

SECRET = b"a secret that is long enough to be one"
SERVED = Outcome(Ended.SERVED, status=200, usage=Usage(uncached=9, output=3, reported=True), finish="stop")
ENTRY = Entry("one/alpha", "rg-1", NOW, NOW + 60, SERVED.usage, b'{"a": "' + b"word " * 50 + b'"}')


# --- what a client wishes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "wish"),
    [
        ("", ANY),
        ("no-cache", Wish(look=False)),
        ("No-Store", Wish(look=False, keep=False)),
        ("only-if-cached, max-age=60", Wish(only=True, age_s_max=60.0)),
        ('max-age="60"', Wish(age_s_max=60.0)),
        ("max-age=60, max-age=5", Wish(age_s_max=5.0)),
        ("max-age", Wish(age_s_max=0.0)),
        ("max-age=-1", Wish(age_s_max=0.0)),
        ("max-age=soon", Wish(age_s_max=0.0)),
        ("max-age=" + "9" * 400, Wish(age_s_max=9_999_999_999.0)),
        ("public, no-transform, s-maxage=3", ANY),
    ],
)
def test_cache_control_is_read_as_its_rfc_says(said: str, wish: Wish) -> None:
    assert wish_of([("accept", "no-store"), ("cache-control", said)]) == wish


@given(st.text(max_size=80))
def test_no_cache_control_is_too_odd(said: str) -> None:
    wish_of([("cache-control", said)])


# --- what a policy says -----------------------------------------------------------------------------------------------------


def written(folder: Path, caching: str) -> Loaded:
    write_policies(folder / "policies", 1, caching=caching)
    return load(folder / "policies")


def test_entries_are_compiled_by_id_with_what_they_leave_out(tmp_path: Path) -> None:
    found = written(tmp_path, "[{id: b, ttl: 1h}, {id: a, ttl: 90s, share: faq, when: {data_class: {at_most: public}}}]")
    assert found.snapshot is not None, found.problems
    a, b = found.snapshot.policy.caching
    assert (a.id, a.ttl_s, a.share, a.when) == ("a", 90, "faq", (FactTest("data_class", frozenset({"public"})),))
    assert (b.id, b.ttl_s, b.share, b.when, b.apis) == ("b", 3600, None, (), frozenset(CACHED_APIS))
    assert not any("scope" in str(warning) for warning in found.warnings)


@pytest.mark.parametrize(
    ("caching", "told"),
    [
        ("[{id: a, ttl: 1h}, {id: a, ttl: 2h}]", "for the second time"),
        ("[{id: a, ttl: 31d}]", "at most 30d"),
        ("[{id: a, ttl: soon}]", "a span"),
        ("[{id: a}]", "ttl"),
        ("[{id: a, ttl: 1h, when: {tenant: ofice}}]", "ofice"),
        ("[{id: a, ttl: 1h, apis: [telepathy]}]", "telepathy"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, caching: str, told: str) -> None:
    found = written(tmp_path, caching)
    assert found.snapshot is None
    assert told in " ".join(str(problem) for problem in found.problems)


def test_a_scope_that_all_share_whatever_they_ask_is_warned_of(tmp_path: Path) -> None:
    found = written(tmp_path, "[{id: a, ttl: 1h, share: faq}]")
    assert found.snapshot is not None
    assert any("the scope" in str(warning) for warning in found.warnings)


def decision(caching: tuple[Caching, ...], *, stores: tuple[Keeper, ...] = (), **facts: Any) -> Decision:
    found = snapshot()
    view = View(replace(found, policy=replace(found.policy, caching=caching, stores=stores)), NOW)
    one = frozenset
    plain = RequestFacts(
        tenant=one({"clinic"}), group=one({"-"}), key=one({"ward"}), region=one({"DE"}), data_class=one({"public"}),
        categories=one(), asked=one({"alpha"}), api=one({"chat"}), task=one({"other"}), tag=one({"other"}), language=one({"en"}),
        ability=one(), stream=NO, prompt_tokens=9,
    )  # fmt: skip
    return decide(view, replace(plain, **facts), Needs("chat", prompt_tokens=9), ALL_WELL, 0)


PUBLIC = (FactTest("data_class", frozenset({"public"})),)


def test_only_what_surely_meets_an_entry_is_kept() -> None:
    entries = (Caching("a", PUBLIC, 60),)
    assert isinstance(keeping(decision(entries), "chat"), Keeping)
    assert keeping(decision(entries, data_class=frozenset({"personal"})), "chat") is None
    assert keeping(decision(entries, data_class=frozenset({"public", "personal"})), "chat") is None, "what is unknown is not kept"
    assert keeping(decision(entries), "embeddings") is None
    assert keeping(decision(()), "chat") is None
    assert keeping(decision(entries, tenant=frozenset({"clinic", "lab"})), "chat") is None


def test_the_shortest_time_and_the_narrowest_sharing_hold_in_any_order() -> None:
    entries = (Caching("a", (), 3600, "faq"), Caching("b", PUBLIC, 60), Caching("c", (), 600, "faq"))
    for order in (entries, entries[::-1]):
        found = keeping(decision(order), "chat")
        assert isinstance(found, Keeping)
        assert (found.scope, found.ttl_s) == ("tenant/clinic", 60)
    shared = keeping(decision(entries[::2]), "chat")
    assert isinstance(shared, Keeping)
    assert (shared.scope, shared.ttl_s) == ("scope/faq", 600)
    apart = keeping(decision((entries[0], Caching("d", (), 60, "other"))), "chat")
    assert isinstance(apart, Keeping)
    assert apart.scope == "tenant/clinic"


def test_a_store_where_rules_do_not_let_it_be_kept_is_not_used() -> None:
    places = Places(frozenset({"CN"}))
    store = Keeper("cache", "store", "ours", places, places, (), "env:URL")
    entries = (Caching("a", (), 60),)
    assert isinstance(keeping(decision(entries, stores=(store,)), "chat"), Keeping)
    assert keeping(decision(entries, stores=(store,), data_class=frozenset({"personal"})), "chat") is Recall.BARRED


def test_what_was_made_where_a_request_may_not_go_is_not_its_own() -> None:
    personal = decision((), data_class=frozenset({"personal"}))
    assert authorised(personal, "one/alpha") is personal.routes[0].deployment
    assert authorised(personal, "far/alpha") is None
    assert authorised(personal, "one/beta") is None, "it was asked for another model"
    assert authorised(personal, "gone/alpha") is None


# --- secrets and seals ------------------------------------------------------------------------------------------------------


def test_a_machine_makes_its_secret_once_and_for_itself(tmp_path: Path) -> None:
    first = own(tmp_path)
    assert own(tmp_path) == first != own_of(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    (tmp_path / FILE).write_text("short\n")
    with pytest.raises(BadSecret, match="remove it") as found:
        own(tmp_path)
    assert "short" not in str(found.value)
    with pytest.raises(BadSecret, match="can't read or make"):
        own(tmp_path / "nowhere")


def own_of(folder: Path) -> bytes:
    folder.mkdir()
    return own(folder)


def test_a_secret_that_could_be_guessed_is_refused_and_not_quoted() -> None:
    with pytest.raises(BadSecret, match="openssl rand") as found:
        given_secret("swordfish")
    assert "swordfish" not in str(found.value)


def sealer(secret: bytes = SECRET, scope: str = "tenant/lab", salt: bytes = b"s" * 32, bytes_max: int = 10_000) -> Sealer:
    return Sealer(secret, scope, salt, bytes_max)


NAME = sealer().name("what", "chat", b"digest")
SEALED = sealer().seal(NAME, ENTRY)


def test_what_is_sealed_opens_and_says_nothing() -> None:
    assert sealer().open(NAME, SEALED) == ENTRY
    assert b"word" not in SEALED
    assert sealer().seal(NAME, ENTRY) != SEALED, "no nonce is used twice"
    assert len(SEALED) < len(ENTRY.body), "it is compressed"


@pytest.mark.parametrize(
    "other",
    [sealer(b"another secret, and long enough"), sealer(scope="tenant/clinic"), sealer(salt=b"t" * 32), sealer(bytes_max=-4_000)],
)
def test_another_key_or_too_much_opens_nothing(other: Sealer) -> None:
    with pytest.raises(Spoilt):
        other.open(NAME, SEALED)


def test_names_tell_apart_what_they_are_made_of() -> None:
    names = {sealer().name(*of) for of in (("a", "b", b"c"), ("ab", "", b"c"), ("a", "bc", b""), ("", "ab", b"c"))}
    assert len(names | {sealer(scope="tenant/clinic").name("a", "b", b"c")}) == 5
    with pytest.raises(Spoilt):
        sealer().open(sealer().name("x", "chat", b"digest"), SEALED)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_not_one_byte_may_differ(at: int, by: int) -> None:
    spoilt = bytearray(SEALED)
    spoilt[at] ^= by
    with pytest.raises(Spoilt):
        sealer().open(NAME, bytes(spoilt))


@given(st.binary(max_size=80))
def test_no_value_is_too_odd(value: bytes) -> None:
    with pytest.raises(Spoilt):
        sealer().open(NAME, value)


# --- what an answer is kept as ----------------------------------------------------------------------------------------------


def request(**body: Any) -> Request:
    facts = decision(()).facts
    return Request("rg-1", "", "chat", "alpha", facts, Needs("chat", prompt_tokens=9), body, 9, False, False, frozenset(), NOW)


def answer(finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi", **message}, "finish_reason": finish}
    return orjson.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "alpha", "choices": [choice]})


def test_only_what_ended_of_itself_is_kept() -> None:
    form = ChatForm()
    assert form.answer(request(), SERVED, answer()) == answer()
    assert form.answer(request(), SERVED, answer("length")) is None
    assert form.answer(request(max_tokens=5), SERVED, answer("length")) is not None
    assert form.answer(request(), SERVED, answer("content_filter")) is None
    assert form.answer(request(), SERVED, answer(audio={"id": "a"})) is None
    assert form.answer(request(), Outcome(Ended.CUT_SHORT, Fault.UPSTREAM), answer()) is None
    assert form.answer(request(), SERVED, b'{"object": "chat.completion", "choices": []}') is None
    whole = form.events(answer(), None)
    assert form.answer_of(request(), SERVED, whole) is not None
    assert form.answer_of(request(), SERVED, whole.split(b"\n\n")[0] + b"\n\n") is None, "half a stream"


FUNCTION = st.fixed_dictionaries({"name": st.text(min_size=1), "arguments": st.text()})
CALL = FUNCTION.map(lambda function: {"id": "c", "type": "function", "function": function})
MESSAGES = st.fixed_dictionaries(
    {"content": st.text(min_size=1)},
    optional={"reasoning_content": st.text(min_size=1), "tool_calls": st.lists(CALL, min_size=1, max_size=3)},
)


@given(MESSAGES, st.booleans())
def test_a_stream_of_an_answer_is_that_answer_again(message: dict[str, Any], usage: bool) -> None:
    form, kept = ChatForm(), answer("tool_calls" if "tool_calls" in message else "stop", **message)
    again = form.answer_of(request(), SERVED, form.events(kept, SERVED.usage if usage else None))
    assert again is not None
    said, was = orjson.loads(again), orjson.loads(kept)
    assert said["choices"] == was["choices"]
    assert (said["id"], said["model"], said["created"]) == (was["id"], was["model"], was["created"])


# --- what stays -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


class Clock:
    def now(self) -> float:
        return NOW


async def there(cache: SharedCache, scope: str, words: str) -> str:
    found = ""
    for word in words:
        looked = await cache.look(Keeping(scope, 60, ""), "chat", word.encode(), "")
        found += word if looked.found is Found.ENTRY else ""
    return found


async def put(cache: SharedCache, scope: str, word: str, size: int = 100, for_s: float = 60) -> None:
    sealer = await cache.sealer(scope)
    body = bytes(sealer.name("", "", b"%d" % n)[0] for n in range(size))  # does not compress
    entry = replace(ENTRY, body=body, ends=cache.clock.now() + for_s)
    await cache.put(scope, sealer, sealer.name("", "chat", word.encode()), entry, "alpha ", "")


def test_a_look_up_waits_for_what_is_left_of_a_requests_patience_and_no_longer(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url) as store:
            loop, patience, nothing = asyncio.get_running_loop(), Patience(), Keeping("tenant/lab", 60, "")
            cache = SharedCache(store, SECRET, {}, Bounds(), Clock(), loop, lambda _: None, lambda _: None)
            assert (await cache.look(nothing, "chat", b"a", "", patience)).found is Found.NOTHING
            assert patience.spent_s < WAIT_S
            patience.spent_s = WAIT_S  # by its limits, say
            with pytest.raises(StoreLost):
                await cache.look(nothing, "chat", b"a", "", patience)
            assert store.up and patience.spent_s == WAIT_S, "nobody was asked"
            server.pause()
            patience.spent_s = before = WAIT_S - 0.01
            with pytest.raises(StoreLost):
                await cache.look(nothing, "chat", b"a", "", patience)
            assert patience.spent_s > before, "and the rest is spent"
            server.resume()
            await cache.close()

    run(main)


def test_a_lease_is_renewed_until_whoever_holds_it_ends_that(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url) as store:
            loop, scope, lease_s = asyncio.get_running_loop(), "tenant/lab", 1.0
            cache = SharedCache(store, SECRET, {}, Bounds(), Clock(), loop, lambda _: None, lambda _: None, lease_s)
            found = await cache.look(Keeping(scope, 60, ""), "chat", b"a", "aa")

            def until_ms() -> int:
                return int(server.ask("HGET", keys_of(scope)[5], found.name).split()[0])

            cache.hold_lease(scope, found.name, "aa")
            first = until_ms()
            await cache.release(scope, found.name, "bb")  # by one that once had it
            await put(cache, scope, "a")  # and by one that never had
            await eventually(lambda: until_ms() > first)
            await cache.release(scope, found.name, "aa")
            assert server.ask("HLEN", keys_of(scope)[5]) == 0
            await cache.close()

    run(main)


def test_a_scope_and_all_of_them_have_room_for_so_much_and_lose_what_was_used_longest_ago(server: Server) -> None:
    async def main() -> None:
        bounds, counted = Bounds(cache_tenant_bytes_max=10_000, cache_bytes_max=15_000, cache_entry_bytes_max=8_000), list[str]()
        async with opened(server.url) as store:
            loop = asyncio.get_running_loop()
            cache = SharedCache(store, SECRET, {}, bounds, Clock(), loop, counted.append, lambda _: None)
            for word in "abc":
                await put(cache, "tenant/lab", word, 2_300)
                await asyncio.sleep(0.002)  # the store counts milliseconds
            assert await there(cache, "tenant/lab", "a") == "a"
            await asyncio.sleep(0.002)
            await put(cache, "tenant/lab", "d", 2_300)
            assert await there(cache, "tenant/lab", "abcd") == "acd", "b was used longest ago"
            for word in "xyz":
                await put(cache, "tenant/clinic", word, 2_300)
            assert 0 < cache.bytes <= bounds.cache_bytes_max
            left = await there(cache, "tenant/lab", "acd") + await there(cache, "tenant/clinic", "xyz")
            assert len(left) == 5, "the largest scope gives what is too much"
            await put(cache, "tenant/shop", "huge", 20_000)
            assert counted == ["kept"] * 7 + ["large"]
            await cache.close()

    run(main)


def test_scopes_that_nobody_uses_any_more_take_no_room_from_others(server: Server) -> None:
    async def main() -> None:
        bounds, counted = Bounds(cache_tenant_bytes_max=10_000, cache_bytes_max=15_000, cache_entry_bytes_max=8_000), list[str]()
        async with opened(server.url) as store:
            loop = asyncio.get_running_loop()
            cache = SharedCache(store, SECRET, {}, bounds, Clock(), loop, counted.append, lambda _: None)
            for number in range(5):
                await put(cache, f"tenant/{number}", "a", 2_300, for_s=0.2)
            assert cache.bytes > 13_000
            await eventually(lambda: server.ask("KEYS", "rg:{cache/tenant/*:entries") == [])
            for word in "xyz":
                await put(cache, "tenant/lab", word, 2_300)
            assert await there(cache, "tenant/lab", "xyz") == "xyz"
            assert cache.bytes < 9_000 and [server.ask("ZRANGE", key, 0, -1) for key in TALLY_KEYS[:2]] == [[b"tenant/lab"]] * 2
            said = cache.bytes
            server.ask("DEL", TALLY_KEYS[2])  # as in a store that an older gateway has written
            await put(cache, "tenant/lab", "z", 2_300)
            assert cache.bytes == said
            assert await purge(store, ["tenant/lab"], "", "") == 3
            assert int(server.ask("GET", TALLY_KEYS[2])) == 0
            await cache.close()

    run(main)


def test_a_policy_that_names_another_store_has_no_cache_until_a_restart() -> None:
    def policy(*stores: Keeper, caching: tuple[Caching, ...] = (Caching("a", (), 60),)) -> Policy:
        return replace(snapshot().policy, stores=stores, caching=caching)

    class Unasked:
        up = True

        def listen(self, *_: object) -> None: ...

    async def main() -> None:
        def opener(store: Any = None, secret: bytes = SECRET) -> Opener:
            loop = asyncio.get_running_loop()
            return Opener(store, None, secret, {}, Clock(), loop, lambda _: None, lambda _: None)

        places = Places(frozenset({"DE"}))
        named = Keeper("cache", "store", "ours", places, places, (), "env:URL")
        with_store = opener(Unasked())
        cache = with_store.cache_for(policy())
        assert cache is not None
        assert with_store.cache_for(policy()) is cache
        assert with_store.cache_for(policy(named)) is None
        assert with_store.cache_for(policy(caching=())) is None
        assert opener().cache_for(policy()) is None
        assert opener(Unasked(), b"").cache_for(policy()) is None
        await with_store.close()

    run(main)
