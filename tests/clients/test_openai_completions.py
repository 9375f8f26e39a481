"""`POST /v1/completions` with the real `openai` client over a socket, against every dialect that has it."""

import asyncio
import json
from typing import Any

import openai
import pytest
from inprocess import InProcess, in_process, run
from openai.types import Completion

from gateway.core.bounds import Bounds

EVERY_DIALECT = pytest.mark.parametrize("dialect", ["mistral", "vllm", "openai", "llamacpp"])
TAKES_LISTS = pytest.mark.parametrize("dialect", ["vllm", "openai", "llamacpp"])
BEGIN = "Once upon a time in Florence"


def client_of(gateway: InProcess, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("audit"), **{"max_retries": 0, **options})


async def streamed(client: openai.AsyncOpenAI, **asked: Any) -> list[Completion]:
    stream = await client.completions.create(model="alpha", stream=True, **asked)
    return [chunk async for chunk in stream]


def as_published(event: str) -> Completion:
    """A chunk, as the SDK takes it: its type is that of an answer, which always has a finish_reason."""
    found = json.loads(event)
    finishes = [choice["finish_reason"] for choice in found["choices"]]
    whole = {**found, "choices": [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in found["choices"]]}
    chunk = Completion.model_validate(whole, strict=True)
    for choice, finish in zip(chunk.choices, finishes, strict=True):
        choice.finish_reason = finish
    return chunk


def text_of(chunks: list[Completion], index: int = 0) -> str:
    return "".join(choice.text for chunk in chunks for choice in chunk.choices if choice.index == index)


