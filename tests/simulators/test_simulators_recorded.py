"""Each simulator's answers, over a socket, against what its provider was recorded to send.

Differences that are meant are written down with their reason, and must still be there: a declaration that has become
untrue fails as much as a difference nobody declared. Then the comparison itself is put to the test, with planted
differences of every kind on every fixture: a check that cannot fail proves nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from simulator_client import body, embedded, prompted, run, simulated
from wire_shapes import (
    FIXTURES,
    differences,
    header_differences,
    recorded,
    recorded_headers,
    stream_differences,
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
TOOL = {"tools": [WEATHER], "messages": [{"role": "user", "content": "[[tool]]"}]}
AFTER_TOOL = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [
    {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "40 C"}, {"role": "user", "content": "so?"}]  # fmt: skip
BAD_ID = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [
    {"id": "turn1_0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "turn1_0", "content": "40 C"}]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A fixture, the request that should bring the simulator to answer like it, and the differences that are meant."""

    fixture: str
    request: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    meant: dict[str, str] = field(default_factory=dict)

    @property
    def dialect(self) -> str:
        return self.fixture.split("/")[0]

    @property
    def path(self) -> str:
        if "/vectors_" in self.fixture:
            return "/embeddings"
        if "/text_" not in self.fixture:
            return "/chat/completions"
        return "/fim/completions" if self.dialect == "mistral" else "/completions"


CACHED = "recorded before Mistral began to report cached tokens in every usage (it did by June 2026)"
PADDED = "this recording has no padding key; the vendor's own test data has it, and says so of later chunks"
RAW_STATUS = "seen with and without; the simulator sends it, as the newest reports have it"

