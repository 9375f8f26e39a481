"""Embeddings on the providers' side: bodies by the allow-lists, and answers of which only good vectors get through."""

import asyncio
import base64
import math
import struct
import weakref
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relaying import DIALECTS as NAMES
from relaying import SECRET, deployment, opened, play, request

from gateway.core.exchange import Ended, Fault, Outcome, Request
from gateway.ports import Opened
from gateway.upstream.calling import Calling
from gateway.upstream.dialects import DIALECTS, Unsendable, build_embeddings
from gateway.upstream.vectors import TURN_BYTES

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXT_ONLY = ("mistral", "zai")
NO_BASE64 = ("mistral", "zai")


def embed(given: Any = "Hello", **more: Any) -> Request:
    """A request for embeddings as the wire would make it."""
    chat = request()
    return replace(
        chat, api="embeddings", needs=replace(chat.needs, api="embeddings"), body={"model": "our-model", "input": given, **more}
    )


def built(dialect: str, asked: Request) -> tuple[Any, tuple[str, ...]]:
    sent, dropped = build_embeddings(DIALECTS[dialect], deployment(dialect), asked, SECRET)
    return orjson.loads(sent), dropped


def encoded(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


# --- what is sent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", NAMES)
def test_a_plain_request_says_what_it_said(dialect: str) -> None:
    for given_input in ("Hello", ["Hello", "there"]):
        assert built(dialect, embed(given_input)) == ({"model": "their-model", "input": given_input}, ())


@pytest.mark.parametrize("dialect", NAMES)
def test_what_no_table_lists_is_not_sent_and_is_reported(dialect: str) -> None:
    strange = {"api_base": "http://evil.test", "input_type": "query", "metadata": {"who": "me"}, "truncate": 5}
    body, dropped = built(dialect, embed(**strange, user=None, stream=False))
    assert set(body) == {"model", "input"}
    assert dropped == tuple(strange)


@pytest.mark.parametrize("dialect", NAMES)
def test_the_format_is_asked_for_where_it_is_known_and_made_here_where_not(dialect: str) -> None:
    body, dropped = built(dialect, embed(encoding_format="base64"))
    assert body.get("encoding_format") == (None if dialect in NO_BASE64 else "base64")
    assert dropped == ()


@pytest.mark.parametrize("dialect", NAMES)
def test_ids_are_sent_where_they_mean_something(dialect: str) -> None:
    for ids in ([1, 2], [[1, 2], [3]]):
        if dialect in TEXT_ONLY:
            with pytest.raises(Unsendable) as caught:
                built(dialect, embed(ids))
            outcome = caught.value.outcome
            assert (outcome.ended, outcome.fault, outcome.param, outcome.sent) == (Ended.REJECTED, Fault.CLIENT, "input", False)
        else:
            assert built(dialect, embed(ids))[0]["input"] == ids


def test_dimensions_are_asked_for_or_refused_and_never_left_out() -> None:
    names = {"mistral": "output_dimension", "openai": "dimensions", "vllm": "dimensions", "zai": "dimensions"}
    for dialect, name in names.items():
        assert built(dialect, embed(dimensions=256)) == ({"model": "their-model", "input": "Hello", name: 256}, ())
    with pytest.raises(Unsendable, match="unsupported_value"):
        built("llamacpp", embed(dimensions=256))


def test_a_users_name_is_a_hash_or_nothing() -> None:
    body, dropped = built("openai", embed(user="ann@example.org"))
    assert len(body["user"]) == 32
    assert "ann" not in body["user"]
    assert dropped == ()
    assert built("vllm", embed(user="ann@example.org"))[1] == ("user",)


# --- what comes back --------------------------------------------------------------------------------------------------------


def answered(asked: Request, answer: Any, dialect: str = "openai", status: int = 200) -> tuple[Any, Outcome]:
    """The client's answer and the outcome, of an upstream's."""

    async def main() -> tuple[Any, Outcome]:
        call, wire = opened(dialect, asked)
        wire.answer(answer, status)
        found = await call.wait(None)
        assert found is not None
        return (None, found) if isinstance(found, Outcome) else (orjson.loads(call.body), call.outcome())

    return play(main())


def vectors(*found: Any, **more: Any) -> dict[str, Any]:
    """An upstream's answer."""
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(found)]
    return {"object": "list", "data": data, "model": "their-model", "usage": {"prompt_tokens": 5, "total_tokens": 5}, **more}


def test_an_answer_is_in_openais_shape_under_our_name() -> None:
    untidy = vectors([1.0, 0.0], id="embd-1", created=5, usage={"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5})
    body, outcome = answered(embed(), untidy)
    assert body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}],
        "model": "our-model",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    assert outcome.ended is Ended.SERVED
    assert outcome.usage is not None
    assert (outcome.usage.input, outcome.usage.output, outcome.usage.reported) == (5, 0, True)


