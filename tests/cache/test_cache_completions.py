"""Text completions in the cache, as a client meets them: kept once, given in either form, filled once."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from inprocess import in_process, run
from store_servers import Server, opened, single

from gateway.core.policy import Caching

ALL = Caching("all", (), 3600, apis=frozenset({"completions"}))


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


def test_an_answer_and_a_stream_are_kept_as_one_and_chat_is_another(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url) as store, in_process({"one": "vllm"}, caching=(ALL,), store=store) as gateway:
            assert gateway.cache is not None
            client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("audit"), max_retries=0)
            create = client.completions.with_raw_response.create
            asked: Any = {"model": "alpha", "prompt": ["[[say:one two]]", "[[say:three]]"], "logprobs": 1}
            calls = gateway.simulators["one"].journal

            async def streamed(**more: Any) -> tuple[str, list[Any]]:
                raw = await create(**asked, stream=True, **more)
                return str(raw.headers["x-gateway-cache"]), [chunk async for chunk in raw.parse()]

            first, chunks = await streamed()
            assert first == "miss"
            await gateway.cache.idle()
            again, repeated = await streamed(stream_options={"include_usage": True})
            assert again == "hit"
            assert repeated[-1].usage is not None
            raw = await create(**asked)
            assert raw.headers["x-gateway-cache"] == "hit"
            answer = raw.parse()
            for index, text in enumerate(("one two", "three")):
                assert answer.choices[index].text == text
                for found in (chunks, repeated):
                    pieces = [choice for chunk in found for choice in chunk.choices if choice.index == index]
                    assert "".join(piece.text for piece in pieces) == text
                    assert [token for piece in pieces for token in piece.logprobs.tokens] == answer.choices[index].logprobs.tokens
            assert len(calls) == 1
            assert [settlement.cost.usd > 0 for settlement in gateway.ledger.settlements] == [True, False, False]
            other = await create(model="alpha", prompt=["[[say:one two]]", "[[say:three]]"], logprobs=2)
            assert other.headers["x-gateway-cache"] == "miss"
            hi: Any = [{"role": "user", "content": "hi"}]
            chat = await client.chat.completions.with_raw_response.create(model="alpha", messages=hi)
            assert "x-gateway-cache" not in chat.headers
            await client.close()

    run(main)


def test_equal_requests_at_the_same_moment_cost_one_call(server: Server) -> None:
    async def main() -> None:
        held = {"one": [{"fault": "hold"}]}
        async with opened(server.url) as store, in_process({"one": "llamacpp"}, held, caching=(ALL,), store=store) as gateway:
            client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("audit"), max_retries=0)

            async def ask() -> tuple[str, str]:
                raw = await client.completions.with_raw_response.create(model="alpha", prompt="[[say:once]]")
                return str(raw.headers["x-gateway-cache"]), raw.parse().choices[0].text

            asking = [asyncio.create_task(ask()) for _ in range(5)]
            await gateway.simulators["one"].holding(1)
            gateway.simulators["one"].release()
            answers = await asyncio.gather(*asking)
            assert {text for _, text in answers} == {"once"}
            assert len(gateway.simulators["one"].journal) == 1
            assert [word for word, _ in answers].count("miss") == 1
            await client.close()

    run(main)
