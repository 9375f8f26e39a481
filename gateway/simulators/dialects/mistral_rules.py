"""What Mistral minds in a request: fields its schema does not know, who speaks after whom, the form of call ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.simulators.dialects.base import Document

FIELDS = frozenset(
    [
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "random_seed",
        "metadata",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "prediction",
        "parallel_tool_calls",
        "prompt_mode",
        "reasoning_effort",
        "guardrails",
        "prompt_cache_key",
        "safe_prompt",
    ]
)
MESSAGE_FIELDS = {
    "system": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}
CALL_FIELDS = frozenset({"id", "type", "function", "index"})
TOOL_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")
MAY_FOLLOW = {
    # who may speak after whom; `None` is the beginning
    None: {"system", "user", "assistant"},
    "system": {"system", "user", "assistant"},
    "user": {"system", "user", "assistant"},
    "assistant": {"system", "user", "assistant", "tool"},
    "tool": {"assistant", "tool"},
}


def schema_problems(body: Mapping[str, Any]) -> Iterator[Document]:
    """What the request schema forbids, each as the recorded 422 lists it."""
    yield from _extra(body, FIELDS, ["body"])
    if body.get("tools") == []:  # recorded: an empty list of tools is refused as if the field did not exist
        yield problem("extra_forbidden", ["body", "tools"], "Extra inputs are not permitted", [])
    for name, kind in (("model", str), ("messages", list)):
        if not isinstance(body.get(name), kind):
            found = body.get(name)
            missing = ("missing", "Field required") if name not in body else ("type", f"Input should be a {name}")
            yield problem(missing[0], ["body", name], missing[1], found)
    given = body.get("messages")
    for i, message in enumerate(given if isinstance(given, list) else []):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in MESSAGE_FIELDS:
            roles = "'system', 'user', 'assistant', 'tool'"
            text = f"Input tag '{role}' found using 'role' does not match any of the expected tags: {roles}"
            yield problem("union_tag_invalid", ["body", "messages", i], text, message)
            continue
        yield from _extra(message, MESSAGE_FIELDS[role], ["body", "messages", i, role])
        calls = message.get("tool_calls")
        for j, call in enumerate(calls if isinstance(calls, list) else []):
            yield from _extra(call, CALL_FIELDS, ["body", "messages", i, role, "tool_calls", j])
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and not 0 <= temperature <= 1.5:
        text = "Input should be less than or equal to 1.5"
        yield problem("less_than_equal", ["body", "temperature"], text, temperature)


def _extra(given: Any, known: frozenset[str], where: list[str | int]) -> Iterator[Document]:
    for name in given if isinstance(given, dict) else ():
        if name not in known:
            yield problem("extra_forbidden", [*where, name], "Extra inputs are not permitted", given[name])


def problem(kind: str, where: list[str | int], text: str, found: Any) -> Document:
    """One entry of a 422's list: what is wrong, where, in words, and what was found there."""
    return {"type": kind, "loc": where, "msg": text, "input": found}


def order_problem(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with who speaks after whom, in Mistral's words, or None."""
    previous: str | None = None
    for message in messages:
        role = str(message.get("role"))
        if role not in MAY_FOLLOW.get(previous, set()):
            return f"Unexpected role '{role}' after role '{previous}'" if previous else f"Unexpected role '{role}'"
        previous = role
    last = messages[-1] if messages else {}
    if (previous == "assistant" and last.get("prefix") is not True) or previous in (None, "system"):
        return (
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got"
            f" {previous or 'nothing'}"
        )
    return None


def bad_call_id(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The first tool-call id that is not nine letters and digits, or None."""
    for message in messages:
        calls = message.get("tool_calls")
        found = [c.get("id") for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
        if message.get("role") == "tool":
            found.append(message.get("tool_call_id"))
        for identity in found:
            if not isinstance(identity, str) or not TOOL_CALL_ID.fullmatch(identity):
                return "null" if identity is None else str(identity)
    return None
