"""Requests for embeddings: what is read of them, what is wrong with them, and that a glance finds what a closer look does."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.answer import Problem
from gateway.core.bounds import Bounds
from gateway.core.exchange import Needs, Request
from gateway.core.view import View
from gateway.wire.body import parse
from gateway.wire.desk import Desk
from gateway.wire.embeddings import DIMENSIONS_MAX, EMBEDDINGS, INPUTS_MAX
from gateway.wire.heads import Head
from gateway.wire.text import Estimator, Script

SNAPSHOT = snapshot()
VIEW = View(SNAPSHOT, NOW)
HEAD = Head("POST", "/v1/embeddings", [("x-gateway-region", "DE")])


def asked(body: dict[str, Any], bounds: Bounds | None = None) -> tuple[Request, Script | None, bool]:
    """The request that a desk makes of `body`, and whether it was seen through at a glance."""
    parsed = parse(EMBEDDINGS.glance, json.dumps(body).encode(), bounds or Bounds())
    glanced = parsed.reading is not None
    desk = Desk(VIEW, Estimator())
    request, script = desk.request(EMBEDDINGS, parsed, 9, VIEW.snapshot.access.keys["ward"], HEAD, "id", "", NOW)
    return request, script, glanced


def of(given: Any, **more: Any) -> Needs:
    return asked({"model": "alpha", "input": given, **more})[0].needs


def test_a_text_is_read_as_of_any_api() -> None:
    request, script, glanced = asked({"model": "alpha", "input": "Guten Morgen"})
    assert glanced
    assert script is Script.LATIN
    assert (request.api, request.asked, request.stream, request.wants_usage) == ("embeddings", "alpha", False, False)
    assert (request.facts.api, request.facts.region, request.facts.stream) == ({"embeddings"}, {"DE"}, {"false"})
    assert asked({"model": "alpha", "input": "你好，世界"})[0].facts.language == {"zh"}


def test_texts_are_paid_for_together_and_the_longest_has_to_fit() -> None:
    one, two = of("x" * 400), of(["x" * 400, "x" * 4_000])
    assert (one.prompt_tokens, one.longest_tokens) == (101, 101)
    assert (two.prompt_tokens, two.longest_tokens) == (1_102, 1_001)
    assert of(["a"] * INPUTS_MAX).prompt_tokens >= INPUTS_MAX, "a text is one token at least"


def test_token_ids_are_counted_and_say_nothing_of_language() -> None:
    request, script, glanced = asked({"model": "alpha", "input": [[1, 2, 3], [4, 5]]})
    assert (script, glanced) == (None, False)
    assert (request.needs.prompt_tokens, request.needs.longest_tokens) == (5, 3)
    assert request.facts.language == SNAPSHOT.policy.vocabulary.languages
    assert of([1, 2, 3]) == of([[1, 2, 3]])


def test_what_a_body_declares_counts_and_does_not_travel() -> None:
    request, _, glanced = asked({"model": "alpha", "input": "hi", "gateway": {"categories": ["health"]}})
    assert not glanced
    assert request.facts.categories == {"health"}
    assert set(request.body) == {"model", "input"}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": "x"}, "missing_parameter", "model"),
        ({"model": "alpha"}, "missing_parameter", "input"),
        ({"model": "alpha", "input": None}, "missing_parameter", "input"),
        ({"model": 5, "input": "x"}, "invalid_type", "model"),
        ({"model": "", "input": "x"}, "invalid_value", "model"),
        ({"model": "alpha", "input": {"text": "x"}}, "invalid_type", "input"),
        ({"model": "alpha", "input": 5}, "invalid_type", "input"),
        ({"model": "alpha", "input": ""}, "invalid_value", "input"),
        ({"model": "alpha", "input": []}, "invalid_value", "input"),
        ({"model": "alpha", "input": ["x", ""]}, "invalid_value", "input[1]"),
        ({"model": "alpha", "input": ["x", 5]}, "invalid_type", "input"),
        ({"model": "alpha", "input": ["x", [5]]}, "invalid_type", "input"),
        ({"model": "alpha", "input": [True]}, "invalid_type", "input"),
        ({"model": "alpha", "input": [1.5]}, "invalid_type", "input"),
        ({"model": "alpha", "input": [-1]}, "invalid_type", "input"),
        ({"model": "alpha", "input": [2**40]}, "invalid_type", "input"),
        ({"model": "alpha", "input": [[]]}, "invalid_value", "input[0]"),
        ({"model": "alpha", "input": [[1], ["x"]]}, "invalid_type", "input[1]"),
        ({"model": "alpha", "input": [[1], [[2]]]}, "invalid_type", "input[1]"),
        ({"model": "alpha", "input": ["x"] * (INPUTS_MAX + 1)}, "invalid_value", "input"),
        ({"model": "alpha", "input": [[1]] * (INPUTS_MAX + 1)}, "invalid_value", "input"),
        ({"model": "alpha", "input": "x", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"model": "alpha", "input": "x", "encoding_format": 5}, "invalid_type", "encoding_format"),
        ({"model": "alpha", "input": "x", "dimensions": 0}, "invalid_value", "dimensions"),
        ({"model": "alpha", "input": "x", "dimensions": DIMENSIONS_MAX + 1}, "invalid_value", "dimensions"),
        ({"model": "alpha", "input": "x", "dimensions": True}, "invalid_type", "dimensions"),
        ({"model": "alpha", "input": "x", "user": 5}, "invalid_type", "user"),
        ({"model": "alpha", "input": "x", "stream": True}, "invalid_value", "stream"),
        ({"model": "alpha", "input": "x", "stream_options": "x"}, "invalid_type", "stream_options"),
        ({"model": "nothing", "input": "x"}, "model_not_found", "model"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(Problem) as caught:
        asked(body)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.status == (404 if code == "model_not_found" else 400)


def test_one_text_of_many_token_ids_is_one_text() -> None:
    assert of([7] * 5_000).prompt_tokens == 5_000


TEXTS = st.sampled_from(["", "hello", 'a "quoted" word', "你好，世界", "x" * 90])
INPUTS = st.one_of(
    TEXTS,
    st.lists(TEXTS, max_size=4),
    st.lists(st.one_of(TEXTS, st.integers(-1, 9), st.booleans(), st.none()), max_size=3),
    st.lists(st.lists(st.integers(-1, 9), max_size=3), max_size=3),
    st.sampled_from([None, 5, {"a": 1}]),
)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "encoding_format": st.sampled_from(["float", "base64", "int8", None, 5, ["float"]]),
        "dimensions": st.sampled_from([8, 0, None, True]),
        "user": st.sampled_from(["me", None]),
        "model": st.sampled_from(["alpha", "", None, 5, "x" * 300]),
        "gateway": st.sampled_from([{"task": "coding"}, {}]),
        "input_type": st.just("query"),
    },
)


@settings(max_examples=400)
@given(INPUTS, MORE)
def test_what_is_seen_at_a_glance_is_what_a_closer_look_finds(given: Any, more: dict[str, Any]) -> None:
    body = {"model": "alpha", "input": given, **more}

    def understood(bounds: Bounds) -> tuple[Any, bool]:
        try:
            request, script, glanced = asked(body, bounds)
        except Problem as problem:
            return (problem.status, problem.code, problem.message, problem.param), False
        return (replace(request, body={}), dict(request.body), script), glanced

    quick, _ = understood(Bounds())
    with_care = understood_closely(body)
    assert quick == with_care
    usual = isinstance(given, str) or (isinstance(given, list) and given and all(isinstance(text, str) for text in given))
    assert understood(Bounds())[1] <= bool(usual)


def understood_closely(body: dict[str, Any]) -> Any:
    """The same, where nothing is to be had at a glance."""
    blind = replace(EMBEDDINGS, glance=lambda _: None)
    parsed = parse(blind.glance, json.dumps(body).encode(), Bounds())
    try:
        desk = Desk(VIEW, Estimator())
        request, script = desk.request(blind, parsed, 9, VIEW.snapshot.access.keys["ward"], HEAD, "id", "", NOW)
    except Problem as problem:
        return problem.status, problem.code, problem.message, problem.param
    return replace(request, body={}), dict(request.body), script


def test_a_name_that_stands_twice_is_refused() -> None:
    for text in (b'{"model": "a", "input": "x", "model": "b"}', b'{"model": "a", "input": ["x", "y"], "input": "z"}'):
        with pytest.raises(Problem, match="twice"):
            parse(EMBEDDINGS.glance, text, Bounds())
