"""The providers' side on a real engine, llama.cpp's own server with a small model: what no simulator can get wrong for us."""

import asyncio
import base64
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from relaying import FakeClient, decided, deployment, request, said, upstreams

from gateway.core.bounds import Bounds
from gateway.core.exchange import Attempt, Ended, Outcome
from gateway.core.policy import Deployment
from gateway.simulators.engine import Engine
from gateway.upstream.calling import Calling
from gateway.upstream.http import Transport

pytestmark = pytest.mark.engine

TEXT = {"prompt": "The capital of France is", "max_tokens": 6, "temperature": 0, "seed": 1}
QUESTION = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 12, "temperature": 0, "seed": 1}


@pytest.fixture(scope="module")
def engine() -> Iterator[Deployment]:
    yield from started()


def started(*, embeddings: bool = False) -> Iterator[Deployment]:
    """The engine, for as long as somebody wants it."""

    async def start() -> Engine:
        found = Engine(embeddings=embeddings)
        await found.start()
        return found

    with asyncio.Runner() as runner:
        running = runner.run(start())
        url = urlsplit(running.base_url)
        assert url.hostname
        assert url.port
        try:
            yield deployment("llamacpp", host=url.hostname, port=url.port, path=url.path, upstream_model="smollm2")
        finally:
            runner.run(running.stop())


async def asked(to: Deployment, api: str = "chat", **more: Any) -> tuple[Calling, Outcome, FakeClient]:
    transport = Transport(asyncio.get_running_loop(), Bounds())
    stream = bool(more.pop("stream", False))
    decision = decided(to)
    client = FakeClient()
    try:
        question = request({**QUESTION, **more}, stream=stream, wants_usage=stream)
        if api == "embeddings":
            question = replace(question, api=api, body={"model": "our-model", **more})
        if api == "completions":
            question = replace(question, api=api, body={"model": "our-model", **TEXT, **more})
        call = upstreams(transport, to).open(decision, Attempt(1, to), question)
        found = await call.wait(60.0)
        assert found is not None
        if isinstance(found, Outcome):
            return call, found, client
        return call, await call.relay(client) if stream else call.outcome(), client
    finally:
        await transport.close()


def test_usage_of_a_stream_and_of_an_answer_agree(engine: Deployment) -> None:
    async def main() -> None:
        call, plain, _ = await asked(engine)
        _, streamed, client = await asked(engine, stream=True)
        for outcome in (plain, streamed):
            assert (outcome.ended, outcome.code) == (Ended.SERVED, "")
            assert outcome.usage is not None
            assert outcome.usage.reported
        assert plain.usage is not None
        assert streamed.usage is not None
        assert plain.usage.input == streamed.usage.input > 0
        assert plain.usage.output == streamed.usage.output > 0
        assert streamed.usage.cached > 0, "the second time, the prompt is in the cache"
        assert said(client.chunks)
        assert client.chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == streamed.usage.cached
        assert b'"our-model"' in call.body

    asyncio.run(main())


def test_a_prompt_beyond_the_window_is_the_clients(engine: Deployment) -> None:
    async def main() -> None:
        long: dict[str, Any] = {"messages": [{"role": "user", "content": "word " * 9_000}]}
        for stream in (False, True):
            _, outcome, client = await asked(engine, stream=stream, **long)
            assert (outcome.ended, outcome.code) == (Ended.REJECTED, "context_length_exceeded"), outcome
            assert client.text == b""

    asyncio.run(main())


def test_text_goes_on_whole_and_streamed(engine: Deployment) -> None:
    async def main() -> None:
        call, plain, _ = await asked(engine, "completions")
        _, streamed, client = await asked(engine, "completions", stream=True)
        (choice,) = orjson.loads(call.body)["choices"]
        assert choice["text"].startswith(" Paris")
        assert "".join(c["text"] for chunk in client.chunks for c in chunk["choices"]) == choice["text"]
        for outcome in (plain, streamed):
            assert (outcome.ended, outcome.code, outcome.finish) == (Ended.SERVED, "", "length")
            assert outcome.usage is not None
            assert (outcome.usage.input, outcome.usage.output, outcome.usage.reported) == (5, 6, True)
        assert client.chunks[-1]["usage"]["completion_tokens"] == 6

    asyncio.run(main())


def test_several_prompts_and_choices_are_counted_whole(engine: Deployment) -> None:
    async def main() -> None:
        several = {"prompt": ["one two", "three", [1, 2, 3]], "n": 2, "max_tokens": 2, "logprobs": 1}
        _, streamed, client = await asked(engine, "completions", stream=True, **several)
        call, plain, _ = await asked(engine, "completions", **several)
        assert streamed.usage is not None
        assert (streamed.usage.input, streamed.usage.output, streamed.usage.reported) == (2 + 1 + 3, 3 * 2 * 2, True)
        assert (plain.ended, plain.code) == (Ended.SERVED, "usage_missing"), "it tells of the first choice alone"
        found = orjson.loads(call.body)["choices"]
        assert [choice["index"] for choice in found] == [0, 1, 2, 3, 4, 5]
        texts = dict.fromkeys(range(6), "")
        for choice in (choice for chunk in client.chunks for choice in chunk["choices"]):
            texts[choice["index"]] += choice["text"]
        assert [choice["text"] for choice in found] == list(texts.values())
        assert all("".join(choice["logprobs"]["tokens"]) == choice["text"] for choice in found)

    asyncio.run(main())


def test_a_text_is_as_long_as_the_api_says_where_nobody_says_more(engine: Deployment) -> None:
    async def main() -> None:
        _, outcome, _ = await asked(engine, "completions", max_tokens=None, prompt="1 2 3 4 5 6 7")
        assert outcome.usage is not None
        assert outcome.usage.output == 16

    asyncio.run(main())


@pytest.fixture
def embedder() -> Iterator[Deployment]:
    yield from started(embeddings=True)


def test_vectors_are_the_same_as_numbers_and_as_base64(embedder: Deployment) -> None:
    async def main() -> None:
        texts = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Interest rates rose by half a percent."]
        plain, outcome, _ = await asked(embedder, "embeddings", input=texts, encoding_format="float")
        packed, again, _ = await asked(embedder, "embeddings", input=texts, encoding_format="base64")
        assert (outcome.ended, outcome.code, again.ended) == (Ended.SERVED, "", Ended.SERVED)
        found = orjson.loads(plain.body)
        vectors = [entry["embedding"] for entry in found["data"]]
        assert [len(vector) for vector in vectors] == [576] * 3
        for vector, entry in zip(vectors, orjson.loads(packed.body)["data"], strict=True):
            raw = base64.b64decode(entry["embedding"])
            assert list(struct.unpack("<576f", raw)) == pytest.approx(vector, abs=1e-3)
            assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-3)
        assert outcome.usage is not None
        assert (found["usage"]["prompt_tokens"], outcome.usage.output) == (outcome.usage.input, 0)
        _, chat, _ = await asked(embedder)
        assert chat.ended is Ended.SERVED, "it chats all the same"
        ids, outcome, _ = await asked(embedder, "embeddings", input=[[1, 2, 3], [4, 5]])
        assert outcome.usage is not None
        assert (len(orjson.loads(ids.body)["data"]), outcome.usage.input) == (2, 5)

    asyncio.run(main())


def test_an_engine_that_was_not_started_for_them_fails_and_the_next_route_is_tried(engine: Deployment) -> None:
    async def main() -> None:
        _, outcome, _ = await asked(engine, "embeddings", input="hi")
        assert (outcome.ended, outcome.status) == (Ended.FAILED, 501)
        assert outcome.tries_next

    asyncio.run(main())
