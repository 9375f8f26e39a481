"""Answers to like requests as OpenAI's own client meets them, on a socket, with simulators that embed, and a real store."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import openai
import pytest
from inprocess import run
from store_servers import Server, eventually, opened, single
from test_cache_client import Asking, asking, text_of

from gateway.core import likeness
from gateway.core.bounds import Bounds
from gateway.core.budgets import MONEY, Budget
from gateway.core.caching import tenant_scope
from gateway.core.exchange import Ended
from gateway.core.policy import Caching, Semantic
from gateway.simulators.vectors import vector
from gateway.state.cache import scripts
from gateway.state.cache.purging import purge

WORDS = "which documents do I have to bring along when I come to renew my passport at the office in the old town in {}"
SUMMER, AUTUMN = WORDS.format("summer"), WORDS.format("autumn")
FAR = "write a poem about a lonely lighthouse"
SEMANTIC = Semantic("embed", {"alpha": 0.8}, 64)
NEAR = (Caching("all", (), 3600, semantic=SEMANTIC),)
HERE = {"here": "DE"}


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


def near(server: Server, entries: tuple[Caching, ...] = NEAR, **more: Any) -> AbstractAsyncContextManager[Asking]:
    """A gateway with a place that embeds, which is waited for however busy the machine is."""
    return asking(server, entries, **{"embeds": HERE, "bounds": Bounds(cache_near_wait_s_max=10.0), **more})


def embedded(a: Asking, place: str = "here") -> int:
    """How many side calls came there."""
    return len(a.gateway.simulators[place].journal.entries)


def why(a: Asking) -> list[str]:
    """Of each request of a client, what became of looking for a like one's answer."""
    found = (s.recalled for s in a.gateway.ledger.settlements if not s.request.side_of)
    return ["" if one is None else str(one.unlike or one.how) for one in found]


@pytest.mark.parametrize("stream", [False, True])
def test_a_like_request_is_given_the_answer_and_told_whose_it_is(server: Server, stream: bool) -> None:
    async def main() -> None:
        async with near(server) as a:
            first = await a.ask(content=SUMMER)
            assert first.headers["x-gateway-cache"] == "miss"
            assert "x-gateway-cache-of" not in first.headers
            await a.kept()
            if stream:
                raw, chunks = await a.stream(content=AUTUMN)
                said = text_of(chunks)
            else:
                raw = await a.ask(content=AUTUMN)
                said = raw.parse().choices[0].message.content
            assert said == first.parse().choices[0].message.content
            first_call, miss, second_call, given = a.gateway.ledger.settlements
            assert (raw.headers["x-gateway-cache"], raw.headers["x-gateway-cache-of"]) == ("near", miss.request.id)
            assert first.headers["x-gateway-decision"] == miss.request.id, "which a client has been told before"
            assert raw.headers["x-gateway-endpoint"] == "one"
            assert int(raw.headers["age"]) <= 5
            assert a.calls - embedded(a) == 1
            # each side call is an exchange of its own, on the same key's behalf
            for call, client in ((first_call, miss), (second_call, given)):
                assert (call.request.api, call.request.side_of) == ("embeddings", client.request.id)
                assert call.request.facts.key == client.request.facts.key
                assert call.decision.view is client.decision.view
                assert (call.status, call.result, call.cost.usd > 0) == (200, "served", True)
            assert a.gateway.ledger.begun_lines == ["here/embed", "one/alpha", "here/embed"]
            # and what is given again costs nothing
            assert (given.cost.usd, given.avoided.usd, given.tried) == (0, miss.cost.usd, ())
            assert given.recalled is not None and given.recalled.likeness is not None
            assert 0.8 < given.recalled.likeness < 1
            assert why(a) == ["far", "near"]
            plain = await a.ask(key="ward", content=AUTUMN)
            assert not {"x-gateway-cache", "x-gateway-cache-of"} & plain.headers.keys()
            sent = a.gateway.simulators["here"].journal.entries[0].body
            assert sent == {"model": "embed-there", "input": SUMMER}

    run(main)


def test_what_differs_in_more_than_words_or_too_much_in_them_is_asked_anew(server: Server) -> None:
    async def main() -> None:
        async with near(server) as a:
            for content, more in (
                (SUMMER, {}),
                (FAR, {}),
                (WORDS.format("2024"), {}),
                (WORDS.format("2025"), {}),
                (SUMMER, {"temperature": 0.5}),
                (SUMMER, {"max_tokens": 900}),
                (SUMMER, {"user": "u1"}),
            ):
                assert (await a.ask(content=content, **more)).headers["x-gateway-cache"] == "miss"
                await a.kept()
            said: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AUTUMN}]
            assert (await a.ask(messages=said)).headers["x-gateway-cache"] == "miss"
            await a.ask(key="notebook", content=AUTUMN)  # another tenant's
            assert a.words[-1] == "miss"
            assert set(why(a)) == {"far"}
            # what is equal needs no comparing, and what can't be compared is not
            count = embedded(a)
            assert (await a.ask(content=SUMMER)).headers["x-gateway-cache"] == "hit"
            tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
            apart: list[dict[str, Any]] = [{"tools": [tool]}, {"n": 2}]
            for other in apart:
                assert (await a.ask(content=AUTUMN, **other)).headers["x-gateway-cache"] == "miss"
                assert why(a)[-1] == "unfit"
            await a.ask(content=WORDS.format("winter") * 100)
            assert why(a)[-1] == "unfit"
            assert embedded(a) == count

    run(main)