@EVERY_DIALECT
def test_an_answer_is_what_the_schema_says_and_is_settled_as_it_says(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            raw = await client.completions.with_raw_response.create(model="alpha", prompt=BEGIN, max_tokens=6)
            answer = Completion.model_validate_json(raw.text, strict=True)
            assert (answer.model, answer.object) == ("alpha", "text_completion")
            assert answer.choices[0].text
            assert answer.choices[0].finish_reason == "length"
            assert answer.usage is not None
            assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
            assert raw.headers["x-gateway-endpoint"] == "one"
            (entry,) = await gateway.simulators["one"].received(1)
            assert entry.path == ("/v1/fim/completions" if dialect == "mistral" else "/v1/completions")
            assert (entry.body["model"], entry.body["prompt"]) == ("alpha-there", BEGIN)
            settlement = await gateway.ledger.settlement()
            assert settlement.request.api == "completions"
            assert settlement.decision.facts.api == {"completions"}
            assert settlement.usage is not None
            assert settlement.usage.reported
            assert (settlement.usage.input, settlement.usage.output) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
            assert settlement.cost.usd > 0

    run(main)


@EVERY_DIALECT
@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_says_the_same_as_an_answer(dialect: str, include_usage: bool) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            whole = await client.completions.create(model="alpha", prompt=BEGIN, max_tokens=60)
            more: Any = {"stream_options": {"include_usage": True}} if include_usage else {}
            create = client.completions.with_streaming_response.create
            async with create(model="alpha", prompt=BEGIN, max_tokens=60, stream=True, **more) as response:
                lines = [line async for line in response.iter_lines() if line]
            assert lines.pop() == "data: [DONE]"
            chunks = [as_published(line.removeprefix("data: ")) for line in lines]
            assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
            last = chunks.pop() if include_usage else None
            assert all(chunk.usage is None and chunk.choices for chunk in chunks)
            assert text_of(chunks) == whole.choices[0].text
            assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
            used = (await gateway.ledger.settlement(2)).usage
            assert used is not None
            assert used.reported
            if last is not None:
                assert last.usage is not None
                assert (last.choices, last.usage.completion_tokens) == ([], used.output)

    run(main)


@TAKES_LISTS
@pytest.mark.parametrize("stream", [False, True])
def test_every_prompt_gets_its_choices_and_all_are_paid_for(dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            asked: Any = {"prompt": ["[[say:one two three]]", "[[say:four]]"], "n": 2, "max_tokens": 9}
            if stream:
                chunks = await streamed(client, **asked)
                texts = [text_of(chunks, index) for index in range(4)]
            else:
                answer = await client.completions.create(model="alpha", **asked)
                assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
                texts = [choice.text for choice in answer.choices]
            assert texts == ["one two three", "one two three", "four", "four"]
            used = (await gateway.ledger.settlement()).usage
            assert used is not None
            if dialect == "llamacpp" and not stream:
                assert not used.reported, "it tells of the first choice alone"
                assert used.output >= 8
            else:
                assert (used.reported, used.output) == (True, 8)

    run(main)


@TAKES_LISTS
def test_token_ids_go_as_they_are_and_count_as_many(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            for prompt in ([7, 8, 9], [[7, 8, 9], [10]]):
                await client.completions.create(model="alpha", prompt=prompt)
            entries = await gateway.simulators["one"].received(2)
            assert [entry.body["prompt"] for entry in entries] == [[7, 8, 9], [[7, 8, 9], [10]]]
            needs = [settlement.request.needs for settlement in gateway.ledger.settlements]
            assert [(need.prompt_tokens, need.output_tokens) for need in needs] == [(3, 16), (4, 32)]

    run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_probabilities_come_as_the_api_has_them(stream: bool) -> None:
    async def main() -> None:
        for dialect in ("openai", "vllm", "llamacpp"):
            async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
                asked: Any = {"prompt": "[[say:one two]]", "logprobs": 1}
                if stream:
                    found = [c.choices[0].logprobs for c in await streamed(client, **asked) if c.choices[0].logprobs]
                else:
                    found = [(await client.completions.create(model="alpha", **asked)).choices[0].logprobs]
                tokens = [token for each in found for token in each.tokens or ()]
                assert tokens == ["one", " two"], dialect
                assert [at for each in found for at in each.text_offset or ()] == [0, 3], dialect
                assert [p for each in found for p in each.token_logprobs or ()] == [-0.25, -0.25]

    run(main)


def test_a_gap_is_filled_where_it_can_be() -> None:
    async def main() -> None:
        async with in_process({"one": "llamacpp", "three": "mistral"}) as gateway, client_of(gateway) as client:
            answer = await client.completions.create(model="alpha", prompt="def add(a, b):", suffix="print(add(1, 2))")
            assert answer.choices[0].text
            (settlement,) = gateway.ledger.settlements
            assert settlement.request.needs.abilities == {"fim"}

    run(main)


def test_what_one_place_does_not_take_the_next_one_does() -> None:
    """Mistral takes one prompt of text. Z.ai has no completions, which its labels say."""

    async def main() -> None:
        async with in_process({"one": "mistral", "three": "vllm"}) as gateway, client_of(gateway) as client:
            raw = await client.completions.with_raw_response.create(model="alpha", prompt=["[[say:a]]", "[[say:b]]"])
            assert raw.headers["x-gateway-endpoint"] == "three"
            assert [len(gateway.simulators[name].journal) for name in ("one", "two", "three")] == [0, 0, 1]
            assert "needs: completions" in str(gateway.ledger.settlements[0].decision.exclusions)
        async with in_process({"one": "mistral", "three": "mistral"}) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.completions.create(model="alpha", prompt=["a", "b"])
            assert (refused.value.code, refused.value.param) == ("one_prompt_only", "prompt")

    run(main)


def test_each_wrong_field_is_named() -> None:
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": {"a": 1}}, "invalid_type", "prompt"),
        ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"),
        ({"prompt": ["a", ""]}, "invalid_value", "prompt[1]"),
        ({"prompt": [1, "a"]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, -1]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, True]}, "invalid_type", "prompt[1]"),
        ({"prompt": [[1, 2], [3, 0.5]]}, "invalid_type", "prompt[1][1]"),
        ({"prompt": [[1], []]}, "invalid_value", "prompt[1]"),
        ({"prompt": [None]}, "invalid_type", "prompt[0]"),
        ({"prompt": ["a"] * 1_025}, "invalid_value", "prompt"),
        ({"prompt": ["a"] * 600, "n": 2}, "invalid_value", "n"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 1_025}, "invalid_value", "n"),
        ({"n": 3, "best_of": 2}, "invalid_value", "best_of"),
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_tokens": "7"}, "invalid_type", "max_tokens"),
        ({"logprobs": True}, "invalid_type", "logprobs"),
        ({"logprobs": 101}, "invalid_value", "logprobs"),
        ({"suffix": 7}, "invalid_type", "suffix"),
        ({"suffix": "z", "prompt": [1]}, "invalid_value", "suffix"),
        ({"echo": "yes"}, "invalid_type", "echo"),
        ({"stop": 7}, "invalid_type", "stop"),
        ({"stream_options": []}, "invalid_type", "stream_options"),
        ({"model": "m" * 257}, "invalid_value", "model"),
    ]

    async def main() -> None:
        async with in_process() as gateway, client_of(gateway) as client:
            for fields, code, param in wrong:
                with pytest.raises(openai.BadRequestError) as bad:
                    await client.completions.create(**{"model": "alpha", "prompt": BEGIN, **fields})
                assert (bad.value.code, bad.value.param) == (code, param), fields
            with pytest.raises(openai.BadRequestError) as missing:
                await client.post("/completions", body={"model": "alpha"}, cast_to=object)
            assert (missing.value.code, missing.value.param) == ("missing_parameter", "prompt")
            with pytest.raises(openai.NotFoundError):
                await client.completions.create(model="alpa", prompt=BEGIN)
            with pytest.raises(openai.BadRequestError) as long:
                await client.completions.create(model="alpha", prompt="word " * 200_000)
            assert (long.value.code, long.value.param) == ("context_length_exceeded", "prompt")
            assert not any(len(simulator.journal) for simulator in gateway.simulators.values())

    run(main)


