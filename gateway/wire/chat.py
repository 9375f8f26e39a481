"""`POST /v1/chat/completions`: a body becomes a Request, or a Problem that says which field is wrong and what would be right.

Checked is what the gateway itself reads; the rest is the upstream's to judge. `gateway` and the model's name do not travel on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.core.answer import Problem
from gateway.core.exchange import Needs
from gateway.core.rank import EXPECTED_OUTPUT_TOKENS
from gateway.wire.api import Api
from gateway.wire.checks import MODEL_CHARS_MAX, check_types
from gateway.wire.text import Estimator, Script, script_of

_NUMBER: Final = (int, float)
_TYPES: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "model": (str, "a string"),
    "messages": (list, "a list of messages"),
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
    "tools": (list, "a list of tools"),
    "response_format": (dict, "an object"),
    "max_tokens": (int, "a whole number"),
    "max_completion_tokens": (int, "a whole number"),
    "n": (int, "a whole number"),
    "temperature": (_NUMBER, "a number"),
    "top_p": (_NUMBER, "a number"),
    "seed": (int, "a whole number"),
    "user": (str, "a string"),
    "stop": ((str, list), "a string or a list of strings"),
    "parallel_tool_calls": (bool, "true or false"),
}
"""Fields that the gateway or one of its dialects reads, and what they must be. null is as good as not there."""

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
PARTS: Final = {
    "text": "",
    "refusal": "",
    "thinking": "",
    "reference": "",
    "image_url": "vision",
    "input_audio": "audio",
    "file": "files",
}
"""Kinds of content part, and the ability that each needs of a model."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_USUAL: Final[dict[str, frozenset[type]]] = {
    **{name: frozenset(types if isinstance(types, tuple) else (types,)) - {list, dict} for name, (types, _) in _TYPES.items()},
    "messages": frozenset({list}),
}
"""What a field of a usual request may be, exactly; one that is not listed may be any scalar."""

_COUNTS: Final = ("max_tokens", "max_completion_tokens", "n")
_USUAL_ROLES: Final = ROLES - {"tool"}
_ASKS_FOR_USAGE: Final = {"include_usage": True}

IMAGE_TOKENS: Final = 1_000  # an image is some hundreds to some thousands of tokens, by size and model
MESSAGE_TOKENS: Final = 4  # what a chat template adds to a message, about
KIND_CHARS_MAX: Final = 64  # of a tool's type; those that providers know are below 24. Types are compared, remembered and told back
KINDS_MAX: Final = 16  # types of tool in one request; all providers together know about a dozen


def glance(body: dict[str, Any]) -> "tuple[Reading, int, int] | None":
    """What a body holds, and how many names and texts, if it is of the usual shape: scalars, and messages of a role and a text.

    One pass instead of three (counting names, `check`, `Reading`), for a third of their 25 µs; None where there is more to see, or
    anything to complain of.
    """
    names, texts = len(body), 0
    for name, value in body.items():
        kind = type(value)
        if kind is str:
            texts += 1
        elif kind is int and value < 1 and name in _COUNTS:
            return None
        if kind not in _USUAL.get(name, _SCALARS):
            if name != "stream_options" or value != _ASKS_FOR_USAGE:
                return None
            names += 1
    messages, model, last, chars = body.get("messages"), body.get("model"), "", 0
    if not messages or not model or len(model) > MODEL_CHARS_MAX:
        return None
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        role, content = message.get("role"), message.get("content")
        if type(content) is not str or type(role) is not str or role not in _USUAL_ROLES:
            return None
        chars += len(content)
        last = content or last
    return Reading(chars, len(messages), script_of(last)), names + 2 * len(messages), texts + 2 * len(messages)


def check(body: Mapping[str, Any]) -> None:
    """Raises Problem (400) for the first field of a type or shape that can't be."""
    check_types(body, _TYPES, ("model", "messages"))
    if not body["messages"]:
        raise Problem(400, "invalid_value", "`messages` is empty; send at least one", "messages")
    for name in _COUNTS:
        if body.get(name) is not None and body[name] < 1:
            raise Problem(400, "invalid_value", f"`{name}` must be at least 1", name)
    for index, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise Problem(400, "invalid_type", f"`tools[{index}]` must be an object with a `type`", f"tools[{index}]")
        if len(tool["type"]) > KIND_CHARS_MAX:
            where = f"tools[{index}].type"
            raise Problem(400, "invalid_value", f"`{where}` must have at most {KIND_CHARS_MAX} characters", where)


