"""Bodies are built from an allow-list per dialect; what is left out is reported; nothing of a client's text is ever a header."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relaying import DIALECTS as NAMES
from relaying import SECRET, deployment, request

from gateway.core.exchange import Ended, Fault
from gateway.upstream.dialects import DIALECTS, Unsendable, build
from gateway.upstream.head import head_of


def built(dialect: str, body: dict[str, Any] | None = None, *, stream: bool = False, **more: Any) -> tuple[Any, tuple[str, ...]]:
    to = deployment(dialect, **more)
    sent, dropped = build(DIALECTS[dialect], to, request(body, stream=stream), SECRET)
    return orjson.loads(sent), dropped


@pytest.mark.parametrize("dialect", NAMES)
def test_a_plain_request_says_what_it_said(dialect: str) -> None:
    body, dropped = built(dialect, {"temperature": 0.5, "max_tokens": 64})
    assert body == {
        "model": "their-model",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "max_tokens": 64,
    }
    assert dropped == ()


@pytest.mark.parametrize("dialect", NAMES)
def test_what_no_table_lists_is_not_sent_and_is_reported(dialect: str) -> None:
    strange = {"fallbacks": ["x"], "api_base": "http://evil.test", "gateway_secret": 1, "model_list": [], "metadata": {"who": "me"}}
    body, dropped = built(dialect, strange)
    assert set(body) == {"model", "messages"}
    assert dropped == tuple(strange)


@pytest.mark.parametrize("dialect", NAMES)
def test_null_and_what_holds_anyway_are_left_out_without_a_report(dialect: str) -> None:
    quiet = {"logit_bias": None, "store": False, "service_tier": "auto", "modalities": ["text"], "tools": None}
    body, dropped = built(dialect, quiet)
    assert set(body) == {"model", "messages"}
    assert dropped == ()


@pytest.mark.parametrize("dialect", NAMES)
def test_a_client_chooses_neither_model_nor_stream_by_the_body(dialect: str) -> None:
    body, _ = built(dialect, {"model": "theirs-to-choose", "stream": True})
    assert body["model"] == "their-model"
    assert "stream" not in body


@pytest.mark.parametrize(
    ("dialect", "asks"), [("mistral", False), ("zai", True), ("vllm", True), ("llamacpp", True), ("openai", True)]
)
def test_usage_is_asked_of_upstreams_that_know_how(dialect: str, asks: bool) -> None:
    for said in ({}, {"stream_options": {"include_usage": False}}, {"stream_options": {"include_usage": True, "x": 1}}):
        body, dropped = built(dialect, said, stream=True)
        assert body["stream"] is True
        assert body.get("stream_options") == ({"include_usage": True} if asks else None)
        assert dropped == ()
    assert "stream_options" not in built(dialect, {"stream_options": {"include_usage": True}})[0]


def test_obfuscation_is_the_clients_choice_where_it_is_known() -> None:
    body, _ = built("openai", {"stream_options": {"include_obfuscation": False}}, stream=True)
    assert body["stream_options"] == {"include_obfuscation": False, "include_usage": True}


RENAMED = [
    ("mistral", {"seed": 7}, {"random_seed": 7}, ()),
    ("mistral", {"max_completion_tokens": 9}, {"max_tokens": 9}, ()),
    ("mistral", {"max_completion_tokens": 9, "max_tokens": 1}, {"max_tokens": 9}, ()),
    ("mistral", {"max_tokens": 1, "max_completion_tokens": 9}, {"max_tokens": 9}, ()),
    ("openai", {"max_completion_tokens": 9}, {"max_completion_tokens": 9}, ()),
    ("mistral", {"temperature": 2}, {"temperature": 1.5}, ("temperature",)),
    ("mistral", {"logit_bias": {"1": 2}, "user": "a@b.c", "logprobs": True}, {}, ("logit_bias", "user", "logprobs")),
    ("mistral", {"safe_prompt": True, "prompt_mode": "reasoning"}, {"safe_prompt": True, "prompt_mode": "reasoning"}, ()),
    ("mistral", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}, ("reasoning_effort",)),
    ("mistral", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ()),
    ("mistral", {"reasoning_effort": "none"}, {"reasoning_effort": "none"}, ()),
    ("zai", {"temperature": 1.7}, {"temperature": 1}, ("temperature",)),
    ("zai", {"temperature": 0}, {"temperature": 0}, ()),
    ("zai", {"top_p": 0}, {"top_p": 0.01}, ("top_p",)),
    ("zai", {"stop": "END"}, {"stop": ["END"]}, ()),
    ("zai", {"stop": ["END", "STOP"]}, {"stop": ["END"]}, ("stop",)),
    ("zai", {"stop": []}, {}, ()),
    ("zai", {"n": 2}, {}, ("n",)),
    ("zai", {"n": 1, "presence_penalty": 0}, {}, ()),
    ("zai", {"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}, ()),
    (
        "zai",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"response_format": {"type": "json_object"}},
        ("response_format.json_schema",),
    ),
    ("zai", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
    ("zai", {"reasoning_effort": "high"}, {"thinking": {"type": "enabled"}}, ()),
    ("zai", {"reasoning_effort": "high", "thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, ()),
    ("zai", {"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, {"thinking": {"type": "disabled"}}, ()),
    ("vllm", {"guided_json": {"type": "object"}}, {"structured_outputs": {"json": {"type": "object"}}}, ()),
    ("vllm", {"guided_choice": ["a", "b"]}, {"structured_outputs": {"choice": ["a", "b"]}}, ()),
    ("vllm", {"top_k": 5, "min_p": 0.1}, {"top_k": 5, "min_p": 0.1}, ()),
    ("vllm", {"reasoning_effort": "minimal"}, {"reasoning_effort": "minimal"}, ()),
    ("vllm", {"chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs": {"enable_thinking": False}}, ()),
    ("vllm", {"chat_template_kwargs": {"tools": "{{x}}"}}, {}, ("chat_template_kwargs.tools",)),
    ("llamacpp", {"top_k": 5, "grammar": "root ::="}, {"top_k": 5}, ("grammar",)),
]


@pytest.mark.parametrize(("dialect", "said", "sent", "reported"), RENAMED)
def test_renamed_mapped_and_dropped(dialect: str, said: dict[str, Any], sent: dict[str, Any], reported: tuple[str, ...]) -> None:
    body, dropped = built(dialect, said)
    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == sent
    assert dropped == reported


@pytest.mark.parametrize(
    "field",
    [
        "chat_template",
        "kv_transfer_params",
        "priority",
        "vllm_xargs",
        "cache_salt",
        "ec_transfer_params",
        "request_id",
        "session_id",
    ],
)
def test_vllm_never_gets_what_reaches_into_the_engine(field: str) -> None:
    body, dropped = built("vllm", {field: 1})
    assert field not in body
    assert dropped == (field,)


@pytest.mark.parametrize("field", ["store", "metadata", "web_search_options", "service_tier"])
@pytest.mark.parametrize("dialect", NAMES)
def test_nothing_keeps_content_sends_it_elsewhere_or_changes_its_price(dialect: str, field: str) -> None:
    body, dropped = built(dialect, {field: {"x": "y"}})
    assert field not in body
    assert dropped == (field,)


@pytest.mark.parametrize("dialect", NAMES)
def test_effort_is_not_asked_of_a_model_that_does_not_reason(dialect: str) -> None:
    body, dropped = built(dialect, {"reasoning_effort": "high"}, abilities=frozenset({"tools"}))
    assert not {"reasoning_effort", "thinking"} & set(body)
    assert dropped == ("reasoning_effort",)


# --- users --------------------------------------------------------------------------------------------------------------------


def test_a_users_name_travels_as_a_hash_of_fixed_length() -> None:
    for dialect, field in (("zai", "user_id"), ("openai", "user")):
        sent = [built(dialect, {"user": name})[0][field] for name in ("a", "ada@example.org", "x" * 4000, "ada@example.org")]
        assert {len(found) for found in sent} == {32}
        assert sent[1] == sent[3]
        assert len(set(sent)) == 3
        assert b"ada" not in orjson.dumps(sent)


def test_one_user_of_two_tenants_is_two() -> None:
    to = deployment("zai")
    one = request({"user": "ada"})
    other = replace(one, facts=replace(one.facts, tenant=frozenset({"shop"})))
    sent = [orjson.loads(build(DIALECTS["zai"], to, asked, SECRET)[0])["user_id"] for asked in (one, other)]
    assert sent[0] != sent[1]


def test_caching_is_asked_for_by_a_key_that_tells_nothing_where_affinity_is_on() -> None:
    to = deployment("mistral")

    def sent(dialect: str = "mistral", tenant: str = "clinic", at: int | None = 10, secret: str = SECRET, **body: Any) -> Any:
        asked = request(body)
        asked = replace(asked, facts=replace(asked.facts, tenant=frozenset({tenant})))
        return orjson.loads(build(DIALECTS[dialect], to, asked, secret, at)[0]).get("prompt_cache_key")

    turn = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "So?"}]
    key = sent()
    assert len(key) == 32 and set(key) <= set("0123456789abcdef")
    assert key == sent(messages=turn) == sent(temperature=1), "all turns of a conversation say the same"
    others = [sent(tenant="shop"), sent(secret="another"), sent(messages=turn[1:]), sent(tools=[TOOL])]
    assert len({key, *others}) == 5
    assert sent(at=None) is None, "affinity is off"
    assert sent(at=13) is None, "the prompt is short"
    assert sent(prompt_cache_key="theirs") == "theirs"
    assert [sent(name) for name in ("zai", "vllm", "llamacpp", "openai")] == [None] * 4


# --- tools --------------------------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}, "strict": True}}


def test_tools_pass_as_they_are_where_strict_is_known() -> None:
    for dialect in ("mistral", "vllm", "llamacpp", "openai"):
        body, dropped = built(dialect, {"tools": [TOOL]})
        assert body["tools"] == [TOOL]
        assert dropped == ()


def test_fields_of_tools_are_listed_too() -> None:
    body, dropped = built("zai", {"tools": [{**TOOL, "cache_control": {}}]})
    assert body["tools"] == [{"type": "function", "function": {k: v for k, v in TOOL["function"].items() if k != "strict"}}]  # type: ignore[attr-defined]
    assert set(dropped) == {"tools[].cache_control", "tools[].function.strict"}


@pytest.mark.parametrize(
    ("dialect", "choice", "sent", "reported"),
    [
        ("mistral", "required", "any", ()),
        ("mistral", "auto", "auto", ()),
        ("vllm", "any", "required", ()),
        ("openai", "required", "required", ()),
        ("zai", "auto", "auto", ()),
        ("zai", "required", "auto", ("tool_choice",)),
        ("zai", {"type": "function", "function": {"name": "look"}}, "auto", ("tool_choice",)),
        ("mistral", {"type": "function", "function": {"name": "look"}}, {"type": "function", "function": {"name": "look"}}, ()),
        ("openai", {"type": "allowed_tools", "tools": []}, "auto", ("tool_choice",)),
    ],
)
def test_tool_choice(dialect: str, choice: Any, sent: Any, reported: tuple[str, ...]) -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    body, dropped = built(dialect, {"tools": [tool], "tool_choice": choice})
    assert body["tool_choice"] == sent
    assert dropped == reported


def test_none_is_kept_at_zai_by_sending_no_tools() -> None:
    body, dropped = built("zai", {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "none"})
    assert "tools" not in body
    assert "tool_choice" not in body
    assert dropped == ()


@pytest.mark.parametrize("dialect", NAMES)
def test_no_tools_no_choice(dialect: str) -> None:
    body, dropped = built(dialect, {"tools": [], "tool_choice": "required", "parallel_tool_calls": False})
    assert set(body) == {"model", "messages"}
    assert "tool_choice" in dropped


@pytest.mark.parametrize("dialect", NAMES)
def test_a_tool_that_the_provider_runs_needs_the_endpoints_promise(dialect: str) -> None:
    search = {"type": "web_search", "web_search": {"enable": True}}
    body, dropped = built(dialect, {"tools": [search]})
    assert "tools" not in body
    assert dropped == ("tools[].web_search",)
    body, _ = built("zai", {"tools": [search]}, tools=frozenset({"function", "web_search"}))
    assert body["tools"] == [search]


def test_zai_streams_tool_calls_only_when_told() -> None:
    tool = {"tools": [{"type": "function", "function": {"name": "look"}}]}
    assert built("zai", tool, stream=True)[0]["tool_stream"] is True
    assert "tool_stream" not in built("zai", tool)[0]
    assert built("zai", {**tool, "tool_stream": False}, stream=True)[0]["tool_stream"] is False


@pytest.mark.parametrize("dialect", ["mistral", "vllm", "openai", "llamacpp"])
def test_schemas_pass_with_their_own_fields_only(dialect: str) -> None:
    schema = {"name": "x", "schema": {"type": "object"}, "strict": True}
    body, dropped = built(dialect, {"response_format": {"type": "json_schema", "json_schema": {**schema, "extra": 1}}})
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert dropped == ("response_format.json_schema.extra",)


# --- limits -------------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KNOWN = sorted({name for dialect in DIALECTS.values() for name in dialect.fields})


@given(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=12), JSON, max_size=5), st.booleans())
def test_whatever_a_body_holds_only_listed_fields_leave(dialect: str, body: dict[str, Any], stream: bool) -> None:
    body.pop("messages", None)
    sent, dropped = built(dialect, body, stream=stream)
    table = DIALECTS[dialect].fields
    ours = {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tool_stream",
        "thinking",
        "structured_outputs",
        "user_id",
        "random_seed",
    }
    assert set(sent) <= {*table, *ours}
    assert len(dropped) <= 32
    assert all(name.isprintable() and len(name) <= 64 for name in dropped)


@given(
    st.sampled_from(NAMES),
    st.lists(JSON | st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "name"]), JSON), max_size=4),
)
def test_no_shape_of_messages_breaks_the_builder(dialect: str, messages: list[Any]) -> None:
    sent, _ = built(dialect, {"messages": messages})
    assert len(sent["messages"]) == len(messages)


# --- remote content -----------------------------------------------------------------------------------------------------------


def image(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}]}


@pytest.mark.parametrize(
    "url", ["https://x.test/a.png", "HTTP://x.test/", "file:///etc/passwd", "FILE:/etc/passwd", "/etc/passwd", "ftp://x"]
)
@pytest.mark.parametrize("dialect", NAMES)
def test_no_upstream_is_made_to_fetch(dialect: str, url: str) -> None:
    with pytest.raises(Unsendable) as caught:
        built(dialect, image(url))
    outcome = caught.value.outcome
    assert (outcome.ended, outcome.fault, outcome.sent) == (Ended.REJECTED, Fault.CLIENT, False)
    assert outcome.code == "remote_content_refused"
    assert url not in outcome.message


def sound(value: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": value}]}]}


@pytest.mark.parametrize("url", ["https://x.test/a.mp3", "HTTP://x.test/", "file:///etc/passwd", " https://x.test/a.mp3"])
@pytest.mark.parametrize("dialect", NAMES)
def test_nor_to_fetch_sound(dialect: str, url: str) -> None:
    for value in (url, {"data": url, "format": "mp3"}):
        with pytest.raises(Unsendable):
            built(dialect, sound(value))


def test_inline_sound_passes() -> None:
    for value in ("UklGRg==", "data:audio/wav;base64,UklGRg==", {"data": "UklGRg==", "format": "wav"}):
        body, dropped = built("mistral", sound(value))
        assert body["messages"][0]["content"][0]["input_audio"] == value
        assert dropped == ()


@pytest.mark.parametrize(
    "file", [{"file_id": "file-1"}, {"file_id": "f", "file_data": "AAAA"}, {"file_url": "https://x.test"}, None]
)
def test_nor_to_take_a_file_from_somewhere(file: Any) -> None:
    messages = {"messages": [{"role": "user", "content": [{"type": "file", "file": file}]}]}
    with pytest.raises(Unsendable):
        built("openai", messages)


def test_inline_files_pass() -> None:
    part = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}
    body, dropped = built("openai", {"messages": [{"role": "user", "content": [part]}]})
    assert body["messages"][0]["content"] == [part]
    assert dropped == ()


def test_what_can_not_be_written_again_is_the_clients_fault() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    for nested in (10**30, deep):
        with pytest.raises(Unsendable) as caught:
            built("openai", {"logit_bias": nested})
        assert caught.value.outcome.ended is Ended.REJECTED


def test_inline_images_pass_and_remote_ones_where_the_endpoint_allows() -> None:
    seeing = frozenset({"vision"})
    body, _ = built("mistral", image("data:image/png;base64,AAAA"), abilities=seeing)
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:")
    body, _ = built("zai", image("https://x.test/a.png"), abilities=seeing, remote_content=True)
    assert body["messages"][0]["content"][0]["image_url"]["url"] == "https://x.test/a.png"
    with pytest.raises(Unsendable):
        built("llamacpp", image("file:///etc/passwd"), remote_content=True)


# --- the head -----------------------------------------------------------------------------------------------------------------


def test_the_head_holds_nothing_but_ours() -> None:
    head = head_of(deployment("zai", host="api.z.test", port=8443).endpoint, DIALECTS["zai"], "k-1", "/chat/completions").decode()
    assert head.split("\r\n") == [
        "POST /v1/chat/completions HTTP/1.1",
        "host: api.z.test:8443",
        "authorization: Bearer k-1",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        "user-agent: residency-gateway/0.1.0",
        "accept-language: en-US,en",
        "content-length: ",
    ]


def test_the_head_names_hosts_as_http_wants_them() -> None:
    openai = DIALECTS["openai"]
    assert b"host: upstream.test\r\n" in head_of(deployment("openai").endpoint, openai, None, "/x")
    assert b"authorization" not in head_of(deployment("openai").endpoint, openai, None, "/x")
    assert b"host: [::1]:8000\r\n" in head_of(deployment("openai", host="::1", port=8000).endpoint, openai, None, "/x")
    secure = replace(deployment("openai").endpoint, scheme="https", port=443)
    assert b"host: upstream.test\r\n" in head_of(secure, openai, None, "/x")


@pytest.mark.parametrize(
    ("host", "path", "secret"),
    [("x", "/v1", "a\r\nx: y"), ("x\r\ny", "/v1", "a"), ("x", "/v1 HTTP/1.1\r\n", "a"), ("x", "/v1", "ä")],
)
def test_a_value_can_not_become_a_header(host: str, path: str, secret: str) -> None:
    with pytest.raises(ValueError, match="at-openai") as caught:
        head_of(deployment("openai", host=host, path=path).endpoint, DIALECTS["openai"], secret, "/chat/completions")
    assert secret not in str(caught.value).replace("at-openai", "") or secret == "a"
