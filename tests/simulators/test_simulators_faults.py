"""Every fault, seen on a raw socket; those of the connection under both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from simulator_client import body, embedded, run, simulated

from gateway.simulators import DIALECTS, Simulator
from gateway.simulators.faults import FAULTS, GARBAGE

STREAM = body(stream=True)
MISTRAL_EVENTS = 7
"""What a stream of four tokens is at Mistral: role, four tokens, finish, [DONE]."""

SEEN: set[str] = set()
"""The kinds of fault that some test here looks at."""

Scene = Callable[..., Awaitable[None]]


def sees(*kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say which kinds of fault a test is about."""
    SEEN.update(kinds)
    return lambda test: test


def rule(kind: str, **fields: Any) -> list[dict[str, Any]]:
    """A script of one fault."""
    return [{"fault": {"kind": kind, **fields}}]


both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


# -- the provider refuses


@sees("throttle")
@pytest.mark.parametrize(
    ("dialect", "status", "code"),
    [
        ("mistral", 429, "1300"),
        ("zai", 429, "1302"),
        ("openai", 429, "rate_limit_exceeded"),
        ("vllm", 503, 503),
        ("llamacpp", 503, 503),
    ],
)
def test_throttle_is_what_each_provider_says_to_too_many_requests(dialect: str, status: int, code: Any) -> None:
    async def scene() -> None:
        async with simulated(dialect, script=rule("throttle", retry_after=7)) as (_, client):
            got = await client.ask(STREAM)
            assert got.status == status
            assert got.headers["retry-after"] == "7"
            document = got.json
            assert document.get("error", document)["code"] == code

    run(scene())


@sees("throttle")
def test_throttle_by_another_code_and_without_retry_after() -> None:
    async def scene() -> None:
        async with simulated("mistral", script=rule("throttle", code=3505, status=503)) as (_, client):
            got = await client.ask(STREAM)
            assert (got.status, got.json["type"]) == (503, "service_tier_capacity_exceeded")
            assert "retry-after" not in got.headers

    run(scene())


@sees("error")
def test_every_error_of_every_table_can_be_asked_for_by_name_and_by_code() -> None:
    async def scene() -> None:
        for name in DIALECTS:
            async with simulated(name) as (sim, client):
                for case in sim.dialect.errors:
                    for field, value in (("name", case.name), ("code", case.code)):
                        if value is None:
                            continue
                        sim.set_script(rule("error", **{field: value}))
                        if not (await _status_is(client, sim, case.status)) and field == "name":
                            raise AssertionError(f"{name} {case.name}: not {case.status}")

    async def _status_is(client: Any, sim: Simulator, status: int) -> bool:
        from simulator_client import connect

        async with connect(sim) as fresh:
            return (await fresh.ask(body())).status == status

    run(scene())


@sees("error")
def test_an_error_may_have_any_status_and_any_body() -> None:
    async def scene() -> None:
        script = rule("error", status=418, body={"tea": "pot"}, retry_after=1.5)
        async with simulated("openai", script=script) as (_, client):
            got = await client.ask(body())
            assert (got.status, got.json, got.headers["retry-after"]) == (418, {"tea": "pot"}, "1.5")

    run(scene())


@sees("redirect")
def test_redirect() -> None:
    async def scene() -> None:
        async with simulated(script=rule("redirect", to="http://127.0.0.2:1/elsewhere")) as (_, client):
            got = await client.ask(body())
            assert (got.status, got.headers["location"]) == (302, "http://127.0.0.2:1/elsewhere")

    run(scene())


@sees("stream_error")
def test_a_stream_that_began_well_ends_in_an_error_event() -> None:
    async def scene() -> None:
        async with simulated("vllm", script=rule("stream_error", after=3)) as (_, client):
            got = await client.ask(STREAM)
            assert got.status == 200
            assert [("error" in e) for e in got.events[:-1]] == [False, False, False, True]
            assert got.events[-2]["error"]["code"] == 500
            assert got.events[-1] == "[DONE]"

    run(scene())


# -- the connection fails, or takes its time


