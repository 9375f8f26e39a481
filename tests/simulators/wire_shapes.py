"""Compares what a simulator sent with what a provider was recorded to send: shapes, never words.

A difference is a sentence such as `missing: choices[].delta.p (in text)`. None found means: the same keys, each with
the same JSON type; the same order of kinds of events; usage in the same place; the same headers with the same content
type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"

TRANSPORT = frozenset(
    [
        *("date", "server", "connection", "content-length", "transfer-encoding", "keep-alive", "alt-svc", "set-cookie"),
        *("cf-ray", "cf-cache-status", "strict-transport-security", "x-content-type-options"),
        "access-control-expose-headers",
    ]
)
"""Headers of a connection or of the CDN in front of a provider: a stand-in on loopback has no use for them."""


def events(text: str) -> list[Any]:
    """The `data:` payloads of an SSE text: documents, and the word `[DONE]`."""
    payloads = [block[6:] for block in text.split("\n\n") if block.startswith("data: ")]
    return [p if p == "[DONE]" else json.loads(p) for p in payloads]


def recorded(name: str) -> Any:
    """A fixture: a document, or the list of a stream's events."""
    text = (FIXTURES / name).read_text()
    return events(text) if name.endswith(".sse") else json.loads(text)


def recorded_headers(name: str) -> dict[str, str]:
    """The headers kept beside a fixture, names in lower case; none if none were recorded."""
    path = FIXTURES / f"{name}.head.txt"
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def kind(event: Any) -> str:
    """What an event of a stream is for: role, thinking, text, call, call-rest, empty, finish, usage, None, or [DONE]."""
    if event == "[DONE]" or event is None:
        return str(event)
    if not event.get("choices"):
        return "usage" if "usage" in event else "nothing"
    choice = event["choices"][0]
    if "delta" not in choice:
        return "+".join(filter(None, ("text" if choice["text"] else "empty", "finish" if choice["finish_reason"] else "")))
    delta = choice["delta"]
    content = delta.get("content")
    parts = []
    if delta.get("tool_calls"):
        named = delta["tool_calls"][0]["function"].get("name")
        parts.append("call" if named else "call-rest")
    elif delta.get("reasoning") or delta.get("reasoning_content"):
        parts.append("thinking")
    elif isinstance(content, list):
        parts += [{"thinking": "thinking", "text": "text"}[c["type"]] for c in content]
    elif content:
        parts.append("text")
    if choice.get("finish_reason"):
        parts.append("finish")
    if not parts:
        parts.append("role" if "role" in delta else "empty")
    return "+".join(parts)


def stream_differences(was: list[Any], sent: list[Any]) -> set[str]:
    """How the events of two streams differ: in order, in where usage is, and in the shape of each kind of event."""
    out = set()
    before, after = _order(was), _order(sent)
    if before != after:
        out.add(f"order: recorded {' '.join(before)}; sent {' '.join(after)}")
    first_was, first_sent = _first_of_each(was), _first_of_each(sent)
    for name in first_was.keys() & first_sent.keys() - {"[DONE]", "None"}:
        out |= {f"{d} (in {name})" for d in differences(first_was[name], first_sent[name])}
    return out


def _order(stream: list[Any]) -> list[str]:
    kinds = [kind(e) for e in stream]
    return [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k]


def _first_of_each(stream: list[Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for event in stream:
        out.setdefault(kind(event), event)
    return out


def differences(was: Any, sent: Any, where: str = "") -> set[str]:
    """How two JSON values differ in shape."""
    if isinstance(was, dict) and isinstance(sent, dict):
        out = {f"missing: {_at(where, k)}" for k in was.keys() - sent.keys()}
        out |= {f"extra: {_at(where, k)}" for k in sent.keys() - was.keys()}
        for key in was.keys() & sent.keys():
            out |= differences(was[key], sent[key], _at(where, key))
        return out
    if isinstance(was, list) and isinstance(sent, list):
        if bool(was) != bool(sent):
            return {f"type: {where} recorded {'a' if was else 'no'} element, sent {'a' if sent else 'no'} element"}
        out = set()
        for i in range(min(len(was), len(sent))):
            out |= differences(was[i], sent[i], f"{where}[]")
        return out
    if _type(was) != _type(sent):
        return {f"type: {where} recorded {_type(was)}, sent {_type(sent)}"}
    return set()


def header_differences(was: dict[str, str], sent: dict[str, str]) -> set[str]:
    """Headers that a provider sent and the simulator does not, and a content type that is not the same."""
    out = {f"missing header: {name}" for name in was.keys() - sent.keys() - TRANSPORT}
    if "content-type" in was and was["content-type"] != sent.get("content-type"):
        out.add(f"content type: recorded {was['content-type']}, sent {sent.get('content-type')}")
    return out


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    names: dict[type, str] = {str: "text", list: "list", dict: "object"}
    return names.get(type(value), "null")
