"""Conversations through a real client: the second turn goes where the first is warm, though a tie would spread it."""

from decimal import Decimal

import openai
from inprocess import InProcess, in_process, run
from openai.types.chat import ChatCompletionMessageParam

from gateway.core.policy import Affinity
from gateway.core.pricing import Capacity

AFFINITY = Affinity(min_tokens=256, for_s=300)
RULES = "Answer politely, in the language of the question, and in no more than three sentences. " * 40
OURS: dict[str, int | Capacity] = {"one": 8, "two": Capacity(Decimal(0), 8)}  # both paid for anyway: equal


def conversation(number: int) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"{number}. {RULES}"}]


async def talk(gateway: InProcess, client: openai.AsyncOpenAI, turns: int, *, stream: bool = False) -> list[str]:
    """Where the turns of one conversation were served."""
    messages, first = conversation(len(gateway.ledger.settlements)), len(gateway.ledger.settlements)
    for turn in range(turns):
        if stream:
            chunks = await client.chat.completions.create(model="alpha", messages=messages, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
        else:
            text = (await client.chat.completions.create(model="alpha", messages=messages)).choices[0].message.content or ""
        await gateway.ledger.settlement(first + turn + 1)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": f"And then ({turn})?"}]
    return [settled.tried[-1].attempt.deployment.endpoint.id for settled in gateway.ledger.settlements[first:]]


def test_turns_of_a_conversation_stay_together_and_conversations_spread() -> None:
    async def main() -> None:
        async with (
            in_process(room=OURS, affinity=AFFINITY) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            conversations = [await talk(gateway, client, 3, stream=number % 2 == 1) for number in range(4)]
            assert all(len(set(places)) == 1 for places in conversations), conversations
            assert {places[0] for places in conversations} == {"one", "two"}
            warm = [bool(settled.decision.live.warm) for settled in gateway.ledger.settlements]
            assert warm == [False, True, True] * 4

    run(main)


def test_without_affinity_a_tie_spreads_them() -> None:
    async def main() -> None:
        async with (
            in_process(room=OURS) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            assert set(await talk(gateway, client, 2)) == {"one", "two"}

    run(main)


def test_a_session_stays_where_it_was_whatever_its_prompts() -> None:
    async def main() -> None:
        async with (
            in_process(room=OURS, affinity=AFFINITY) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            for number in range(4):
                session = {"x-session-affinity": "mine"} if number else {"x-session-affinity": "mine", "x-request-id": "first"}
                await client.chat.completions.create(model="alpha", messages=conversation(number), extra_headers=session)
            await gateway.ledger.settlement(4)
            places = [settled.tried[-1].attempt.deployment.endpoint.id for settled in gateway.ledger.settlements]
            assert len(set(places)) == 1

    run(main)


def test_a_provider_that_caches_by_key_is_given_one_and_serves_from_its_cache() -> None:
    async def main() -> None:
        async with (
            in_process(affinity=AFFINITY) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key("ward"), max_retries=0) as client,
        ):
            assert await talk(gateway, client, 2) == ["one", "one"]
            cached = [settled.usage.cached for settled in gateway.ledger.settlements if settled.usage is not None]
            assert cached[0] == 0 and cached[1] >= 256

    run(main)
