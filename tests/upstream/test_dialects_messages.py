"""A conversation that was led with one model goes on with another: ids, reasoning and content parts in the target's spelling."""

import copy
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relaying import DIALECTS as NAMES
from relaying import SECRET, deployment, request

from gateway.upstream.dialects import DIALECTS, build
from gateway.upstream.dialects.messages import CallIds, short_id

NINE = re.compile(r"^[a-zA-Z0-9]{9}$")


def sent(dialect: str, messages: list[Any], **more: Any) -> tuple[list[Any], tuple[str, ...]]:
    body, dropped = build(DIALECTS[dialect], deployment(dialect, **more), request({"messages": messages}), SECRET)
    return orjson.loads(body)["messages"], dropped


def conversation(call_id: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": call_id, "content": "seen"},
    ]


@pytest.mark.parametrize("found", ["call_-7807249954186984837", "call_abc123", "0", "", "x" * 32, "chatcmpl-tool-1", "日本"])
def test_mistral_gets_ids_of_nine_and_pairs_stay_pairs(found: str) -> None:
    messages, dropped = sent("mistral", conversation(found))
    called, answered = messages[1]["tool_calls"][0]["id"], messages[2]["tool_call_id"]
    assert called == answered
    assert NINE.match(called)
    assert dropped == ()
    assert sent("mistral", conversation(found))[0] == messages


def test_an_id_that_fits_is_kept() -> None:
    assert sent("mistral", conversation("aB3dE6gH9"))[0] == conversation("aB3dE6gH9")


@pytest.mark.parametrize("dialect", ["zai", "vllm", "llamacpp", "openai"])
def test_others_get_ids_as_they_are(dialect: str) -> None:
    assert sent(dialect, conversation("call_-1"))[0] == conversation("call_-1")


@given(st.lists(st.text(max_size=12), max_size=12, unique=True))
def test_different_ids_stay_different(given_ids: list[str]) -> None:
    messages = [{"role": "tool", "tool_call_id": found, "content": ""} for found in given_ids]
    ids = CallIds(messages)
    mapped = [ids.of(found) for found in given_ids]
    assert len(set(mapped)) == len(given_ids)
    assert all(NINE.match(found) for found in mapped)


def test_a_hash_that_meets_an_id_that_is_there_gives_way() -> None:
    taken = short_id("call_1")
    ids = CallIds([{"tool_call_id": "call_1"}, {"tool_call_id": taken}])
    assert ids.of("call_1") == short_id("call_1", 1)
    assert ids.of(taken) == taken


def test_a_longer_history_maps_its_beginning_alike() -> None:
    begin = conversation("call_1")
    longer = begin + conversation("call_2")
    assert sent("mistral", longer)[0][:3] == sent("mistral", begin)[0]


def test_the_request_is_left_as_it_was() -> None:
    messages = [
        *conversation("call_1"),
        {"role": "assistant", "content": [{"type": "text", "text": "x"}], "reasoning": "hm", "name": "n"},
    ]
    before = copy.deepcopy(messages)
    for dialect in NAMES:
        sent(dialect, messages)
    assert messages == before


# --- reasoning ------------------------------------------------------------------------------------------------------------------

