"""What simulators do with requests for embeddings beyond the shape of answers: near texts, lengths, formats, limits, bills."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from simulator_client import Got, embedded, run, simulated

from gateway.simulators.vectors import vector

DIALECTS = ("mistral", "zai", "vllm", "llamacpp", "openai")


async def asked(dialect: str, fields: dict[str, Any], **settings: Any) -> Got:
    async with simulated(dialect, **settings) as (_, client):
        return await client.ask(fields, path="/embeddings")


def found(dialect: str, **fields: Any) -> list[list[float]]:
    """The vectors of an answer."""
    got = run(asked(dialect, embedded(**fields)))
    assert got.status == 200
    return [entry["embedding"] for entry in got.json["data"]]


def cosine(one: str, other: str, dimensions: int = 1_024) -> float:
    return sum(a * b for a, b in zip(vector(one, dimensions), vector(other, dimensions), strict=True))


def test_near_texts_are_near_and_others_are_not() -> None:
    assert cosine("What is the capital of France?", "what is the capital of France") == pytest.approx(1)
    assert cosine("What is the capital of France?", "Which city is the capital of France?") > 0.6
    assert cosine("What is the capital of France?", "What is the capital of Spain?") > 0.6
    assert abs(cosine("What is the capital of France?", "Bitte fassen Sie diesen Brief zusammen")) < 0.2
    assert cosine("今天天气怎么样", "今天天气好吗") > 0.4
    assert abs(cosine("...", "!?")) < 0.9, "without words too, another text is another vector"


def test_vectors_are_of_length_one_and_the_same_everywhere() -> None:
    for text in ("good morning", "", "…", "a " * 5_000):
        assert math.fsum(number * number for number in vector(text, 64)) == pytest.approx(1)
    assert found("openai", dimensions=64)[0] == found("mistral", output_dimension=64)[0]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_there_is_one_for_each_text_in_order(dialect: str) -> None:
    first, second = found(dialect)
    alone = found(dialect, input="good night")
    assert alone == [second]
    assert first != second
    usage = run(asked(dialect, embedded())).json["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > 0


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp", "openai"])
def test_base64_holds_the_same_numbers_and_ids_are_texts(dialect: str) -> None:
    (text,) = run(asked(dialect, embedded(input="good night", encoding_format="base64"))).json["data"]
    raw = base64.b64decode(text["embedding"])
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == found(dialect, input="good night")[0]
    assert len(found(dialect, input=[1, 2, 3])) == 1
    assert len(found(dialect, input=[[1, 2], [3]])) == 2


@pytest.mark.parametrize("dialect", ["mistral", "zai"])
def test_these_answer_with_numbers_whatever_is_asked(dialect: str) -> None:
    assert isinstance(run(asked(dialect, embedded(encoding_format="base64"))).json["data"][0]["embedding"], list)


def test_numbers_of_fewer_bits_are_whole() -> None:
    (numbers, _) = found("mistral", output_dtype="int8")
    assert all(isinstance(number, int) and -128 <= number <= 127 for number in numbers)


@pytest.mark.parametrize(
    ("dialect", "fields", "status"),
    [
        ("mistral", embedded(input=[1, 2]), 422),
        ("mistral", embedded(dimensions=5), 422),
        ("mistral", {"model": "m"}, 422),
        ("openai", embedded(metadata={}), 400),
        ("openai", {"model": "m"}, 400),
        ("vllm", {"model": "m"}, 400),
        ("zai", embedded(input=["x"] * 65), 400),
        ("zai", embedded(dimensions=7), 400),
        ("zai", {"input": "x"}, 400),
    ],
)
def test_what_a_provider_does_not_take_it_refuses(dialect: str, fields: dict[str, Any], status: int) -> None:
    assert run(asked(dialect, fields)).status == status


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_text_has_the_window_to_itself(dialect: str) -> None:
    assert run(asked(dialect, embedded(input=["one two three"] * 9), window=3)).status == 200
    assert run(asked(dialect, embedded(input=["one two three", "one two three four"]), window=3)).status >= 400
    assert run(asked(dialect, embedded(), models={"other"})).status in (200, 400, 404)