@sees("stall")
@both_loops
@pytest.mark.parametrize(
    ("fields", "marker", "chunks"),
    [
        ({"at": "before_head"}, None, 0),
        ({"at": "after_head"}, b"\r\n\r\n", 0),
        ({"after": 3}, b" two", 3),
        ({"at": "mid_body", "after": 1}, b"data: {", 1),
    ],
)
def test_stall(loop: str, fields: dict[str, Any], marker: bytes | None, chunks: int) -> None:
    async def scene() -> None:
        async with simulated(script=rule("stall", **fields)) as (sim, client):
            await client.post(STREAM)
            await sim.received(1)
            if marker is not None:
                got = await client.read(until=marker)
                assert marker in got.raw
            assert not sim.journal[0].ended
            await client.close()
            (entry,) = await sim.aborted(1)
            assert (entry.chunks, entry.complete, entry.fault) == (chunks, False, "stall")

    run(scene(), loop=loop)


@sees("stall")
def test_a_plain_answer_stalls_in_the_middle_of_its_body() -> None:
    async def scene() -> None:
        async with simulated("openai", script=rule("stall", at="mid_body")) as (sim, client):
            await client.post(body())
            got = await client.read(until=b'"object"')
            assert 0 < len(got.payload) < int(got.headers["content-length"])
            assert not sim.journal[0].ended

    run(scene())


@sees("hold")
@both_loops
def test_hold_waits_until_released(loop: str) -> None:
    async def scene() -> None:
        async with simulated(script=rule("hold", after=2)) as (sim, client):
            await client.post(STREAM)
            await sim.holding(1)
            first = await client.read(until=b'"content":"one"')
            assert b"two" not in first.raw
            assert sim.release() == 1
            rest = await client.read(until=b"[DONE]")
            assert b"two" in rest.raw
            await sim.finished(1)
            assert sim.journal[0].complete

    run(scene(), loop=loop)


@sees("hold")
def test_a_client_that_leaves_while_held_is_no_longer_held() -> None:
    async def scene() -> None:
        async with simulated(script=rule("hold", at="before_head")) as (sim, client):
            await client.post(STREAM)
            await sim.holding(1)
            await client.close()
            await sim.aborted(1)
            assert sim.release() == 0

    run(scene())


@sees("cut")
@both_loops
@pytest.mark.parametrize(("how", "ended"), [("rst", "reset"), ("fin", "closed")])
@pytest.mark.parametrize(
    ("fields", "events"),
    [({"at": "before_head"}, None), ({"at": "after_head"}, 0), ({"after": 3}, 3), ({"at": "mid_body", "after": 2}, 2)],
)
def test_cut(loop: str, how: str, ended: str, fields: dict[str, Any], events: int | None) -> None:
    async def scene() -> None:
        async with simulated(script=rule("cut", how=how, **fields)) as (sim, client):
            await client.post(STREAM)
            got = await client.rest()
            assert got.ended == ended
            # A reset may overtake what was written before it, in the client's kernel; an orderly end never does.
            if how == "fin":
                assert (got.raw == b"") if events is None else (len(got.events) == events)
            (entry,) = await sim.finished(1)
            assert (entry.chunks, entry.complete, entry.aborted) == (events or 0, False, False)

    run(scene(), loop=loop)


@sees("cut")
def test_cut_in_the_middle_of_a_plain_body() -> None:
    async def scene() -> None:
        async with simulated("zai", script=rule("cut", at="mid_body", how="fin")) as (_, client):
            await client.post(body())
            got = await client.rest()
            assert 0 < len(got.payload) < int(got.headers["content-length"])

    run(scene())


@sees("slow_first_token")
@pytest.mark.parametrize("at", ["before_head", "after_head"])
def test_slow_first_token_takes_its_time(at: str) -> None:
    async def scene() -> None:
        async with simulated("vllm", script=rule("slow_first_token", seconds=0.05, at=at)) as (_, client):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await client.post(STREAM)
            await client.reader.readexactly(1)
            headed = loop.time() - began
            await client.read(until=b"[DONE]")
            assert loop.time() - began >= 0.05
            if at == "before_head":
                assert headed >= 0.05

    run(scene())


@sees("slow")
def test_slow_bytes_arrive_one_by_one_and_make_the_same_message() -> None:
    async def scene() -> None:
        async with simulated("zai") as (sim, client):
            whole = await client.ask(STREAM)
            sim.set_script(rule("slow", bytes=1))
            slow = await client.ask(STREAM)
            assert [_content(e) for e in slow.events] == [_content(e) for e in whole.events]
            assert sim.journal[0].chunks == sim.journal[1].chunks == len(whole.events)

    run(scene())


