"""Rules for top-level fields that dialects share: each writes one field of a client's body into a draft, in the target's way."""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from gateway.upstream.dialects.base import Rule
from gateway.upstream.dialects.draft import Draft

JSON_SCHEMA_FIELDS: Final = frozenset({"name", "description", "schema", "strict"})
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def passed(*names: str) -> dict[str, "str | Rule"]:
    """Fields that are sent under their own name, as they are."""
    return {name: name for name in names}


def max_tokens(draft: Draft, name: str, value: Any) -> None:
    """`max_tokens` where `max_completion_tokens` is unknown. Of the two, the newer is what the client means."""
    if name == "max_completion_tokens" or "max_tokens" not in draft.out:
        draft.out["max_tokens"] = value


def clamped(low: float, high: float) -> Rule:
    """A number brought into what the upstream takes, and reported if that changed it."""

    def rule(draft: Draft, name: str, value: Any) -> None:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not low <= value <= high:
            draft.drop(name)
            value = low if value < low else high
        draft.out[name] = value

    return rule


def one_stop(draft: Draft, name: str, value: Any) -> None:
    """A list of at most one stop sequence. The first of several is kept."""
    if isinstance(value, list):
        if len(value) > 1:
            draft.drop(name)
        value = value[:1]
    else:
        value = [value]
    if value:
        draft.out[name] = value


def stream_options(*known: str) -> Rule:
    """What is `known` beyond `include_usage`, which is ours to ask."""

    def rule(draft: Draft, name: str, value: Any) -> None:
        if isinstance(value, dict):
            draft.out[name] = {key: value[key] for key in known if key in value}

    return rule


def ours_to_ask(draft: Draft, name: str, value: Any) -> None:
    """`stream_options` where the upstream knows none: usage comes anyway, and is passed on to who asked."""


def hashed_user(target: str) -> Rule:
    """A name of an end user, as 32 hex digits that are the same each time for one tenant and one credential.

    So that an e-mail address does not travel, and one person is not the same to two tenants' observers. Keyed with the credential
    that only we and this upstream have.
    """

    def rule(draft: Draft, name: str, value: Any) -> None:
        if isinstance(value, str) and value:
            tenant = ",".join(sorted(draft.request.facts.tenant))
            text = f"{tenant}\x1f{value}".encode("utf-8", "surrogatepass")
            draft.out[target] = hmac.new((draft.secret or "").encode(), text, sha256).hexdigest()[:32]

    return rule


def cache_key(draft: Draft) -> None:
    """`prompt_cache_key`, where the client sent none of its own: what starts alike gets the same one, and nobody else can tell.

    Of the tools and the first message, which all turns of a conversation share. Keyed with the credential that only we and this
    upstream have, so that all workers say the same, and it tells the upstream nothing but that two prompts begin alike, which it
    sees anyway. A prompt of one tenant never shares a key with another's.
    """
    request, out = draft.request, draft.out
    if draft.cached_from is None or request.needs.prompt_tokens < draft.cached_from or "prompt_cache_key" in out:
        return
    tenant = ",".join(sorted(request.facts.tenant)).encode()
    text = b"%b\x1f%b\x1f%b" % (tenant, orjson.dumps(out.get("tools")), orjson.dumps(out["messages"][:1]))
    out["prompt_cache_key"] = hmac.new((draft.secret or "").encode(), text, sha256).hexdigest()[:32]


def effort(levels: Mapping[str, str]) -> Rule:
    """`reasoning_effort`, for models that reason, in the levels that are known; another level than asked is reported.

    A model that the catalogue gives no `reasoning` would answer 400, and the client can't know which model an alias meets.
    """

    def rule(draft: Draft, name: str, value: Any) -> None:
        if "reasoning" not in draft.deployment.abilities:
            if value not in ("none", "minimal"):
                draft.drop(name)
            return
        level = levels.get(value) if isinstance(value, str) else None
        if level != value:
            draft.drop(name)
        if level is not None:
            draft.out[name] = level

    return rule


SAME_EFFORT: Final = effort({level: level for level in EFFORTS})


def kept(*known: str) -> Rule:
    """An object of which only some fields may pass."""

    def rule(draft: Draft, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            draft.drop(name)
            return
        for key in value.keys() - set(known):
            draft.drop(f"{name}.{key}")
        if found := {key: value[key] for key in known if key in value}:
            draft.out[name] = found

    return rule


def response_format(*more: str) -> Rule:
    """`text`, `json_object` or `json_schema`, with the fields that OpenAI gives them and `more`."""
    known = frozenset({"type", "json_schema", *more})

    def rule(draft: Draft, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            draft.out[name] = value
            return
        for key in value.keys() - known:
            draft.drop(f"{name}.{key}")
        out = {key: item for key, item in value.items() if key in known}
        schema = out.get("json_schema")
        if isinstance(schema, dict) and not schema.keys() <= JSON_SCHEMA_FIELDS:
            for key in schema.keys() - JSON_SCHEMA_FIELDS:
                draft.drop(f"{name}.json_schema.{key}")
            out["json_schema"] = {key: item for key, item in schema.items() if key in JSON_SCHEMA_FIELDS}
        draft.out[name] = out

    return rule


def json_object_only(draft: Draft, name: str, value: Any) -> None:
    """`text` or `json_object`; a schema is reported as not sent, since the answer need not follow it."""
    if isinstance(value, dict) and value.get("type") == "json_schema":
        draft.drop(f"{name}.json_schema")
        draft.out[name] = {"type": "json_object"}
    elif isinstance(value, dict):
        draft.out[name] = {"type": value.get("type")}
    else:
        draft.out[name] = value


def tools(draft: Draft, name: str, value: Any) -> None:
    """The tools that the dialect knows and the endpoint is promised for, each with its known fields. None left: no `tools`."""
    if not isinstance(value, list):
        draft.out[name] = value
        return
    known = draft.dialect.function_fields
    out: list[Any] = []
    changed = False
    for tool in value:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "function":
            function = tool.get("function")
            if tool.keys() == _FUNCTION_TOOL and isinstance(function, dict) and function.keys() <= known:
                out.append(tool)
                continue
            changed = True
            for key in tool.keys() - _FUNCTION_TOOL:
                draft.drop(f"tools[].{key}")
            if isinstance(function, dict):
                for key in function.keys() - known:
                    draft.drop(f"tools[].function.{key}")
                function = {key: item for key, item in function.items() if key in known and item is not None}
            out.append({"type": "function", "function": function})
        elif isinstance(kind, str) and kind in draft.dialect.tool_kinds and kind in draft.deployment.endpoint.tools:
            out.append({key: item for key, item in tool.items() if key in ("type", kind)})
            changed = True
        else:
            changed = True
            draft.drop(f"tools[].{kind}" if isinstance(kind, str) else "tools[]")
    if out:
        draft.out[name] = out if changed else value


_FUNCTION_TOOL: Final = frozenset({"type", "function"})


def tool_choice(words: Mapping[str, str], *, named: bool) -> Rule:
    """A word out of `words`, or with `named` a function's name. Anything else becomes `auto` and is reported."""

    def rule(draft: Draft, name: str, value: Any) -> None:
        if isinstance(value, str):
            word = words.get(value)
        elif named and isinstance(value, dict) and value.get("type") == "function":
            draft.out[name] = {"type": "function", "function": value.get("function")}
            return
        else:
            word = None
        if word is None:
            draft.drop(name)
            word = "auto"
        draft.out[name] = word

    return rule


OPENAI_CHOICES: Final = tool_choice({"auto": "auto", "none": "none", "required": "required", "any": "required"}, named=True)
