"""A name that stands twice in an object is never taken for one of its two values: the quick count agrees with a slow reading."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.answer import Problem
from gateway.core.bounds import Bounds
from gateway.wire.chat import parse

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
]


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
        parse(text.encode(), Bounds())
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


@given(objects(VALUES))
def test_the_quick_count_agrees_with_a_slow_reading(text: str) -> None:
    assert refused(text) == doubled(text)


def test_the_message_names_it_and_not_more_than_a_part_of_it() -> None:
    long = "n" * 1_000
    with pytest.raises(Problem) as caught:
        parse(json.dumps({long: 1})[:-1].encode() + f', "{long}": 2}}'.encode(), Bounds())
    assert long[:64] in caught.value.message
    assert long[:65] not in caught.value.message
