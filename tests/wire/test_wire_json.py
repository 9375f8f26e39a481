"""A name that stands twice in an object is never taken for one of its two values: the quick count agrees with a slow reading.

And a body that is seen through at a glance is the same request as it is when looked at closely.
"""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.answer import Problem
from gateway.core.bounds import Bounds
from gateway.core.view import View
from gateway.wire.body import parse
from gateway.wire.chat import CHAT
from gateway.wire.desk import Desk
from gateway.wire.heads import Head
from gateway.wire.text import Estimator

TRICKY = [
    (r'{"a": ": starts with a colon"}', False),
    (r'{"a": "\": inside"}', False),
    (r'{"a": "{\"b\": 1, \"b\": 2}"}', False),
    (r'{"a\\": 1, "m": 1, "m": 2}', True),
    (r'{"a\\": 1, "m": ":"}', False),
    (r'{"a\"": 1, "a\"" : 2}', True),
    (r'{"a\\\"": 1, "a\\\\": 2}', False),
    ('{"a"\n\t :1, "b": {"a" :1}}', False),
    ('{"a" : 1, "a":1}', True),
    (r'{"a": 1, "\u0061": 2}', True),
    ('{"": 1, "": 2}', True),
    ('{"a": [{"b": 1}, {"b": 2}]}', False),
    ('{"a": [[{"b": 1, "b": ":"}]]}', True),
    (r'{"x": ":", "a": 1, "a": 1}', True),
    (r'{"x": "\u0022\u0022\u0022\u0022", "a": "b", "a": "b"}', True),  # which has as many quotes when it is written again
    (r'{"x": "\u0022", "y": [{"a": "\\\u0022 \\u0022"}]}', False),
    (r'{"x": "\\u0022\\u0022", "a": 1, "a": 1}', True),
]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('ab,[{"\\\n:'), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from('a,{"\\'), max_size=3), inner, max_size=3),
    max_leaves=12,
)
"""Values whose texts look like JSON."""


