"""One chat request as a simulator reads it, and the reply it will give, before any dialect spells either.

What a request can make a simulator do, beside the fields of its API (put these in the last user message):

- `[[say:TEXT]]`     answer with exactly TEXT;
- `[[tokens:N]]`     answer with N tokens (at most 100,000);
- `[[tool]]`         call the first of the given tools; `[[tool:NAME]]` calls that one; several call several at once.

A tool is also called when `tool_choice` forces one. Arguments are made from the tool's JSON Schema, so they satisfy it
for the schemas people write (types, required, enum, const, nested objects and arrays).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from gateway.simulators import speech, tokens

TOKENS_MAX = 100_000
"""The longest answer `[[tokens:N]]` gives: longer than any model's own limit in the catalogue's dialects but small
enough to build in memory. For an answer without end there is the fault `endless`."""

_SAY = re.compile(r"\[\[say:(.*?)\]\]", re.DOTALL)
_TOKENS = re.compile(r"\[\[tokens:(\d+)\]\]")
_TOOL = re.compile(r"\[\[tool(?::([^\]]+))?\]\]")


@dataclass(frozen=True)
class Ask:
    """A chat request whose body is a JSON object. Wrong types inside it read as absent, unless a dialect minds."""

    body: Mapping[str, Any]
    number: int

    @property
    def model(self) -> str:
        """The model asked for, or an empty string."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.body.get("stream") is True

    @property
    def include_usage(self) -> bool:
        """Whether `stream_options.include_usage` is set."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages that are objects."""
        messages = self.body.get("messages")
        return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The `function` of each tool."""
        given = self.body.get("tools")
        functions = [t.get("function") for t in given if isinstance(t, dict)] if isinstance(given, list) else []
        return [f for f in functions if isinstance(f, dict)]

    @property
    def tokens_max(self) -> int | None:
        """The longest answer allowed, in tokens, or None."""
        for name in ("max_completion_tokens", "max_tokens"):
            if isinstance(limit := self.body.get(name), int) and not isinstance(limit, bool):
                return limit
        return None

    @property
    def text(self) -> str:
        """All message text, in order."""
        return "\n".join(text_of(m.get("content")) for m in self.messages)

    @property
    def last(self) -> str:
        """The text of the last message if it is the user's, else an empty string: triggers are read from here."""
        if not self.messages or self.messages[-1].get("role") != "user":
            return ""
        return text_of(self.messages[-1].get("content"))

    def prompt(self) -> list[str]:
        """The prompt as token-sized pieces: what is billed as input, in the order a prefix cache would see it."""
        out: list[str] = []
        if self.tools:
            out += tokens.pieces(orjson.dumps([dict(t) for t in self.tools]).decode())
        for message in self.messages:
            out += [f"<{message.get('role')}>"] * tokens.PER_MESSAGE
            out += tokens.pieces(text_of(message.get("content")))
            if calls := message.get("tool_calls"):
                out += tokens.pieces(orjson.dumps(calls).decode())
        return out


@dataclass(frozen=True)
class TextsAsk(Ask):
    """A request that brings one text or several at `field`, as text or as token ids."""

    field: ClassVar[str]

    @property
    def texts(self) -> Sequence[Sequence[str]]:
        """Each text as token-sized pieces; a token id is one piece, which reads `<id>`."""
        found = self.body.get(self.field)
        if isinstance(found, str):
            return [tokens.pieces(found)]
        if not isinstance(found, list) or not found:
            return []
        if all(isinstance(item, int) for item in found):
            return [[f"<{item}>" for item in found]]
        return [tokens.pieces(t) if isinstance(t, str) else [f"<{i}>" for i in t] for t in found if isinstance(t, str | list)]

    @property
    def text(self) -> str:
        return "\n".join("".join(pieces) for pieces in self.texts)

    @property
    def last(self) -> str:
        return "".join(self.texts[-1]) if self.texts else ""

    def prompt(self) -> list[str]:
        return [piece for pieces in self.texts for piece in pieces]


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


@dataclass(frozen=True)
class Call:
    """A call of a tool: its name, its arguments as JSON text, and hex from which a dialect mints an id."""

    name: str
    arguments: str
    seed: str


