"""The life of one stream: held, opened, pumped, ended; and every way in which it can end otherwise."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fake_ports import FakeClock
from relaying import FakeCall, FakeClient, chunk, chunks, counts, deployment, opened, play, request, said, sse

from gateway.core.bounds import Bounds
from gateway.core.exchange import Ended, Fault, Outcome, Scope
from gateway.core.usage import Usage
from gateway.upstream.calling import Calling
from gateway.upstream.stream import LINGER_S, StreamCall

HELLO = sse(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hello"}))
END = sse(chunk({}, "stop"), chunk({}, usage=counts(), choices=[]), b"[DONE]")


class Relay:
    """A stream under way, with its client."""

    def __init__(self, dialect: str = "openai", *, bounds: Bounds | None = None, **asked: Any) -> None:
        self.call, self.fake = opened(dialect, request(stream=True, **asked), bounds=bounds)
        self.client = FakeClient()
        self.task: asyncio.Task[Outcome] | None = None

    async def begin(self, first: bytes = HELLO) -> "Relay":
        self.fake.head().data(first)
        assert self.call.result is self.call, self.call.result
        self.task = asyncio.create_task(self.call.relay(self.client))
        await asyncio.sleep(0)
        return self

    async def outcome(self) -> Outcome:
        assert self.task is not None
        return await self.task


async def how_it_ended(
    act: Callable[[FakeCall], Any], dialect: str = "openai", *, bounds: Bounds | None = None, body: Any = None
) -> Outcome:
    """The outcome of a stream that never opened."""
    call, fake = opened(dialect, request(body, stream=True), bounds=bounds)
    act(fake)
    found = await call.wait(None)
    assert isinstance(found, Outcome), found
    return found


def failing(act: Callable[[FakeCall], Any], dialect: str = "openai", **more: Any) -> Outcome:
    return play(how_it_ended(act, dialect, **more))


# --- before the first content -------------------------------------------------------------------------------------------------


def test_nothing_opens_before_there_is_content() -> None:
    async def main() -> None:
        call, fake = opened("openai")
        fake.head().data(b": hi\n\n", sse(chunk({"role": "assistant", "content": ""})))
        assert await call.wait(0.0) is None
        fake.data(sse(chunk({"content": "x"})))
        assert await call.wait(None) is call
        assert call.first_content > 0
        assert call.address == "192.0.2.1:443"
        client = FakeClient()
        fake.data(END)
        fake.end()
        assert (await call.relay(client)).ended is Ended.SERVED
        assert b": hi" not in client.text

    play(main())


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    ],
)
def test_each_kind_of_content_opens(delta: dict[str, Any]) -> None:
    async def main() -> None:
        call, fake = opened("openai")
        fake.head().data(sse(chunk(delta)))
        assert call.result is call

    play(main())


def test_errors_before_content_fail_over() -> None:
    event = sse({"error": {"message": "queue", "type": "ServiceUnavailableError", "code": 503}})
    found = failing(lambda fake: fake.head().data(sse(chunk({"role": "assistant"})), event, sse(b"[DONE]")), "vllm")
    assert (found.ended, found.code, found.tries_next, found.usage) == (Ended.THROTTLED, "overloaded", True, None)
    found = failing(lambda fake: fake.head(503, "text/plain").data(b"busy").end())
    assert (found.ended, found.status, found.code) == (Ended.FAILED, 503, "upstream_error")
    found = failing(lambda fake: fake.answer({"error": {"code": "1302", "message": "Rate"}}, 429, retry_after="3"), "zai")
    assert (found.ended, found.code, found.retry_after_s) == (Ended.THROTTLED, "rate_limited", 3.0)
    found = failing(lambda fake: fake.fail("connect_refused", sent=False))
    assert (found.code, found.sent, found.status) == ("connect_refused", False, 0)
    found = failing(lambda fake: fake.head().fail("closed_early"))
    assert (found.code, found.sent, found.status) == ("closed_early", True, 200)


def test_an_error_status_whose_body_breaks_is_still_that_error() -> None:
    found = failing(lambda fake: fake.head(401).data(b'{"err').fail("closed_early"))
    assert found.code == "credentials_refused"


@pytest.mark.parametrize(
    ("finish", "code"), [("network_error", "upstream_network_error"), ("error", "upstream_error"), ("abort", "upstream_aborted")]
)
def test_http_200_can_be_a_failure(finish: str, code: str) -> None:
    found = failing(lambda fake: fake.head().data(sse(chunk({"content": ""}, finish, usage=counts()), b"[DONE]")), "zai")
    assert (found.ended, found.code, found.fault, found.status) == (Ended.FAILED, code, Fault.UPSTREAM, 200)
    assert found.usage == Usage(5, 0, 0, 3, 0, True)


EMPTY = [
    b"",
    sse(b"[DONE]"),
    b": only comments\n\n",
    sse(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), b"[DONE]"),
    sse(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), chunk({}, usage=counts(output=51), choices=[]), b"[DONE]"),
    sse(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), chunk({}, usage=counts(output=0), choices=[]), b"[DONE]"),
    sse(chunk({"role": "assistant", "content": None, "tool_calls": []}), chunk({}, "tool_calls"), b"[DONE]"),
]


@pytest.mark.parametrize("raw", EMPTY)
def test_a_stream_that_says_nothing_counts_as_failed(raw: bytes) -> None:
    found = failing(lambda fake: fake.head().data(raw).end())
    assert (found.ended, found.code, found.tries_next) == (Ended.FAILED, "empty_answer", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {not json}\n\n",
        b"data: [1]\n\n",
        b"data: 5\n\n",
        b'data: {"choices": 5}\n\n',
        b'data: {"x": 1}\n\n',
        b'data: {"choices":[{"delta":5}]}\n\n',
        b"data: \xff\xfe\n\n",
        b"<html>\n\n data: x\n\ndata: x\n\n",
    ],
)
def test_garbage_before_content(raw: bytes) -> None:
    found = failing(lambda fake: fake.head().data(raw).end())
    assert (found.ended, found.fault, found.tries_next) == (Ended.FAILED, Fault.UPSTREAM, True)
    assert found.code == "bad_answer"


def test_another_kind_of_body_is_no_stream() -> None:
    async def main() -> None:
        call, fake = opened("openai")
        fake.head(200, "text/html").data(b"<html>log in")
        found = await call.wait(None)
        assert isinstance(found, Outcome)
        assert found.code == "bad_answer"
        assert fake.aborted

    play(main())


SMALL = replace(Bounds(), event_bytes_max=2_000, held_bytes_max=5_000, answer_bytes_max=4_000, error_bytes_max=500)


def test_what_never_ends_is_ended() -> None:
    endless = [
        (b"data: " + b"x" * 3_000, "event_too_large"),
        (b": x\n\n" * 1_500, "held_too_large"),
        (sse(chunk({"role": "assistant", "content": ""})) * 50, "held_too_large"),
    ]
    for raw, code in endless:
        for size in (100, 10_000):

            async def main(raw: bytes = raw, code: str = code, size: int = size) -> None:
                call, fake = opened("openai", bounds=SMALL)
                fake.head().data(*(raw[at : at + size] for at in range(0, len(raw), size)))
                found = await call.wait(None)
                assert isinstance(found, Outcome)
                assert found.code == code
                assert fake.aborted

            play(main())


def test_a_stream_is_bounded_as_a_whole() -> None:
    """However quick the way that its pieces take: those that fit the pump's template are not split into events at all."""
    piece = sse(chunk({"content": "word"}))
    found, client, fake = cut(
        lambda fake: [fake.data(piece) for _ in range(1 + 50_000 // len(piece))], bounds=replace(SMALL, stream_bytes_max=50_000)
    )
    assert (found.ended, found.code, fake.aborted) == (Ended.CUT_SHORT, "stream_too_large", True)
    assert found.usage is not None
    assert 40_000 < len(client.text) <= 50_000


def test_error_bodies_and_whole_answers_are_bounded() -> None:
    async def main() -> None:
        call, fake = opened("openai", bounds=SMALL)
        fake.head(400).data(*[b"x" * 100] * 20)
        found = await call.wait(None)
        assert isinstance(found, Outcome)
        assert (found.ended, fake.aborted) == (Ended.REJECTED, True)
        for asked in (request(), request(stream=True)):
            call, fake = opened("openai", asked, bounds=SMALL)
            fake.head(200, "application/json").data(*[b"x" * 100] * 60)
            found = await call.wait(None)
            assert isinstance(found, Outcome)
            assert (found.code, fake.aborted) == ("answer_too_large", True)

    play(main())


# --- the pump -----------------------------------------------------------------------------------------------------------------


def same_name(c: dict[str, Any]) -> dict[str, Any]:
    return {**c, "model": "our-model"}


def test_a_plain_chunk_is_passed_on_as_the_object_it_is() -> None:
    async def main() -> None:
        relay = await Relay().begin(
            sse(same_name(chunk({"role": "assistant", "content": ""})), same_name(chunk({"content": "Hi"})))
        )
        pieces = [sse(same_name(chunk({"content": text}))) for text in (" a", " b", "", ' "c"', " d\n", " 你")]
        relay.fake.data(*pieces)
        wrote = relay.client.writes[1:]
        assert wrote == pieces
        # what they are like was learnt before there was a client; an escape is no like of it
        assert [one is other for one, other in zip(wrote, pieces, strict=True)] == [True, True, True, False, True, True]
        relay.fake.data(END).end()
        await relay.outcome()

    play(main())


def test_no_second_event_hides_in_a_text() -> None:
    """Not even from an upstream that writes what no JSON encoder writes."""

    async def main() -> None:
        relay = await Relay().begin(sse(chunk({"content": "a"}), chunk({"content": "b"})))
        relay.fake.data(sse(chunk({"content": "c"})))
        relay.fake.data(sse(chunk({"content": "X"})).replace(b"X", b"c\n\ndata: [DONE]\n\n"))
        found = await relay.outcome()
        assert (found.ended, found.code) == (Ended.CUT_SHORT, "bad_answer")
        assert said(relay.client.chunks) == "abc"
        assert b"[DONE]" not in relay.client.text

    play(main())


def test_a_mended_chunk_teaches_the_pump() -> None:
    """vLLM's reasoning is renamed by comparison once one chunk of it was parsed; a text with escapes is parsed."""

    async def main() -> None:
        relay = await Relay("vllm").begin(sse(chunk({"reasoning": "a"})))
        relay.fake.data(*(sse(chunk({"reasoning": t})) for t in ("b", "c", 'd"', "e\\", "f")))
        assert said(relay.client.chunks, "reasoning_content") == 'abcd"e\\f'
        call = relay.call
        assert isinstance(call, StreamCall)
        assert call._fits is not None
        assert call._fits(sse(chunk({"reasoning": "g"}))) == sse({**same_name(chunk({"reasoning_content": "g"}))})
        assert call._fits(sse(chunk({"reasoning": 'g"'}))) is None
        assert call._fits(sse(chunk({"reasoning": ""}))) is None
        relay.fake.data(END).end()
        await relay.outcome()

    play(main())


def test_one_write_for_one_piece_of_many_events() -> None:
    async def main() -> None:
        relay = await Relay().begin()
        many = sse(*(chunk({"content": str(i)}) for i in range(50)))
        relay.fake.data(many)
        assert len(relay.client.writes) == 2
        relay.fake.data(END).end()
        await relay.outcome()
        assert said(relay.client.chunks) == "Hello" + "".join(map(str, range(50)))

    play(main())


def test_what_comes_between_opening_and_relay_is_held_and_then_the_upstream_waits() -> None:
    async def main() -> None:
        call, fake = opened("openai", bounds=SMALL)
        fake.head().data(HELLO)
        texts = [f" {i}" for i in range(40)]
        fake.data(*(sse(chunk({"content": t})) for t in texts))
        assert fake.paused
        client = FakeClient()
        task = asyncio.create_task(call.relay(client))
        await asyncio.sleep(0)
        assert not fake.paused
        fake.data(END).end()
        assert (await task).ended is Ended.SERVED
        assert said(client.chunks) == "Hello" + "".join(texts)

    play(main())


def test_a_slow_client_stops_the_reading() -> None:
    async def main() -> None:
        relay = await Relay().begin()
        assert relay.client.flow is not None
        relay.client.flow(False)
        assert relay.fake.paused
        relay.client.flow(True)
        assert not relay.fake.paused
        relay.fake.data(END).end()
        await relay.outcome()
        assert relay.client.flow is None
        assert relay.client.gone_callback is None

    play(main())


def test_a_client_that_hangs_up_closes_the_call_at_once() -> None:
    async def main() -> None:
        relay = await Relay().begin()
        relay.fake.data(sse(chunk({"content": "x" * 400})))
        relay.client.hang_up()
        assert relay.fake.aborted
        found = await relay.outcome()
        assert (found.ended, found.fault) == (Ended.CLIENT_GONE, Fault.CLIENT)
        assert found.usage is not None
        assert not found.usage.reported
        assert found.usage.input == 12
        assert 80 <= found.usage.output <= 140

    play(main())


def test_a_client_that_is_gone_already_gets_nothing() -> None:
    async def main() -> None:
        for end in (b"", END):
            call, fake = opened("openai")
            fake.head().data(HELLO, end)
            client = FakeClient()
            client.gone = True
            found = await call.relay(client)
            assert found.ended is Ended.CLIENT_GONE
            assert fake.aborted
            assert client.writes == []

    play(main())


# --- the end ------------------------------------------------------------------------------------------------------------------


def test_the_end_is_the_done_and_not_the_end_of_the_message() -> None:
    async def main() -> None:
        relay = await Relay().begin()
        relay.fake.data(END)
        found = await relay.outcome()
        assert (found.ended, found.finish) == (Ended.SERVED, "stop")
        relay.call.abort()
        assert not relay.fake.aborted  # the connection may yet be pooled
        relay.fake.end()

    play(main())


def test_a_message_that_does_not_end_after_done_is_closed_soon() -> None:
    class Loop:
        """A loop that takes note of timers."""

        def __init__(self) -> None:
            self.later: list[tuple[float, Any]] = []

        def call_later(self, delay: float, act: Any) -> None:
            self.later.append((delay, act))

    async def main() -> None:
        relay = await Relay().begin()
        relay.fake.data(END)
        await relay.outcome()
        loop: Any = Loop()
        relay.call.setting = replace(relay.call.setting, loop=loop)
        relay.call.abort()
        ((delay, act),) = loop.later
        assert delay == LINGER_S
        act()
        assert relay.fake.aborted

    play(main())


@pytest.mark.parametrize("after", [sse(chunk({"content": "more"})), b"junk", b"data: [DONE]\n\n"])
def test_nothing_comes_after_done(after: bytes) -> None:
    async def main() -> None:
        for pieces in ([END + after], [END, after]):
            relay = await Relay().begin()
            relay.fake.data(*pieces)
            found = await relay.outcome()
            assert found.ended is Ended.SERVED
            assert relay.client.text.endswith(b"data: [DONE]\n\n")
            assert relay.client.text.count(b"[DONE]") == 1
            assert b"more" not in relay.client.text
            assert relay.fake.aborted  # such a connection is not used again

    play(main())


def cut(
    act: Callable[[FakeCall], Any], dialect: str = "openai", *, first: bytes = HELLO, bounds: Bounds | None = None
) -> tuple[Outcome, FakeClient, FakeCall]:
    """How a stream ends that broke after its first content."""

    async def main() -> tuple[Outcome, FakeClient, FakeCall]:
        relay = await Relay(dialect, bounds=bounds).begin(first)
        act(relay.fake)
        return await relay.outcome(), relay.client, relay.fake

    return play(main())


CUTS: list[tuple[Callable[[FakeCall], Any], str]] = [
    (lambda fake: fake.end(), "ended_early"),
    (lambda fake: fake.fail("closed_early"), "closed_early"),
    (lambda fake: fake.fail("silence_timeout"), "silence_timeout"),
    (lambda fake: fake.data(b"data: {broken\n\n"), "bad_answer"),
    (lambda fake: fake.data(b"data: " + b"x" * 3_000), "event_too_large"),
    (lambda fake: fake.data(sse(chunk({}, "network_error"), b"[DONE]")), "upstream_network_error"),
    (lambda fake: fake.data(sse(chunk({}, "abort"), b"[DONE]")), "upstream_aborted"),
    (
        lambda fake: fake.data(sse({"error": {"message": "died", "type": "InternalServerError", "code": 500}}, b"[DONE]")),
        "upstream_error",
    ),
    (
        lambda fake: fake.data(sse({"error": {"message": "context length", "type": "BadRequestError", "code": 400}}, b"[DONE]")),
        "context_length_exceeded",
    ),
    (lambda fake: fake.data(sse({"object": "error", "message": "x", "type": "rate_limited", "code": "1300"})), "error_in_answer"),
    (lambda fake: fake.data(b'event: error\ndata: {"error":"text","error_type":"generation"}\n\n'), "upstream_error"),
]


@pytest.mark.parametrize(("act", "code"), CUTS, ids=[f"{i}-{c[1]}" for i, c in enumerate(CUTS)])
def test_a_stream_that_breaks_after_content_is_cut_short_and_nothing_is_written_of_it(
    act: Callable[[FakeCall], Any], code: str
) -> None:
    found, client, fake = cut(act, bounds=SMALL)
    assert (found.ended, found.code, found.message) == (Ended.CUT_SHORT, code, "")
    assert found.fault in (Fault.UPSTREAM, Fault.OURS)
    assert not found.tries_next
    assert found.usage is not None
    assert not found.usage.reported
    assert said(client.chunks) == "Hello"
    assert not any(word in client.text for word in (b"[DONE]", b"error", b"broken"))
    assert fake.aborted or code in ("ended_early", "closed_early", "silence_timeout")


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_sent_is_used_and_what_was_refused_or_never_sent_is_not(stream: bool) -> None:
    async def main() -> list[Usage | None]:
        found = []
        for what in ("sent", "refused", "not sent"):
            call, fake = opened("openai", request(stream=stream))
            fake.sent = what != "not sent"
            if what == "refused":
                fake.head(503, "application/json")
            call.abort()
            found.append(call.used())
        return found

    assert play(main()) == [Usage(uncached=12, reported=False), None, None]


def test_usage_that_came_before_the_cut_is_kept() -> None:
    found, _, _ = cut(lambda fake: fake.fail("closed_early"), first=sse(chunk({"content": "Hi"}, usage=counts())))
    assert found.usage == Usage(5, 0, 0, 3, 0, True)


def test_a_count_of_nothing_is_none_of_what_was_shown() -> None:
    """Some say the prompt's tokens first, and would say the answer's at the end."""
    found, client, _ = cut(lambda fake: fake.fail("closed_early"), first=sse(chunk({"content": "Hi"}, usage=counts(output=0))))
    assert said(client.chunks) == "Hi"
    assert found.usage is not None and not found.usage.reported


@pytest.mark.parametrize("usage", [counts(output=0), counts(prompt=0, output=0), counts(prompt=0)])
def test_zeros_in_place_of_counts_are_not_billed_as_reported(usage: dict[str, Any]) -> None:
    found, _, _ = cut(lambda fake: fake.data(sse(chunk({}, "stop"), chunk({}, usage=usage, choices=[]), b"[DONE]")))
    assert found.ended is Ended.SERVED and found.code in ("usage_absurd", "usage_missing")
    assert found.usage is not None and not found.usage.reported and found.usage.input and found.usage.output
    body, whole_found = whole("openai", {**ANSWER, "usage": usage})
    assert orjson.loads(body)["usage"] is None
    assert whole_found.usage is not None and not whole_found.usage.reported and whole_found.usage.output


def test_a_connection_that_breaks_after_all_was_said_is_served() -> None:
    found, client, _ = cut(lambda fake: fake.data(sse(chunk({}, "stop"))).fail("closed_early"))
    assert (found.ended, found.finish, found.code) == (Ended.SERVED, "stop", "usage_missing")
    assert client.text.endswith(b"data: [DONE]\n\n")


def test_of_two_choices_both_have_to_end() -> None:
    def two(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return chunk({}, choices=[{"index": index, "delta": delta, "finish_reason": finish}])

    async def main(*events: Any) -> Outcome:
        relay = await Relay(body={"n": 2}).begin(sse(two(0, {"content": "a"}), two(1, {"content": "b"})))
        relay.fake.data(sse(*events)).end()
        return await relay.outcome()

    assert play(main(two(0, {}, "stop"))).ended is Ended.CUT_SHORT
    assert play(main(two(0, {}, "stop"), two(1, {}, "stop"))).ended is Ended.SERVED


# --- a whole answer in place of a stream --------------------------------------------------------------------------------------

ANSWER = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "created": 5,
    "model": "their-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": counts(),
}


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_whole_answer_becomes_a_stream(wants_usage: bool) -> None:
    async def main() -> None:
        call, fake = opened("openai", request(stream=True, wants_usage=wants_usage))
        fake.answer(ANSWER)
        assert await call.wait(None) is call
        client = FakeClient()
        found = await call.relay(client)
        assert (found.ended, found.finish, found.usage) == (Ended.SERVED, "stop", Usage(5, 0, 0, 3, 0, True))
        shown = client.chunks
        assert said(shown) == "Hello"
        assert [c["finish_reason"] for s in shown for c in s["choices"]] == [None, "stop"]
        assert [s["usage"]["total_tokens"] for s in shown if "usage" in s] == ([8] if wants_usage else [])
        assert client.text.endswith(b"data: [DONE]\n\n")
        assert {s["model"] for s in shown} == {"our-model"}

    play(main())


def test_tool_calls_of_a_whole_answer_get_their_index() -> None:
    async def main() -> None:
        call, fake = opened("mistral")
        message = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "abcdefghi", "function": {"name": "f", "arguments": {"a": 1}}}],
        }
        fake.answer({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
        client = FakeClient()
        await call.relay(client)
        call_shown = client.chunks[0]["choices"][0]["delta"]["tool_calls"]
        assert call_shown == [
            {"index": 0, "id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        ]

    play(main())


def test_a_whole_answer_that_is_an_error_or_nothing() -> None:
    for body, code in (
        ({"error": {"code": "1302", "message": "x"}}, "rate_limited"),
        ({**ANSWER, "choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "stop"}]}, "empty_answer"),
        ({**ANSWER, "choices": []}, "bad_answer"),
        (b"{nothing", "bad_answer"),
    ):
        assert failing(lambda fake, body=body: fake.answer(body), "zai").code == code  # type: ignore[misc]


# --- cancellation -------------------------------------------------------------------------------------------------------------


def test_a_cancellation_at_any_await_aborts_the_call() -> None:
    async def main() -> None:
        call, fake = opened("openai")
        task: asyncio.Task[Any] = asyncio.create_task(call.wait(None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.aborted

        relay = await Relay().begin()
        assert relay.task is not None
        relay.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay.task
        assert relay.fake.aborted
        assert relay.client.gone_callback is None
        assert relay.client.flow is None

    play(main())


def test_abort_from_outside_ends_whoever_waits() -> None:
    async def main() -> None:
        call, fake = opened("openai")
        waiting = asyncio.create_task(call.wait(None))
        await asyncio.sleep(0)
        call.abort()
        call.abort()
        found = await waiting
        assert isinstance(found, Outcome)
        assert (found.code, found.scope, fake.aborted) == ("aborted", Scope.REQUEST, True)

        relay = await Relay().begin()
        relay.call.abort()
        assert (await relay.outcome()).ended is Ended.CUT_SHORT

    play(main())


def test_a_wait_that_timed_out_may_be_repeated() -> None:
    async def main() -> None:
        call, fake = opened("openai")
        fake.head()
        assert await call.wait(0.0) is None
        assert await call.wait(0.001) is None
        assert not fake.aborted
        fake.data(HELLO)
        assert await call.wait(None) is call
        assert await call.wait(0.0) is call

    play(main())


def test_a_stream_has_no_body_and_an_answer_no_relay() -> None:
    async def main() -> None:
        relay = await Relay().begin()
        with pytest.raises(TypeError):
            _ = relay.call.body
        with pytest.raises(TypeError):
            relay.call.outcome()
        relay.call.abort()
        await relay.outcome()
        call, fake = opened("openai", request())
        fake.answer(ANSWER)
        with pytest.raises(TypeError):
            await call.relay(FakeClient())

    play(main())


# --- answers that are not streamed --------------------------------------------------------------------------------------------


def whole(dialect: str, body: Any, **more: Any) -> tuple[Any, Outcome]:
    async def main() -> tuple[Any, Outcome]:
        call, fake = opened(dialect, request())
        fake.answer(body, **more)
        found: Calling | Outcome | Any = await call.wait(None)
        return (None, found) if isinstance(found, Outcome) else (found.body, found.outcome())

    return play(main())


def message(**fields: Any) -> dict[str, Any]:
    finish = fields.pop("finish_reason", "stop")
    return {**ANSWER, "choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}]}


def test_an_answer_that_is_right_is_passed_on_in_its_bytes() -> None:
    raw = orjson.dumps({**ANSWER, "model": "our-model"}, option=orjson.OPT_INDENT_2)
    body, found = whole("openai", raw)
    assert body == raw
    assert (found.ended, found.finish, found.usage) == (Ended.SERVED, "stop", Usage(5, 0, 0, 3, 0, True))


MENDED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("openai", {"content": "x"}, {"content": "x"}, "stop"),
    (
        "mistral",
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "4"}]},
        {"content": "4", "reasoning_content": "hm"},
        "stop",
    ),
    (
        "mistral",
        {
            "content": "",
            "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}],
            "finish_reason": "tool_calls",
        },
        {"content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
        "tool_calls",
    ),
    ("mistral", {"content": "x", "tool_calls": None}, {"content": "x", "tool_calls": None}, "stop"),
    ("mistral", {"content": "x", "finish_reason": "model_length"}, {"content": "x"}, "length"),
    (
        "zai",
        {"content": "x", "reasoning_content": "hm", "finish_reason": "sensitive"},
        {"content": "x", "reasoning_content": "hm"},
        "content_filter",
    ),
    (
        "zai",
        {"content": "", "reasoning_content": "hm", "finish_reason": "length"},
        {"content": "", "reasoning_content": "hm"},
        "length",
    ),
    (
        "vllm",
        {"content": "x", "reasoning": "hm", "finish_reason": "repetition"},
        {"content": "x", "reasoning_content": "hm"},
        "stop",
    ),
    ("vllm", {"content": "x", "reasoning": None, "tool_calls": []}, {"content": "x"}, "stop"),
    ("openai", {"refusal": "no"}, {"refusal": "no", "content": None}, "stop"),
    ("llamacpp", {"content": None, "finish_reason": "length"}, {"content": None}, "length"),
]


@pytest.mark.parametrize(("dialect", "theirs", "ours", "finish"), MENDED)
def test_answers_are_brought_into_shape(dialect: str, theirs: dict[str, Any], ours: dict[str, Any], finish: str) -> None:
    from openai.types.chat import ChatCompletion

    body, found = whole(dialect, message(**theirs))
    shown = orjson.loads(body)
    ChatCompletion.model_validate(shown, strict=True)
    assert shown["model"] == "our-model"
    said_by = {k: v for k, v in shown["choices"][0]["message"].items() if k != "role" and (v is not None or k in ours)}
    assert said_by == ours
    assert shown["choices"][0]["finish_reason"] == finish == found.finish


def test_what_an_answer_lacks_is_added() -> None:
    body, found = whole(
        "openai",
        {
            "id": "",
            "choices": [{"message": {"content": "x", "tool_calls": [{"id": "", "function": {"name": "f", "arguments": "{}"}}]}}],
        },
    )
    shown = orjson.loads(body)
    assert shown["id"] == "chatcmpl-01TEST"
    assert shown["object"] == "chat.completion"
    assert isinstance(shown["created"], int)
    assert shown["choices"][0]["index"] == 0
    assert shown["choices"][0]["finish_reason"] == "tool_calls"
    assert shown["choices"][0]["message"]["role"] == "assistant"
    assert len(shown["choices"][0]["message"]["tool_calls"][0]["id"]) == 9
    assert found.code == "usage_missing"
    assert found.usage is not None
    assert not found.usage.reported
    assert found.usage.input == 12


@pytest.mark.parametrize(
    "said",
    [
        {"usage": {"prompt_tokens": 5, "completion_tokens": 3}},
        {"usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 0}},
        {"timings": {"prompt_n": 5, "cache_n": 0, "predicted_n": 3}},
    ],
)
def test_usage_that_was_found_is_shown_with_its_total(said: dict[str, Any]) -> None:
    body, found = whole("llamacpp", {"usage": None, **ANSWER, **said})
    shown = orjson.loads(body)["usage"]
    assert (shown["prompt_tokens"], shown["completion_tokens"], shown["total_tokens"]) == (5, 3, 8)
    assert found.usage is not None
    assert found.usage.reported


def test_clients_find_cached_tokens_where_openai_puts_them() -> None:
    body, found = whole("mistral", {**ANSWER, "usage": counts(100, 3, num_cached_tokens=64)})
    assert orjson.loads(body)["usage"]["prompt_tokens_details"] == {"cached_tokens": 64}
    assert found.usage == Usage(36, 64, 0, 3, 0, True)


def test_usage_that_can_not_be_true_is_not_shown_either() -> None:
    body, found = whole("openai", {**ANSWER, "usage": {**counts(), "total_tokens": 10**12}})
    assert orjson.loads(body)["usage"] is None
    assert found.code == "usage_absurd"


BAD: list[tuple[Any, str]] = [
    (b"", "bad_answer"),
    (b"<html>", "bad_answer"),
    (b"[]", "bad_answer"),
    ({}, "bad_answer"),
    ({**ANSWER, "choices": []}, "bad_answer"),
    ({**ANSWER, "choices": [5]}, "bad_answer"),
    ({**ANSWER, "choices": [{"index": 0}]}, "bad_answer"),
    (message(content={"a": 1}), "bad_answer"),
    (message(content=""), "empty_answer"),
    (message(content=None), "empty_answer"),
    (message(content="some text", finish_reason="network_error"), "upstream_network_error"),
    (message(content="some text", finish_reason="error"), "upstream_error"),
    ({"error": {"message": "x", "code": 500}}, "upstream_error"),
]


@pytest.mark.parametrize(("body", "code"), BAD)
def test_a_200_that_is_no_answer(body: Any, code: str) -> None:
    shown, found = whole("zai", body)
    assert shown is None
    assert (found.ended, found.code, found.status, found.tries_next) == (Ended.FAILED, code, 200, True)


def nested(depth: int) -> bytes:
    """Arguments that can be read, and not written again."""
    return b"[" * depth + b"]" * depth


def test_what_can_not_be_written_again_is_a_bad_answer() -> None:
    call = b'{"id":"a","function":{"name":"f","arguments":{"x":' + nested(400) + b"}}}"
    body = b'{"choices":[{"message":{"tool_calls":[' + call + b"]}}]}"
    assert whole("mistral", body)[1].code == "bad_answer"
    assert whole("mistral", b'{"x":' + nested(400) + b',"choices":[{"message":{"content":"x"}}]}')[1].code == "bad_answer"
    event = b'data: {"x":' + nested(400) + b',"choices":[{"delta":{"content":"x"}}]}\n\n'
    assert failing(lambda fake: fake.head().data(event)).code == "bad_answer"


def test_a_defect_of_ours_leaves_nobody_waiting() -> None:
    class Broken(FakeClock):
        def now(self) -> float:
            raise ZeroDivisionError

    async def main() -> None:
        asked = request(stream=True)
        ready, _ = opened("openai", asked)
        call = StreamCall(replace(ready.setting, clock=Broken()), asked, ())
        fake = FakeCall(None, b"", call)  # type: ignore[arg-type]
        call.handle = fake
        waiting = asyncio.create_task(call.wait(None))
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            fake.head().data(HELLO)
        found = await waiting
        assert isinstance(found, Outcome)
        assert (found.code, fake.aborted) == ("aborted", True)

    play(main())


def test_an_empty_answer_is_right_if_the_model_simply_ended_its_turn() -> None:
    body, found = whole("openai", {**message(content=""), "usage": counts(output=1)})
    assert found.ended is Ended.SERVED
    assert body is not None
    _, found = whole("openai", {**message(content=""), "usage": counts(output=40)})
    assert (found.code, found.usage) == ("empty_answer", Usage(5, 0, 0, 40, 0, True))


def test_an_answer_that_breaks() -> None:
    async def main() -> None:
        call, fake = opened("openai", request())
        fake.head(200, "application/json").data(b'{"id"').fail("closed_early")
        found = await call.wait(None)
        assert isinstance(found, Outcome)
        assert (found.ended, found.code, found.sent) == (Ended.FAILED, "closed_early", True)

    play(main())


def test_the_fake_closes_nothing_by_itself() -> None:
    """A relay that went well aborts no call: its connection is for the pool."""

    async def main() -> None:
        relay = await Relay().begin()
        relay.fake.data(END).end()
        await relay.outcome()
        relay.call.abort()
        assert relay.fake.deeds == []

    play(main())
    assert deployment("openai").upstream_model == "their-model"
    assert chunks(b"") == []
