"""How like requests are: which are compared, what no likeness outweighs, cosines; and what a policy says of it."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fake_ports import FakeClient
from hypothesis import given
from hypothesis import strategies as st
from inprocess import run
from limited import asking
from processes import write_policies
from small_world import NOW, snapshot
from test_cache_units import decision

from gateway.aside import LATE_MAX, Asides
from gateway.config.compile import Loaded, load
from gateway.core.answer import Answer
from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping, keeping, least_likeness, like_enough, narrowest
from gateway.core.exchange import Needs, Request
from gateway.core.explain import as_text
from gateway.core.likeness import all_else, compared, embedded, nearest, numbers
from gateway.core.policy import Caching, FactTest, Semantic
from gateway.core.side import embedding_of, may_be_asked
from gateway.core.view import View
from gateway.ports import Client
from gateway.state.cache.likes import embedding_in

NEAR = Semantic("embed", {"alpha": 0.95}, 64)


# --- what is compared -------------------------------------------------------------------------------------------------------


def asked(*messages: dict[str, Any], needs: Needs | None = None, **more: Any) -> Request:
    found = replace(asking(), body={"model": "alpha", "messages": list(messages), **more})
    return replace(found, needs=needs or Needs("chat", prompt_tokens=9))


def says(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


HELLO = says("user", "Hello")


@pytest.mark.parametrize(
    "found",
    [
        asked(HELLO),
        asked(says("system", "Be brief."), HELLO, says("assistant", "Yes?"), HELLO, n=1, temperature=0.5, tools=None),
        asked(says("user", [{"type": "text", "text": "Hello"}]), response_format={"type": "text"}, stream=True),
    ],
)
def test_plain_questions_are_compared_by_their_last_message(found: Request) -> None:
    assert compared(found, Bounds()) == "Hello"


@pytest.mark.parametrize(
    "found",
    [
        asked(HELLO, n=2),
        asked(HELLO, functions=[{"name": "f"}]),
        asked(HELLO, needs=Needs("chat", tools=frozenset({"function"}), prompt_tokens=9)),
        asked(HELLO, needs=Needs("chat", abilities=frozenset({"vision"}), prompt_tokens=9)),
        asked(HELLO, needs=Needs("chat", abilities=frozenset({"json_schema"}), prompt_tokens=9)),
        asked(HELLO, needs=Needs("chat", prompt_tokens=9, remote_content=True)),
        asked(HELLO, needs=Needs("chat", prompt_tokens=Bounds().cache_near_prompt_tokens_max + 1)),
        asked(HELLO, says("assistant", "Hel")),
        asked(HELLO, says("assistant", None, tool_calls=[{"id": "1"}]), says("tool", "3", tool_call_id="1"), HELLO),
        asked(says("assistant", "", function_call={"name": "f"}), HELLO),
        asked(says("user", " \n")),
        asked(says("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])),
        asked(says("user", [{"type": "text", "text": "a", "cache_control": {}}])),
        asked(says("user", None)),
        asked({"role": "user"}),
        replace(asked(HELLO), api="completions"),
    ],
)
def test_what_else_a_request_may_be_is_compared_with_nothing(found: Request) -> None:
    assert compared(found, Bounds()) is None


def test_all_else_is_all_but_the_text() -> None:
    before = says("system", "Be brief.")
    one, other = (asked(before, says("user", text, name="ada"), user="u", seed=1).body for text in ("Hello", "Good morning"))
    assert all_else(one) == all_else(other)
    for changed in (
        {**one, "seed": 2},
        {**one, "messages": [says("user", "Hello", name="ada")]},
        {**one, "messages": [before, says("user", "Hello", name="bob")]},
        {**one, "messages": [says("system", "Be long."), says("user", "Hello", name="ada")]},
    ):
        assert all_else(changed) != all_else(one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Is 5 mg enough?", "Will 5 mg do?", True),
        ("Is 5 mg enough?", "Is 50 mg enough?", False),
        ("take 1.5 of it", "take 5.1 of it", False),
        ("take 1 and 5", "take 1.5", False),
        ("from 3 to 4", "from 4 to 3", False),
        ("at -5 degrees", "at 5 degrees", False),
        ("on 2026-11-25", "on 25.11.2026", False),
        ("room 007", "room 7", False),
        ("吃三天", "服用三天", True),
        ("吃三天", "吃五天", False),
        ("no number", "none either", True),
        ("call +49 30 1", "ring +49 30 1", True),
    ],
)
def test_numbers_are_the_same_ones_in_the_same_order(one: str, other: str, same: bool) -> None:
    assert (numbers(one) == numbers(other)) is same


# --- how like ---------------------------------------------------------------------------------------------------------------


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def test_cosines_are_those_of_the_numbers_that_came() -> None:
    dice = random.Random(4)
    mine = [dice.gauss(0, 0.03) for _ in range(1024)]
    to = embedded(mine)
    assert to is not None
    for share in (0.0, 0.3, 0.9, 0.99):
        other = [share * a + (1 - share) * dice.gauss(0, 0.03) for a in mine]
        held = embedded(other)
        assert held is not None
        ((found, number),) = nearest(to, [held])
        assert number == 0
        assert abs(found - cosine(mine, other)) < 1e-4
    assert nearest(to, [to]) == [(pytest.approx(1.0), 0)]


@given(st.integers(0, 63), st.sampled_from([0.8, 0.9, 0.95]), st.integers(0, 2**32))
def test_the_nearest_of_a_partition_is_found(at: int, share: float, seed: int) -> None:
    dice = random.Random(seed)
    mine = [dice.gauss(0, 1) for _ in range(256)]
    others = [[dice.gauss(0, 1) for _ in range(256)] for _ in range(64)]
    others[at] = [share * a + (1 - share) * b for a, b in zip(mine, others[at], strict=True)]
    to, held = embedded(mine), [embedded(one) for one in others]
    assert to is not None and all(held)
    assert nearest(to, [one for one in held if one is not None])[0][1] == at


def test_vectors_of_another_length_are_like_nothing() -> None:
    one, other = embedded([1.0, 0.0]), embedded([1.0, 0.0, 0.0])
    assert one is not None and other is not None
    assert nearest(one, [other]) == []


@pytest.mark.parametrize(
    "found", [[], [0.0] * 8, [math.nan, 1.0], [math.inf, 1.0], [1e9, 1.0], ["1", "2"], [None], [[1.0]], "abc", [1.0] * 10_000]
)
def test_what_is_no_vector_is_compared_with_nothing(found: Any) -> None:
    assert embedding_in(orjson.dumps({"data": [{"embedding": found}]}, default=str)) is None


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"data": []}', b'{"data": [{}]}', b'{"data": [1, 2]}', b'{"data": null}'])
def test_an_answer_without_one_vector_is_none(answer: bytes) -> None:
    assert embedding_in(answer) is None


# --- what a policy says -----------------------------------------------------------------------------------------------------


def test_the_narrowest_of_all_that_apply_holds() -> None:
    wide, narrow = Semantic("embed", {"alpha": 0.9, "beta": 0.9}, 64), Semantic("embed", {"alpha": 0.8, "beta": 0.95}, 8)
    both = Semantic("embed", {"alpha": 0.9, "beta": 0.95}, 8)
    assert narrowest([wide, narrow]) == narrowest([narrow, wide]) == both
    assert narrowest([wide]) == wide
    assert narrowest([wide, None]) is narrowest([None, wide]) is None
    assert narrowest([wide, replace(wide, model="another")]) is None
    only = narrowest([wide, Semantic("embed", {"gamma": 0.9}, 64)])
    assert only is not None and not only.thresholds, "and none is like enough"


def test_a_threshold_is_that_of_the_model_that_answered() -> None:
    found = decision((Caching("a", (), 60, semantic=NEAR),), asked=frozenset({"auto"}))
    how = keeping(found, "chat")
    assert isinstance(how, Keeping) and how.semantic == NEAR
    places = {one.id: one for one in found.view.deployments}
    assert like_enough(NEAR, places["one/alpha"], 0.95)
    assert not like_enough(NEAR, places["one/alpha"], 0.949)
    assert not like_enough(NEAR, places["one/alpha"], math.nan)
    assert not like_enough(NEAR, places["one/beta"], 1.0)
    assert not like_enough(None, places["one/alpha"], 1.0)
    assert least_likeness(found, NEAR) == {"one/alpha": 0.95, "two/alpha": 0.95, "three/alpha": 0.95, "far/alpha": 0.95}
    china = decision((), region=frozenset({"CN"}), data_class=frozenset({"internal"}))
    assert least_likeness(china, NEAR) == {"far/alpha": 0.95}, "of what was made elsewhere nothing may be given"


def test_a_side_call_is_the_same_key_s_and_asks_for_nothing_more() -> None:
    client = replace(
        asked(HELLO, stream=True), stream=True, wants_usage=True, disclose=frozenset({"cache"}), session="s", client_id="mine"
    )
    call = embedding_of("Hello", "embed", client)
    assert (call.id, call.side_of, call.api, call.asked) == ("rg-1-side", "rg-1", "embeddings", "embed")
    assert call.body == {"model": "embed", "input": "Hello"}
    assert (call.stream, call.wants_usage, call.session, call.disclose) == (False, False, "", frozenset())
    assert call.facts == replace(client.facts, asked=frozenset({"embed"}), api=frozenset({"embeddings"}))
    assert not may_be_asked(View(snapshot(), NOW), call), "nothing there embeds"


EMBEDDING = """\
endpoints:
  vec:
    provider: ours
    dialect: vllm
    base_url: http://127.0.0.1:9/v1
    resolves_to: [127.0.0.0/8]
    processed_in: [DE]
    operated_under: [DE]
    models: {vectors: {price: {input: 1, output: 0}}}