CASES = [
    Case("mistral/plain.json", body()),
    Case(
        "mistral/tool_plain.json",
        body(**TOOL),
        meant={"extra: usage.prompt_tokens_details": CACHED},
    ),
    Case(
        "mistral/thinking_plain.json",
        body(reasoning_effort="high"),
        meant={"extra: usage.prompt_tokens_details": CACHED},
    ),
    Case("mistral/stream.sse", body(stream=True), meant={"extra: usage.prompt_tokens_details (in finish)": CACHED}),
    Case(
        "mistral/tool_stream.sse",
        body(stream=True, **TOOL),
        meant={"extra: usage.prompt_tokens_details (in finish)": CACHED},
    ),
    Case(
        "mistral/thinking_stream.sse",
        body(stream=True, reasoning_effort="high"),
        meant={
            "extra: usage.prompt_tokens_details (in finish)": CACHED,
            "extra: p (in thinking)": PADDED,
            "extra: p (in text)": PADDED,
            "extra: p (in finish)": PADDED,
            "order: recorded role empty thinking text finish [DONE]; sent role thinking thinking+text text finish"
            " [DONE]": "the documentation shows one list that closes the thinking and begins the text; the recording"
            " is of an older model, and its middle is left out",
        },
    ),
    Case("mistral/error_422.json", body(max_completion_tokens=800), status=422),
    Case("mistral/error_1300.json", body(), {"script": [{"fault": "throttle"}]}, 429),
    Case(
        "mistral/error_3230.json",
        body(messages=AFTER_TOOL),
        status=400,
        meant={"extra: raw_status_code": RAW_STATUS},
    ),
    Case("mistral/error_3280.json", body(messages=BAD_ID), status=400),
    Case("mistral/error_1500.json", body(), {"models": {"other"}}, 400),
    Case("mistral/error_401.json", body(), {"api_key": "k"}, 401),
    Case(
        "zai/plain.json",
        body(),
        meant={
            "extra: object": "absent in 2025, present in every chunk recorded in 2026",
            "extra: usage.completion_tokens_details": "documented; absent in these recordings",
        },
    ),
    Case(
        "zai/tool_plain.json",
        body(**TOOL),
        meant={
            "extra: object": "as above",
            "extra: usage.completion_tokens_details": "as above",
        },
    ),
    Case(
        "zai/stream.sse",
        body(**USAGE),
        meant={"extra: usage.completion_tokens_details (in finish)": "documented; absent in this recording"},
    ),
    Case(
        "zai/tool_stream.sse",
        body(**USAGE, **TOOL),
        meant={"extra: usage.completion_tokens_details (in finish)": "as above"},
    ),
    Case("zai/error_1261.json", body(), {"window": 3}, 400),
    Case("zai/error_1301.json", body(), {"script": [{"fault": {"kind": "error", "code": 1301}}]}, 400),
    Case("zai/error_1305.json", body(), {"script": [{"fault": {"kind": "error", "code": "1305"}}]}, 429),
    Case("vllm/plain.json", body()),
    Case("vllm/reasoning_stream_usage.sse", body(**USAGE, reasoning_effort="high", max_tokens=4)),
    Case(
        "vllm/stream.sse",
        body(stream=True),
        meant={
            "extra: prompt_text (in role)": "in builds of 2026",
            "order: recorded role text [DONE]; sent role text text+finish [DONE]": "the recording leaves out the middle",
        },
    ),
    Case("vllm/error_404.json", body(), {"models": {"other"}}, 404),
    Case("vllm/error_401.json", body(), {"api_key": "k"}, 401),
    Case("openai/plain.json", body()),
    Case("openai/tool_plain.json", body(**TOOL)),
    Case("openai/stream_usage.sse", body(**USAGE)),
    Case("openai/tool_stream.sse", body(**USAGE, **TOOL)),
    Case("openai/error_404.json", body(), {"models": {"other"}}, 404),
    Case("llamacpp/plain.json", body()),
    Case("llamacpp/stream.sse", body(stream=True)),
    Case("llamacpp/stream_usage.sse", body(**USAGE)),
    Case("llamacpp/too_long.json", body(), {"window": 3}, 400),
    Case("llamacpp/bad_request.json", {"model": "m"}, status=400),
    Case("llamacpp/unauthorized.json", body(), {"api_key": "k"}, 401),
    Case("mistral/text_plain.json", prompted(suffix="x"), meant={"extra: usage.prompt_tokens_details": CACHED}),
    Case("openai/text_plain.json", prompted()),
    Case("openai/text_stream.sse", prompted(stream=True)),
    Case("vllm/text_plain.json", prompted()),
    Case("vllm/text_stream.sse", prompted(stream=True)),
    Case("vllm/text_suffix.json", prompted(suffix="x"), status=400),
    Case("llamacpp/text_plain.json", prompted()),
    Case("llamacpp/text_stream.sse", prompted(stream=True)),
    Case("llamacpp/text_logprobs.json", prompted(logprobs=1)),
    Case("llamacpp/text_stream_logprobs.sse", prompted(stream=True, logprobs=1)),
    Case(
        "llamacpp/text_stream_many.sse",
        prompted(stream=True, prompt=["[[say:a b]]", "[[say:c d]]"]),
        meant={
            "order: recorded None text empty+finish text empty+finish [DONE]; sent text empty+finish text empty+finish [DONE]":
            "the event `null` comes where a prompt has not begun yet",
        },
    ),
    Case("llamacpp/text_bad_request.json", {"model": "m"}, status=400),
    Case(
        "mistral/vectors_plain.json",
        embedded(),
        meant={"extra: usage.completion_tokens": "in recordings of 2025 and later; this one is abridged"},
    ),
    Case("openai/vectors_plain.json", embedded()),
    Case("vllm/vectors_plain.json", embedded()),
    Case("llamacpp/vectors_plain.json", embedded()),
    Case("llamacpp/vectors_base64.json", embedded(encoding_format="base64")),
    Case("llamacpp/vectors_bad_request.json", {"model": "m"}, status=400),
    Case("llamacpp/vectors_off.json", embedded(), {"script": [{"fault": {"kind": "error", "code": "no_embeddings"}}]}, 501),
    Case("zai/vectors_plain.json", embedded()),
]


def found(case: Case, sent: Any, headers: dict[str, str]) -> set[str]:
    """Every difference between a case's fixture and what was sent."""
    was = recorded(case.fixture)
    compare = stream_differences if isinstance(was, list) else differences
    return compare(was, sent) | header_differences(recorded_headers(case.fixture), headers)


async def answered(case: Case) -> tuple[int, Any, dict[str, str]]:
    """What the simulator really sends for a case: status, body, headers."""
    async with simulated(case.dialect, **case.settings) as (_, client):
        got = await client.ask(case.request, path=case.path)
        return got.status, got.events if case.fixture.endswith(".sse") else got.json, got.headers


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.fixture)
def test_a_simulator_sends_what_its_provider_sends(case: Case) -> None:
    status, sent, headers = run(answered(case))
    assert status == case.status
    assert found(case, sent, headers) == set(case.meant)


