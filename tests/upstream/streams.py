"""Streams as each upstream writes them, after recordings and schemas, and what a client must come to see of each."""

from dataclasses import dataclass
from typing import Any

import orjson
from relaying import chunk, counts, sse

CALL = {"name": "look", "arguments": ""}


def tool(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [delta]}, finish, **more)


def bare(**fields: Any) -> bytes:
    return sse(fields)


@dataclass(frozen=True)
class Script:
    """`raw` as it comes; what the client's deltas add up to; usage as (prompt, cached, output, reasoning), or None."""

    name: str
    dialect: str
    raw: bytes
    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()  # name and arguments of each
    finish: str = "stop"
    usage: tuple[int, int, int, int] | None = (5, 0, 3, 0)


DONE = sse(b"[DONE]")

SCRIPTS = (
    Script(
        "vllm: usage with each chunk, what was cached taken back in the last",
        "vllm",
        sse(
            chunk({"role": "assistant", "content": ""}, usage=counts(output=0, prompt_tokens_details={"cached_tokens": 4})),
            *(chunk({"content": t}, usage=counts(output=1, prompt_tokens_details={"cached_tokens": 4})) for t in ("a", "b")),
            chunk({"content": "c"}, "stop", usage=counts(prompt_tokens_details={"cached_tokens": 0})),
        )
        + DONE,
        "abc",
    ),
    Script(
        "mistral: padding, usage in the chunk of the end",
        "mistral",
        sse(
            chunk({"role": "assistant", "content": ""}, p="abcdefghijk"),
            chunk({"content": "Hel"}, p="abc"),
            chunk({"content": 'lo "you"'}, p="abcdefghijklmnopqrst"),
            chunk({"content": "!\nBye 你好"}, p="ab"),
            chunk({"content": "."}, p="abcdefg"),
            chunk({"content": ""}, "stop", usage=counts(), p="a"),
        )
        + DONE,
        'Hello "you"!\nBye 你好.',
    ),
    Script(
        "mistral: thinking in pieces, then text",
        "mistral",
        sse(
            chunk({"role": "assistant", "content": ""}),
            *(
                chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": t}]}]})
                for t in ("Let", " me", ' "see"', "\\", " now")
            ),
            chunk({"content": [{"type": "thinking", "thinking": [], "closed": True}, {"type": "text", "text": "Four"}]}),
            chunk({"content": "."}),
            chunk({"content": ""}, "stop", usage=counts(prompt_tokens_details={"cached_tokens": 2})),
        )
        + DONE,
        "Four.",
        'Let me "see"\\ now',
        usage=(5, 2, 3, 0),
    ),
    Script(
        "mistral: tool calls without type, `null` ids, index 0 for both",
        "mistral",
        sse(
            chunk({"role": "assistant", "content": ""}),
            tool({"id": "aaaaaaaaa", "index": 0, "function": {"name": "look", "arguments": '{"a"'}}),
            tool({"id": "null", "index": 0, "function": {"name": "", "arguments": ": 1}"}}),
            tool(
                {"id": "bbbbbbbbb", "index": 0, "function": {"name": "find", "arguments": '{"b": 2}'}}, "tool_calls", usage=counts()
            ),
        )
        + DONE,
        calls=(("look", '{"a": 1}'), ("find", '{"b": 2}')),
        finish="tool_calls",
    ),
    Script(
        "mistral: arguments as an object, index left out",
        "mistral",
        sse(
            tool({"id": "aaaaaaaaa", "function": {"name": "look", "arguments": {"a": 1}}}),
            tool({"id": "bbbbbbbbb", "function": {"name": "find", "arguments": {}}}, "tool_calls", usage=counts()),
        )
        + DONE,
        calls=(("look", '{"a":1}'), ("find", "{}")),
        finish="tool_calls",
    ),
    Script(
        "zai: role in each delta, reasoning first, usage with the end",
        "zai",
        sse(
            *(chunk({"role": "assistant", "reasoning_content": t}) for t in ("Hm", ", ", '"well"')),
            *(chunk({"role": "assistant", "content": t}) for t in ("Ja", "wohl", ".")),
            chunk(
                {"role": "assistant", "content": ""},
                "stop",
                usage=counts(output=9, completion_tokens_details={"reasoning_tokens": 4}),
            ),
        )
        + DONE,
        "Jawohl.",
        'Hm, "well"',
        usage=(5, 0, 9, 4),
    ),
    Script(
        "zai: of November 2025, without object",
        "zai",
        b"".join(
            bare(id="20251101", created=1, model="glm-4.6", choices=[{"index": 0, "delta": {"role": "assistant", "content": t}}])
            for t in ("Ja", "wo", "hl\\n", "!")
        )
        + bare(
            id="20251101",
            created=1,
            model="glm-4.6",
            choices=[{"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": ""}}],
            usage=counts(),
        )
        + DONE,
        "Jawohl\\n!",
    ),
    Script(
        "choices without index and finish_reason",
        "openai",
        sse(
            *(chunk({}, choices=[{"delta": {"content": t}}]) for t in ("Ja", "wo", "hl", "!")),
            chunk({}, choices=[{"delta": {}, "finish_reason": "stop"}], usage=counts()),
        )
        + DONE,
        "Jawohl!",
    ),
    Script(
        "zai: a tool call in one piece",
        "zai",
        sse(
            tool({"index": 0, "id": "call_-78", "type": "function", "function": {"name": "look", "arguments": "{}"}}),
            chunk({"role": "assistant", "content": ""}, "tool_calls", usage=counts()),
        )
        + DONE,
        calls=(("look", "{}"),),
        finish="tool_calls",
    ),
    Script(
        "zai: stopped by the censor after some text",
        "zai",
        sse(chunk({"content": "Some"}), chunk({"content": ""}, "sensitive", usage=counts())) + DONE,
        "Some",
        finish="content_filter",
    ),
    Script(
        "zai: window exceeded",
        "zai",
        sse(chunk({"content": "Some"}), chunk({"content": ""}, "model_context_window_exceeded", usage=counts())) + DONE,
        "Some",
        finish="length",
    ),
    Script(
        "vllm: reasoning, nulls, usage on its own",
        "vllm",
        sse(
            chunk({"role": "assistant", "content": "", "reasoning": None}),
            *(chunk({"reasoning": t}) for t in ("Let", " me", '"', " see\n")),
            chunk({"content": "Four"}),
            chunk({"content": "."}, "stop"),
            chunk({}, usage=counts(), choices=[]),
        )
        + DONE,
        "Four.",
        'Let me" see\n',
    ),
    Script(
        "vllm: usage in every chunk",
        "vllm",
        sse(
            *(chunk({"content": t}, usage=counts(output=i)) for i, t in enumerate("abc", 1)),
            chunk({}, "stop", usage=counts()),
        )
        + DONE,
        "abc",
    ),
    Script(
        "vllm: repetition",
        "vllm",
        sse(chunk({"content": "aaa"}), chunk({}, "repetition"), chunk({}, usage=counts(), choices=[])) + DONE,
        "aaa",
    ),
    Script(
        "sglang: reasoning_content null in each delta",
        "vllm",
        sse(
            chunk({"role": "assistant", "content": "", "reasoning_content": None}),
            chunk({"content": "Hi", "reasoning_content": None}),
            chunk({"content": " you", "reasoning_content": None}),
            chunk({"content": None, "reasoning_content": None}, "stop"),
            chunk({}, usage={**counts(output=9), "reasoning_tokens": 4}, choices=[]),
        )
        + DONE,
        "Hi you",
        usage=(5, 0, 9, 4),
    ),
    Script(
        "tgi: an empty id, role in each delta, its own word for the end",
        "openai",
        b"".join(
            sse(chunk({"role": "assistant", "content": t}, f, id="")) for t, f in (("Hi", None), (" you", None), ("", "eos_token"))
        )
        + sse(chunk({}, usage=counts(), choices=[], id=""))
        + DONE,
        "Hi you",
    ),
    Script(
        "llamacpp: choices first, content null, usage and timings on their own",
        "llamacpp",
        b"".join(
            bare(
                choices=[{"finish_reason": finish, "index": 0, "delta": delta}],
                created=1,
                id="chatcmpl-x",
                model="SmolLM2.gguf",
                system_fingerprint="b7010",
                object="chat.completion.chunk",
            )
            for delta, finish in (
                ({"role": "assistant", "content": None}, None),
                ({"content": "Hi"}, None),
                ({"content": ' "you"'}, None),
                ({"content": "!"}, None),
                ({}, "length"),
            )
        )
        + bare(
            choices=[],
            created=1,
            id="chatcmpl-x",
            model="SmolLM2.gguf",
            object="chat.completion.chunk",
            usage=counts(),
            timings={"cache_n": 4, "prompt_n": 1, "predicted_n": 3},
        )
        + DONE,
        'Hi "you"!',
        finish="length",
        usage=(5, 4, 3, 0),
    ),
    Script(
        "openai: obfuscation, usage null until the last",
        "openai",
        sse(
            chunk({"role": "assistant", "content": "", "refusal": None}, usage=None, obfuscation="abc"),
            *(
                chunk({"content": t}, usage=None, obfuscation="x" * i)
                for i, t in enumerate(("One", " two", " _tokens", '" error'), 1)
            ),
            chunk({}, "stop", usage=None, obfuscation="q"),
            chunk({}, usage=counts(prompt_tokens_details={"cached_tokens": 1}), choices=[], obfuscation=""),
        )
        + DONE,
        'One two _tokens" error',
        usage=(5, 1, 3, 0),
    ),
    Script(
        "openai: azure's word on the prompt first",
        "openai",
        sse(
            chunk({}, choices=[], id="", model="", prompt_filter_results=[]),
            chunk({"content": "Hi"}),
            chunk({}, "stop"),
            chunk({}, usage=counts(), choices=[]),
        )
        + DONE,
        "Hi",
    ),
    Script(
        "openai: text that looks like the wire",
        "openai",
        sse(
            *(
                chunk({"content": t})
                for t in (
                    "data: [DONE]\n\n",
                    '{"error":{"message":"x"}}',
                    '"finish_reason":"stop"',
                    '"usage":{"prompt_tokens":9}',
                    '"model":"their-model"',
                    "error",
                    "[DONE]",
                    "\\",
                    '\\"',
                    '"},"finish_reason":null}]}\n\n',
                )
            ),
            chunk({}, "stop"),
            chunk({}, usage=counts(), choices=[]),
        )
        + DONE,
        'data: [DONE]\n\n{"error":{"message":"x"}}"finish_reason":"stop""usage":{"prompt_tokens":9}'
        + '"model":"their-model"error[DONE]\\\\"'
        + '"},"finish_reason":null}]}\n\n',
    ),
    Script(
        "openai: spaces after colons",
        "openai",
        b"".join(
            b"data: " + orjson.dumps(c).replace(b'":', b'": ') + b"\n\n"
            for c in (
                chunk({"content": "Hi"}),
                chunk({"content": " you"}),
                chunk({}, "stop"),
                chunk({}, usage=counts(), choices=[]),
            )
        )
        + DONE,
        "Hi you",
    ),
    Script(
        "openai: a refusal",
        "openai",
        sse(chunk({"role": "assistant", "refusal": "I can't."}), chunk({}, "stop"), chunk({}, usage=counts(), choices=[])) + DONE,
    ),
    Script(
        "openai: comments and blank lines among the events",
        "openai",
        b": hello\n\n"
        + sse(chunk({"content": "Hi"}))
        + b": keep-alive\n\n"
        + sse(chunk({"content": " you"}), chunk({}, "stop"))
        + b": x\n\n"
        + sse(chunk({}, usage=counts(), choices=[]))
        + DONE,
        "Hi you",
    ),
    Script(
        "openai: no usage at all",
        "openai",
        sse(chunk({"content": "Hi"}), chunk({"content": " you"}), chunk({"content": " all"}), chunk({}, "stop")) + DONE,
        "Hi you all",
        usage=None,
    ),
    Script(
        "openai: usage that can't be true",
        "openai",
        sse(chunk({"content": "Hi"}), chunk({}, "stop"), chunk({}, usage={**counts(), "total_tokens": 99}, choices=[])) + DONE,
        "Hi",
        usage=None,
    ),
    Script(
        "openai: [DONE] forgotten after the end",
        "openai",
        sse(chunk({"content": "Hi"}), chunk({}, "stop"), chunk({}, usage=counts(), choices=[])),
        "Hi",
    ),
    Script(
        "openai: the last empty line forgotten",
        "openai",
        (sse(chunk({"content": "Hi"}), chunk({}, "stop"), chunk({}, usage=counts(), choices=[])) + DONE).rstrip(b"\n"),
        "Hi",
    ),
    Script(
        "openai: a length reached in hidden reasoning",
        "openai",
        sse(chunk({"role": "assistant", "content": ""}), chunk({}, "length"), chunk({}, usage=counts(), choices=[])) + DONE,
        finish="length",
    ),
    Script(
        "openai: nothing to say, and billed as such",
        "openai",
        sse(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), chunk({}, usage=counts(output=1), choices=[])) + DONE,
        usage=(5, 0, 1, 0),
    ),
)
BY_NAME = {script.name: script for script in SCRIPTS}