models: {vectors: {origin: [FR], context: 8000, apis: [embeddings]}}
"""


def loaded(folder: Path, entry: str) -> Loaded:
    """A policy that can embed, with this entry of the cache."""
    write_policies(folder / "policies", 1, caching=f"[{{id: a, ttl: 1h, {entry}}}]")
    (folder / "policies" / "embedding.yaml").write_text(EMBEDDING)
    return load(folder / "policies")


def test_likeness_is_compiled(tmp_path: Path) -> None:
    found = loaded(tmp_path, "semantic: {model: vectors, threshold: {m: 0.95}}")
    assert found.snapshot is not None, found.problems
    assert found.snapshot.policy.caching[0].semantic == Semantic("vectors", {"m": 0.95}, 64)
    assert not found.warnings, found.warnings


def test_likeness_among_tenants_is_warned_of(tmp_path: Path) -> None:
    found = loaded(tmp_path, "share: faq, when: {tenant: office}, semantic: {model: vectors, threshold: {m: 0.95}}")
    assert found.snapshot is not None, found.problems
    assert "in other words" in " ".join(str(warning) for warning in found.warnings)


def test_only_chat_is_compared(tmp_path: Path) -> None:
    found = loaded(tmp_path, "apis: [embeddings], semantic: {model: vectors, threshold: {m: 0.95}}")
    assert "nothing else is compared" in " ".join(str(problem) for problem in found.problems)


@pytest.mark.parametrize(
    ("semantic", "told"),
    [
        ("{model: m, threshold: {m: 0.9}}", "serves embeddings"),
        ("{model: vector, threshold: {m: 0.9}}", "did you mean `vectors`"),
        ("{model: vectors, threshold: {vector: 0.9}}", "did you mean `vectors`"),
        ("{model: vectors, threshold: {m: 0}}", "a number from 0.01 to 1"),
        ("{model: vectors, threshold: {m: 1.01}}", "a number from 0.01 to 1"),
        ("{model: vectors, threshold: {m: high}}", "a number from 0.01 to 1"),
        ("{model: vectors, threshold: {}}", "an empty map"),
        ("{model: vectors, threshold: 0.9}", "wanted a map"),
        ("{model: vectors}", "threshold"),
        ("{threshold: {m: 0.9}}", "model"),
        ("{model: vectors, threshold: {m: 0.9}, vectors_max: 0}", "from 1 to 256"),
        ("{model: vectors, threshold: {m: 0.9}, default: 0.9}", "default"),
    ],
)
def test_mistakes_of_likeness_are_told(tmp_path: Path, semantic: str, told: str) -> None:
    found = loaded(tmp_path, f"semantic: {semantic}")
    assert found.snapshot is None
    assert told in " ".join(str(problem) for problem in found.problems)


def test_explain_says_that_an_answer_may_be_given_by_likeness() -> None:
    entries = (Caching("a", (FactTest("tenant", frozenset({"clinic"})),), 3600, semantic=NEAR),)
    told = as_text(decision(entries))
    assert "3,600 s" in told and "all of tenant/clinic who ask the same" in told
    assert "by likeness as well, from a cosine of 0.95 of alpha" in told
    assert "embed may be called nowhere" in told
    assert "by likeness" not in as_text(decision((Caching("a", (), 3600),)))


# --- exchanges of our own ---------------------------------------------------------------------------------------------------


def test_what_comes_too_late_is_hung_up_on_and_after_some_nobody_waits() -> None:
    gone: list[bool] = []

    async def stuck(client: Client) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(client.gone)
        raise AssertionError

    async def quick(client: Client) -> Answer:
        assert not client.gone
        return Answer(200)

    async def main() -> None:
        asides = Asides()
        ask: Callable[[Callable[[Client], Awaitable[Answer]]], Awaitable[Answer | None]]
        ask = lambda begin: asides.ask(begin, FakeClient(), 0.01)  # noqa: E731
        for _ in range(LATE_MAX - 1):
            assert await ask(stuck) is None
        assert await ask(quick) == Answer(200), "one that comes makes up for those"
        for _ in range(LATE_MAX):
            assert await ask(stuck) is None
        assert gone == [True] * (2 * LATE_MAX - 1)
        assert await ask(quick) is None, "not even asked"

    run(main)


def test_whoever_hangs_up_is_gone_from_the_side_call_too() -> None:
    gone: list[bool] = []

    async def stuck(client: Client) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(client.gone)
        raise AssertionError

    async def main() -> None:
        for hangs_up in (True, False):
            client = FakeClient()
            task = asyncio.ensure_future(Asides().ask(stuck, client, 60.0))
            await asyncio.sleep(0)
            client.gone = hangs_up
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        assert gone == [True, False]

    run(main)