def doubled(text: str) -> bool:
    """Whether some object names something twice: read character by character by the standard library."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return found


def refused(text: str) -> bool:
    try:
        parse(CHAT.glance, text.encode(), Bounds())
    except Problem as problem:
        return (problem.status, problem.code) == (400, "duplicate_name")
    return False


@pytest.mark.parametrize(("text", "twice"), TRICKY)
def test_tricky_texts(text: str, twice: bool) -> None:
    assert doubled(text) == twice
    assert refused(text) == twice


WORDS = st.text(alphabet='a":\\ \n{},é你', max_size=4)
SPACE = st.sampled_from(["", "", " ", "\n", " \t\r\n "])
SCALARS = st.one_of(
    WORDS.map(json.dumps), WORDS.map(lambda word: json.dumps(word, ensure_ascii=False)), st.sampled_from(["1", "null", "-2e3"])
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds(lambda name, before, after, value: f"{json.dumps(name)}{before}:{after}{value}", WORDS, SPACE, SPACE, values)
    return st.lists(pair, max_size=4).map(lambda pairs: "{" + ",".join(pairs) + "}")


def lists(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(objects(inner), lists(inner), inner.map(json.dumps)), max_leaves=8)


@given(objects(VALUES), st.booleans())
def test_the_quick_count_agrees_with_a_slow_reading(text: str, spelt_out: bool) -> None:
    if spelt_out:
        text = re.sub(r'(?<!\\)((?:\\\\)*)\\"', r"\1\\u0022", text)
    assert refused(text) == doubled(text)


def test_the_message_names_it_and_not_more_than_a_part_of_it() -> None:
    long = "n" * 1_000
    with pytest.raises(Problem) as caught:
        parse(CHAT.glance, json.dumps({long: 1})[:-1].encode() + f', "{long}": 2}}'.encode(), Bounds())
    assert long[:64] in caught.value.message
    assert long[:65] not in caught.value.message


# --- at a glance ---------------------------------------------------------------------------------------------------------

VIEW = View(snapshot(), NOW)
MESSAGE = {"role": "user", "content": "hello"}
USUAL: dict[str, list[Any]] = {
    "stream": [True, False],
    "stream_options": [{"include_usage": True}],
    "max_tokens": [5],
    "temperature": [0.5, 1],
    "seed": [0],
    "user": ["somebody"],
    "stop": ["end"],
    "unheard_of": ["x", 5, None],
}
ODD: dict[str, list[Any]] = {
    "model": ["none", "", "a" * 300, None, 5],
    "messages": [[], None, "hi"],
    "stream": [None, 1],
    "stream_options": [{"include_usage": False}, {}, None, {"include_usage": True, "more": "x"}, True],
    "max_tokens": [0, -1, True, 1.5, None],
    "max_completion_tokens": [7, 0],
    "n": [1, 0],
    "temperature": [True, "hot"],
    "seed": [1.5],
    "user": [5],
    "stop": [["end"], 5],
    "tools": [[], [{"type": "function"}], [{"type": 5}], "none"],
    "response_format": [{"type": "json_schema"}, {}, "text"],
    "gateway": [{"region": "DE"}, {}, None, "DE"],
    "unheard_of": [[], {"a": "b"}],
}
SAID = ["", "hello", 'a "quoted" word', "你好，世界"]
HEARD: list[Any] = [
    *[{"role": role, "content": "hi"} for role in ("system", "assistant", "tool", "robot", None, ["user"])],
    *[{"role": "user", "content": content} for content in (None, 5, [{"type": "text", "text": "part"}], {"a": 1})],
    *[{**MESSAGE, "name": "n"}, {**MESSAGE, "tool_calls": [{}]}, {"role": "user", "name": "n"}, {}, "hi"],
]
MESSAGES = st.lists(st.sampled_from([{"role": "user", "content": content} for content in SAID]), min_size=1, max_size=3)
BODIES = st.builds(
    lambda usual, messages, odd, heard: {"model": "alpha", "messages": messages + heard, **usual, **odd},
    st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in USUAL.items()}),
    MESSAGES,
    st.sampled_from([{}, {}, *({name: value} for name, values in ODD.items() for value in values)]),
    st.lists(st.sampled_from(HEARD), max_size=1),
)


def marks(value: Any) -> int:
    """Commas and opening brackets that `value` is written with."""
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(0, len(value) - 1) + sum(map(marks, inner))


@given(st.dictionaries(st.text(st.sampled_from('ab,[{"\\\n:'), max_size=3), JSON, max_size=4), st.integers(1, 30), st.booleans())
@settings(max_examples=600)
def test_values_are_counted_outside_of_texts(body: dict[str, Any], most: int, spaced: bool) -> None:
    text = json.dumps(body, separators=(", ", ": ") if spaced else (",", ":"))
    crowded = marks(body) > most and len(text) > most
    with pytest.raises(Problem, match="values") if crowded else contextlib.nullcontext():
        parse(CHAT.glance, text.encode(), Bounds(json_values_max=most))


@pytest.mark.parametrize("crowd", [b"{}", b"[]", b"1", b'""', b'{"":""}', b'"\\""'])
def test_a_body_of_millions_of_values_is_refused_before_it_is_read(crowd: bytes) -> None:
    body = b'{"model": [' + b",".join([crowd] * 600_000) + b"]}"
    with pytest.raises(Problem, match="more than 500,000 values"):
        parse(CHAT.glance, body, Bounds())


def test_a_long_text_may_hold_any_number_of_commas() -> None:
    text = json.dumps({"model": "alpha", "messages": [{"role": "user", "content": '{"a": [1, 2]}, ' * 200_000}]})
    assert parse(CHAT.glance, text.encode(), Bounds()).body["model"] == "alpha"


def understood(body: dict[str, Any], bounds: Bounds) -> tuple[object, ...]:
    """What a desk makes of `body`, and whether that was at a glance."""
    desk, key, text = Desk(VIEW, Estimator()), VIEW.snapshot.access.keys["ward"], json.dumps(body).encode()
    try:
        parsed = parse(CHAT.glance, text, bounds)
        glanced = parsed.reading is not None
        request, script = desk.request(CHAT, parsed, 0, key, Head("POST", "/", []), "id", "", NOW)
    except Problem as problem:
        return (problem.status, problem.code, problem.message, problem.param), False
    assert {**request.body, "gateway": 0} == {**body, "gateway": 0}
    return (request.asked, request.facts, request.needs, request.stream, request.wants_usage, script), glanced


@settings(max_examples=600)
@given(BODIES, st.sampled_from([64, 64, 3, 2]))
def test_what_is_seen_at_a_glance_is_what_a_closer_look_finds(body: dict[str, Any], depth: int) -> None:
    quick, glanced = understood(body, Bounds(json_depth_max=depth))
    close, never = understood({**body, "looked_at": []}, Bounds(json_depth_max=depth))  # a list is never usual
    assert not never
    assert not glanced or depth >= 3
    assert quick == close


def test_usual_bodies_are_seen_at_a_glance() -> None:
    message = {"role": "user", "content": 'a "quoted" word, and 你好'}
    for more in ({}, {"temperature": 1, "max_tokens": 5, "stop": "x"}, {"stream": True, "stream_options": {"include_usage": True}}):
        assert understood({"model": "alpha", "messages": [message] * 3, **more}, Bounds())[1]


@pytest.mark.parametrize("levels", [100, 900, 1_010])
def test_a_value_that_was_overwritten_may_be_of_any_depth(levels: int) -> None:
    with pytest.raises(Problem) as caught:
        parse(CHAT.glance, b'{"a": ' + b"[" * levels + b"]" * levels + b', "a": 1}', Bounds())
    assert caught.value.status == 400
