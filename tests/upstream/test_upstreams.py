"""The port Upstream as a whole: guard, body, transport, answer; against simulators of each provider, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from relaying import DIALECTS, SECRET, FakeClient, FakeTransport, Run, chunks, decided, deployment, request, said, upstreams

from gateway.core.bounds import Bounds
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request
from gateway.core.policy import Deployment
from gateway.ports import EgressRefused, Upstream
from gateway.simulators import ForeignListener, Simulator
from gateway.upstream.calling import Calling
from gateway.upstream.http import Transport
from gateway.upstream.upstreams import Upstreams

TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}


class Place:
    """A simulator, and the gateway's providers' side in front of it."""

    def __init__(self, sim: Simulator, to: Deployment, transport: Transport, bounds: Bounds) -> None:
        self.sim, self.to, self.transport = sim, to, transport
        self.upstreams: Upstreams = upstreams(transport, to, bounds=bounds)

    def open(self, asked: Request) -> Calling:
        decision = decided(self.to)
        return self.upstreams.open(decision, Attempt(1, self.to), asked)

    async def answer(self, **more: Any) -> tuple[Any, Outcome]:
        """Body and outcome of a plain request."""
        call = self.open(request(more))
        found = await call.wait(None)
        return (None, found) if isinstance(found, Outcome) else (orjson.loads(call.body), call.outcome())

    async def stream(self, *, wants_usage: bool = False, api: str = "chat", **more: Any) -> tuple[FakeClient, Outcome]:
        """What a client gets of a stream, and its outcome."""
        client = FakeClient()
        asked = request(more, stream=True, wants_usage=wants_usage)
        if api == "completions":
            asked = replace(asked, api=api, body={"model": "our-model", "prompt": "Hello", "max_tokens": 50})
        call = self.open(asked)
        found = await call.wait(None)
        try:
            return client, found if isinstance(found, Outcome) else await call.relay(client)
        finally:
            call.abort()  # as the pipeline does, whatever happened


@asynccontextmanager
async def place(dialect: str, *script: Any, bounds: Bounds | None = None, **more: Any) -> AsyncIterator[Place]:
    async with Simulator(dialect, script=script, api_key=SECRET, models=["their-model"]) as sim:
        url = urlsplit(sim.base_url)
        assert url.hostname
        assert url.port
        to = deployment(dialect, host=url.hostname, port=url.port, path=url.path, **more)
        limits = bounds or Bounds()
        transport = Transport(asyncio.get_running_loop(), limits)
        try:
            yield Place(sim, to, transport, limits)
        finally:
            await transport.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_served_plain_and_streamed(run: Run, dialect: str) -> None:
    async def main() -> None:
        async with place(dialect) as here:
            body, plain = await here.answer(temperature=0.1)
            text = body["choices"][0]["message"]["content"]
            client, streamed = await here.stream()
            asking, with_usage = await here.stream(wants_usage=True)
            for outcome in (plain, streamed, with_usage):
                assert (outcome.ended, outcome.finish, outcome.status, outcome.code) == (Ended.SERVED, "stop", 200, "")
                assert outcome.usage is not None
                assert outcome.usage.reported
                assert outcome.usage.output > 0
            assert said(client.chunks) == said(asking.chunks) == text
            assert body["model"] == client.chunks[0]["model"] == "our-model"
            assert [c for c in client.chunks if c.get("usage")] == []
            assert [c["usage"]["completion_tokens"] for c in asking.chunks if c.get("usage")] == [with_usage.usage.output]  # type: ignore[union-attr]
            # one connection for all, also after streams; and the credential on each
            assert here.sim.journal.accepted == 1
            assert all(entry.header("authorization") == f"Bearer {SECRET}" for entry in here.sim.journal)
            assert [entry.complete for entry in here.sim.journal] == [True] * 3

    run(main)


@pytest.mark.parametrize("dialect", [d for d in DIALECTS if d != "llamacpp"])
def test_a_tool_call_and_its_result_travel_between_dialects(run: Run, dialect: str) -> None:
    """Whoever made the call, whoever hears of its result takes the ids: the simulators refuse what the real ones refuse."""

    async def main() -> None:
        asked: dict[str, Any] = {"tools": [TOOL], "messages": [{"role": "user", "content": "Please call the tool look."}]}
        async with place(dialect) as here:
            body, outcome = await here.answer(**asked, tool_choice="required")
            message = body["choices"][0]["message"]
            made = message.get("tool_calls") or [
                {"id": "call_-7807249954186984837", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            ]
            assert outcome.ended is Ended.SERVED
        history = [
            *asked["messages"],
            {**message, "tool_calls": made, "reasoning_content": "I had to look."},
            {"role": "tool", "tool_call_id": made[0]["id"], "content": "seen"},
        ]
        for other in DIALECTS:
            async with place(other) as there:
                _, outcome = await there.answer(tools=[TOOL], messages=history)
                assert outcome.ended is Ended.SERVED, (other, outcome)

    run(main)


def test_a_request_full_of_openai_fields_is_taken_by_mistral(run: Run) -> None:
    """What answers 422 there is renamed or left out here."""

    async def main() -> None:
        strange: Mapping[str, Any] = {
            "max_completion_tokens": 50,
            "seed": 7,
            "user": "ada@example.org",
            "store": True,
            "metadata": {"a": "b"},
            "logit_bias": {"1": 2},
            "stream_options": {"include_usage": True},
            "service_tier": "flex",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "Hello", "name": "ada"},
                {"role": "assistant", "content": "Hi", "reasoning_content": "They greet."},
                {"role": "user", "content": [{"type": "text", "text": "Go on", "cache_control": {"type": "ephemeral"}}]},
            ],
        }
        async with place("mistral") as here:
            client, outcome = await here.stream(**strange)
            assert outcome.ended is Ended.SERVED
            assert said(client.chunks)
            (entry,) = await here.sim.received(1)
            assert b"ada" not in entry.raw

    run(main)


# --- refusals and faults ------------------------------------------------------------------------------------------------------


def test_the_simulators_own_refusals(run: Run) -> None:
    async def main() -> None:
        for dialect in DIALECTS:
            async with place(dialect, {"fault": "throttle"}) as here:
                for outcome in ((await here.answer())[1], (await here.stream())[1]):
                    assert outcome.ended in (Ended.THROTTLED, Ended.FAILED), (dialect, outcome)
                    assert outcome.tries_next
            if dialect == "llamacpp":
                continue  # takes any model
            async with place(dialect, upstream_model="another") as here:
                _, outcome = await here.answer()
                assert (outcome.ended, outcome.fault, outcome.code) == (Ended.FAILED, Fault.OURS, "model_not_found"), dialect
            async with place(dialect) as here:
                decision = decided(here.to)
                wrong = upstreams(here.transport, here.to, secret="wrong")
                found = await wrong.open(decision, Attempt(1, here.to), request()).wait(None)
                assert isinstance(found, Outcome)
                assert (found.code, found.fault, found.message) == ("credentials_refused", Fault.OURS, ""), dialect

    run(main)


FAULTS: list[tuple[Any, Ended, str]] = [
    ("empty_stream", Ended.FAILED, "empty_answer"),
    ({"kind": "finish", "reason": "network_error"}, Ended.CUT_SHORT, "upstream_network_error"),
    ({"kind": "finish", "reason": "sensitive"}, Ended.SERVED, ""),
    ({"kind": "finish", "reason": "some new word"}, Ended.SERVED, ""),
    ({"kind": "cut", "how": "fin", "after": 3}, Ended.CUT_SHORT, "closed_early"),
    ({"kind": "cut", "how": "rst", "after": 3}, Ended.CUT_SHORT, "closed_early"),
    ({"kind": "garbage", "after": 3}, Ended.CUT_SHORT, "*"),
    ({"kind": "stream_error", "after": 3}, Ended.CUT_SHORT, "*"),
    ("missing_usage", Ended.SERVED, "usage_missing"),
    ({"kind": "wrong_usage", "cached_tokens": 10_000_000}, Ended.SERVED, "usage_absurd"),
    ({"kind": "wrong_usage", "prompt_tokens": -4}, Ended.SERVED, "usage_absurd"),
    ("no_done", Ended.SERVED, ""),
    ("comments", Ended.SERVED, ""),
    ({"kind": "slow", "bytes": 7, "seconds": 0.0}, Ended.SERVED, ""),
    ({"kind": "redirect", "to": "http://127.0.0.1:1/v1"}, Ended.FAILED, "redirect"),
]


@pytest.mark.parametrize(
    ("api", "dialect"), [*(("chat", d) for d in DIALECTS), *(("completions", d) for d in DIALECTS if d != "zai")]
)
@pytest.mark.parametrize(("fault", "ended", "code"), FAULTS, ids=[str(f[0])[:60] for f in FAULTS])
def test_faults_of_streams(run: Run, api: str, dialect: str, fault: Any, ended: Ended, code: str) -> None:
    async def main() -> None:
        async with place(dialect, {"fault": fault}) as here:
            client, outcome = await here.stream(api=api)
            if dialect == "llamacpp" and code in ("usage_missing", "usage_absurd"):
                assert outcome.ended is Ended.SERVED  # its timings may say it all the same
                return
            assert (outcome.ended, outcome.code if code != "*" else "*") == (ended, code), outcome
            if ended is Ended.SERVED:
                assert client.text.endswith(b"data: [DONE]\n\n")
                assert client.text.count(b"[DONE]") == 1
            else:
                assert b"[DONE]" not in client.text
                assert b'"error"' not in client.text
            if ended is Ended.FAILED:
                assert client.text == b""
            if code.startswith("usage_"):
                assert outcome.usage is not None
                assert not outcome.usage.reported
            for shown in chunks(client.text):
                assert all(c.get("finish_reason") in (None, "stop", "content_filter", "length") for c in shown["choices"])

    run(main)


def test_a_bad_connection_is_not_pooled_and_the_next_request_is_well(run: Run) -> None:
    async def main() -> None:
        async with place(
            "openai", {"match": {"nth": 1}, "fault": "extra_bytes"}, {"match": {"nth": 2}, "fault": "empty_stream"}
        ) as here:
            for _ in range(3):
                await here.stream()
            client, outcome = await here.stream()
            assert outcome.ended is Ended.SERVED
            assert "simulator" in said(client.chunks)

    run(main)


def test_an_endless_answer_is_bounded(run: Run) -> None:
    async def main() -> None:
        small = replace(Bounds(), answer_bytes_max=50_000, event_bytes_max=50_000)
        async with place("openai", {"fault": {"kind": "huge_body", "bytes": 5_000_000}}, bounds=small) as here:
            _, outcome = await here.answer()
            assert (outcome.ended, outcome.code) == (Ended.FAILED, "answer_too_large")
            _, outcome = await here.stream()
            assert outcome.code == "event_too_large"
            await here.sim.finished(2)

    run(main)


# --- ends that are the client's, or ours --------------------------------------------------------------------------------------


def test_a_client_that_leaves_ends_the_upstreams_work(run: Run) -> None:
    async def main() -> None:
        async with place("vllm", {"fault": {"kind": "hold", "after": 3}}) as here:
            call = here.open(request(stream=True))
            assert await call.wait(None) is call
            client = FakeClient()
            relay = asyncio.create_task(call.relay(client))
            await here.sim.holding()
            client.hang_up()
            assert (await relay).ended is Ended.CLIENT_GONE
            await here.sim.aborted(1)
            assert call.address == f"127.0.0.1:{here.sim.port}"

    run(main)


def test_a_cancellation_ends_it_too(run: Run) -> None:
    async def main() -> None:
        async with place("vllm", {"fault": {"kind": "hold", "at": "before_head"}}) as here:
            for stream in (False, True):
                task = asyncio.create_task(here.open(request(stream=stream)).wait(None))
                await here.sim.holding()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                here.sim.release()  # what is held for nobody; the next wait is for the next
            await here.sim.aborted(2)

    run(main)


def test_nobody_there(run: Run) -> None:
    async def main() -> None:
        async with Simulator("openai") as sim:
            port = sim.port
        to = deployment("openai", host="127.0.0.1", port=port)
        transport = Transport(asyncio.get_running_loop(), Bounds())
        decision = decided(to)
        call = upstreams(transport, to).open(decision, Attempt(1, to), request())
        found = await call.wait(None)
        assert isinstance(found, Outcome)
        assert (found.code, found.sent, found.ended) == ("connect_refused", False, Ended.FAILED)
        await transport.close()

    run(main)


def test_no_redirect_is_followed(run: Run) -> None:
    async def main() -> None:
        async with ForeignListener() as foreign, place("openai", {"fault": {"kind": "redirect", "to": foreign.url}}) as here:
            for outcome in ((await here.answer())[1], (await here.stream())[1]):
                assert (outcome.code, outcome.tries_next) == ("redirect", True)
            assert foreign.accepts == 0

    run(main)


# --- the guard and the bytes, without sockets ---------------------------------------------------------------------------------


def test_nothing_is_sent_to_what_is_no_route(run: Run) -> None:
    async def main() -> None:
        transport = FakeTransport()
        routed, other = deployment("openai"), deployment("mistral")
        side: Upstream = upstreams(transport, routed, other)
        decision = decided(routed)
        with pytest.raises(EgressRefused):
            side.open(decision, Attempt(1, other), request())
        assert transport.calls == []
        side.open(decision, Attempt(1, routed), request())
        assert len(transport.calls) == 1

    run(main)


def test_a_reload_makes_a_new_head(run: Run) -> None:
    async def main() -> None:
        transport = FakeTransport()
        old = deployment("openai", path="/v1")
        side = upstreams(transport, old)
        new = replace(old, endpoint=replace(old.endpoint, path="/v2"))
        for to in (old, new, old):
            decision = decided(to)
            side.open(decision, Attempt(1, to), request())
        assert [call.payload.split(b" ")[1] for call in transport.calls] == [
            b"/v1/chat/completions",
            b"/v2/chat/completions",
            b"/v1/chat/completions",
        ]

    run(main)


def test_the_length_is_right_and_nothing_of_the_client_is_in_the_head(run: Run) -> None:
    async def main() -> None:
        transport = FakeTransport()
        to = deployment("zai")
        decision = decided(to)
        asked = replace(
            request({"messages": [{"role": "user", "content": "Grüße, 你好\r\nx-evil: 1"}]}), client_id="from-the-client"
        )
        upstreams(transport, to).open(decision, Attempt(1, to), asked)
        head, _, body = transport.calls[0].payload.partition(b"\r\n\r\n")
        assert head.endswith(b"content-length: %d" % len(body))
        assert b"evil" not in head
        assert b"from-the-client" not in transport.calls[0].payload

    run(main)


def test_what_is_not_sent_is_an_opening_that_is_over(run: Run) -> None:
    async def main() -> None:
        transport = FakeTransport()
        to = deployment("llamacpp")
        decision = decided(to)
        image = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
        call = upstreams(transport, to).open(
            decision, Attempt(1, to), request({"messages": [{"role": "user", "content": [image]}]})
        )
        found = await call.wait(None)
        assert isinstance(found, Outcome)
        assert (found.ended, found.sent, found.code) == (Ended.REJECTED, False, "remote_content_refused")
        assert transport.calls == []
        call.abort()
        assert call.address == ""
        assert call.dropped == ()

    run(main)


def test_dropped_fields_are_told(run: Run) -> None:
    async def main() -> None:
        transport = FakeTransport()
        to = deployment("mistral")
        decision = decided(to)
        call = upstreams(transport, to).open(decision, Attempt(1, to), request({"logit_bias": {"1": 1}, "user": "x"}))
        assert call.dropped == ("logit_bias", "user")

    run(main)