def test_what_a_request_wishes_is_heard(server: Server) -> None:
    async def main() -> None:
        async with near(server) as a:
            await a.ask(content=SUMMER)
            await a.kept()
            count = embedded(a)
            with pytest.raises(openai.APIStatusError) as found:
                await a.ask(content=AUTUMN, control="only-if-cached")
            assert found.value.code == "not_cached"
            for control in ("no-cache", "no-store"):
                assert (await a.ask(content=AUTUMN + "?", control=control)).headers["x-gateway-cache"] == "bypassed"
            assert embedded(a) == count, "nothing is sent for it"
            assert (await a.ask(content=AUTUMN, control="max-age=0")).headers["x-gateway-cache"] == "miss"
            assert (await a.ask(content=WORDS.format("winter"), control="max-age=600")).headers["x-gateway-cache"] == "near"

    run(main)


def test_nothing_is_embedded_where_the_request_may_not_go(server: Server) -> None:
    async def main() -> None:
        async with near(server, embeds={"there": "CN"}) as a:
            for content in (SUMMER, AUTUMN):
                assert (await a.ask(content=content)).headers["x-gateway-cache"] == "miss"  # the clinic's, which stays in the EEA
                await a.kept()
            assert why(a) == ["barred", "barred"]
            assert embedded(a, "there") == 0
            assert [s.request.api for s in a.gateway.ledger.settlements] == ["chat", "chat"]
            for content in (SUMMER, AUTUMN):
                await a.ask(key="notebook", content=content)  # the lab's, which is public
                await a.kept()
            assert why(a)[2:] == ["far", "near"]
            assert embedded(a, "there") == 2

    run(main)


def test_an_answer_of_a_model_without_a_threshold_is_compared_with_nothing(server: Server) -> None:
    async def main() -> None:
        entries = (Caching("all", (), 3600, semantic=replace(SEMANTIC, thresholds={"beta": 0.1})),)
        async with near(server, entries) as a:
            for content in (SUMMER, AUTUMN):
                await a.ask(content=content)
                await a.kept()
            assert why(a) == ["unfit", "unfit"]
            assert embedded(a) == 0

    run(main)


@pytest.mark.parametrize("late", [True, False])
def test_a_side_call_that_fails_or_stalls_costs_nobody_an_answer(server: Server, late: bool) -> None:
    async def main() -> None:
        bounds = Bounds(cache_near_wait_s_max=0.2 if late else 10.0)
        script = {"here": [{"fault": "stall" if late else {"kind": "error", "status": 500}}]}
        async with near(server, scripts=script, bounds=bounds) as a:
            assert (await a.ask(content=SUMMER)).headers["x-gateway-cache"] == "miss"
            call, served = a.gateway.ledger.settlements
            assert (served.status, why(a)) == (200, ["late" if late else "failed"])
            assert call.tried[0].outcome.ended is (Ended.CLIENT_GONE if late else Ended.FAILED)
            if late:
                await a.gateway.simulators["here"].journal.aborted(1)
            await a.kept()
            assert (await a.ask(content=SUMMER)).headers["x-gateway-cache"] == "hit", "it was kept, to be given to equal ones"
            a.gateway.simulators["here"].set_script([])
            await a.ask(content=AUTUMN)
            assert why(a)[-1] == "far", "but nobody knows what it is like"

    run(main)


def test_who_hangs_up_meanwhile_leaves_nothing_behind(server: Server) -> None:
    async def main() -> None:
        async with near(server, scripts={"here": [{"fault": "stall"}]}) as a:
            asked = asyncio.ensure_future(a.ask(content=SUMMER))
            await a.gateway.simulators["here"].received(1)
            asked.cancel()
            call, client = await a.gateway.ledger.settlement(1), await a.gateway.ledger.settlement(2)
            assert (call.request.side_of, call.status, client.status) == (client.request.id, 0, 0)
            await a.gateway.simulators["here"].journal.aborted(1)
            assert a.gateway.cache is not None
            await a.kept()
            assert len(a.gateway.cache.flights) == 0
            a.gateway.simulators["here"].set_script([])
            assert (await a.ask(content=SUMMER)).headers["x-gateway-cache"] == "miss", "and nobody waits for it"

    run(main)


