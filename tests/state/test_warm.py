"""Prefixes that places read before: found again by whoever continues, for a while, and by nobody else."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limited import asking
from small_world import NOW, snapshot

from gateway.core.exchange import Attempt, Ended, Outcome, Request
from gateway.core.live import ALL_WELL, Blocked, LiveState
from gateway.core.policy import Affinity
from gateway.core.usage import Usage
from gateway.state.warm import HASHED_BYTES_MAX, MESSAGES_MAX, PLACES_MAX, Warm, WarmPrefixes, WarmTrail

PLACES = {deployment.id: deployment for deployment in snapshot().policy.deployments}
AFFINITY = Affinity(min_tokens=1_000, for_s=300)
SERVED = Outcome(Ended.SERVED, status=200, usage=Usage(uncached=4_000, output=9, reported=True))
RULES = {"role": "system", "content": "r" * 4_000}
Message = dict[str, Any]


def says(text: str, role: str = "user") -> Message:
    return {"role": role, "content": text}


def request(
    *messages: Message, tokens: int = 4_000, tenant: str = "clinic", session: str = "", now: float = NOW, tools: Any = None
) -> Request:
    plain = asking(prompt=tokens, began=now)
    body = {"messages": list(messages)} | ({"tools": tools} if tools else {})
    facts = replace(plain.facts, tenant=frozenset({tenant}))
    return replace(plain, facts=facts, body=body, body_bytes=sum(len(str(m)) for m in messages), session=session)


def terms(known: WarmPrefixes | None = None, affinity: Affinity = AFFINITY) -> Warm:
    found = (WarmPrefixes(b"secret") if known is None else known).under(affinity)
    assert found is not None
    return found


def serve(warmth: Warm, asked: Request, place: str = "one/alpha") -> None:
    warmth.trail(asked).read(Attempt(1, PLACES[place]), SERVED, asked.began)


def warm(warmth: Warm, asked: Request) -> dict[str, int]:
    return dict(warmth.trail(asked).live(ALL_WELL).warm)


def test_the_next_turn_of_a_conversation_is_warm_where_the_last_was() -> None:
    warmth = terms()
    serve(warmth, request(RULES, says("q" * 4_000)))
    turn = request(RULES, says("q" * 4_000), says("a" * 4_000, "assistant"), says("and?"), tokens=6_000)
    found = warm(warmth, turn)
    assert set(found) == {"one/alpha"} and 3_500 <= found["one/alpha"] <= 4_000


def test_another_conversation_under_the_same_rules_is_warm_as_far_as_they_go() -> None:
    warmth = terms()
    serve(warmth, request(RULES, says("q" * 4_000)))
    serve(warmth, request(RULES, says("p" * 4_000)), "two/alpha")
    found = warm(warmth, request(RULES, says("q" * 4_000)))
    assert found["one/alpha"] > 3_500 and 1_700 < found["two/alpha"] < 2_100


@pytest.mark.parametrize(
    "other",
    [
        request({**RULES, "role": "user"}, says("q")),
        request({**RULES, "content": "r" * 3_999 + "R"}, says("q")),
        request(RULES, says("q"), tools=[{"type": "function", "function": {"name": "look"}}]),
        request(RULES, says("q"), tenant="shop"),
        request(says("r" * 2_000), says("r" * 2_000), says("q")),
    ],
)
def test_what_begins_otherwise_or_is_another_tenants_is_cold(other: Request) -> None:
    warmth = terms()
    serve(warmth, request(RULES, says("q")))
    assert warm(warmth, request(RULES, says("q")))
    assert not warm(warmth, other)


def test_another_process_knows_it_by_another_name() -> None:
    one, other = WarmPrefixes(b"one"), WarmPrefixes(b"other")
    for known in (one, other):
        serve(terms(known), request(RULES, says("q"), session="s"))
    assert set(one.noted).isdisjoint(other.noted)


def test_short_prompts_cost_nothing_and_are_not_remembered() -> None:
    known = WarmPrefixes(b"secret")
    short = request(RULES, says("q"), tokens=999)
    serve(terms(known), short)
    assert len(known.noted) == 0
    state = LiveState({"one/alpha": Blocked("throttled", "429", None)})
    assert terms(known).trail(short).live(state) is state


def test_it_is_forgotten_after_its_time_and_kept_by_use() -> None:
    known = WarmPrefixes(b"secret")
    warmth, asked = terms(known), request(RULES, says("q"))
    serve(warmth, asked)
    assert warm(warmth, replace(asked, began=NOW + 299.9))
    serve(warmth, replace(asked, began=NOW + 200))
    assert warm(warmth, replace(asked, began=NOW + 499.9))
    assert not warm(warmth, replace(asked, began=NOW + 500))
    assert len(known.noted) == 0


def test_a_session_counts_what_was_read_of_it_and_no_more_than_there_is() -> None:
    warmth = terms()
    serve(warmth, request(says("a" * 4_000), session="mine"))
    assert warm(warmth, request(says("b" * 4_000), session="mine")) == {"one/alpha": 3_840}, "4,000, rounded down"
    assert warm(warmth, request(says("b" * 4_000), session="mine", tokens=1_500)) == {"one/alpha": 1_408}
    assert not warm(warmth, request(says("b" * 4_000), session="mine", tokens=500)), "nothing worth going anywhere for"
    assert not warm(warmth, request(says("b" * 4_000), session="yours"))
    assert not warm(warmth, request(says("b" * 4_000), session="mine", tenant="shop"))


def test_what_else_is_live_stays() -> None:
    warmth = terms()
    serve(warmth, request(RULES, says("q")))
    state = LiveState({"one/alpha": Blocked("throttled", "429", None)}, {"two/alpha": 20})
    found = warmth.trail(request(RULES, says("q"))).live(state)
    assert found.blocked is state.blocked and found.latency_ms is state.latency_ms and found.warm


def test_what_is_remembered_is_bounded_and_the_longest_unused_goes_first() -> None:
    known = WarmPrefixes(b"secret", entries_max=20)
    warmth = terms(known)
    kept = request(says("kept"))
    for number in range(100):
        serve(warmth, kept)
        serve(warmth, request(says(str(number)), says("more"), session=str(number)))
        assert len(known.noted) <= 20
    assert warm(warmth, kept)
    assert not warm(warmth, request(says("1")))
    for number in range(100):
        known.note(b"d", f"place-{number}", 1_000, NOW, 9)
    assert list(known.read_by(b"d", NOW)) == [f"place-{number}" for number in range(100 - PLACES_MAX, 100)]


def test_of_a_long_conversation_few_beginnings_are_remembered_and_the_next_turn_finds_them() -> None:
    known = WarmPrefixes(b"secret")
    turns = [says(f"{number}" * 50) for number in range(200)]
    serve(terms(known), request(*turns, tokens=20_000))
    assert len(known.noted) == 8
    for back in (0, 5):
        asked = request(*turns[: 200 - back], says("a"), says("b"), tokens=20_000)
        assert warm(terms(known), asked)["one/alpha"] > 16_000
    other = request(*turns[:100], says("x"), tokens=10_000)
    assert 900 < warm(terms(known), other)["one/alpha"] < 1_300, "what stands at its head"


@pytest.mark.parametrize(
    "messages",
    [
        [says("")] * (10 * MESSAGES_MAX),
        [says("x" * 1_000)] * (2 * HASHED_BYTES_MAX // 1_000),
        [says("x" * 2 * HASHED_BYTES_MAX), says("y")],
        [says("x" * 3_000), {"role": "user", "content": "y", "seed": 2**80}],
        [{"role": "user", "content": [{"type": "text", "text": "x" * 3_000}]}, says("y" * 3_000)],
    ],
)
def test_what_is_hashed_is_bounded_and_nothing_that_is_asked_breaks_it(messages: list[Message]) -> None:
    known = WarmPrefixes(b"secret")
    asked = replace(request(*messages, tokens=300_000), body_bytes=3_000_000)
    beginnings = terms(known).trail(asked)._beginnings
    assert len(beginnings) <= MESSAGES_MAX
    assert all(tokens <= 300_000 for _, tokens in beginnings)
    serve(terms(known), asked)
    assert len(known.noted) <= 8


# --- tenants ----------------------------------------------------------------------------------------------------------------

ASKED = st.builds(
    lambda tenant, texts, session, step: request(*map(says, texts), tenant=tenant, session=session, now=NOW + 60 * step),
    st.sampled_from(["clinic", "shop"]),
    st.lists(st.sampled_from(["a" * 900, "b" * 900, "c"]), min_size=1, max_size=4),
    st.sampled_from(["", "s", "t"]),
    st.integers(0, 9),
)
EVENTS = st.lists(st.tuples(ASKED, st.sampled_from(["one/alpha", "two/alpha", "far/alpha"])), max_size=8)


class Everybodys(Warm):
    """A planted bug: prefixes of all tenants together."""

    def trail(self, request: Request) -> WarmTrail:
        return super().trail(replace(request, facts=replace(request.facts, tenant=frozenset({"everybody"}))))


def no_tenant_learns_of_another(warmth: type[Warm], events: Sequence[tuple[Request, str]], last: Request) -> None:
    """What is warm for `last` is the same whether the other tenants ever asked anything or not."""
    (tenant,) = last.facts.tenant
    both, alone = (warmth(WarmPrefixes(b"secret"), AFFINITY, b"secret") for _ in range(2))
    for asked, place in events:
        serve(both, asked, place)
        if tenant in asked.facts.tenant:
            serve(alone, asked, place)
    assert warm(both, last) == warm(alone, last)


@given(EVENTS, ASKED)
def test_no_tenant_learns_of_another(events: list[tuple[Request, str]], last: Request) -> None:
    no_tenant_learns_of_another(Warm, events, last)


def test_one_who_did_would_be_found() -> None:
    @given(EVENTS, ASKED)
    def search(events: list[tuple[Request, str]], last: Request) -> None:
        no_tenant_learns_of_another(Everybodys, events, last)

    with pytest.raises(AssertionError):
        search()