def test_the_synchronous_client_does_the_same() -> None:
    async def main() -> None:
        async with in_process() as gateway:

            def both() -> tuple[str, str]:
                with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key("audit"), max_retries=0) as client:
                    plain = client.completions.create(model="gpt-4o", prompt=BEGIN, max_tokens=40).choices[0].text
                    with client.completions.create(model="gpt-4o", prompt=BEGIN, max_tokens=40, stream=True) as chunks:
                        return plain, "".join(chunk.choices[0].text for chunk in chunks)

            plain, pieces = await asyncio.to_thread(both)
            assert plain == pieces != ""

    run(main)


FAULTS: tuple[Any, ...] = (
    "throttle",
    {"kind": "error", "status": 500},
    {"kind": "cut", "at": "after_head"},
    {"kind": "garbage", "after": 0},
    "empty_stream",
)


@EVERY_DIALECT
def test_another_route_serves_and_the_client_sees_nothing_of_it(dialect: str) -> None:
    async def main() -> None:
        for fault in FAULTS:
            async with in_process({"one": dialect}, {"one": [{"fault": fault}]}) as gateway, client_of(gateway) as client:
                answer = await client.completions.create(model="alpha", prompt=BEGIN, max_tokens=30)
                assert "three" in answer.choices[0].text, fault
                assert "three" in text_of(await streamed(client, prompt=BEGIN, max_tokens=30)), fault

    run(main)


@EVERY_DIALECT
def test_a_stream_that_breaks_is_an_error_and_never_a_silent_end(dialect: str) -> None:
    async def main() -> None:
        script = [{"fault": {"kind": "cut", "after": 4}}]
        async with in_process({"one": dialect}, {"one": script}) as gateway, client_of(gateway) as client:
            got = []
            with pytest.raises(openai.APIError) as broken:
                async for chunk in await client.completions.create(model="alpha", prompt=BEGIN, stream=True):
                    got.append(chunk)
            assert got
            assert broken.value.code == "upstream_cut_short"
            settlement = await gateway.ledger.settlement()
            assert settlement.result == "cut short"
            assert settlement.usage is not None
            assert not settlement.usage.reported

    run(main)


def test_a_silent_stream_gets_comments_and_a_client_that_leaves_closes_the_upstream() -> None:
    async def main() -> None:
        bounds = Bounds(keepalive_after_s=0.02, first_content_s_max=0.1)
        scripts: Any = {"one": [{"fault": "stall"}], "three": [{"fault": "endless"}]}
        async with in_process(scripts=scripts, bounds=bounds) as gateway, client_of(gateway) as client:
            create = client.completions.with_streaming_response.create
            async with create(model="alpha", prompt=BEGIN, stream=True) as response:
                lines = response.iter_lines()
                comments = 0
                async for line in lines:
                    comments += line == ": keep-alive"
                    if line.startswith("data: "):
                        break
            assert comments >= 3
            async with asyncio.timeout(1.0):
                await gateway.simulators["three"].aborted(1)
                assert (await gateway.ledger.settlement()).result == "client gone"

    run(main)


def test_where_it_is_to_stop_at_words_nothing_is_an_answer() -> None:
    async def main() -> None:
        for dialect in ("llamacpp", "openai"):
            async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
                asked: Any = {"prompt": "[[say:\nmore]]", "stop": ["\n"]}
                answer = await client.completions.create(model="alpha", **asked)
                assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "stop")
                assert text_of(await streamed(client, **asked)) == ""
                assert len(gateway.simulators["one"].journal) == 2

    run(main)
