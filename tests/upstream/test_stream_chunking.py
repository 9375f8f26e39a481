"""Wherever a stream's bytes are cut, the client gets the same bytes: whole, byte by byte, at random, with a trailing next event.

The cuts decide which of three ways an event takes (the template, the parse, being held), so this is also the test that they
agree. And of relays with bugs planted in them, that these very checks notice.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from relaying import FakeClient, chunk, chunks, opened, play, request, said, sse
from streams import SCRIPTS, Script

from gateway.core.exchange import Ended, Outcome
from gateway.upstream.calling import Setting
from gateway.upstream.canonical import usage_event
from gateway.upstream.chunks import Chunks
from gateway.upstream.sse import Splitter
from gateway.upstream.stream import StreamCall


async def relayed(
    dialect: str, pieces: Iterable[bytes], *, wants_usage: bool = False, late: bool = False, kind: type[StreamCall] = StreamCall
) -> tuple[bytes, Outcome]:
    """What a client gets of `pieces` and how it ended. `late`: it comes only when all has arrived."""
    asked = request(stream=True, wants_usage=wants_usage)
    call, fake = opened(dialect, asked)
    if kind is not StreamCall:
        call = kind(call.setting, asked, ())
        call.handle = fake
        fake.sink = call
    client = FakeClient()
    relay: asyncio.Task[Outcome] | None = None
    fake.head()
    for piece in pieces:
        fake.data(piece)
        if relay is None and not late and call.result is call:
            relay = asyncio.create_task(call.relay(client))
            await asyncio.sleep(0)
    fake.end()
    found = await call.wait(None)
    if isinstance(found, Outcome):
        return b"", found
    outcome = await (relay or call.relay(client))
    return client.text, outcome


def by_bytes(raw: bytes) -> Iterator[bytes]:
    return (raw[at : at + 1] for at in range(len(raw)))


def at_random(raw: bytes, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    while raw:
        size = dice.choice((1, 2, 3, 7, 20, 150, 200, 400, 1000))
        yield raw[:size]
        raw = raw[size:]


def by_events(raw: bytes, and_a_bit: int = 0) -> Iterator[bytes]:
    """Event by event, each with the first bytes of the next."""
    at = 0
    while at < len(raw):
        end = raw.find(b"\n\n", at)
        end = len(raw) if end < 0 else min(len(raw), end + 2 + and_a_bit)
        yield raw[at:end]
        at = end


WAYS: tuple[tuple[str, Any, bool], ...] = (
    ("whole", lambda raw: [raw], False),
    ("whole, taken late", lambda raw: [raw], True),
    ("byte by byte", by_bytes, False),
    ("event by event", by_events, False),
    ("with a trailing next event", lambda raw: by_events(raw, 40), False),
    ("an event, and the next whole", lambda raw: by_events(raw, 190), False),
    *((f"at random, {seed}", lambda raw, seed=seed: at_random(raw, seed), False) for seed in range(6)),
)


@pytest.mark.parametrize("wants_usage", [False, True], ids=["plain", "with usage"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_cuts_make_no_difference(script: Script, wants_usage: bool) -> None:
    first, outcome = play(relayed(script.dialect, by_events(script.raw), wants_usage=wants_usage))
    check(script, first, outcome, wants_usage=wants_usage)
    for name, cut, late in WAYS:
        assert play(relayed(script.dialect, cut(script.raw), wants_usage=wants_usage, late=late)) == (first, outcome), name


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"], ids=["crlf", "cr"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_other_line_ends_and_a_byte_order_mark_make_none_either(script: Script, newline: bytes) -> None:
    first = play(relayed(script.dialect, by_events(script.raw)))
    raw = b"\xef\xbb\xbf" + script.raw.replace(b"\n", newline)
    for name, cut, late in WAYS:
        assert play(relayed(script.dialect, cut(raw), late=late)) == first, name


def check(script: Script, text: bytes, outcome: Outcome, *, wants_usage: bool) -> None:
    """All that is promised of a stream that ended well."""
    events = [event for event in text.split(b"\n\n") if event and not event.startswith(b":")]
    assert events[-1] == b"data: [DONE]"
    assert events.count(b"data: [DONE]") == 1
    assert all(event.startswith(b"data: ") for event in events)
    found = chunks(text)
    for shown in found:
        assert {"id", "object", "created", "model", "choices"} <= set(shown)
        assert shown["object"] == "chat.completion.chunk"
        assert shown["model"] == "our-model"
        assert all({"index", "delta", "finish_reason"} <= set(choice) for choice in shown["choices"])
        published = ChatCompletionChunk.model_validate(shown, strict=True)
        assert all(choice.finish_reason in (None, "stop", "length", "tool_calls", "content_filter") for choice in published.choices)
    assert len({(shown["id"], shown["created"]) for shown in found}) == 1
    assert found[0]["id"]
    assert said(found) == script.content
    assert said(found, "reasoning_content") == script.reasoning
    assert not any("reasoning" in choice["delta"] for shown in found for choice in shown["choices"])
    assert gathered(found) == script.calls
    assert [c["finish_reason"] for shown in found for c in shown["choices"] if c.get("finish_reason")] == [script.finish]
    with_usage = [shown for shown in found if shown.get("usage")]
    assert len(with_usage) == (1 if wants_usage and script.usage else 0)
    assert all(shown["choices"] for shown in found if shown not in with_usage)
    if with_usage:
        assert found[-1] is with_usage[0]
        assert found[-1]["choices"] == []
        usage = found[-1]["usage"]
        prompt, cached, output, reasoning = script.usage or (0, 0, 0, 0)
        assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (prompt, cached)
        assert (usage["completion_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]) == (output, reasoning)
    assert (outcome.ended, outcome.status, outcome.finish) == (Ended.SERVED, 200, script.finish)
    assert outcome.usage is not None
    if script.usage:
        assert outcome.usage.reported
        assert outcome.code == ""
        assert (outcome.usage.input, outcome.usage.cached, outcome.usage.output, outcome.usage.reasoning) == script.usage
    else:
        assert not outcome.usage.reported
        assert outcome.code in ("usage_missing", "usage_absurd")
        assert outcome.usage.input == 12


def gathered(found: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Tool calls put together the way OpenAI's clients do: by index, names and arguments appended."""
    calls: dict[int, list[str]] = {}
    for shown in found:
        for choice in shown["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                assert call.get("id") != "null"
                assert call.get("type", "function") == "function"
                if call["index"] not in calls:
                    assert call["id"], "a call begins with its id"
                    assert call["type"] == "function"
                into = calls.setdefault(call["index"], ["", ""])
                into[0] += call["function"].get("name") or ""
                into[1] += call["function"].get("arguments") or ""
    return tuple((name, arguments) for name, arguments in calls.values())


# --- any text -------------------------------------------------------------------------------------------------------------------

TEXTS = st.lists(
    st.text(max_size=12)
    | st.sampled_from(['"', "\\", "[DONE]", '_tokens"', '"error"', "error", '"model":"their-model"', "\n\n", "你好"]),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["mistral", "zai", "vllm", "openai", "llamacpp"]),
    TEXTS,
    st.sampled_from(["content", "reasoning"]),
    st.integers(0, 9999),
)
def test_any_text_arrives_as_it_was_said(dialect: str, texts: list[str], where: str, seed: int) -> None:
    raw = sse(
        chunk({"role": "assistant", "content": ""}),
        *(chunk({where: t}) for t in texts),
        chunk({"content": "."}, "stop", usage=counted()),
    )
    raw += sse(b"[DONE]")
    one = play(relayed(dialect, by_events(raw)))
    other = play(relayed(dialect, at_random(raw, seed)))
    assert one == other
    shown = chunks(one[0])
    assert (
        said(shown, "content" if where == "content" else "reasoning_content") + ("" if where == "content" else ".")
        == "".join(texts) + "."
    )


