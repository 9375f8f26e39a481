"""What each dialect takes and refuses, counts and caches, beyond the shape of its answers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from simulator_client import SAY, body, run, simulated

from gateway.simulators import DIALECTS, speech, tokens
from gateway.simulators.ask import sample

WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"location": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["location", "days"],
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": WEATHER_SCHEMA}}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def user(text: str) -> list[dict[str, Any]]:
    """Messages of one user."""
    return [{"role": "user", "content": text}]


async def ask(dialect: str, request: dict[str, Any], **settings: Any) -> Any:
    """One request to a fresh simulator."""
    async with simulated(dialect, **settings) as (_, client):
        return await client.ask(request)


# -- Mistral is strict


@pytest.mark.parametrize(
    ("request_body", "where"),
    [
        (body(stream_options={"include_usage": True}), ["body", "stream_options"]),
        (body(max_completion_tokens=5), ["body", "max_completion_tokens"]),
        (body(user="u"), ["body", "user"]),
        (body(seed=1), ["body", "seed"]),
        (body(tools=[]), ["body", "tools"]),
        (body(messages=[{"role": "user", "content": "a", "name": "n"}]), ["body", "messages", 0, "user", "name"]),
        (
            body(messages=[*user("a"), {"role": "assistant", "content": "b", "reasoning_content": "c"}, *user("d")]),
            ["body", "messages", 1, "assistant", "reasoning_content"],
        ),
        (body(messages=[{"role": "developer", "content": "a"}]), ["body", "messages", 0]),
        (body(temperature=1.8), ["body", "temperature"]),
        ({"model": "m"}, ["body", "messages"]),
    ],
)
def test_mistral_refuses_what_its_schema_does_not_know(request_body: dict[str, Any], where: list[Any]) -> None:
    got = run(ask("mistral", request_body))
    assert got.status == 422
    assert [problem["loc"] for problem in got.json["message"]["detail"]] == [where]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"role": "system", "content": "a"}], "3230"),
        ([*user("a"), {"role": "assistant", "content": "b"}], "3230"),
        ([*user("a"), {"role": "tool", "tool_call_id": "abcdefghi", "content": "b"}], "3230"),
    ],
)
def test_mistral_minds_who_speaks_last_and_after_whom(messages: list[Any], code: str) -> None:
    got = run(ask("mistral", body(messages=messages)))
    assert (got.status, got.json["code"]) == (400, code)


def test_mistral_continues_an_assistant_message_marked_as_prefix() -> None:
    messages = [*user("a"), {"role": "assistant", "content": "Once", "prefix": True}]
    assert run(ask("mistral", body(messages=messages))).status == 200


def test_mistral_refuses_a_tool_choice_without_tools() -> None:
    got = run(ask("mistral", body(tool_choice="any")))
    assert (got.status, got.json["type"]) == (400, "invalid_request_error")


# -- Z.ai


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stop": ["a", "b"]}, "1210"),
        ({"user_id": "short"}, "1210"),
        ({"temperature": 1.2}, "1210"),
        ({"response_format": {"type": "json_schema"}}, "1210"),
        ({"messages": [{"role": "system", "content": "a"}]}, "1214"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "1210"),
    ],
)
def test_zai_refuses_parameters_out_of_its_range(fields: dict[str, Any], code: str) -> None:
    got = run(ask("zai", body(**fields)))
    assert (got.status, got.json["error"]["code"]) == (400, code)


def test_zai_thinks_unless_told_not_to() -> None:
    message = run(ask("zai", body()))
    silent = run(ask("zai", body(thinking={"type": "disabled"})))
    assert message.json["choices"][0]["message"]["reasoning_content"]
    assert "reasoning_content" not in silent.json["choices"][0]["message"]


def test_zai_mints_ids_that_mistral_would_refuse() -> None:
    plain = run(ask("zai", body(tools=[WEATHER], messages=user("[[tool]]"))))
    (call,) = plain.json["choices"][0]["message"]["tool_calls"]
    assert re.fullmatch(r"call_-\d+", call["id"])


# -- vLLM and llama.cpp take anything, OpenAI does not


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp", "zai"])
def test_unknown_fields_are_ignored(dialect: str) -> None:
    assert run(ask(dialect, body(guided_json={}, nonsense=1))).status == 200


def test_openai_refuses_unknown_fields() -> None:
    got = run(ask("openai", body(top_k=5)))
    assert (got.status, got.json["error"]["param"]) == (400, "top_k")


def test_vllm_has_health_metrics_and_version_without_a_key() -> None:
    async def scene() -> None:
        async with simulated("vllm", api_key="k", models={"glm"}) as (_, client):
            answers = {}
            for path in ("/health", "/metrics", "/version", "/v1/models"):
                await client.send("GET", path)
                answers[path] = await client.read()
            assert [a.status for a in answers.values()] == [200, 200, 200, 401]
            assert answers["/health"].payload == b""
            assert b'vllm:num_requests_running{engine="0",model_name="glm"} 0.0' in answers["/metrics"].payload

    run(scene())


def test_llamacpp_has_health_and_metrics_without_a_key() -> None:
    async def scene() -> None:
        async with simulated("llamacpp", api_key="k") as (_, client):
            await client.send("GET", "/health")
            assert (await client.read()).json == {"status": "ok"}
            await client.send("GET", "/metrics")
            assert b"\nllamacpp:requests_deferred 0\n" in (await client.read()).payload

    run(scene())


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_an_engine_is_ill_by_script_and_serves_all_the_same(dialect: str) -> None:
    async def scene() -> None:
        script = [{"match": {"path": "/health"}, "fault": {"kind": "error", "status": 503}, "times": 1}]
        async with simulated(dialect, script=script) as (_, client):
            await client.send("GET", "/health")
            assert (await client.read()).status == 503
        assert (await ask(dialect, body(), script=script)).status == 200

    run(scene())


# -- all of them


@pytest.mark.parametrize("dialect", DIALECTS)
def test_models_are_listed_under_any_prefix_and_others_do_not_exist(dialect: str) -> None:
    async def scene() -> None:
        async with simulated(dialect, models={"a", "b"}) as (_, client):
            for prefix in (client.prefix, "/behind/some/proxy/v1"):
                await client.send("GET", f"{prefix}/models")
                assert {m["id"] for m in (await client.read()).json["data"]} == {"a", "b"}
            assert (await client.ask(body(model="a"))).status == 200
            unknown = await client.ask(body(model="c"))
            assert unknown.status == {"mistral": 400, "zai": 400, "vllm": 404, "openai": 404, "llamacpp": 200}[dialect]

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_is_asked_for_when_there_is_one(dialect: str) -> None:
    async def scene() -> None:
        async with simulated(dialect, api_key="secret") as (sim, client):
            assert (await client.ask(body(), {"authorization": "Bearer secret"})).status == 200
            assert (await client.ask(body(), {"authorization": "Bearer wrong"})).status == 401
            assert sim.journal[1].header("Authorization") == "Bearer wrong"

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("data", [b"{not json", b"[1]", b""])
def test_what_is_no_json_object_is_the_clients_fault(dialect: str, data: bytes) -> None:
    async def scene() -> None:
        async with simulated(dialect) as (_, client):
            await client.post(data)
            assert (await client.read()).status in (400, 422)

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_paths_do_not_exist(dialect: str) -> None:
    async def scene() -> None:
        async with simulated(dialect) as (_, client):
            await client.send("POST", "/v1/nothing", b"{}")
            assert (await client.read()).status == 404

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_says_who_gave_it_in_the_language_of_the_prompt(dialect: str) -> None:
    german = run(ask(dialect, body(messages=user("Bitte schreibe eine Rechnung für die Klinik und das Labor"))))
    chinese = run(ask(dialect, body(messages=user("请帮我写一封信给医院"))))
    who = DIALECTS[dialect].who
    assert f"Hier spricht der {who}-Simulator für m." in german.json["choices"][0]["message"]["content"]
    assert f"这里是 {who} 模拟器" in chinese.json["choices"][0]["message"]["content"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_says_what_the_plain_answer_says_and_bills_the_same(dialect: str) -> None:
    async def scene() -> None:
        async with simulated(dialect, name="X") as (_, client):
            request = body(messages=user("hello [[tokens:20]]"), max_tokens=25)
            plain = (await client.ask(request)).json
            extra = {} if dialect == "mistral" else {"stream_options": {"include_usage": True}}
            events = (await client.ask(request | {"stream": True} | extra)).events
            deltas = [e["choices"][0]["delta"] for e in events[:-1] if e["choices"]]
            assert "".join(d.get("content") or "" for d in deltas) == plain["choices"][0]["message"]["content"]
            usage = next(e["usage"] for e in events[:-1] if e.get("usage"))
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                assert usage[name] == plain["usage"][name]
            assert plain["usage"]["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tools_are_called_when_forced_and_when_triggered(dialect: str) -> None:
    async def scene() -> None:
        async with simulated(dialect) as (_, client):
            tools = {"tools": [WEATHER, TIME]}
            forced = await client.ask(body(**tools, tool_choice="required"))
            named = await client.ask(body(**tools, tool_choice={"type": "function", "function": {"name": "time"}}))
            both = await client.ask(body(**tools, messages=user("[[tool:time]] [[tool:weather]]")))
            none = await client.ask(body(**tools, messages=user("[[tool]]"), tool_choice="none"))
            free = await client.ask(body(**tools))
            names = [[c["function"]["name"] for c in _calls(got)] for got in (forced, named, both, none, free)]
            assert names == [["weather"], ["time"], ["time", "weather"], [], []]
            assert _calls(forced)[0]["function"]["arguments"] == '{"location":"Florence","days":3}'
            assert forced.json["choices"][0]["finish_reason"] == "tool_calls"

    def _calls(got: Any) -> list[Any]:
        return got.json["choices"][0]["message"].get("tool_calls") or []

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_streamed_call_can_be_put_together(dialect: str) -> None:
    got = run(ask(dialect, body(stream=True, tools=[WEATHER], messages=user("[[tool]]"))))
    deltas = [e["choices"][0]["delta"].get("tool_calls") or [] for e in got.events[:-1] if e["choices"]]
    functions = [call["function"] for calls in deltas for call in calls]
    assert "".join(f.get("arguments") or "" for f in functions) == '{"location":"Florence","days":3}'
    assert "".join(f.get("name") or "" for f in functions) == "weather"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_is_cut_at_max_tokens(dialect: str) -> None:
    got = run(ask(dialect, body(messages=user("[[tokens:50]]"), max_tokens=30)))
    assert got.json["choices"][0]["finish_reason"] == "length"
    assert got.json["usage"]["completion_tokens"] == 30


def test_a_prompt_longer_than_the_window_is_refused_by_all_but_with_their_own_words() -> None:
    words = {d: run(ask(d, body(messages=user("word " * 500)), window=100)).payload.decode() for d in DIALECTS}
    assert "Prompt exceeds max length" in words["zai"]
    assert "too large for model with 100 maximum context length" in words["mistral"]
    assert "maximum context length is 100 tokens" in words["vllm"]
    assert '"code":"context_length_exceeded"' in words["openai"]
    assert '"n_ctx":100' in words["llamacpp"]


def test_json_is_answered_when_asked_for() -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "bill", "schema": schema}}
    got = run(ask("openai", body(messages=user("hi"), response_format=wanted)))
    assert got.json["choices"][0]["message"]["content"] == '{"total":3.5}'


def test_several_choices() -> None:
    got = run(ask("openai", body(n=3)))
    assert [c["index"] for c in got.json["choices"]] == [0, 1, 2]
    assert got.json["usage"]["completion_tokens"] == 12


# -- cached tokens


@pytest.mark.parametrize(
    ("dialect", "extra", "block"),
    [("mistral", {"prompt_cache_key": "k"}, 64), ("zai", {}, 64), ("openai", {}, 128), ("llamacpp", {}, 1)],
)
def test_a_repeated_prefix_is_reported_as_cached(dialect: str, extra: dict[str, Any], block: int) -> None:
    async def scene() -> None:
        async with simulated(dialect) as (_, client):
            long = body(messages=user("word " * 1200), **extra)
            first, second = await client.ask(long), await client.ask(long)
            other = await client.ask(body(messages=user("else " * 1200), **extra))
            cached = [g.json["usage"]["prompt_tokens_details"]["cached_tokens"] for g in (first, second, other)]
            total = second.json["usage"]["prompt_tokens"]
            assert cached[0] == 0
            assert total - block <= cached[1] < total
            assert cached[1] % block == 0
            assert cached[2] < block + tokens.PER_MESSAGE

    run(scene())


def test_mistral_caches_nothing_without_a_key_and_nothing_across_keys() -> None:
    async def scene() -> None:
        async with simulated("mistral") as (_, client):
            long = body(messages=user("word " * 300))
            found = []
            for extra in ({}, {}, {"prompt_cache_key": "a"}, {"prompt_cache_key": "b"}, {"prompt_cache_key": "a"}):
                got = await client.ask(long | extra)
                found.append(got.json["usage"]["prompt_tokens_details"]["cached_tokens"] > 0)
            assert found == [False, False, False, False, True]

    run(scene())


# -- counting and speaking


def test_pieces_make_the_text_again() -> None:
    for text in ("", "Hello, world!\n\n  12345 übergröße", "你好，世界。mixed 混合 text", "a\u0000b \U0001f600"):
        assert "".join(tokens.pieces(text)) == text


def test_tokens_are_plausible_by_script() -> None:
    english = "The quick brown fox jumps over the lazy dog and goes home again."
    assert 3 < len(english) / tokens.count(english) < 6
    chinese = "请帮我写一封信给医院"
    assert tokens.count(chinese) == len(chinese)


@pytest.mark.parametrize(
    ("text", "language"),
    [("hello there", "en"), ("der Brief ist nicht da", "de"), ("写一封信", "zh"), ("これはペンです", "ja"), ("", "en")],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert speech.language(text) == language


def test_a_sample_satisfies_its_schema() -> None:
    import jsonschema

    schema = {
        "type": "object",
        "required": ["a", "b", "c", "d", "e"],
        "properties": {
            "a": {"enum": ["x", "y"]},
            "b": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
            "c": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "d": {"const": 5},
            "e": {"type": "object", "properties": {"f": {"type": ["boolean", "null"]}}},
        },
    }
    jsonschema.validate(sample(schema), schema)


def test_the_same_requests_in_the_same_order_get_the_same_answers() -> None:
    first, second = run(ask("zai", body(messages=SAY))), run(ask("zai", body(messages=SAY)))
    assert {**first.json, "created": 0} == {**second.json, "created": 0}
