"""Answers to like questions in the processes that really run: two workers, one store, and a place that embeds."""

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest
from inprocess import run
from processes import KEY, Gateway, write_policies

from gateway.simulators import Simulator

CACHE = "[{id: a, ttl: 1h, semantic: {model: vectors, threshold: {m: 0.8}}}]"
EMBEDDING = """\
endpoints:
  vec:
    provider: ours
    dialect: vllm
    base_url: http://127.0.0.1:PORT/v1
    resolves_to: [127.0.0.0/8]
    processed_in: [DE]
    operated_under: [DE]
    models: {vectors: {price: {input: 1, output: 0}}}
models: {vectors: {origin: [FR], context: 8000, apis: [embeddings]}}
"""
WORDS = "which documents do I have to bring along when I come to renew my passport at the office in the old town in "
LIMITS = "{cache_near_wait_s_max: 10, keepalive_after_s: 10}"


def asked(gateway: Gateway, text: str) -> tuple[str | None, str | None, str | None]:
    """What the answer's headers say: how it came about, whose it is, and its own id."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request) as answer:
        said = answer.headers
        return said["x-gateway-cache"], said["x-gateway-cache-of"], said["x-gateway-decision"]


def test_a_like_question_gets_the_answer_whichever_worker_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with Simulator("vllm") as chat, Simulator("vllm") as embeds:
            write_policies(tmp_path / "policies", chat.port, LIMITS, CACHE)
            (tmp_path / "policies" / "embedding.yaml").write_text(EMBEDDING.replace("PORT", str(embeds.port)))
            gateway = await asyncio.to_thread(Gateway, tmp_path, chat.port, "--workers", "2")
            try:
                await asyncio.to_thread(gateway.ready)
                how, _, made_by = await asyncio.to_thread(asked, gateway, WORDS + "summer")
                assert how == "miss"
                for season in ("autumn", "winter", "spring", "rain", "snow", "fog"):  # the first may come before it is kept
                    found = await asyncio.to_thread(asked, gateway, WORDS + season)
                    if found[:2] == ("near", made_by):
                        return
                pytest.fail(f"the last was answered {found}")
            finally:
                await asyncio.to_thread(gateway.kill)

    run(main)
