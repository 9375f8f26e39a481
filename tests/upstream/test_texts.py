"""Text completions of upstreams: bodies by dialect, and answers and streams as they were recorded, wherever their bytes are cut."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relaying import FakeClient, FakeTransport, chunks, counts, decided, deployment, opened, play, request, sse, upstreams
from test_stream_chunking import WAYS, at_random, by_events

from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request
from gateway.core.usage import Usage
from gateway.upstream.dialects import DIALECTS, Unsendable, build_text
from gateway.upstream.texts.kept import CompletionForm

FIXTURES = Path(__file__).parent.parent / "simulators" / "fixtures"
DONE = sse(b"[DONE]")


def asked(body: dict[str, Any] | None = None, *, stream: bool = False, wants_usage: bool = False) -> Request:
    whole = {"model": "our-model", "prompt": "Hello", **(body or {})}
    return replace(request(stream=stream, wants_usage=wants_usage), api="completions", body=whole)


def piece(text: str, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A well-formed chunk of an upstream."""
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "their-model", "choices": [choice], **more}


# --- bodies -------------------------------------------------------------------------------------------------------------------


def built(dialect: str, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    stream = bool(fields.get("stream"))
    body, dropped = build_text(DIALECTS[dialect], deployment(dialect), asked(fields, stream=stream), "secret")
    return orjson.loads(body), dropped


EVERYTHING = {
    "max_tokens": 5, "temperature": 2, "top_p": 0.5, "n": 2, "best_of": 3, "echo": True, "logprobs": 1, "suffix": "end",
    "stop": ["x"], "seed": 7, "presence_penalty": 1, "frequency_penalty": 1, "logit_bias": {"5": 1}, "user": "eva@example.org",
    "top_k": 3, "store": True, "priority": 9, "cache_salt": "x", "prompt_embeds": "x", "stream": True,
}  # fmt: skip
PENALTIES = {"presence_penalty", "frequency_penalty", "logit_bias"}
LEFT_OUT = {"store", "priority", "cache_salt", "prompt_embeds"}


@pytest.mark.parametrize(
    ("dialect", "left_out"),
    [
        ("openai", {"top_k"}),
        ("vllm", {"best_of", "user"}),
        ("llamacpp", {"best_of", "echo", "user"}),
        ("mistral", {"n", "best_of", "echo", "logprobs", "user", "top_k", "temperature", *PENALTIES}),
    ],
)
def test_a_body_holds_what_its_dialect_lists_and_the_rest_is_reported(dialect: str, left_out: set[str]) -> None:
    body, dropped = built(dialect, **EVERYTHING)
    assert set(dropped) == LEFT_OUT | left_out
    assert (body["model"], body["prompt"], body["stream"], body["max_tokens"]) == ("their-model", "Hello", True, 5)
    assert body.get("stream_options") == (None if dialect == "mistral" else {"include_usage": True})
    assert body["suffix"] == "end"
    if dialect == "mistral":
        assert (body["random_seed"], body["temperature"]) == (7, 1.5)
    if dialect == "openai":
        assert len(body["user"]) == 32


def test_neutral_values_are_left_out_without_a_word_and_the_apis_length_is_written_where_it_is_not_the_upstreams() -> None:
    for dialect in ("openai", "vllm", "llamacpp", "mistral"):
        body, dropped = built(dialect, n=1, best_of=1, echo=False, logit_bias=None, stream=False, stream_options={})
        assert dropped == ()
        assert body.get("max_tokens") == (16 if dialect in ("llamacpp", "mistral") else None)
        assert "stream" not in body
        assert "stream_options" not in body


def test_a_gap_is_shown_as_the_model_knows_it_where_no_suffix_is_taken() -> None:
    template = "<PRE>{prefix}<SUF>{suffix}<MID>"
    for dialect in ("openai", "vllm", "llamacpp", "mistral"):
        to = deployment(dialect)
        to = replace(to, model=replace(to.model, fim=template))
        for prompt, shown in (("a {suffix}", "<PRE>a {suffix}<SUF>z<MID>"), (["a"], ["<PRE>a<SUF>z<MID>"])):
            body = orjson.loads(build_text(DIALECTS[dialect], to, asked({"prompt": prompt, "suffix": "z"}), None)[0])
            if dialect in ("vllm", "llamacpp"):
                assert (body["prompt"], body.get("suffix")) == (shown, None)
            else:
                assert body["suffix"] == "z"
        body = orjson.loads(build_text(DIALECTS[dialect], to, asked({"suffix": ""}), None)[0])
        assert (body["prompt"], body.get("suffix")) == ("Hello", None)


def test_mistral_is_sent_one_text_and_zai_nothing() -> None:
    assert built("mistral", prompt=["one"])[0]["prompt"] == "one"
    for prompt in (["one", "two"], [1, 2], [[1, 2]]):
        with pytest.raises(Unsendable) as refused:
            built("mistral", prompt=prompt)
        outcome = refused.value.outcome
        assert (outcome.fault, outcome.sent, outcome.tries_next) == (Fault.CLIENT, False, True)
    with pytest.raises(Unsendable) as unknown:
        built("zai")
    assert (unknown.value.outcome.code, unknown.value.outcome.tries_next) == ("unknown_api", True)


# --- answers ------------------------------------------------------------------------------------------------------------------


async def answered(dialect: str, body: Any, fields: dict[str, Any] | None = None) -> tuple[dict[str, Any], Outcome]:
    to = deployment(dialect)
    transport = FakeTransport()
    decision = decided(to)
    call = upstreams(transport, to).open(decision, Attempt(1, to), asked(fields))
    transport.calls[0].answer(body)
    found = await call.wait(None)
    assert found is not None
    return ({}, found) if isinstance(found, Outcome) else (orjson.loads(call.body), call.outcome())


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def test_an_echo_alone_is_no_output() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
    body = {"choices": [{"text": "Hello", "finish_reason": "length"}], "usage": usage}
    _, outcome = asyncio.run(answered("openai", body, {"echo": True, "max_tokens": 0}))
    assert outcome.usage == Usage(5, 0, 0, 0, 0, True)
    _, outcome = asyncio.run(answered("openai", body))
    assert outcome.code == "usage_absurd"


@pytest.mark.parametrize(
    ("name", "text", "usage"),
    [
        ("openai/text_plain.json", " \n- Tired of FizzBuzz yet? \n- Can I skip the", Usage(8, 0, 0, 16, 0, True)),
        ("llamacpp/text_plain.json", " Paris.\n\nThe United", Usage(5, 0, 0, 6, 0, True)),
        (
            "mistral/text_plain.json",
            " {\tc.Users = append(c.Users, User{name: name, surname: surname})} ",
            Usage(23, 0, 0, 57, 0, True),
        ),
    ],
)
def test_recorded_answers(name: str, text: str, usage: Usage) -> None:
    found, outcome = play(answered(name.split("/")[0], fixture(name)))
    assert (found["object"], found["model"]) == ("text_completion", "our-model")
    assert found["choices"] == [{"text": text, "index": 0, "logprobs": None, "finish_reason": outcome.finish}]
    assert (outcome.ended, outcome.usage) == (Ended.SERVED, usage)
    assert found["usage"]["total_tokens"] == usage.input + usage.output


def test_probabilities_in_the_shape_of_chat_become_lists() -> None:
    found, _ = play(answered("llamacpp", fixture("llamacpp/text_logprobs.json")))
    logprobs = found["choices"][0]["logprobs"]
    assert logprobs["tokens"] == [" Paris", "."]
    assert logprobs["text_offset"] == [0, 6]
    assert logprobs["top_logprobs"][1] == {".": logprobs["token_logprobs"][1], ",": -1.5545029640197754}


def test_usage_of_one_choice_is_not_taken_for_that_of_all() -> None:
    choices = [{"text": "a", "index": i, "logprobs": None, "finish_reason": "stop"} for i in (0, 1)]
    whole = {"choices": choices, "object": "text_completion", "id": "x", "created": 1, "usage": counts(5, 1)}
    found, outcome = play(answered("llamacpp", {**whole, "timings": {}}, {"n": 2}))
    assert (outcome.code, found["usage"]) == ("usage_missing", None)
    assert outcome.usage is not None
    assert not outcome.usage.reported
    _, outcome = play(answered("vllm", whole, {"n": 2}))
    assert outcome.usage == Usage(5, 0, 0, 1, 0, True)


@pytest.mark.parametrize(
    ("body", "fields", "code"),
    [
        ({"choices": [{"text": "", "finish_reason": "stop"}], "usage": counts(5, 7)}, {}, "empty_answer"),
        ({"choices": [{"text": "", "finish_reason": "stop"}], "usage": counts(5, 7)}, {"stop": "x"}, ""),
        ({"choices": [{"text": "", "finish_reason": "stop"}], "usage": counts(5, 7)}, {"suffix": "x"}, ""),
        ({"choices": [{"text": "", "finish_reason": "length"}], "usage": counts(5, 7)}, {}, ""),
        ({"choices": [{"text": "a", "finish_reason": "abort"}], "usage": counts(5, 7)}, {}, "upstream_aborted"),
        ({"choices": [{"text": 7, "finish_reason": "stop"}]}, {}, "bad_answer"),
        ({"choices": []}, {}, "bad_answer"),
        ({"choices": [{"text": "a", "logprobs": {"content": [7]}}]}, {}, "bad_answer"),
        ({"object": "error", "message": "no"}, {}, "unknown_error"),
    ],
)
def test_what_is_no_answer_is_an_outcome(body: Any, fields: dict[str, Any], code: str) -> None:
    found, outcome = play(answered("vllm", body, fields))
    assert (outcome.ended is Ended.SERVED, bool(found)) == (code == "", code == "")
    assert outcome.code == code or code == "unknown_error"


# --- streams ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """`raw` as it comes, what the texts add up to, and usage as it must be read."""

    name: str
    dialect: str
    raw: bytes
    texts: tuple[str, ...]
    usage: Usage | None
    finish: str = "length"
    fields: dict[str, Any] | None = None


def chatty(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "m", "object": "chat.completion.chunk", "created": 1, "model": "codestral", "choices": [choice], **more}


SCRIPTS = (
    Script("openai, recorded", "openai", fixture("openai/text_stream.sse"), (".\n\nFarmer to",), None),
    Script("vllm, documented", "vllm", fixture("vllm/text_stream.sse"), ("! I'm0",), None),
    Script(
        "vllm with usage",
        "vllm",
        sse(piece("a"), piece(' "b"'), piece("\\"), piece("c", "length"), {**piece(""), "choices": [], "usage": counts(5, 4)})
        + DONE,
        ('a "b"\\c',),
        Usage(5, 0, 0, 4, 0, True),
    ),
    Script(
        "llamacpp, recorded",
        "llamacpp",
        fixture("llamacpp/text_stream.sse"),
        (" Paris.\n\nThe United",),
        Usage(1, 4, 0, 6, 0, True),
    ),
    Script(
        "llamacpp, several prompts, recorded",
        "llamacpp",
        fixture("llamacpp/text_stream_many.sse"),
        ("-to", "-one"),
        Usage(2, 1, 0, 4, 0, True),
        fields={"prompt": ["one two", "three"]},
    ),
    Script(
        "llamacpp, probabilities, recorded",
        "llamacpp",
        fixture("llamacpp/text_stream_logprobs.sse"),
        (" Paris.",),
        Usage(1, 4, 0, 2, 0, True),
        fields={"logprobs": 2},
    ),
    Script(
        "mistral, in the shape of chat",
        "mistral",
        sse(
            chatty({"role": "assistant", "content": ""}),
            *(chatty({"content": text}) for text in ("a", ' "b"', "\n", "c", "d")),
            chatty({"content": ""}, "stop", usage=counts(5, 4)),
        )
        + DONE,
        ('a "b"\ncd',),
        Usage(5, 0, 0, 4, 0, True),
        "stop",
    ),
    Script("without [DONE]", "vllm", sse(piece("a"), piece("b", "stop")), ("ab",), None, "stop"),
    Script(
        "two choices, one after another",
        "openai",
        sse(*(piece(text, finish, i) for i in (0, 1) for text, finish in (("a", None), ("b", None), ("c", "stop")))) + DONE,
        ("abc", "abc"),
        None,
        "stop",
        {"n": 2},
    ),
)


async def told(script: Script, pieces: Iterable[bytes], **how: Any) -> tuple[bytes, Outcome]:
    client = FakeClient()
    call, fake = opened(script.dialect, asked(script.fields, stream=True, wants_usage=how.get("wants_usage", False)))
    relay: asyncio.Task[Outcome] | None = None
    fake.head()
    for one in pieces:
        fake.data(one)
        if relay is None and not how.get("late") and call.result is call:
            relay = asyncio.create_task(call.relay(client))
            await asyncio.sleep(0)
    fake.end()
    found = await call.wait(None)
    if isinstance(found, Outcome):
        return b"", found
    outcome = await (relay or call.relay(client))
    return client.text, outcome


def texts_of(text: bytes) -> tuple[str, ...]:
    found: dict[int, str] = {}
    for chunk in chunks(text):
        for choice in chunk["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return tuple(found[index] for index in sorted(found))


@pytest.mark.parametrize("wants_usage", [False, True], ids=["plain", "with usage"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_cuts_make_no_difference(script: Script, wants_usage: bool) -> None:
    first, outcome = play(told(script, by_events(script.raw), wants_usage=wants_usage))
    events = first.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    shown = chunks(first)
    with_usage = [chunk for chunk in shown if chunk.get("usage")]
    assert len(with_usage) == (1 if wants_usage and script.usage else 0)
    assert {chunk["object"] for chunk in shown} == {"text_completion"}
    assert {chunk["model"] for chunk in shown} == {"our-model"}
    assert all({"index", "text", "logprobs", "finish_reason"} <= set(choice) for chunk in shown for choice in chunk["choices"])
    assert not any("timings" in chunk for chunk in shown)
    assert texts_of(first) == script.texts
    assert (outcome.ended, outcome.finish) == (Ended.SERVED, script.finish)
    assert outcome.usage is not None
    assert outcome.usage == script.usage or (script.usage is None and not outcome.usage.reported)
    for name, cut, late in WAYS:
        assert play(told(script, cut(script.raw), wants_usage=wants_usage, late=late)) == (first, outcome), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_is_kept_of_a_stream_is_given_again_in_either_form(script: Script) -> None:
    text, outcome = play(told(script, by_events(script.raw)))
    form, request = CompletionForm(), asked(script.fields, stream=True)
    kept = form.answer_of(request, outcome, text)
    assert kept is not None
    assert texts_of(form.events(kept, None)) == script.texts
    whole = orjson.loads(kept)
    assert form.answer(request, outcome, kept) == kept
    assert tuple(choice["text"] for choice in whole["choices"]) == script.texts
    assert [c["usage"] for c in chunks(form.events(kept, outcome.usage)) if "usage" in c] == (
        [whole["usage"]] if script.usage is not None else []
    )
    if script.fields and "logprobs" in script.fields:
        assert whole["choices"][0]["logprobs"]["tokens"] == [" Paris", "."]
        assert whole["choices"][0]["logprobs"]["text_offset"] == [0, 6]


def test_what_can_not_be_given_again_is_not_kept() -> None:
    form, served = CompletionForm(), Outcome(Ended.SERVED)
    good: Any = {"object": "text_completion", "choices": [{"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop"}]}
    assert form.answer(asked(), served, orjson.dumps(good)) is not None
    odds: list[dict[str, Any]] = [{"finish_reason": "content_filter"}, {"token_ids": [1]}, {"logprobs": {"content": {}}}]
    for odd in odds:
        found = {**good, "choices": [{**good["choices"][0], **odd}]}
        assert form.answer(asked(), served, orjson.dumps(found)) is None
        assert form.answer_of(asked(), served, sse({**piece("a", "stop"), **found}) + DONE) is None
    assert form.answer(asked(), Outcome(Ended.CUT_SHORT), orjson.dumps(good)) is None
    assert form.answer_of(asked(), served, sse(piece("a")) + DONE) is None


def test_what_some_choices_said_is_not_taken_for_the_usage_of_a_stream_that_broke() -> None:
    raw = fixture("llamacpp/text_stream_many.sse")
    first = raw.index(b'"finish_reason":"length"')
    broken = raw[: raw.index(b"\n\n", first) + 2]  # one of two has ended
    script = Script("broken", "llamacpp", broken, (), None, fields={"prompt": ["one two", "three"]})
    _, outcome = play(told(script, by_events(broken)))
    assert (outcome.ended, outcome.code) == (Ended.CUT_SHORT, "ended_early")
    assert outcome.usage is not None
    assert not outcome.usage.reported


TEXTS = st.lists(
    st.text(max_size=12) | st.sampled_from(['"', "\\", "[DONE]", '_tokens"', '"text":"', '"model":"their-model"', "\n\n", "你好"]),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["vllm", "openai", "llamacpp", "mistral"]), TEXTS, st.integers(0, 9999))
def test_any_text_arrives_as_it_was_said(dialect: str, texts: list[str], seed: int) -> None:
    say = (lambda text, finish=None: chatty({"content": text}, finish)) if dialect == "mistral" else piece
    raw = sse(*(say(text) for text in texts), say(".", "stop")) + DONE
    script = Script("any", dialect, raw, (), None)
    one = play(told(script, by_events(raw)))
    assert one == play(told(script, at_random(raw, seed)))
    assert texts_of(one[0]) == ("".join(texts) + ".",)


def test_the_pump_knows_the_like_of_a_text() -> None:
    """After the first events none is parsed: they pass in one comparison each."""

    async def main() -> None:
        call, fake = opened("vllm", asked(stream=True))
        client = FakeClient()
        fake.head().data(sse(piece("a")))
        relay = asyncio.create_task(call.relay(client))
        await asyncio.sleep(0)
        fake.data(sse(piece("b")))
        stream: Any = call
        for text in "cdefgh":
            assert stream._fits(sse(piece(text))), "what fits is not parsed"
            fake.data(sse(piece(text)))
        fake.data(sse(piece("i", "stop")) + DONE)
        fake.end()
        assert (await relay).ended is Ended.SERVED
        assert texts_of(client.text) == ("abcdefghi",)

    play(main())
