"""Rates through a real client: what is over them is refused before anything is sent, and all is told."""

import asyncio

import openai
import pytest
from inprocess import in_process, run
from openai.types.chat import ChatCompletionUserMessageParam

from gateway.core.budgets import Budget
from gateway.core.rates import Rate, Rates

MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Good morning"}]


def test_the_third_of_two_is_told_when_to_come_back_and_reaches_nobody() -> None:
    async def main() -> None:
        rates = Rates(requests=Rate(2, 3600), tokens=Rate(100_000, 60))
        async with (
            in_process(rates={"ward": rates}) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            create = client.chat.completions.with_raw_response.create
            first = await create(model="alpha", messages=MESSAGES)
            assert first.headers["x-ratelimit-limit-requests"] == "2"
            assert first.headers["x-ratelimit-remaining-requests"] == "1"
            assert 0 < int(first.headers["x-ratelimit-remaining-tokens"]) < 100_000
            streamed = await create(model="alpha", messages=MESSAGES, stream=True)
            assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
            assert [chunk async for chunk in streamed.parse()]
            with pytest.raises(openai.RateLimitError, match="2 requests per hour: come back in") as found:
                await create(model="alpha", messages=MESSAGES)
            assert found.value.code == "rate_limit_exceeded"
            assert 1700 <= int(found.value.response.headers["retry-after"]) <= 1800
            received = sum(len(simulator.journal.entries) for simulator in gateway.simulators.values())
            assert received == 2
            last = gateway.ledger.settlements[-1]
            assert (last.result, last.status, last.tried) == ("limited", 429, ())

    run(main)


def test_a_stream_under_way_holds_its_place_until_its_client_leaves() -> None:
    async def main() -> None:
        stalled = {name: [{"fault": "stall"}] for name in ("one", "two", "three", "far")}
        async with (
            in_process(scripts=stalled, rates={"ward": Rates(concurrency=1)}) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            under_way = asyncio.ensure_future(client.chat.completions.create(model="alpha", messages=MESSAGES))
            while not gateway.ledger.begun_lines:  # noqa: ASYNC110 - the loop turns until the first one has been let in
                await asyncio.sleep(0)
            with pytest.raises(openai.RateLimitError, match="1 request under way"):
                await client.chat.completions.create(model="alpha", messages=MESSAGES)
            under_way.cancel()
            await gateway.ledger.settlement(2)
            for simulator in gateway.simulators.values():
                simulator.set_script([])
            assert (await client.chat.completions.create(model="alpha", messages=MESSAGES)).choices

    run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_was_sent_is_paid_for_though_its_client_did_not_wait(stream: bool) -> None:
    """Else a budget would hold nobody up who hangs up before the first word, and the provider has read all of it."""

    async def main() -> None:
        stalled = {name: [{"fault": "stall"}] for name in ("one", "two", "three", "far")}
        budget = Budget("tokens", 100_000, "day")
        async with (
            in_process(scripts=stalled, budgets={"ward": (budget,)}) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            under_way = asyncio.ensure_future(client.chat.completions.create(model="alpha", messages=MESSAGES, stream=stream))
            while not any(simulator.journal.entries for simulator in gateway.simulators.values()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            under_way.cancel()
            await gateway.ledger.settlement(1)
            (settled,) = gateway.ledger.settlements
            prompt = settled.request.needs.prompt_tokens
            assert (settled.result, settled.cost.basis) == ("client gone", "estimated")
            assert settled.usage is not None and (settled.usage.input, settled.usage.output) == (prompt, 0)
            assert settled.charged == (("budget/key/ward/tokens-day", prompt),)

    run(main)


def test_what_an_endpoint_has_no_room_for_goes_to_the_next_and_comes_back_when_there_is() -> None:
    async def main() -> None:
        async with (
            in_process(scripts={"one": [{"fault": "stall"}]}, room={"one": 1}) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            one = gateway.simulators["one"]
            under_way = asyncio.ensure_future(client.chat.completions.create(model="alpha", messages=MESSAGES))
            await one.received(1)
            assert (await client.chat.completions.create(model="alpha", messages=MESSAGES)).choices
            settled = await gateway.ledger.settlement(1)
            assert [tried.attempt.deployment.endpoint.id for tried in settled.tried] != ["one"]
            assert settled.decision.exclusions["one/alpha"][0].word == "live: full"
            under_way.cancel()
            await gateway.ledger.settlement(2)
            one.set_script([])
            assert (await client.chat.completions.create(model="alpha", messages=MESSAGES)).choices
            assert len(one.journal.entries) == 2

    run(main)
