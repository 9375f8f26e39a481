"""What a caller gets for good requests, and what it may learn."""

import json

import pytest
from fake_ports import BODY, DONE, EVENT, FakeUpstream, Script
from served import Served, chat, post, request, run, serving
from small_world import key_text


def test_an_answer_is_passed_on_with_ids_and_nothing_that_was_not_asked_for() -> None:
    async def main() -> None:
        async with serving() as gateway:
            reply = await gateway.ask(post())
            assert (reply.status, reply.body) == (200, BODY)
            settlement = await gateway.ledger.settlement()
            assert reply.header("x-gateway-decision") == reply.header("x-request-id") == settlement.request.id
            assert {name for name, _ in reply.headers} == {
                "date", "x-request-id", "x-gateway-decision", "content-type", "content-length",
            }  # fmt: skip
            assert gateway.upstream.names == ["one/alpha"]
            assert (settlement.status, settlement.code, settlement.result) == (200, "", "served")

    run(main)


def test_a_stream_is_passed_on_event_by_event() -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            caller.send(post(stream=True))
            head = await caller.head()
            assert head.header("content-type") == "text/event-stream; charset=utf-8"
            assert [await caller.chunk() for _ in range(4)] == [EVENT, EVENT, DONE, b""]
            caller.send(post(stream=True))  # and the connection serves again
            assert (await caller.reply()).body == EVENT + EVENT + DONE

    run(main)


def test_what_a_key_discloses_is_told_and_the_clients_own_id_is_echoed() -> None:
    async def main() -> None:
        async with serving() as gateway:
            reply = await gateway.ask(post("x-request-id: mine-1", key="audit"))
            assert reply.header("x-request-id") == "mine-1"
            assert str(reply.header("x-gateway-decision")).startswith("rg-")
            told = {name: value for name, value in reply.headers if name.startswith("x-gateway-")}
            assert told.pop("x-gateway-decision")
            assert told == {
                "x-gateway-endpoint": "one",
                "x-gateway-model": "alpha",
                "x-gateway-policy": "policy.access",
                "x-gateway-attempts": "1",
                "x-gateway-rules": "europeans-at-home, personal-in-europe",
            }

    run(main)


def test_models_are_those_that_the_key_can_be_served() -> None:
    async def names(gateway: Served, key: str) -> list[str]:
        reply = await gateway.ask(request("GET", "/v1/models", key=key))
        found = json.loads(reply.body)
        assert found["object"] == "list"
        for model in found["data"]:
            assert model["object"] == "model"
            assert type(model["created"]) is int
            assert type(model["owned_by"]) is str
            one = await gateway.ask(request("GET", f"/v1/models/{model['id']}", key=key))
            assert json.loads(one.body) == model
        return [model["id"] for model in found["data"]]

    async def main() -> None:
        async with serving() as gateway:
            assert await names(gateway, "ward") == ["alpha", "beta", "auto", "gpt-4o"]
            assert await names(gateway, "store") == ["alpha", "auto", "gpt-4o"]  # beta is not served in China
            assert (await gateway.ask(request("GET", "/v1/models/beta", key="store"))).told == (404, "model_not_found")
            assert (await gateway.ask(request("GET", "/v1/models/claude-sonnet-4", key="ward"))).status == 200  # by a pattern
            assert (await gateway.ask(request("GET", "/v1/models/none", key="ward"))).told == (404, "model_not_found")
            assert (await gateway.ask(request("GET", "/v1/models/", key="ward"))).told == (404, "model_not_found")
            assert (await gateway.ask(request("GET", "/v1/models?limit=3", key="ward"))).status == 200
            assert (await gateway.ask(request("GET", "/v1/models", key=None))).told == (401, "invalid_api_key")

    run(main)


def test_head_is_get_without_a_body_and_the_connection_goes_on() -> None:
    async def main() -> None:
        async with serving() as gateway:
            caller = await gateway.connect()
            caller.send(request("HEAD", "/v1/models") + request("HEAD", "/v1/chat/completions") + request("GET", "/v1/models"))
            assert (await caller.reply(to_head=True)).status == 200
            refused = await caller.reply(to_head=True)
            assert (refused.status, refused.header("allow")) == (405, "POST")
            assert json.loads((await caller.reply()).body)["object"] == "list"

    run(main)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat/completion", "/v1/chat/completions/", "/v1/models%00", "*", "//v1/models"])
def test_an_unknown_path_is_404(path: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            reply = await gateway.ask(request("GET", path, key=None))
            assert reply.told == (404, "unknown_path")
            assert "POST /v1/chat/completions" in reply.error["message"]

    run(main)


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", "/v1/chat/completions", "POST"), ("POST", "/v1/models", "GET")])
def test_a_wrong_method_is_405_and_names_the_right_one(method: str, path: str, allow: str) -> None:
    async def main() -> None:
        async with serving() as gateway:
            reply = await gateway.ask(request(method, path))
            assert reply.told == (405, "method_not_allowed")
            assert reply.header("allow") == allow

    run(main)


def test_a_stream_without_content_yet_gets_comments_and_can_still_go_elsewhere() -> None:
    async def main() -> None:
        async with serving(FakeUpstream([Script(silent=None), Script(silent=1)])) as gateway:
            reply = await gateway.ask(post(stream=True))
            assert reply.body == b": keep-alive\n\n" * 7 + EVENT + EVENT + DONE  # sixty seconds, ten at a time, and ten more
            assert gateway.upstream.names == ["one/alpha", "two/alpha"]
            assert gateway.upstream.calls[0].aborted

    run(main)


def test_keys_come_in_any_case_of_scheme_and_any_id() -> None:
    async def main() -> None:
        async with serving() as gateway:
            for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
                reply = await gateway.ask(
                    request("POST", "/v1/chat/completions", chat(), f"Authorization: {scheme} {key_text('ward')}", key=None)
                )
                assert reply.status == 200
            assert (await gateway.ask(post(key="with_under_score"))).status == 200

    run(main)