def counted() -> dict[str, Any]:
    return {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


# --- bugs planted in the relay --------------------------------------------------------------------------------------------------


class ForwardsUsage(Chunks):
    """Gives usage to who did not ask."""

    def tail(self) -> bytes:
        return usage_event(self.identity, self.used()) + super().tail() if not self._request.wants_usage else super().tail()


class LeavesUsageIn(Chunks):
    """Passes on the chunk of the end as the upstream wrote it."""

    def _take_usage(self, chunk: dict[str, Any]) -> bool:
        return False


class TwoEnds(Chunks):
    """Passes the upstream's [DONE] on, and writes its own."""

    def tail(self) -> bytes:
        return super().tail() * 2


class NoRename(Chunks):
    """Shows the upstream's name of the model."""

    def _learn(self, raw: bytes, data: bytes, chunk: dict[str, Any]) -> None:
        super()._learn(raw, data, chunk)
        self._renames = None


class NeverMends(Chunks):
    """Passes each chunk on in its bytes, once it knows the stream."""

    def take(self, raw: bytes, *, committed: bool) -> bytes | Outcome:
        taken = super().take(raw, committed=committed)
        return self._as_it_is(raw) if committed and isinstance(taken, bytes) and taken else taken


class CountsBytesOnly(Splitter):
    """Takes a piece for an event."""

    def feed(self, data: bytes) -> list[bytes]:
        return [piece for piece in data.split(b"\n\n") if piece]


PLANTED: tuple[tuple[str, Any, Any], ...] = (
    ("usage to who did not ask", ForwardsUsage, None),
    ("usage left in the last chunk", LeavesUsageIn, None),
    ("two ends", TwoEnds, None),
    ("the upstream's model name", NoRename, None),
    ("nothing mended", NeverMends, None),
    ("a piece taken for an event", None, CountsBytesOnly),
)


def noticed(chunks_class: Any, splitter_class: Any) -> list[str]:
    """The scripts on which a relay made of these parts does not do as promised."""

    class Variant(StreamCall):
        def __init__(self, setting: Setting, request: Any, dropped: tuple[str, ...]) -> None:
            super().__init__(setting, request, dropped)
            if chunks_class is not None:
                self._chunks = chunks_class(setting, request, self._tally)
            if splitter_class is not None:
                self._splitter = splitter_class(setting.bounds.event_bytes_max)

    found = []
    for script in SCRIPTS:
        for wants_usage in (False, True):
            try:
                first, outcome = play(relayed(script.dialect, by_events(script.raw), wants_usage=wants_usage, kind=Variant))
                check(script, first, outcome, wants_usage=wants_usage)
                for _, cut, late in WAYS[:6]:
                    assert play(relayed(script.dialect, cut(script.raw), wants_usage=wants_usage, late=late, kind=Variant)) == (
                        first,
                        outcome,
                    )
            except Exception:  # noqa: BLE001 - however it shows
                found.append(script.name)
    return found


@pytest.mark.source_only
@pytest.mark.parametrize(("chunks_class", "splitter_class"), [p[1:] for p in PLANTED], ids=[p[0] for p in PLANTED])
def test_planted_bugs_are_noticed(chunks_class: Any, splitter_class: Any) -> None:
    assert noticed(chunks_class, splitter_class)


@pytest.mark.source_only
def test_without_a_bug_nothing_is_noticed() -> None:
    assert noticed(Chunks, Splitter) == []
