"""What simulators do with requests for text completions beyond the shape of answers: prompts, choices, limits, bills, faults."""

from __future__ import annotations

from typing import Any

import pytest
from simulator_client import Got, prompted, run, simulated

PATHS = {"openai": "/completions", "vllm": "/completions", "llamacpp": "/completions", "mistral": "/fim/completions"}
TWO = ["[[say:one two]]", [7, 8, 9]]


async def asked(dialect: str, fields: dict[str, Any], **settings: Any) -> Got:
    async with simulated(dialect, **settings) as (_, client):
        return await client.ask(fields, path=PATHS[dialect])


def texts(got: Got) -> list[str]:
    """The text of each choice, of an answer or of a stream."""
    found: dict[int, str] = {}
    for document in got.events if b"event-stream" in got.head else [got.json]:
        for choice in document["choices"] if document != "[DONE]" else []:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize("dialect", ["openai", "vllm", "llamacpp"])
def test_every_prompt_gets_its_choices_in_order(dialect: str) -> None:
    for stream in (False, True):
        got = run(asked(dialect, prompted(prompt=TWO, n=2, stream=stream, max_tokens=50)))
        first, same, second, again = texts(got)
        assert first == same == "one two"
        assert second == again != first


def test_usage_counts_prompts_once_and_every_try() -> None:
    usage = run(asked("openai", prompted(prompt=TWO, n=2, best_of=3, max_tokens=2))).json["usage"]
    assert usage["completion_tokens"] == 2 * 3 * 2
    assert usage["prompt_tokens"] == usage["total_tokens"] - 12
    assert run(asked("llamacpp", prompted(n=3, max_tokens=2))).json["usage"]["completion_tokens"] == 2, "of the first alone"


@pytest.mark.parametrize("dialect", ["openai", "vllm"])
def test_a_prompt_is_repeated_and_an_answer_stopped(dialect: str) -> None:
    for stream in (False, True):
        got = run(asked(dialect, prompted(prompt="[[say:one two three]]", echo=True, stop=[" three"], stream=stream)))
        assert texts(got) == ["[[say:one two three]]one two"]


@pytest.mark.parametrize(("dialect", "tokens"), [("openai", 16), ("vllm", 16), ("llamacpp", 40)])
def test_without_a_limit_the_default_is_the_providers(dialect: str, tokens: int) -> None:
    usage = run(asked(dialect, prompted(prompt="[[tokens:40]]"))).json["usage"]
    assert usage["completion_tokens"] == tokens


@pytest.mark.parametrize("dialect", PATHS)
def test_faults_strike_text_completions(dialect: str) -> None:
    assert run(asked(dialect, prompted(), script=[{"fault": "throttle"}])).status in (429, 503)
    two = {"match": {"contains": "two"}, "fault": {"kind": "error", "status": 500}}
    assert run(asked(dialect, prompted(), script=[two])).status == 500
    cut = run(asked(dialect, prompted(stream=True), script=[{"fault": "cut"}]))
    assert cut.ended == "reset"


def test_mistral_takes_one_prompt_of_text_and_nothing_it_does_not_know() -> None:
    assert run(asked("mistral", prompted(prompt=["a", "b"]))).status == 422
    assert run(asked("mistral", prompted(n=2))).status == 422
    assert run(asked("mistral", prompted(suffix="b"))).json["choices"][0]["message"]["content"] == "one two three four"


def test_zai_has_none() -> None:
    async def scene() -> int:
        async with simulated("zai") as (_, client):
            return (await client.ask(prompted(), path="/completions")).status

    assert run(scene()) == 404
