"""Bodies of text completions: what is seen at a glance is what a closer look finds, and what several prompts need."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.answer import Problem
from gateway.core.bounds import Bounds
from gateway.core.view import View
from gateway.wire.body import parse
from gateway.wire.completions import COMPLETIONS
from gateway.wire.desk import Desk
from gateway.wire.heads import Head
from gateway.wire.text import Estimator

VIEW = View(snapshot(), NOW)
FIELDS: dict[str, list[Any]] = {
    "prompt": ["Hello", "", "你好，世界", ["a", "b"], [1, 2], [[1, 2], [3]], [], None, 5, ["a", 1]],
    "suffix": ["end", "", None, 7],
    "max_tokens": [7, 0, -1, None, "7", True],
    "n": [1, 2, 0, None, 2_000],
    "best_of": [1, 3, None, 0],
    "logprobs": [0, 5, 101, True],
    "echo": [True, False, "yes"],
    "stop": ["end", ["a", "b"], None, 7],
    "stream": [True, False, None, 1],
    "stream_options": [{"include_usage": True}, {"include_usage": False}, {}, 7],
    "temperature": [0, 1.5, "hot", None],
    "response_format": [{"type": "json_schema"}, {}, "text"],
    "user": ["eva", 5],
    "unheard_of": [1, "a", [], {"a": "b"}],
}
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["alpha", "alpha", "gpt-4o", "", 7]), "prompt": st.sampled_from(["Hello", *FIELDS["prompt"]])},
    optional={name: st.sampled_from(values) for name, values in FIELDS.items() if name != "prompt"},
)


def understood(body: dict[str, Any]) -> tuple[Any, bool | None]:
    """What a desk makes of `body`, and whether that was at a glance."""
    desk, key, text = Desk(VIEW, Estimator()), VIEW.snapshot.access.keys["ward"], json.dumps(body).encode()
    try:
        parsed = parse(COMPLETIONS.glance, text, Bounds())
        request, script = desk.request(COMPLETIONS, parsed, 0, key, Head("POST", "/", []), "id", "", NOW)
    except Problem as problem:
        return (problem.status, problem.code, problem.message, problem.param), False
    return (request.api, request.facts, request.needs, request.stream, request.wants_usage, script), parsed.reading is not None


@settings(max_examples=300)
@given(BODIES)
def test_what_is_seen_at_a_glance_is_what_a_closer_look_finds(body: dict[str, Any]) -> None:
    quick, _ = understood(body)
    close, never = understood({**body, "looked_at": []})  # a list is never usual
    assert not never
    assert quick == close


def test_usual_bodies_are_seen_at_a_glance() -> None:
    usual = {"model": "alpha", "prompt": "Hello", "max_tokens": 16, "temperature": 0, "stop": "x", "suffix": "end", "stream": True}
    for body in (usual, {**usual, "stream_options": {"include_usage": True}}, {**usual, "n": 2, "logprobs": 1}):
        assert understood(body)[1], body


@pytest.mark.parametrize(
    ("fields", "prompt_tokens", "longest", "output"),
    [
        ({"prompt": [1, 2, 3]}, 3, 0, 16),
        ({"prompt": [[1, 2, 3], [4]]}, 4, 3, 32),
        ({"prompt": [[1, 2, 3], [4]], "n": 2, "best_of": 3, "max_tokens": 10}, 4, 3, 60),
        ({"prompt": [1], "max_tokens": 0, "echo": True}, 1, 0, 0),
    ],
)
def test_what_a_request_needs(fields: dict[str, Any], prompt_tokens: int, longest: int, output: int) -> None:
    (_, facts, needs, *_), _ = understood({"model": "alpha", **fields})
    assert (needs.prompt_tokens, needs.longest_tokens, needs.output_tokens) == (prompt_tokens, longest, output)
    assert facts.language == VIEW.snapshot.policy.vocabulary.languages, "token ids may be in any"


def test_text_is_estimated_by_its_script_and_a_suffix_counts() -> None:
    def tokens(**fields: Any) -> int:
        (_, _, needs, *_), _ = understood({"model": "alpha", **fields})
        return int(needs.prompt_tokens)

    assert tokens(prompt="word " * 100) < tokens(prompt="你好你好" * 125)
    assert tokens(prompt="word " * 100, suffix="word " * 100) > 1.9 * tokens(prompt="word " * 100)
    assert tokens(prompt=["word " * 100, "word " * 100]) > 1.9 * tokens(prompt="word " * 100)