class Reading:
    """What the messages and tools of a body hold."""

    __slots__ = ("abilities", "chars", "images", "messages", "remote", "script", "tools")

    def __init__(self, chars: int = 0, messages: int = 0, script: Script = Script.LATIN) -> None:
        """Of messages of text alone; `of` reads all else."""
        self.abilities: frozenset[str] = frozenset()
        self.tools: frozenset[str] = frozenset()
        self.chars = chars
        self.images = 0
        self.messages = messages
        self.remote = False
        self.script = script

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Reading":
        """Of a body that `check` has let pass, in one pass. Raises Problem (400)."""
        reading = cls()
        reading._read(body)
        return reading

    def _read(self, body: Mapping[str, Any]) -> None:
        abilities: set[str] = set()
        last = ""
        messages: Sequence[Any] = body["messages"]
        for index, message in enumerate(messages):
            if type(message) is not dict:
                raise Problem(400, "invalid_type", f"`messages[{index}]` must be an object", f"messages[{index}]")
            role = message.get("role")
            if type(role) is not str or role not in ROLES:
                known = ", ".join(sorted(ROLES))
                raise Problem(400, "invalid_value", f"`messages[{index}].role` must be one of {known}", f"messages[{index}].role")
            content = message.get("content")
            if type(content) is str:
                self.chars += len(content)
                last = content or last
            elif type(content) is list:
                last = self._parts(content, index, abilities) or last
            elif content is not None:
                where = f"messages[{index}].content"
                raise Problem(400, "invalid_type", f"`{where}` must be a string or a list", where)
            if message.get("tool_calls") or role == "tool":
                abilities.add("tools")
                self.chars += len(orjson.dumps(message.get("tool_calls") or ()))
        self.messages = len(messages)
        self.script = script_of(last)
        if body.get("tools"):
            abilities.add("tools")
            self.tools = frozenset(tool["type"] for tool in body["tools"])
            if len(self.tools) > KINDS_MAX:
                raise Problem(400, "invalid_value", f"`tools` are of more than {KINDS_MAX} types", "tools")
            self.chars += len(orjson.dumps(body["tools"]))
        if (body.get("response_format") or {}).get("type") == "json_schema":
            abilities.add("json_schema")
        self.abilities = frozenset(abilities)

    def _parts(self, parts: Sequence[Any], index: int, abilities: set[str]) -> str:
        last = ""
        for place, part in enumerate(parts):
            kind = part.get("type") if type(part) is dict else None
            where = f"messages[{index}].content[{place}]"
            if type(kind) is not str or kind not in PARTS:
                raise Problem(400, "invalid_value", f"`{where}.type` must be one of {', '.join(PARTS)}", where)
            if ability := PARTS[kind]:
                abilities.add(ability)
            if kind == "image_url":
                self.images += 1
                image = part.get("image_url")
                url = image.get("url") if type(image) is dict else image
                if type(url) is not str:
                    raise Problem(400, "invalid_type", f"`{where}.image_url` must name a `url`", where)
                self.remote = self.remote or not url.startswith("data:")
            elif kind == "input_audio":
                sound = part.get("input_audio")
                data = sound.get("data") if type(sound) is dict else sound
                # Mistral takes a URL as well, and base64 knows no colon
                self.remote = self.remote or (type(data) is str and ":" in data and not data.startswith("data:"))
            elif kind == "file":
                self.remote = True  # an id or a URL: either way the upstream would have to fetch it from somewhere
            elif type(text := part.get("text")) is str:
                self.chars += len(text)
                last = text
        return last

    def needs(self, body: Mapping[str, Any], estimator: Estimator) -> Needs:
        """What this request needs, with the tokens of its `chars` by estimate."""
        wished = body.get("max_completion_tokens") or body.get("max_tokens")
        if (answers := body.get("n") or 1) > 1:
            wished = answers * (wished or EXPECTED_OUTPUT_TOKENS)  # each is paid for
        prompt_tokens = estimator.tokens(self.script, self.chars) + self.images * IMAGE_TOKENS + self.messages * MESSAGE_TOKENS
        return Needs("chat", self.abilities, self.tools, prompt_tokens, wished, self.remote)


CHAT: Final = Api("chat", "/v1/chat/completions", glance, check, Reading.of)
