"""Golden usage, per provider, streamed and not; what can't be true is not reported; the parts sum to the provider's totals."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.usage import Usage
from gateway.upstream.usage import TOKENS_MAX, Unusable, as_openai, estimate, read

# name, usage, timings, what it comes to. The names say where each shape was seen or published.
GOLDEN: list[tuple[str, Any, Any, Usage]] = [
    (
        "mistral: recorded stream, last chunk",
        {"prompt_tokens": 31, "total_tokens": 43, "completion_tokens": 12},
        None,
        Usage(31, 0, 0, 12, 0, True),
    ),
    (
        "mistral: schema, cached three times over",
        {
            "prompt_tokens": 12_925,
            "completion_tokens": 10,
            "total_tokens": 12_935,
            "num_cached_tokens": 12_544,
            "prompt_tokens_details": {"cached_tokens": 12_544},
            "prompt_token_details": {"cached_tokens": 12_544},
            "prompt_audio_seconds": None,
            "service_tier": "standard",
        },
        None,
        Usage(381, 12_544, 0, 10, 0, True),
    ),
    (
        "mistral: only the misspelt details",
        {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101, "prompt_token_details": {"cached_tokens": 64}},
        None,
        Usage(36, 64, 0, 1, 0, True),
    ),
    (
        "mistral: only num_cached_tokens",
        {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101, "num_cached_tokens": 64},
        None,
        Usage(36, 64, 0, 1, 0, True),
    ),
    (
        "zai: recorded, reasoning within output",
        {
            "prompt_tokens": 14,
            "completion_tokens": 220,
            "total_tokens": 234,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 180},
        },
        None,
        Usage(12, 2, 0, 220, 180, True),
    ),
    (
        "vllm: without --enable-prompt-tokens-details",
        {"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": None},
        None,
        Usage(7, 0, 0, 5, 0, True),
    ),
    (
        "vllm: with it",
        {
            "prompt_tokens": 70,
            "total_tokens": 75,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 64, "created_cache_tokens": 6},
        },
        None,
        Usage(6, 64, 0, 5, 0, True),
    ),
    (
        "sglang: reasoning at the top, details null",
        {"prompt_tokens": 10, "total_tokens": 50, "completion_tokens": 40, "prompt_tokens_details": None, "reasoning_tokens": 30},
        None,
        Usage(10, 0, 0, 40, 30, True),
    ),
    (
        "llama.cpp: usage and timings",
        {"completion_tokens": 26, "prompt_tokens": 40, "total_tokens": 66},
        {"cache_n": 36, "prompt_n": 4, "predicted_n": 26},
        Usage(4, 36, 0, 26, 0, True),
    ),
    ("llama.cpp: timings alone", None, {"cache_n": 36, "prompt_n": 4, "predicted_n": 26}, Usage(4, 36, 0, 26, 0, True)),
    ("llama.cpp: timings of older builds", None, {"prompt_n": 4, "predicted_n": 26}, Usage(4, 0, 0, 26, 0, True)),
    (
        "openai: published, with cache writes",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 80, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
        },
        None,
        Usage(6, 1920, 80, 300, 0, True),
    ),
    (
        "a provider that keeps reasoning out of completion_tokens",
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35, "completion_tokens_details": {"reasoning_tokens": 20}},
        None,
        Usage(10, 0, 0, 25, 20, True),
    ),
    ("no total", {"prompt_tokens": 10, "completion_tokens": 5}, None, Usage(10, 0, 0, 5, 0, True)),
]


@pytest.mark.parametrize(("usage", "timings", "wanted"), [g[1:] for g in GOLDEN], ids=[g[0] for g in GOLDEN])
def test_golden(usage: Any, timings: Any, wanted: Usage) -> None:
    assert read(usage, timings) == wanted


ABSURD: list[Any] = [
    {"prompt_tokens": -1, "completion_tokens": 5},
    {"prompt_tokens": 10, "completion_tokens": -5},
    {"prompt_tokens": 10.5, "completion_tokens": 5},
    {"prompt_tokens": "10", "completion_tokens": 5},
    {"prompt_tokens": True, "completion_tokens": 5},
    {"prompt_tokens": TOKENS_MAX + 1, "completion_tokens": 5},
    {"prompt_tokens": 10, "completion_tokens": 10**18},
    {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 16},
    {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": -15},
    {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}},
    {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 6}},
    {"prompt_tokens": 10, "completion_tokens": 5, "num_cached_tokens": -1},
    {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": [1]}},
    {"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": "many"},
    {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5},
    {"completion_tokens": 5},
]


@pytest.mark.parametrize("usage", ABSURD)
def test_what_can_not_be_true_counts_as_not_reported(usage: Any) -> None:
    assert read(usage) is Unusable.ABSURD


UNCOUNTED: list[Any] = [
    *(None, {}, [], "x", 5, {"total_tokens": 5}, {"input": 5}),
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},  # SGLang, some versions
]


@pytest.mark.parametrize("usage", UNCOUNTED)
def test_nothing_said_is_nothing_reported(usage: Any) -> None:
    assert read(usage) is Unusable.MISSING
    assert read(usage, {"prompt_ms": 4.5}) is Unusable.MISSING


def test_reasoning_is_never_more_than_output() -> None:
    said = read({"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6, "reasoning_tokens": 9})
    assert isinstance(said, Usage)
    assert said.reasoning == 5


TOKENS = st.integers(-5, 40) | st.none() | st.just(TOKENS_MAX + 1) | st.booleans() | st.floats(allow_nan=True) | st.text(max_size=2)
DETAILS = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), TOKENS)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "num_cached_tokens", "reasoning_tokens"), TOKENS),
        **dict.fromkeys(("prompt_tokens_details", "prompt_token_details", "completion_tokens_details"), DETAILS),
    },
)


@given(SHAPES, st.none() | st.dictionaries(st.sampled_from(["prompt_n", "cache_n", "predicted_n"]), TOKENS))
def test_the_parts_sum_to_the_totals(usage: dict[str, Any], timings: Any) -> None:
    said = read(usage, timings)
    if not isinstance(said, Usage):
        return
    assert said.reported
    assert min(said.uncached, said.cached, said.cache_write, said.output, said.reasoning) >= 0
    assert said.reasoning <= said.output
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        assert said.input == (usage.get("prompt_tokens") or 0)
        assert said.output >= (usage.get("completion_tokens") or 0)
        if usage.get("total_tokens"):
            assert said.input + said.output == usage["total_tokens"]


@given(st.integers(1, 9999), st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_what_clients_are_shown_reads_back_as_it_was(uncached: int, cached: int, output: int, reasoning: int) -> None:
    usage = Usage(uncached, cached, 0, output + reasoning, reasoning, True)
    assert read(as_openai(usage)) == usage


def test_an_estimate_says_so_and_counts_the_larger() -> None:
    assert estimate(10, 7, 4) == Usage(uncached=10, output=7, reported=False)
    assert estimate(10, 1, 401) == Usage(uncached=10, output=101, reported=False)


NUMBERS = st.sampled_from([None, 0, 1, 5, 7, 12, -1, True, 1.0, "5", TOKENS_MAX + 1])
LOOSE = st.none() | st.just(0) | st.just("x") | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens"]), NUMBERS
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": NUMBERS,
            "completion_tokens": NUMBERS,
            "total_tokens": NUMBERS,
            "prompt_tokens_details": LOOSE,
            "completion_tokens_details": LOOSE,
        },
    )
)
@example({"prompt_tokens": TOKENS_MAX, "completion_tokens": 1, "total_tokens": TOKENS_MAX + 1})
@example({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2.0})
def test_the_usual_spelling_is_read_as_any_other(usage: dict[str, Any]) -> None:
    """A field that nobody knows makes it unusual, and changes nothing."""
    assert read(usage) == read({**usage, "unheard_of": 1})
