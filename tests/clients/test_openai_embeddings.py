"""Embeddings by the real `openai` client over a socket, against every dialect: numbers and base64, texts, token ids, troubles."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from inprocess import InProcess, in_process, run
from openai.types import CreateEmbeddingResponse
from store_servers import Server, opened, single

from gateway.core.exchange import Ended
from gateway.core.policy import Caching
from gateway.simulators.vectors import vector

EMBEDS: Any = {"apis": frozenset({"embeddings"})}
TEXTS = ["Guten Morgen", "Gute Nacht", "今天天气怎么样"]
LENGTHS = {"mistral": 1_024, "zai": 2_048, "vllm": 1_024, "llamacpp": 576, "openai": 1_536}
EVERY_DIALECT = pytest.mark.parametrize("dialect", sorted(LENGTHS))
ROUTE = ("one/alpha", "two/alpha")


def client_of(gateway: InProcess, key: str = "audit", **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key(key), **{"max_retries": 0, **options})


def told(gateway: InProcess) -> Any:
    """The last settlement."""
    return gateway.ledger.settlements[-1]


@EVERY_DIALECT
def test_the_clients_default_which_is_base64_and_numbers_are_the_same_vectors(dialect: str) -> None:
    async def main() -> None:
        async with in_process({"one": dialect}, **EMBEDS) as gateway, client_of(gateway) as client:
            found = await client.embeddings.create(model="alpha", input=TEXTS)
            plain = await client.embeddings.with_raw_response.create(model="alpha", input=TEXTS, encoding_format="float")
            answer = CreateEmbeddingResponse.model_validate_json(plain.text, strict=True)
            assert [entry.embedding for entry in found.data] == [entry.embedding for entry in answer.data]
            for index, entry in enumerate(answer.data):
                assert (entry.index, entry.object) == (index, "embedding")
                assert entry.embedding == pytest.approx(vector(TEXTS[index], LENGTHS[dialect]), abs=1e-6)
            assert (answer.object, answer.model) == ("list", "alpha")
            assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
            assert plain.headers["x-gateway-endpoint"] == "one"
            assert "x-gateway-decision" in plain.headers
            assert "x-gateway-dropped" not in plain.headers
            tried = told(gateway).tried[0].outcome
            assert (tried.ended, tried.usage.input, tried.usage.output) == (Ended.SERVED, answer.usage.prompt_tokens, 0)
            sent = (await gateway.simulators["one"].received(2))[-1]
            assert sent.path.endswith("/embeddings")
            assert sent.body["model"] == "alpha-there"

    run(main)


def test_token_ids_go_where_they_mean_something_and_are_refused_with_advice_elsewhere() -> None:
    async def main() -> None:
        async with in_process({"one": "vllm"}, **EMBEDS) as gateway, client_of(gateway) as client:
            assert len((await client.embeddings.create(model="alpha", input=[1, 2, 3])).data) == 1
            assert len((await client.embeddings.create(model="alpha", input=[[1, 2], [3]])).data) == 2
            assert told(gateway).request.needs.prompt_tokens == 3
        async with in_process({"one": "mistral"}, **EMBEDS) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
                await client.embeddings.create(model="alpha", input=[1, 2, 3])
            assert caught.value.param == "input"
            assert not gateway.simulators["one"].journal.entries

    run(main)


def test_dimensions_are_as_asked() -> None:
    async def main() -> None:
        for dialect, length in (("mistral", 256), ("zai", 512), ("vllm", 64), ("openai", 7)):
            async with in_process({"one": dialect}, **EMBEDS) as gateway, client_of(gateway) as client:
                found = await client.embeddings.create(model="alpha", input="hi", dimensions=length)
                assert len(found.data[0].embedding) == length
        async with in_process({"one": "llamacpp"}, **EMBEDS) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.BadRequestError, match="one length only"):
                await client.embeddings.create(model="alpha", input="hi", dimensions=5)

    run(main)


FAULTS: list[Any] = [
    "throttle",
    {"kind": "error", "status": 500},
    {"kind": "cut", "at": "mid_body"},
    {"kind": "redirect", "to": "http://127.0.0.1:9/v1/embeddings"},
    "garbage",
    *({"kind": "bad_vectors", "how": how} for how in ("fewer", "another_place", "short", "null")),
]


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_another_route_serves_and_the_client_sees_nothing_of_it(encoding: Any) -> None:
    async def main() -> None:
        for fault in FAULTS:
            scripts = {"one": [{"fault": fault}]}
            async with in_process({"one": "openai"}, scripts, **EMBEDS) as gateway, client_of(gateway) as client:
                found = await client.embeddings.create(model="alpha", input=TEXTS, encoding_format=encoding)
                assert len(found.data) == len(TEXTS), fault
                assert len(told(gateway).tried) == 2, fault
                first, second = told(gateway).tried
                assert (first.attempt.deployment.id, second.attempt.deployment.id) == ROUTE
                assert first.outcome.ended not in (Ended.SERVED, Ended.REJECTED), fault

    run(main)


def test_spoilt_vectors_everywhere_are_an_error_and_never_an_answer() -> None:
    async def main() -> None:
        fault = {"fault": {"kind": "bad_vectors", "how": "null"}}
        scripts = {name: [fault] for name in ("one", "two", "three", "far")}
        async with in_process(scripts=scripts, **EMBEDS) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                await client.embeddings.create(model="alpha", input=TEXTS)
            assert caught.value.status_code == 502
            assert {tried.outcome.code for tried in told(gateway).tried} == {"bad_vectors"}

    run(main)


def test_each_trouble_is_the_exception_that_callers_know() -> None:
    async def main() -> None:
        async with in_process(**EMBEDS) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.NotFoundError):
                await client.embeddings.create(model="nothing", input="hi")
            with pytest.raises(openai.BadRequestError) as caught:
                await client.embeddings.create(model="alpha", input=[])
            assert (caught.value.param, caught.value.type) == ("input", "invalid_request_error")
            with pytest.raises(openai.PermissionDeniedError):
                await client.embeddings.create(model="alpha", input="hi", extra_headers={"x-gateway-data-class": "public"})
            with pytest.raises(openai.PermissionDeniedError, match=r"can't do what it needs \(chat\)"):
                await client.chat.completions.create(model="alpha", messages=[{"role": "user", "content": "hi"}])
            assert {model.id async for model in client.models.list()} >= {"alpha", "auto"}
        async with in_process(apis=frozenset({"chat"})) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.PermissionDeniedError, match=r"can't do what it needs \(embeddings\)"):
                await client.embeddings.create(model="alpha", input="hi")
        async with in_process(apis=frozenset({"messages"})) as gateway, client_of(gateway) as client:
            assert [model async for model in client.models.list()] == [], "there is nothing here that it could be asked for"

    run(main)


def test_one_text_too_long_for_any_window_is_told_so_and_many_short_ones_are_not() -> None:
    async def main() -> None:
        async with in_process(**EMBEDS) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.BadRequestError, match="longest text") as caught:
                await client.embeddings.create(model="alpha", input=["hi", "word " * 100_000])
            assert caught.value.code == "context_length_exceeded"
            found = await client.embeddings.create(model="alpha", input=["word " * 10_000] * 10, encoding_format="float")
            assert len(found.data) == 10, "125,000 tokens together, each within the window"

    run(main)


def test_an_answer_is_kept_and_given_again_and_another_format_is_another_request() -> None:
    async def main(server: Server) -> None:
        kept = {"caching": [Caching("all", (), 600, apis=frozenset({"embeddings"}))], **EMBEDS}
        async with opened(server.url) as store, in_process(store=store, **kept) as gateway, client_of(gateway) as client:
            assert gateway.cache is not None
            cache = gateway.cache

            async def ask(**more: Any) -> tuple[str | None, bytes]:
                how: str | None = "lost"  # as it is where a busy machine's store is too late; then nothing is kept either
                while how == "lost":
                    raw = await client.embeddings.with_raw_response.create(model="alpha", input=TEXTS, **more)
                    await cache.idle()
                    how = raw.headers.get("x-gateway-cache")
                return how, raw.content

            how, first = await ask()
            again, second = await ask()
            assert (how, again) == ("miss", "hit")
            assert second == first
            assert told(gateway).cost.usd == 0
            assert (await ask(encoding_format="float"))[0] == "miss"
            assert (await ask(encoding_format="float"))[0] == "hit"
            assert (await ask(extra_headers={"cache-control": "no-cache"}))[0] == "bypassed"
            assert len(gateway.simulators["one"].journal.entries) >= 3

    with single() as server:
        run(lambda: main(server))


def test_the_synchronous_client_and_a_bare_one_get_the_same() -> None:
    async def main() -> None:
        async with in_process(**EMBEDS) as gateway:

            def threaded() -> list[float]:
                with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key("audit"), max_retries=0) as client:
                    return client.embeddings.create(model="alpha", input="hi").data[0].embedding

            found = await asyncio.to_thread(threaded)
            async with httpx.AsyncClient(headers={"authorization": f"Bearer {gateway.key('audit')}"}) as bare:
                answer = await bare.post(f"{gateway.base_url}/embeddings", json={"model": "alpha", "input": "hi"})
                assert answer.json()["data"][0]["embedding"] == found
                wrong = await bare.get(f"{gateway.base_url}/embeddings")
                assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")

    run(main)