SPELLINGS = [
    {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"},
    {"role": "assistant", "content": "4", "reasoning": "2 and 2"},
    {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]}, {"type": "text", "text": "4"}],
    },
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "2 and 2", "closed": True}, {"type": "text", "text": "4"}]},
]
TARGETS = {
    "mistral": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]}, {"type": "text", "text": "4"}],
    },
    "zai": {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"},
    "llamacpp": {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"},
    "vllm": {"role": "assistant", "content": "4", "reasoning": "2 and 2"},
}


@pytest.mark.parametrize("dialect", TARGETS)
@pytest.mark.parametrize("spelt", SPELLINGS)
def test_reasoning_is_kept_in_the_targets_spelling(dialect: str, spelt: dict[str, Any]) -> None:
    messages, dropped = sent(dialect, [spelt])
    assert messages == [TARGETS[dialect]]
    assert dropped == ()


@pytest.mark.parametrize("spelt", SPELLINGS)
def test_openai_knows_no_reasoning_in_messages(spelt: dict[str, Any]) -> None:
    messages, dropped = sent("openai", [spelt])
    assert messages == [{"role": "assistant", "content": "4"}]
    assert dropped == ("messages[].reasoning_content",)


def test_reasoning_before_a_tool_call_stays_with_it() -> None:
    turn = {**conversation("aB3dE6gH9")[1], "reasoning_content": "I should look."}
    messages, _ = sent("mistral", [turn])
    assert messages[0]["content"] == [{"type": "thinking", "thinking": [{"type": "text", "text": "I should look."}]}]
    assert messages[0]["tool_calls"][0]["id"] == "aB3dE6gH9"


# --- names, roles, fields -------------------------------------------------------------------------------------------------------


def test_names_where_they_are_known() -> None:
    told = {"role": "user", "content": "x", "name": "ada"}
    assert sent("mistral", [told]) == ([{"role": "user", "content": "x"}], ("messages[].name",))
    assert sent("zai", [told]) == ([{"role": "user", "content": "x"}], ("messages[].name",))
    assert sent("openai", [told]) == ([told], ())
    tool = {"role": "tool", "tool_call_id": "aB3dE6gH9", "content": "x", "name": "look"}
    assert sent("mistral", [tool]) == ([tool], ())


@pytest.mark.parametrize("dialect", NAMES)
def test_developer_is_system_where_it_is_unknown(dialect: str) -> None:
    messages, _ = sent(dialect, [{"role": "developer", "content": "Be brief."}])
    assert messages[0]["role"] == ("developer" if dialect == "openai" else "system")


@pytest.mark.parametrize("dialect", NAMES)
def test_unknown_fields_of_messages_parts_and_calls_are_dropped_and_reported(dialect: str) -> None:
    messages, dropped = sent(
        dialect,
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
                "metadata": {"x": 1},
            },
            {"role": "assistant", "content": "b", "annotations": [], "audio": None, "refusal": None},
            {
                "role": "assistant",
                "tool_calls": [
                    {"index": 0, "id": "aB3dE6gH9", "type": "function", "extra": 1, "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "strange", "strange": 1}]},
        ],
    )
    text = orjson.dumps(messages)
    assert not any(word in text for word in (b"cache_control", b"metadata", b"annotations", b"extra", b"strange", b"index"))
    assert set(dropped) == {
        "messages[].content[].cache_control",
        "messages[].metadata",
        "messages[].tool_calls[].extra",
        "messages[].content[].strange",
    }


def test_fields_within_parts_are_listed_too() -> None:
    image = {"url": "data:image/png;base64,AAAA", "detail": "low", "fetch": "https://x.test"}
    messages, dropped = sent("openai", [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}])
    assert messages[0]["content"][0]["image_url"] == {"url": "data:image/png;base64,AAAA", "detail": "low"}
    assert dropped == ("messages[].content[].image_url.fetch",)


def test_zai_takes_text_as_one_string_unless_it_sees() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages, dropped = sent("zai", [{"role": "user", "content": parts}])
    assert messages == [{"role": "user", "content": "a\nb"}]
    assert dropped == ()
    messages, _ = sent("zai", [{"role": "user", "content": parts}], abilities=frozenset({"vision"}))
    assert messages == [{"role": "user", "content": parts}]


def test_arguments_that_are_an_object_become_a_string() -> None:
    turn = {"role": "assistant", "tool_calls": [{"id": "aB3dE6gH9", "function": {"name": "f", "arguments": {"a": 1}}}]}
    for dialect in NAMES:
        messages, _ = sent(dialect, [turn])
        call = messages[0]["tool_calls"][0]
        assert call == {"id": "aB3dE6gH9", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize("dialect", NAMES)
def test_plain_messages_are_the_very_objects(dialect: str) -> None:
    from gateway.upstream.dialects.draft import Draft
    from gateway.upstream.dialects.messages import convert

    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u" * 100_000},
        {"role": "assistant", "content": "a"},
    ]
    asked = request({"messages": messages})
    draft = Draft(DIALECTS[dialect], deployment(dialect), asked, None)
    assert convert(draft, DIALECTS[dialect].messages, messages) is messages