def test_without_usage_it_is_estimated_and_says_so() -> None:
    body, outcome = answered(embed(), vectors([1.0], usage=None))
    assert outcome.code == "usage_missing"
    assert outcome.usage is not None
    assert (outcome.usage.input, outcome.usage.output, outcome.usage.reported) == (12, 0, False)
    assert body["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    assert answered(embed(), vectors([1.0], usage={"prompt_tokens": 5, "total_tokens": 9}))[1].code == "usage_absurd"


def test_vectors_come_in_the_order_of_their_texts() -> None:
    answer = vectors([1.0], [2.0], [3.0])
    answer["data"].reverse()
    body, _ = answered(embed(["a", "b", "c"]), answer)
    assert [entry["embedding"] for entry in body["data"]] == [[1.0], [2.0], [3.0]]
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2]
    for entry in answer["data"]:
        del entry["index"]
    assert [entry["embedding"] for entry in answered(embed(["a", "b", "c"]), answer)[0]["data"]] == [[3.0], [2.0], [1.0]]


@given(st.lists(FLOATS, min_size=1, max_size=5), st.sampled_from(["float", "base64", None]), st.booleans())
def test_the_format_is_the_clients_whatever_came(numbers: list[float], wanted: str | None, as_text: bool) -> None:
    body, outcome = answered(embed(encoding_format=wanted), vectors(encoded(numbers) if as_text else numbers))
    assert outcome.ended is Ended.SERVED
    found = body["data"][0]["embedding"]
    if wanted == "base64":
        found = list(struct.unpack(f"<{len(numbers)}f", base64.b64decode(found)))
    assert found == numbers
    assert [math.copysign(1, one) for one in found] == [math.copysign(1, one) for one in numbers]


@pytest.mark.parametrize(
    ("given_input", "answer"),
    [
        ("x", vectors()),
        ("x", vectors([1.0], [2.0])),
        (["x", "y"], vectors([1.0])),
        ([1, 2], vectors([1.0], [2.0])),
        (["x", "y"], vectors([1.0], [2.0, 3.0])),
        ("x", vectors([])),
        ("x", vectors(None)),
        ("x", vectors({"a": 1})),
        ("x", vectors([1.0, None])),
        ("x", vectors([1.0, "2"])),
        ("x", vectors([1.0, True])),
        ("x", vectors([[1.0]])),
        ("x", vectors("")),
        ("x", vectors("no base64!")),
        ("x", vectors("YWJj")),  # three bytes
        ("x", vectors(base64.b64encode(struct.pack("<2f", 1.0, math.nan)).decode())),
        ("x", vectors(base64.b64encode(struct.pack("<2f", 1.0, math.inf)).decode())),
        ("x", vectors("é" * 8)),
        ("x", b'{"data": [{"index": 0, "embedding": [1e999]}]}'),
        ("x", b'{"data": [{"index": 0, "embedding": [NaN]}]}'),
        (["x", "y"], {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]}),
        (["x", "y"], {"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [2.0]}]}),
        ("x", {"data": [{"index": True, "embedding": [1.0]}]}),
        ("x", {"data": [[1.0]]}),
        ("x", {"data": {"embedding": [1.0]}}),
        ("x", {"object": "list"}),
        ("x", [1.0]),
        ("x", b"not json"),
        ("x", b""),
        ("x", b'{"data": '),
    ],
)
def test_what_is_no_vector_for_each_text_is_never_served(given_input: Any, answer: Any) -> None:
    body, outcome = answered(embed(given_input), answer)
    assert body is None
    assert (outcome.ended, outcome.fault, outcome.code) == (Ended.FAILED, Fault.UPSTREAM, "bad_vectors")
    assert outcome.tries_next


def test_numbers_whose_sum_is_beyond_all_numbers_are_finite_all_the_same() -> None:
    assert answered(embed(), vectors([1.7e308, 1.7e308]))[1].ended is Ended.SERVED
    packed = base64.b64encode(struct.pack("<3f", math.inf, -math.inf, 1.0)).decode()
    assert answered(embed(), vectors(packed))[1].code == "bad_vectors"


def test_a_vector_too_large_for_32_bits_is_no_base64() -> None:
    assert answered(embed(), vectors([1e39]))[1].ended is Ended.SERVED
    assert answered(embed(encoding_format="base64"), vectors([1e39]))[1].code == "bad_vectors"


def test_another_length_than_was_asked_for_is_a_failure() -> None:
    assert answered(embed(dimensions=2), vectors([1.0, 2.0]))[1].ended is Ended.SERVED
    assert answered(embed(dimensions=3), vectors([1.0, 2.0]))[1].code == "bad_vectors"
    packed = embed(dimensions=16, output_dtype="binary")  # sixteen bits are two bytes
    assert answered(packed, vectors([7, -8]), "mistral")[1].ended is Ended.SERVED
    assert answered(packed, vectors([7, -8]), "openai")[1].code == "bad_vectors", "where the type is not known, it was not sent"


def test_an_error_with_200_and_a_refusal_are_what_they_are_for_chat() -> None:
    _, outcome = answered(embed(), {"error": {"message": "slow down", "type": "rate_limit_error", "code": "1302"}}, "zai")
    assert outcome.ended is Ended.THROTTLED
    _, outcome = answered(embed(), {"error": {"message": "no", "code": "context_length_exceeded"}}, status=400)
    assert outcome.ended is Ended.REJECTED


# --- long answers -----------------------------------------------------------------------------------------------------------


LONG = [[float(number) / 7 for number in range(at, at + 1_024)] for at in range(120)]  # 2 MB of numbers, 0.6 of base64


async def turns_until(call: Calling) -> tuple[Opened | Outcome | None, int]:
    """What `call` comes to, and how often others had their turn until then."""
    waiting = asyncio.ensure_future(call.wait(None))
    turns = 0
    while not waiting.done():
        turns += 1
        await asyncio.sleep(0)
    return waiting.result(), turns


@pytest.mark.parametrize("wanted", ["float", "base64"])
@pytest.mark.parametrize("as_text", [False, True])
def test_others_have_their_turn_while_a_long_answer_is_read(wanted: str, as_text: bool) -> None:
    answer = vectors(*([encoded(vector) for vector in LONG] if as_text else LONG))
    size = len(orjson.dumps(answer))

    async def main() -> None:
        call, wire = opened("openai", embed(["x"] * len(LONG), encoding_format=wanted))
        wire.answer(answer)
        assert call.result is None, "nothing of it is read before somebody waits"
        found, turns = await turns_until(call)
        assert found is call
        assert turns >= (size + len(call.body)) // (2 * TURN_BYTES)
        body = orjson.loads(call.body)
        assert [entry["index"] for entry in body["data"]] == list(range(len(LONG)))
        numbers = [entry["embedding"] for entry in body["data"]]
        if wanted == "base64":
            assert numbers == [encoded(vector) for vector in LONG]
        elif not as_text:
            assert numbers == LONG
        assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}

    play(main())