@sees("endless")
@both_loops
def test_an_endless_stream_ends_when_the_client_leaves_and_waits_for_a_slow_one(loop: str) -> None:
    async def scene() -> None:
        async with simulated("vllm", script=rule("endless")) as (sim, client):
            await client.post(STREAM)
            raw = b""
            while raw.count(b"data: ") < 1000:
                raw += await client.reader.read(65536)
            assert b'"finish_reason":"' not in raw
            await client.close()
            (entry,) = await sim.aborted(1)
            assert entry.chunks >= 1000

    run(scene(), loop=loop)


@sees("endless")
def test_an_endless_stream_does_not_pile_up_for_a_client_that_does_not_read() -> None:
    async def scene() -> None:
        async with simulated("vllm", script=rule("endless")) as (sim, client):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.post(STREAM)
            (entry,) = await sim.received(1)
            before = -1
            while before != entry.chunks:  # it stops by itself: kernel buffers and the simulator's own are full
                before = entry.chunks
                for _ in range(200):
                    await asyncio.sleep(0)
            (connection,) = sim._connections
            assert connection._transport is not None
            assert connection._transport.get_write_buffer_size() < 1_000_000

    run(scene())


@sees("close")
@pytest.mark.parametrize("say", [True, False])
def test_close_ends_the_connection_after_a_whole_answer(say: bool) -> None:
    async def scene() -> None:
        async with simulated(script=rule("close", say=say)) as (sim, client):
            await client.post(body())
            got = await client.rest()
            assert got.ended == "closed"
            assert got.json["object"] == "chat.completion"
            assert ("connection" in got.headers) is say
            assert sim.journal[0].complete

    run(scene())


# -- the numbers are wrong


@sees("wrong_usage")
def test_wrong_usage() -> None:
    async def scene() -> None:
        async with simulated("mistral") as (sim, client):
            true = (await client.ask(body())).json["usage"]
            sim.set_script(rule("wrong_usage", factor=10, completion_tokens=-1, cached_tokens=9))
            lied = (await client.ask(body())).json["usage"]
            assert lied["prompt_tokens"] == 10 * true["prompt_tokens"]
            assert (lied["completion_tokens"], lied["prompt_tokens_details"]["cached_tokens"]) == (-1, 9)
            stream = await client.ask(STREAM)
            assert stream.events[-2]["usage"]["completion_tokens"] == -1

    run(scene())


@sees("missing_usage")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_missing_usage(dialect: str) -> None:
    async def scene() -> None:
        request = (
            body(stream=True) if dialect == "mistral" else body(stream=True, stream_options={"include_usage": True})
        )
        async with simulated(dialect, script=rule("missing_usage")) as (_, client):
            assert not any(e.get("usage") for e in (await client.ask(request)).events[:-1])
            assert "usage" not in (await client.ask(body())).json

    run(scene())


@sees("empty_stream")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_empty_answer_bills_and_says_nothing(dialect: str) -> None:
    async def scene() -> None:
        request = (
            body(stream=True) if dialect == "mistral" else body(stream=True, stream_options={"include_usage": True})
        )
        async with simulated(dialect, script=rule("empty_stream")) as (_, client):
            events = (await client.ask(request)).events
            assert not any(_content(e) for e in events)
            assert any(_finish(e) for e in events)
            assert any(e != "[DONE]" and e.get("usage") and e["usage"]["completion_tokens"] >= 4 for e in events)
            plain = (await client.ask(body())).json
            assert plain["choices"][0]["message"]["content"] == ""
            assert plain["usage"]["completion_tokens"] >= 4

    run(scene())


@sees("finish")
@pytest.mark.parametrize("reason", ["network_error", "sensitive", "model_context_window_exceeded"])
def test_finish_with_another_reason_and_status_200(reason: str) -> None:
    async def scene() -> None:
        async with simulated("zai", script=rule("finish", reason=reason)) as (_, client):
            got = await client.ask(STREAM)
            assert got.status == 200
            assert [_finish(e) for e in got.events if _finish(e)] == [reason]
            assert (await client.ask(body())).json["choices"][0]["finish_reason"] == reason

    run(scene())


# -- the wire is wrong


@sees("no_done")
def test_no_done() -> None:
    async def scene() -> None:
        async with simulated(script=rule("no_done")) as (_, client):
            got = await client.ask(STREAM)
            assert _finish(got.events[-1]) == "stop"
            assert b"[DONE]" not in got.raw

    run(scene())


@sees("comments")
def test_comments_come_before_events_and_change_none() -> None:
    async def scene() -> None:
        async with simulated(script=rule("comments")) as (_, client):
            got = await client.ask(STREAM)
            assert got.payload.count(b": keep-alive\n\n") == MISTRAL_EVENTS - 1
            assert len(got.events) == MISTRAL_EVENTS

    run(scene())


