"""The real `openai` client over a socket, against every dialect: it is understood, and gets what its own types say."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import openai
import pytest
from inprocess import InProcess, in_process, run
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.core.bounds import Bounds

T = TypeVar("T")
EVERY_DIALECT = pytest.mark.parametrize("dialect", ["mistral", "zai", "vllm", "openai", "llamacpp"])
HELLO: Any = [{"role": "user", "content": "Guten Morgen, wie geht es Ihnen?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather in a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


def client_of(gateway: InProcess, key: str = "audit", **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key(key), **{"max_retries": 0, **options})


async def said(client: openai.AsyncOpenAI, messages: Any, stream: bool) -> str:
    """The text of an answer, whole or streamed."""
    if not stream:
        return (await client.chat.completions.create(model="alpha", messages=messages)).choices[0].message.content or ""
    chunks = await client.chat.completions.create(model="alpha", messages=messages, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def in_thread(gateway: InProcess, ask: Callable[[openai.OpenAI], T]) -> T:
    """Let the synchronous client ask, in a thread of its own, while the gateway runs in this one."""

    def threaded() -> T:
        with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key("audit"), max_retries=0) as client:
            return ask(client)

    return await asyncio.to_thread(threaded)


@EVERY_DIALECT
def test_an_answer_is_what_the_schema_says(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            raw = await client.chat.completions.with_raw_response.create(model="alpha", messages=HELLO, max_tokens=50)
            answer = ChatCompletion.model_validate_json(raw.text, strict=True)
            assert answer.model == "alpha"
            assert answer.choices[0].message.content
            assert answer.choices[0].finish_reason in ("stop", "length")
            assert answer.usage is not None
            assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
            assert raw.headers["x-gateway-endpoint"] == "one"
            assert raw.headers["x-request-id"] == raw.request_id
            (entry,) = await gateway.simulators["one"].received(1)
            assert entry.body["model"] == "alpha-there"
            settlement = await gateway.ledger.settlement()
            assert settlement.usage is not None
            assert settlement.usage.reported
            assert (settlement.usage.input, settlement.usage.output) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)

    run(main)


@EVERY_DIALECT
@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_is_what_the_schema_says(dialect: str, include_usage: bool) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            more: Any = {"stream_options": {"include_usage": True}} if include_usage else {}
            create = client.chat.completions.with_streaming_response.create
            async with create(model="alpha", messages=HELLO, stream=True, **more) as response:
                lines = [line async for line in response.iter_lines() if line]
            assert all(line.startswith("data: ") for line in lines), lines
            events = [line.removeprefix("data: ") for line in lines]
            assert events.pop() == "[DONE]"
            chunks = [ChatCompletionChunk.model_validate_json(event, strict=True) for event in events]
            assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
            assert chunks[0].model == "alpha"
            last = chunks.pop() if include_usage else None
            assert all(chunk.usage is None for chunk in chunks)
            assert all(chunk.choices for chunk in chunks)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]
            assert finishes == ["stop"]
            settlement = await gateway.ledger.settlement()
            assert settlement.usage is not None
            assert settlement.usage.reported  # we asked for it, whether the client did or not
            if last is not None:
                assert last.choices == []
                assert last.usage is not None
                assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (settlement.usage.input, settlement.usage.output)

    run(main)


@EVERY_DIALECT
def test_whole_and_streamed_say_the_same(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            whole = await client.chat.completions.create(model="alpha", messages=HELLO)
            pieces = [chunk async for chunk in await client.chat.completions.create(model="alpha", messages=HELLO, stream=True)]
            assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content

    run(main)


@EVERY_DIALECT
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_brought_back(dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}) as gateway, client_of(gateway) as client:
            messages: Any = [{"role": "user", "content": "[[tool]] How is the weather in Florence?"}]
            if stream:
                async with client.chat.completions.stream(model="alpha", messages=messages, tools=[WEATHER]) as events:
                    answer: Any = await events.get_final_completion()
            else:
                raw = await client.chat.completions.with_raw_response.create(model="alpha", messages=messages, tools=[WEATHER])
                answer = ChatCompletion.model_validate_json(raw.text, strict=True)
            choice = answer.choices[0]
            assert choice.finish_reason == "tool_calls"
            (call,) = choice.message.tool_calls
            assert (call.type, call.function.name) == ("function", "weather")
            assert json.loads(call.function.arguments) == {"town": "Florence"}
            said: Any = {"role": "assistant", "content": None, "tool_calls": [call.model_dump(include={"id", "type", "function"})]}
            said["tool_calls"][0]["function"].pop("parsed_arguments", None)
            messages += [said, {"role": "tool", "tool_call_id": call.id, "content": "40 degrees"}]
            after = await client.chat.completions.create(model="alpha", messages=messages, tools=[WEATHER])
            assert after.choices[0].message.content
            entry = (await gateway.simulators["one"].received(2))[1]
            assert entry.body["messages"][1]["tool_calls"][0]["id"] == entry.body["messages"][2]["tool_call_id"]

    run(main)


def test_the_synchronous_client_does_the_same() -> None:
    def plain(client: openai.OpenAI) -> str:
        return client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content or ""

    def streamed(client: openai.OpenAI) -> str:
        with client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as chunks:
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    def raw(client: openai.OpenAI) -> str:
        with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO) as response:
            return str(response.headers["x-gateway-model"])

    async def main() -> None:
        async with in_process() as gateway:
            assert await in_thread(gateway, plain) == await in_thread(gateway, streamed) != ""
            assert await in_thread(gateway, raw) == "alpha"

    run(main)


def test_models_are_what_the_schema_says() -> None:
    async def main() -> None:
        async with in_process() as gateway, client_of(gateway) as client:
            names = [model.id async for model in client.models.list()]
            assert names == ["alpha", "beta", "auto", "gpt-4o"]
            raw = await client.models.with_raw_response.retrieve("gpt-4o")
            assert Model.model_validate_json(raw.text, strict=True).owned_by == "alias"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("nothing")

    run(main)


def test_each_trouble_is_the_exception_that_callers_know() -> None:
    async def main() -> None:
        async with in_process() as gateway:
            async with client_of(gateway) as client:
                create = client.chat.completions.create
                with pytest.raises(openai.BadRequestError) as bad:
                    await create(model="alpha", messages=[])
                assert (bad.value.code, bad.value.param, bad.value.type) == ("invalid_value", "messages", "invalid_request_error")
                with pytest.raises(openai.NotFoundError) as unknown:
                    await create(model="alpa", messages=HELLO)
                assert unknown.value.code == "model_not_found"
                assert "`alpha`" in unknown.value.message
                with pytest.raises(openai.PermissionDeniedError) as outside:
                    await create(model="alpha", messages=HELLO, extra_headers={"x-gateway-region": "CN"})
                assert outside.value.code == "fact_not_allowed"
                with pytest.raises(openai.BadRequestError) as twice:
                    await create(
                        model="alpha",
                        messages=HELLO,
                        extra_headers={"x-gateway-region": "DE"},
                        extra_body={"gateway": {"region": "FR"}},
                    )
                assert twice.value.code == "conflicting_facts"
                with pytest.raises(openai.BadRequestError) as long:
                    await create(model="alpha", messages=[{"role": "user", "content": "word " * 200_000}])
                assert long.value.code == "context_length_exceeded"
            async with client_of(gateway, "store") as shop:
                with pytest.raises(openai.PermissionDeniedError) as refused:
                    await shop.chat.completions.create(model="beta", messages=HELLO)
                assert refused.value.code == "no_route_allowed"
            async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-wrong", max_retries=0) as stranger:
                with pytest.raises(openai.AuthenticationError) as nobody:
                    await stranger.chat.completions.create(model="alpha", messages=HELLO)
                assert nobody.value.code == "invalid_api_key"
            assert not any(len(simulator.journal) for simulator in gateway.simulators.values())

    run(main)


def test_the_clients_own_fault_is_passed_on_from_upstream() -> None:
    async def main() -> None:
        script = [{"fault": {"kind": "error", "status": 422}}]
        async with in_process(scripts={"one": script}) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.UnprocessableEntityError):
                await client.chat.completions.create(model="alpha", messages=HELLO)
            assert len(gateway.simulators["two"].journal) == 0

    run(main)


def test_a_retry_of_the_sdk_happens_only_where_it_may_help() -> None:
    """The SDK tries twice more on a 5xx unless it is told not to; so a refusal must not cost three."""

    async def main() -> None:
        wrong_key: list[Any] = [{"fault": {"kind": "error", "status": 401}}]
        scripts = dict.fromkeys(("one", "two", "three"), wrong_key)
        async with in_process(scripts=scripts) as gateway, client_of(gateway, max_retries=2) as client:
            with pytest.raises(openai.InternalServerError) as keys:
                await client.chat.completions.create(model="alpha", messages=HELLO)
            assert (keys.value.code, keys.value.response.headers["x-should-retry"]) == ("upstream_failed", "false")
            assert len(gateway.ledger.settlements) == 1
        broken: list[Any] = [{"match": {"nth": 1}, "fault": {"kind": "error", "status": 500}}]
        scripts = dict.fromkeys(("one", "two", "three"), broken)
        async with in_process(scripts=scripts) as gateway, client_of(gateway, max_retries=1) as client:
            assert (await client.chat.completions.create(model="alpha", messages=HELLO)).choices
            assert [settlement.status for settlement in gateway.ledger.settlements] == [502, 200]

    run(main)


def test_all_throttled_tells_when_to_come_back() -> None:
    async def main() -> None:
        scripts: dict[str, Any] = {name: [{"fault": "throttle"}] for name in ("one", "two", "three")}
        async with in_process(scripts=scripts) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.InternalServerError) as throttled:
                await client.chat.completions.create(model="alpha", messages=HELLO)
            assert (throttled.value.status_code, throttled.value.code) == (503, "no_route_available")
            assert int(throttled.value.response.headers["retry-after"]) >= 1
            with pytest.raises(openai.InternalServerError) as known:  # now it is known, and nothing is asked again
                await client.chat.completions.create(model="alpha", messages=HELLO)
            assert known.value.code == "no_route_available"
            assert [len(gateway.simulators[name].journal) for name in ("one", "two", "three")] == [1, 1, 1]

    run(main)


@EVERY_DIALECT
def test_a_stream_that_breaks_is_an_error_and_never_a_silent_end(dialect: str) -> None:
    async def main() -> None:
        script = [{"fault": {"kind": "cut", "after": 4}}]
        async with in_process({"one": dialect}, {"one": script}) as gateway, client_of(gateway) as client:
            stream = await client.chat.completions.create(model="alpha", messages=HELLO, stream=True)
            got = []
            with pytest.raises(openai.APIError) as broken:
                async for chunk in stream:
                    got.append(chunk)
            assert got
            assert broken.value.code == "upstream_cut_short"
            assert len(gateway.simulators["two"].journal) == 0  # content had come, so nothing else was tried
            assert (await gateway.ledger.settlement()).result == "cut short"

    run(main)


def test_another_route_serves_and_the_client_sees_nothing_of_it() -> None:
    async def main() -> None:
        redirect = {"kind": "redirect", "to": "http://127.0.0.1:9/v1/chat/completions"}
        for fault in ("throttle", {"kind": "error", "status": 500}, {"kind": "cut"}, redirect, "garbage"):
            async with in_process(scripts={"one": [{"fault": fault}]}) as gateway, client_of(gateway) as client:
                for stream in (False, True):
                    text = await said(client, HELLO, stream)
                    assert "two" in text, fault

    run(main)


def test_a_stream_that_is_silent_gets_comments_that_the_sdk_reads_over() -> None:
    async def main() -> None:
        bounds = Bounds(keepalive_after_s=0.02, first_content_s_max=0.1)
        async with in_process(scripts={"one": [{"fault": "stall"}]}, bounds=bounds) as gateway, client_of(gateway) as client:
            create = client.chat.completions.with_streaming_response.create
            async with create(model="alpha", messages=HELLO, stream=True) as response:
                lines = [line async for line in response.iter_lines() if line]
            assert lines.count(": keep-alive") >= 3
            stream = await client.chat.completions.create(model="alpha", messages=HELLO, stream=True)
            assert "two" in "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            await gateway.simulators["one"].aborted(1)

    run(main)


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_client_that_leaves_closes_the_upstream_within_a_second(synchronous: bool) -> None:
    async def main() -> None:
        script = [{"fault": "endless"}]
        async with in_process(scripts={"one": script}) as gateway, client_of(gateway) as client:
            if synchronous:
                left = threading.Event()

                def leave(client: openai.OpenAI) -> None:
                    with client.chat.completions.create(model="alpha", messages=HELLO, stream=True) as stream:
                        next(stream)
                    left.set()

                await in_thread(gateway, leave)
            else:
                stream = await client.chat.completions.create(model="alpha", messages=HELLO, stream=True)
                async for _ in stream:
                    break
                await stream.close()
            async with asyncio.timeout(1.0):
                await gateway.simulators["one"].aborted(1)
                assert (await gateway.ledger.settlement()).result == "client gone"

    run(main)


def test_a_time_limit_of_the_client_closes_the_upstream_too() -> None:
    async def main() -> None:
        async with in_process(scripts={"one": [{"fault": "stall"}]}) as gateway, client_of(gateway, timeout=0.1) as client:
            with pytest.raises(openai.APITimeoutError):
                await client.chat.completions.create(model="alpha", messages=HELLO)
            async with asyncio.timeout(1.0):
                await gateway.simulators["one"].aborted(1)

    run(main)


def test_many_at_once_each_get_their_own() -> None:
    async def main() -> None:
        async with in_process() as gateway, client_of(gateway) as client:

            async def ask(number: int) -> None:
                messages: Any = [{"role": "user", "content": f"[[say:number {number}]]"}]
                text = await said(client, messages, stream=number % 2 == 0)
                assert text == f"number {number}"

            await asyncio.gather(*map(ask, range(60)))
            assert len(gateway.ledger.settlements) == 60

    run(main)