def test_a_short_answer_takes_no_turn() -> None:
    async def main() -> None:
        call, wire = opened("openai", embed())
        waiting = asyncio.ensure_future(call.wait(None))
        await asyncio.sleep(0)
        wire.answer(vectors(LONG[0]))
        assert call.result is call
        assert await waiting is call

    play(main())


def test_a_flaw_at_the_end_of_a_long_answer_is_found() -> None:
    for flawed in ([*LONG[:-1], LONG[0][:-1]], [*LONG[:-1], [*LONG[0][:-1], True]], LONG[:-1]):

        async def main(flawed: Any = flawed) -> None:
            call, wire = opened("openai", embed(["x"] * len(LONG)))
            wire.answer(vectors(*flawed))
            found, _ = await turns_until(call)
            assert isinstance(found, Outcome)
            assert found.code == "bad_vectors"

        play(main())


def test_cancelled_at_any_turn_nothing_is_left() -> None:
    async def cancelled_at(turn: int) -> bool:
        call, wire = opened("openai", embed(["x"] * len(LONG)))
        waiting = asyncio.ensure_future(call.wait(None))
        await asyncio.sleep(0)
        wire.answer(vectors(*LONG))
        for _ in range(turn):
            await asyncio.sleep(0)
        if waiting.done():
            assert call.result is call
            return False
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert waiting.cancelled()
        assert isinstance(call.result, Outcome)
        assert call.result.code == "aborted"
        assert wire.aborted
        gone = weakref.ref(wire)  # which the call has; nobody has a compiled call weakly
        del wire.sink  # as the transport does
        del call, wire, waiting
        assert gone() is None, "it needs no garbage collector"
        return True

    async def main() -> None:
        turn = 0
        while await cancelled_at(turn):
            turn += 1
        assert turn > 5

    play(main())


@pytest.mark.parametrize(
    "text",
    [
        b'{"data": [{"embedding": [1.0, 2.0]}], "model": "of[our]own"}',  # brackets within a text
        b'{"data": [{"embedding": [1.0, 2.0]}], "model": "their\\/model"}',
        b'{"data": [{"embedding":\n  [\n1.0,\n2.0\n]\n}], "warnings": [], "more": [["a"], [[]]]}',
        b'{"warnings": [["]"]], "data": [{"embedding": [1.0, 2.0]}]}',
    ],
)
def test_what_else_stands_in_an_answer_changes_nothing(text: bytes) -> None:
    body, _ = answered(embed(), text)
    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0, 2.0]}]


def test_a_mark_that_an_upstream_writes_is_no_vector_of_another_kind() -> None:
    for text in (b'"[0]"', b'"\\u005b5\\u005d"', b'"[]"'):
        body, outcome = answered(embed(), b'{"data": [{"embedding": %b}], "usage": null}' % text)
        assert body is None
        assert outcome.code == "bad_vectors"
    listed = b'{"data": [{"embedding": [1.0]}, {"embedding": [%b]}]}' % (b"[0]," * 3_000)[:-1]
    assert answered(embed(["x", "y"]), listed)[1].code == "bad_vectors"