@sees("garbage")
@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("stream", [True, False])
def test_garbage(what: str, stream: bool) -> None:
    async def scene() -> None:
        async with simulated(script=rule("garbage", what=what)) as (_, client):
            await client.post(body(stream=stream))
            if what == "bad_framing":
                got = await client.read(until=b"zz\r\n")
            elif what == "not_http":
                got = await client.rest()
                assert not got.raw.startswith(b"HTTP/")
                return
            else:
                got = await client.read()
            assert got.status == (502 if what == "html" else 200)
            if what == "html":
                assert got.headers["content-type"] == "text/html"
            if what == "bad_sse" and stream:
                assert b"this line is no field" in got.payload
                return
            with pytest.raises(ValueError):  # neither events nor a document can be read
                _ = got.events[-2] if stream and what not in ("html", "bad_framing") else got.json

    run(scene())


@sees("huge_headers")
def test_huge_headers() -> None:
    async def scene() -> None:
        async with simulated(script=rule("huge_headers", bytes=200_000)) as (_, client):
            assert 190_000 < len((await client.ask(body())).head) < 210_000

    run(scene())


@sees("huge_body")
@pytest.mark.parametrize("stream", [True, False])
def test_huge_body(stream: bool) -> None:
    async def scene() -> None:
        async with simulated(script=rule("huge_body", bytes=2_000_000)) as (_, client):
            got = await client.ask(body(stream=stream))
            assert len(got.payload) > 2_000_000
            assert len((got.events[0] if stream else got.json)["padding"]) == 2_000_000

    run(scene())


@sees("wrong_length")
@pytest.mark.parametrize("by", [10, -10])
def test_wrong_length(by: int) -> None:
    async def scene() -> None:
        async with simulated(script=rule("wrong_length", by=by)) as (sim, client):
            await client.post(body())
            got = await client.read(until=b'"cached_tokens":0}}')
            assert int(got.headers["content-length"]) == len(got.payload) + by
            await sim.finished(1)

    run(scene())


@sees("extra_bytes")
@pytest.mark.parametrize("stream", [True, False])
def test_extra_bytes_follow_a_whole_message(stream: bool) -> None:
    async def scene() -> None:
        async with simulated(script=[{"times": 1, "fault": "extra_bytes"}]) as (_, client):
            await client.post(body(stream=stream))
            got = await client.read(until=b"stolen")
            assert got.raw.count(b"HTTP/1.1 200 OK") == 2
            assert (await client.ask(body())).status == 200  # and the connection is as good as before

    run(scene())


# -- together


def test_faults_are_applied_in_order() -> None:
    async def scene() -> None:
        faults = [{"kind": "wrong_usage", "completion_tokens": 999}, "no_done", {"kind": "slow", "bytes": 5}]
        async with simulated(script=[{"fault": [*faults, {"kind": "hold", "after": 2}]}]) as (sim, client):
            await client.post(STREAM)
            await sim.holding(1)
            assert sim.journal[0].chunks == 2
            sim.release()
            got = await client.read(until=b"0\r\n\r\n")
            assert b'"completion_tokens":999' in got.payload
            assert b"[DONE]" not in got.payload
            assert sim.journal[0].fault == "wrong_usage+no_done+slow+hold"

    run(scene())


@sees("bad_vectors")
def test_vectors_are_spoilt_as_asked() -> None:
    async def spoilt(how: str, **more: Any) -> list[Any]:
        async with simulated("openai", script=rule("bad_vectors", how=how)) as (_, client):
            got: list[Any] = (await client.ask(embedded(**more), path="/embeddings")).json["data"]
            return got

    assert len(run(spoilt("fewer"))) == 1
    assert run(spoilt("another_place"))[1]["index"] == 2
    assert len(run(spoilt("short"))[1]["embedding"]) == 1_528
    assert run(spoilt("null"))[1]["embedding"][0] is None
    assert run(spoilt("null", encoding_format="base64"))[1]["embedding"] is None


def test_every_kind_of_fault_is_looked_at() -> None:
    assert set(FAULTS) == SEEN


def _content(event: Any) -> str:
    if event == "[DONE]" or not event["choices"]:
        return ""
    delta = event["choices"][0]["delta"]
    return str(delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls") or "")


def _finish(event: Any) -> str | None:
    if event == "[DONE]" or not event["choices"]:
        return None
    reason: str | None = event["choices"][0].get("finish_reason")
    return reason