@dataclass(frozen=True)
class Usage:
    """Tokens, as billed. `prompt` includes `cached`, and `completion` includes `reasoning`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Reply:
    """What will be said, and no word yet of how a dialect spells it. `seed` is hex, the same for the same request."""

    model: str
    created: int
    seed: str
    reasoning: tuple[str, ...]
    content: tuple[str, ...]
    calls: tuple[Call, ...]
    finish: str
    usage: Usage
    choices: int = 1

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.content)

    @property
    def thought(self) -> str:
        """The whole reasoning."""
        return "".join(self.reasoning)


def compose(ask: Ask, *, who: str, created: int, reasons: bool, cached: int, prompt_tokens: int) -> Reply:
    """The reply to `ask` of the simulator called `who`. The same request, number and name give the same reply.

    `created` is in seconds since 1970; `reasons` says whether this dialect would think first; `cached` and
    `prompt_tokens` are in tokens.
    """
    seed = hashlib.sha256(who.encode() + b"%d" % ask.number + ask.text.encode()).hexdigest()
    calls = _calls(ask, seed)
    reasoning = tuple(tokens.pieces(speech.thought(ask.last or ask.text))) if reasons else ()
    content = () if calls else tuple(_words(ask, who))
    finish = "tool_calls" if calls else "stop"
    if not calls and (limit := ask.tokens_max) is not None and len(reasoning) + len(content) > limit:
        reasoning, content = reasoning[:limit], content[: max(0, limit - len(reasoning))]
        finish = "length"
    spoken = len(content) + sum(tokens.count(c.name) + tokens.count(c.arguments) for c in calls)
    wanted = ask.body.get("n")
    choices = wanted if isinstance(wanted, int) and 1 <= wanted <= 8 else 1
    usage = Usage(prompt_tokens, (len(reasoning) + spoken) * choices, cached, len(reasoning) * choices)
    return Reply(ask.model, created, seed, reasoning, content, calls, finish, usage, choices)


def said(text: str) -> list[str] | None:
    """What a trigger in `text` makes the answer, in tokens; None: there is none."""
    if exactly := _SAY.search(text):
        return tokens.pieces(exactly.group(1))
    if wanted := _TOKENS.search(text):
        return [f" word{i}" if i else "word" for i in range(min(int(wanted.group(1)), TOKENS_MAX))]
    return None


def _words(ask: Ask, who: str) -> list[str]:
    if (words := said(ask.last)) is not None:
        return words
    kind = ask.body.get("response_format")
    if isinstance(kind, dict) and kind.get("type") in ("json_object", "json_schema"):
        wrapped = kind.get("json_schema")
        schema = wrapped.get("schema") if isinstance(wrapped, dict) else kind.get("schema")
        value = sample(schema) if isinstance(schema, dict) else {"answered_by": who, "model": ask.model}
        return tokens.pieces(orjson.dumps(value).decode())
    return tokens.pieces(speech.answer(who, ask.model, ask.last or ask.text))


def _calls(ask: Ask, seed: str) -> tuple[Call, ...]:
    tools = {t["name"]: t for t in ask.tools if isinstance(t.get("name"), str)}
    if not tools:
        return ()
    names = [name or next(iter(tools)) for name in _TOOL.findall(ask.last)]
    choice = ask.body.get("tool_choice")
    if choice == "none":
        return ()
    if isinstance(choice, dict) and isinstance(function := choice.get("function"), dict):
        names = [str(function.get("name"))]
    elif choice in ("any", "required") and not names:
        names = [next(iter(tools))]
    return tuple(
        Call(name, orjson.dumps(sample(tools[name].get("parameters") or {})).decode(), seed[8 * i :] + seed[: 8 * i])
        for i, name in enumerate(names[:8])
        if name in tools
    )


def sample(schema: Mapping[str, Any]) -> Any:
    """A value that satisfies a JSON Schema, for the parts people write: const, enum, type, anyOf, required, items."""
    if "const" in schema:
        return schema["const"]
    if isinstance(options := schema.get("enum"), list) and options:
        return options[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(key), list) and options and isinstance(options[0], dict):
            return sample(options[0])
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "object":
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        wanted = schema.get("required")
        names = wanted if isinstance(wanted, list) else list(known)
        return {name: sample(known.get(name) or {"type": "string"}) for name in names}
    if kind == "array":
        items = schema.get("items")
        length = schema.get("minItems", 1)
        return [sample(items if isinstance(items, dict) else {"type": "string"})] * max(1, int(length))
    plain: dict[str, Any] = {"string": "Florence", "integer": 3, "number": 3.5, "boolean": True, "null": None}
    return plain.get(str(kind))
