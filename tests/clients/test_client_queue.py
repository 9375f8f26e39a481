"""Real clients that wait for a machine of ours which is full."""

import asyncio
from decimal import Decimal

import openai
import pytest
from inprocess import InProcess, in_process, run

from gateway.core.pricing import Capacity, Waiting

MESSAGES: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "你好"}]


def room(wait_s: float) -> dict[str, int | Capacity]:
    return {"far": Capacity(Decimal(0), 1, Waiting(1, wait_s))}


async def in_queue(gateway: InProcess) -> None:
    """Once one waits."""
    while gateway.live.queued != {"far": 1}:  # noqa: ASYNC110 - nothing tells of it, and `run` has a deadline
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("stream", [False, True])
def test_one_waits_is_served_when_there_is_room_and_one_too_many_is_told_when_to_come_back(stream: bool) -> None:
    async def main() -> None:
        async with (
            in_process(scripts={"far": [{"fault": "stall"}]}, room=room(30.0)) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("store"), max_retries=0) as client,
        ):
            far = gateway.simulators["far"]

            async def ask() -> str:
                if not stream:
                    return (await client.chat.completions.create(model="alpha", messages=MESSAGES)).choices[0].message.content or ""
                chunks = await client.chat.completions.create(model="alpha", messages=MESSAGES, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

            under_way = asyncio.ensure_future(ask())
            await far.received(1)
            waiting = asyncio.ensure_future(ask())
            await in_queue(gateway)
            with pytest.raises(openai.InternalServerError) as told:
                await ask()
            assert told.value.status_code == 503
            assert told.value.response.headers["retry-after"] == "1"
            far.set_script([])
            under_way.cancel()
            assert await waiting
            assert len(far.journal.entries) == 2

    run(main)


def test_one_that_leaves_while_it_waits_is_gone_from_the_queue() -> None:
    async def main() -> None:
        async with (
            in_process(scripts={"far": [{"fault": "stall"}]}, room=room(30.0)) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("store"), max_retries=0) as client,
        ):
            under_way = asyncio.ensure_future(client.chat.completions.create(model="alpha", messages=MESSAGES))
            await gateway.simulators["far"].received(1)
            waiting = asyncio.ensure_future(client.chat.completions.create(model="alpha", messages=MESSAGES))
            await in_queue(gateway)
            waiting.cancel()
            await gateway.ledger.settlement(1)
            assert gateway.live.queued == {"far": 0}
            assert gateway.live.in_flight == {"far": 1}
            under_way.cancel()
            await gateway.ledger.settlement(2)
            assert gateway.live.in_flight == {"far": 0}
            assert len(gateway.simulators["far"].journal.entries) == 1

    run(main)


def test_a_deadline_that_passes_is_answered_like_any_lack_of_a_route() -> None:
    async def main() -> None:
        async with (
            in_process(scripts={"far": [{"fault": "stall"}]}, room=room(0.1)) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("store"), max_retries=0) as client,
        ):
            under_way = asyncio.ensure_future(client.chat.completions.create(model="alpha", messages=MESSAGES))
            await gateway.simulators["far"].received(1)
            with pytest.raises(openai.InternalServerError) as told:
                await client.chat.completions.create(model="alpha", messages=MESSAGES)
            assert told.value.status_code == 503 and told.value.code == "no_route_available"
            assert "retry-after" in told.value.response.headers
            under_way.cancel()
            await gateway.ledger.settlement(2)

    run(main)
