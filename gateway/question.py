"""What an admin may ask without anything being sent: where would this request go, and why nowhere else?

A question is facts (`{"tenant": "clinic", "asked": "auto", "region": "DE"}`) or a whole request (`{"key": "ward-3", "headers": {…},
"body": {…}}`), which is read exactly as the data plane reads it; `"api"` says which API is asked, else it is chat. Nothing of it is
kept or logged.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.core.answer import Problem
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Needs
from gateway.core.explain import as_json
from gateway.core.facts import DECLARABLE
from gateway.core.live import ALL_WELL
from gateway.core.policy import Key, Snapshot
from gateway.core.terms import APIS
from gateway.core.view import View
from gateway.wire.apis import APIS as SERVED
from gateway.wire.body import parse
from gateway.wire.declared import Declared, declared
from gateway.wire.desk import Desk
from gateway.wire.heads import Head
from gateway.wire.text import Estimator

NEEDED: Final = frozenset({"abilities", "tools", "prompt_tokens", "output_tokens"})
WORDS: Final = frozenset({"tenant", "key", "api", "asked", *DECLARABLE, "language"}) | NEEDED
WHOLE: Final = frozenset({"key", "api", "headers", "body"})
PROMPT_TOKENS: Final = 100  # a short question


def answer(snapshot: Snapshot, question: Mapping[str, Any], workers: int = 1) -> dict[str, object]:
    """The explanation as JSON, as of a gateway of so many `workers`. Raises Problem for a question that can't be asked."""
    return as_json(decision(snapshot, question), workers)


def decision(snapshot: Snapshot, question: Mapping[str, Any]) -> Decision:
    """The decision that a question is about, all being well upstream. Raises Problem (400, 403, 404)."""
    if not isinstance(question, Mapping):  # it was read from JSON, whatever that was
        raise Problem(400, "invalid_type", "a question is an object: facts, or a whole request")
    now = time.time()
    desk = Desk(View(snapshot, now), Estimator())
    if "body" in question:
        return _whole(desk, question, now)
    _only(question, WORDS)
    api = _word_of(question, "api", APIS, "chat")
    key = _key(snapshot, question)
    said: Declared = declared([], {fact: question[fact] for fact in DECLARABLE if fact in question})
    name = question.get("asked")
    if not isinstance(name, str):
        raise Problem(400, "missing_parameter", "`asked` is missing: the model or alias that the request names", "asked")
    needs = Needs(
        api=api,
        abilities=_set(question, "abilities"),
        tools=_set(question, "tools"),
        prompt_tokens=_count(question, "prompt_tokens") or PROMPT_TOKENS,
        output_tokens=_count(question, "output_tokens"),
    )
    facts = desk.facts(frozenset((api,)), key, said, desk.asked(name, key), needs, None, stream=False)
    if language := _set(question, "language"):
        facts = replace(facts, language=language)
    return decide(desk.view, facts, needs, ALL_WELL, 0)


def _whole(desk: Desk, question: Mapping[str, Any], now: float) -> Decision:
    _only(question, WHOLE)
    body, headers = question["body"], question.get("headers") or {}
    if not isinstance(body, dict) or not isinstance(headers, dict):
        raise Problem(400, "invalid_type", "`body` and `headers` must be objects", "body")
    try:
        raw = orjson.dumps(body)
    except TypeError as error:
        raise Problem(400, "invalid_json", "the body is nested too deep, or holds what is no JSON", "body") from error
    api = SERVED[_word_of(question, "api", tuple(SERVED), "chat")]
    parsed = parse(api.glance, raw, desk.view.snapshot.policy.bounds)
    lines = [(str(name).lower(), str(value)) for name, value in headers.items() if str(name).lower().startswith("x-gateway-")]
    key, head = _key(desk.view.snapshot, question), Head("POST", "", lines)
    request, _ = desk.request(api, parsed, len(raw), key, head, "question", "", now)
    return decide(desk.view, request.facts, request.needs, ALL_WELL, 0)


def _word_of(question: Mapping[str, Any], name: str, known: Sequence[str], otherwise: str) -> str:
    """One of `known` words; `otherwise`, where none is said."""
    found = question.get(name, otherwise)
    if found not in known:
        raise Problem(400, "invalid_value", f"`{name}` must be one of {', '.join(known)}", name)
    return str(found)


def _key(snapshot: Snapshot, question: Mapping[str, Any]) -> Key:
    keys = snapshot.access.keys
    name, tenant = question.get("key"), question.get("tenant")
    for word, value in (("key", name), ("tenant", tenant)):
        if value is not None and not isinstance(value, str):
            raise Problem(400, "invalid_type", f"`{word}` must be a word", word)
    if name is not None:
        if name not in keys or (tenant is not None and keys[name].tenant != tenant):
            raise Problem(404, "unknown_key", f"no key goes by the id `{name}`{'' if tenant is None else f' at `{tenant}`'}", "key")
        return keys[name]
    if tenant is None:
        raise Problem(400, "missing_parameter", "`tenant` or `key` is missing: who asks", "tenant")
    found = [key for key in keys.values() if key.tenant == tenant]
    if not found:
        known = ", ".join(snapshot.access.tenants)
        raise Problem(404, "unknown_tenant", f"no tenant with a key goes by that name; known are {known}", "tenant")
    if len(found) > 1:
        choices = ", ".join(key.id for key in found)
        raise Problem(400, "missing_parameter", f"`{tenant}` has several keys; say which `key`: {choices}", "key")
    return found[0]


def _only(question: Mapping[str, Any], known: frozenset[str]) -> None:
    for unknown in sorted(set(question) - known):
        raise Problem(400, "unknown_parameter", f"`{unknown}` means nothing here; known are {', '.join(sorted(known))}", unknown)


def _set(question: Mapping[str, Any], name: str) -> frozenset[str]:
    value = question.get(name) or ()
    if not isinstance(value, (str, list, tuple)):
        raise Problem(400, "invalid_type", f"`{name}` must be a word or a list of words", name)
    return frozenset((value,)) if isinstance(value, str) else frozenset(map(str, value))


def _count(question: Mapping[str, Any], name: str) -> int | None:
    value = question.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise Problem(400, "invalid_type", f"`{name}` must be a natural number", name)
    return value