def test_rate_limit_headers_of_mistral_are_those_recorded() -> None:
    _, _, headers = run(answered(CASES[0]))
    assert header_differences(recorded_headers("mistral/ratelimit"), headers) == set()


def test_headers_of_openai_are_those_recorded() -> None:
    case = next(c for c in CASES if c.fixture == "openai/plain.json")
    _, _, headers = run(answered(case))
    assert header_differences(recorded_headers("openai/headers"), headers) == set()


def test_models_of_llamacpp_have_the_recorded_shape() -> None:
    async def scene() -> Any:
        async with simulated("llamacpp") as (_, client):
            await client.send("GET", "/v1/models")
            return (await client.read()).json

    found_here = differences(recorded("llamacpp/models.json"), run(scene()))
    meant = {"missing: models", "missing: data[].architecture"}  # a second list for another API, and what it may read
    meta = {f"missing: data[].meta.{k}" for k in ("vocab_type", "n_vocab", "n_embd", "n_params", "size", "ftype")}
    assert found_here == meant | meta


def test_every_fixture_is_compared_and_has_a_source() -> None:
    compared = {c.fixture for c in CASES} | {"llamacpp/models.json"}
    there = {str(p.relative_to(FIXTURES)) for p in FIXTURES.glob("*/*") if p.suffix in (".json", ".sse")}
    assert there == compared
    sources = (FIXTURES / "SOURCES.md").read_text()
    assert {f for f in there if f not in sources and f"{f.split('/')[0]}/*" not in sources} == set()


# -- the comparison must be able to fail


def drop_usage(sent: Any) -> Any:
    """Usage is nowhere."""
    for document in documents(sent):
        document.pop("usage", None)
    return sent


def move_usage(sent: Any) -> Any:
    """Usage comes in an event of its own, or no longer does."""
    place = next(i for i, d in enumerate(sent) if isinstance(d, dict) and d.get("usage"))
    if not sent[place]["choices"]:
        usage = sent.pop(place)["usage"]
        sent[place - 1]["usage"] = usage
        return sent
    sent.insert(place + 1, {**sent[place], "choices": [], "usage": sent[place].pop("usage")})
    return sent


def drop_done(sent: Any) -> Any:
    """The end is not announced."""
    return sent[:-1]


def first_last(sent: Any) -> Any:
    """The first event comes after the others."""
    return [*sent[1:-1], sent[0], sent[-1]]


def number_for_text(sent: Any) -> Any:
    """The id is a number."""
    for document in documents(sent):
        document["id"] = 7
    return sent


def new_key(sent: Any) -> Any:
    """There is a key that no recording has."""
    for document in documents(sent):
        document["surprise"] = True
    return sent


def string_error(sent: Any) -> Any:
    """The error is a number where it was text or an object."""
    key = "error" if "error" in sent else "message"
    return {**sent, key: 5}


def documents(sent: Any) -> list[dict[str, Any]]:
    return [d for d in (sent if isinstance(sent, list) else [sent]) if isinstance(d, dict)]


def planted() -> list[Any]:
    """Every planted difference that makes sense for a fixture, on that fixture."""
    out = []
    for case in CASES:
        stream, error = case.fixture.endswith(".sse"), case.status != 200
        plants = [new_key]
        plants += [string_error] if error else [number_for_text]
        if stream and recorded(case.fixture)[-1] == "[DONE]":
            plants += [drop_done, first_last]
        if not error and (not stream or any(isinstance(d, dict) and d.get("usage") for d in recorded(case.fixture))):
            plants += [drop_usage] + ([move_usage] if stream else [])
        out += [pytest.param(case, plant, id=f"{case.fixture}-{plant.__name__}") for plant in plants]
    return out


@pytest.mark.parametrize(("case", "plant"), planted())
def test_a_planted_difference_is_found(case: Case, plant: Any) -> None:
    _, sent, headers = run(answered(case))
    assert found(case, plant(copy.deepcopy(sent)), headers) != set(case.meant)


def test_a_planted_difference_in_headers_is_found() -> None:
    was = {"content-type": "text/event-stream", "x-request-id": "1", "date": "today"}
    assert header_differences(was, {"content-type": "text/event-stream"}) == {"missing header: x-request-id"}
    assert header_differences(was, {**was, "content-type": "text/plain"}) == {
        "content type: recorded text/event-stream, sent text/plain"
    }