def test_side_calls_are_charged_to_the_key_s_budget_and_stop_where_it_ends(server: Server) -> None:
    async def main() -> None:
        # a side call is held at 100 dollars a million tokens of the whole prompt, the request itself at a hundredth
        budgets = {"audit": (Budget(MONEY, 6_000, "day"),)}
        async with near(server, budgets=budgets) as a:
            await a.ask(content=SUMMER)
            call, served = a.gateway.ledger.settlements
            assert dict(call.charged).keys() == dict(served.charged).keys() != set()
            (used,), (paid,) = dict(call.charged).values(), dict(served.charged).values()
            assert used == round(call.cost.usd * 1_000_000) > paid > 0
            await a.kept()
            for season in ("autumn", "winter", "spring"):
                await a.ask(content=FAR + season)
            assert why(a)[-1] == "failed", "its budget holds no side call any more"
            assert a.gateway.ledger.settlements[-1].status == 200

    run(main)


def test_equal_requests_at_once_are_given_what_the_first_is(server: Server) -> None:
    async def main() -> None:
        async with near(server) as a:
            await a.ask(content=SUMMER)
            await a.kept()
            count = embedded(a)
            answers = await asyncio.gather(*(a.ask(content=AUTUMN) for _ in range(8)))
            assert {raw.headers["x-gateway-cache"] for raw in answers} == {"near"}
            assert embedded(a) == count + 1
            assert server.ask("HLEN", scripts.keys_of(tenant_scope("clinic"))[5]) == 0, "no lease is left behind"

    run(main)


def test_a_partition_has_its_newest_messages_and_the_books_of_the_store_are_right(server: Server) -> None:
    async def main() -> None:
        entries = (Caching("all", (), 3600, semantic=replace(SEMANTIC, thresholds={"alpha": 0.99}, vectors_max=3)),)
        async with near(server, entries) as a:
            seasons = ["spring", "summer", "autumn", "winter", "rain"]
            for season in seasons:
                await a.ask(content=WORDS.format(season))
                await a.kept()
            *_, about, _, like = scripts.keys_of(tenant_scope("clinic"))
            assert about.endswith("about") and like.endswith("like")
            fields = server.ask("HKEYS", like)
            assert sorted(field[:1] for field in fields) == [b"p", b"v", b"v", b"v"]
            sizes = {name: int(said.split()[0]) for name, said in _pairs(server.ask("HGETALL", about)) if name}
            assert len(sizes) == 5
            assert int(server.ask("HGET", about, "")) == sum(sizes.values())
            found = [(await a.ask(content=WORDS.format(season))).headers["x-gateway-cache"] for season in seasons]
            assert found == ["hit"] * 5
            # to a simulator the same words in another order are as like as can be
            found = [(await a.ask(content=f"{season} {WORDS.format('')}")).headers["x-gateway-cache"] for season in seasons[::-1]]
            assert found == ["near"] * 3 + ["miss"] * 2, "the oldest are found by their names only"

    run(main)


def _pairs(found: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(found[::2], found[1::2], strict=True))


@pytest.mark.parametrize("model", ["", "alpha"])
def test_what_is_purged_is_found_by_likeness_no_more(server: Server, model: str) -> None:
    async def main() -> None:
        async with near(server) as a, opened(server.url) as store:
            await a.ask(content=SUMMER)
            await a.kept()
            assert await purge(store, [tenant_scope("clinic")], "another", "") == 0
            assert (await a.ask(content=AUTUMN)).headers["x-gateway-cache"] == "near"
            await a.kept()
            assert await purge(store, [tenant_scope("clinic")], model, "") == 1
            assert server.ask("KEYS", "*:like") == []
            assert (await a.ask(content=AUTUMN)).headers["x-gateway-cache"] == "miss"

    run(main)


def test_neither_text_nor_vector_is_in_the_store(server: Server) -> None:
    async def main() -> None:
        async with near(server) as a:
            await a.ask(content=SUMMER)
            await a.kept()
            await a.ask(content=AUTUMN)
            (like,) = server.ask("KEYS", "*:like")
            kept = b"".join(server.ask("HVALS", like))
            assert len(kept) > 2_048
            assert b"passport" not in kept
            sent = likeness.embedded(vector(SUMMER, 1_024))
            assert sent is not None and sent.halves[:64] not in kept

    run(main)


def test_a_store_that_is_gone_is_asked_for_nothing_near(server: Server) -> None:
    async def main() -> None:
        async with near(server) as a:
            await a.ask(content=SUMMER)
            await a.kept()
            count = embedded(a)
            server.kill()
            await eventually(lambda: not a.store.up)
            assert (await a.ask(content=AUTUMN)).headers["x-gateway-cache"] == "lost"
            assert embedded(a) == count, "what it is like would be of no use"

    run(main)
