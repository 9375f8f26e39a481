"""Messages, in the form that a dialect takes them.

A conversation may have been led with other models before: its tool-call ids, its reasoning and its content parts come in their
spellings. They are turned into the target's; what the target does not know is left out and reported. A message of role and text
is passed on as the object it is, so a long plain history costs one look per message.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Fault, Outcome, Scope
from gateway.upstream.dialects.draft import Draft, Unsendable

TEXT_PART: Final = frozenset({"type", "text"})
PARTS: Final[Mapping[str, frozenset[str]]] = {
    "text": TEXT_PART,
    "image_url": frozenset({"type", "image_url"}),
    "input_audio": frozenset({"type", "input_audio"}),
}
"""Kinds of content part that all know, each with its fields."""

INNER: Final[Mapping[str, frozenset[str]]] = {
    "image_url": frozenset({"url", "detail"}),
    "input_audio": frozenset({"data", "format"}),
    "file": frozenset({"file_data", "file_id", "filename"}),
}
"""Fields of the object inside a part, under the same name as its kind."""

REASONING_FIELDS: Final = frozenset({"reasoning_content", "reasoning"})
_MISTRAL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class MessageRules:
    """How messages look in a dialect.

    `roles` renames; a role that is not there is left for the upstream to judge. `names` are the roles whose `name` is known.
    `reasoning` is how an assistant's earlier reasoning is sent: a field's name, `thinking` (a content part), or "" for not at all.
    `flat`: text parts become one string, unless the model sees images. `short_ids`: tool-call ids are nine letters or digits.
    """

    fields: frozenset[str] = frozenset({"tool_calls", "tool_call_id"})
    roles: Mapping[str, str] = field(default_factory=lambda: {"developer": "system"})
    names: frozenset[str] = frozenset({"system", "user", "assistant", "tool"})
    reasoning: str = ""
    parts: Mapping[str, frozenset[str]] = field(default_factory=lambda: PARTS)
    flat: bool = False
    short_ids: bool = False


_PLAIN_ROLES: Final = frozenset({"system", "user", "assistant"})


def convert(draft: Draft, rules: MessageRules, messages: Any) -> Any:
    """`messages` as the dialect takes them: the same list where nothing needs to change. What is no list, the upstream refuses."""
    if messages.__class__ is not list:
        return messages
    out: list[Any] | None = None
    ids: CallIds | None = None
    for at, message in enumerate(messages):
        if message.__class__ is not dict or _plain(message):
            new = message
        else:
            if ids is None:
                ids = CallIds(messages) if rules.short_ids else _AsTheyAre()
            new = _message(draft, rules, ids, message)
        if out is not None:
            out.append(new)
        elif new is not message:
            out = messages[:at]
            out.append(new)
    return messages if out is None else out


def _plain(message: dict[str, Any]) -> bool:
    """Whether it is nothing but a common role and a text, which every dialect takes."""
    if len(message) != 2 or message.get("content").__class__ is not str:
        return False
    role = message.get("role")
    return role.__class__ is str and role in _PLAIN_ROLES


def _message(draft: Draft, rules: MessageRules, ids: "CallIds", message: dict[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if role.__class__ is str:
        role = rules.roles.get(role, role)
    new: dict[str, Any] = {"role": role}
    thought = ""
    for name, value in message.items():
        if name == "role":
            continue
        if name == "content":
            if value.__class__ is list:
                value, told = _content(draft, rules, value)
                thought = thought or told
            new["content"] = value
        elif value is None:
            continue
        elif name in REASONING_FIELDS:
            if value.__class__ is str:
                thought = thought or value
            else:
                draft.drop(f"messages[].{name}")
        elif name == "name":
            if role.__class__ is str and role in rules.names:
                new[name] = value
            else:
                draft.drop("messages[].name")
        elif name not in rules.fields:
            if value != []:  # such as `annotations`, which clients send back as they got it
                draft.drop(f"messages[].{name}")
        elif name == "tool_calls":
            if value:
                new[name] = _calls(draft, ids, value)
        elif name == "tool_call_id":
            new[name] = ids.of(value)
        else:
            new[name] = value
    if thought:
        _think(draft, rules, new, thought)
    return new


def _think(draft: Draft, rules: MessageRules, message: dict[str, Any], thought: str) -> None:
    if not rules.reasoning:
        draft.drop("messages[].reasoning_content")
    elif rules.reasoning != "thinking":
        message[rules.reasoning] = thought
    else:
        said = message.get("content")
        rest = said if isinstance(said, list) else [{"type": "text", "text": said}] if said else []
        message["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}, *rest]


# --- content parts ------------------------------------------------------------------------------------------------------------


def _content(draft: Draft, rules: MessageRules, parts: list[Any]) -> tuple[Any, str]:
    """The parts as the dialect takes them, and the reasoning that stood among them."""
    kept: list[Any] = []
    thoughts: list[str] = []
    for part in parts:
        if part.__class__ is not dict:
            kept.append(part)
            continue
        kind = part.get("type")
        if kind == "thinking":
            thoughts.append(thinking_text(part))
        elif kind.__class__ is not str or (known := rules.parts.get(kind)) is None:
            draft.drop(f"messages[].content[].{kind}")
        else:
            kept.append(_part(draft, kind, known, part))
    if thoughts and all(isinstance(part, dict) and part.get("type") == "text" for part in kept):
        # an answer in Mistral's pieces, which are one text
        return "".join(str(part.get("text") or "") for part in kept), "".join(thoughts)
    if rules.flat and "vision" not in draft.deployment.abilities:
        return _flat(draft, kept), "".join(thoughts)
    return kept, "".join(thoughts)


def _part(draft: Draft, kind: str, known: frozenset[str], part: dict[str, Any]) -> dict[str, Any]:
    """One part with its known fields, and those of the object in it: the same object where there are no others."""
    if not part.keys() <= known:
        for name in part.keys() - known:
            draft.drop(f"messages[].content[].{name}")
        part = {name: value for name, value in part.items() if name in known}
    inner = part.get(kind)
    if isinstance(inner, dict) and (fields := INNER.get(kind)) is not None and not inner.keys() <= fields:
        for name in inner.keys() - fields:
            draft.drop(f"messages[].content[].{kind}.{name}")
        part = {**part, kind: {name: value for name, value in inner.items() if name in fields}}
    if _fetches(kind, part.get(kind), allowed=draft.deployment.endpoint.remote_content):
        raise Unsendable(REMOTE)
    return part


def _flat(draft: Draft, parts: list[Any]) -> str:
    """One string of all text parts, a line each; vLLM joins them so too."""
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
        else:
            draft.drop(f"messages[].content[].{part.get('type') if isinstance(part, dict) else 'part'}")
    return "\n".join(texts)


def thinking_text(part: Mapping[str, Any]) -> str:
    """The text of one of Mistral's thinking parts: a string, or a list of text parts."""
    thinking = part.get("thinking")
    if isinstance(thinking, str):
        return thinking
    if not isinstance(thinking, list):
        return ""
    return "".join(t["text"] for t in thinking if isinstance(t, dict) and isinstance(t.get("text"), str))


def _fetches(kind: str, inner: Any, *, allowed: bool) -> bool:
    """Whether a part would have the upstream fetch something that it may not: all but inline data, unless the endpoint says
    `remote_content: allow`; and then still no path on the server's own disk.

    Routes whose endpoint fetches nothing are excluded before (`needs`); this is the second look, before anything is sent.
    """
    if kind == "file":
        return not allowed and not (isinstance(inner, dict) and "file_data" in inner and "file_id" not in inner)
    field = _ADDRESSES.get(kind)
    if field is None:
        return False
    url = inner.get(field) if isinstance(inner, dict) else inner
    if not isinstance(url, str):
        return False  # nothing at all, which is the upstream's to refuse
    if kind == "input_audio" and ":" not in url:
        return False  # plain base64
    scheme = url[:8].lower()
    return not scheme.startswith("data:") and not (allowed and scheme.startswith(("https://", "http://")))


_ADDRESSES: Final[Mapping[str, str]] = {"image_url": "url", "input_audio": "data"}
"""Where in a part an address can stand; Mistral takes one for sound too."""

REMOTE: Final = Outcome(
    Ended.REJECTED,
    Fault.CLIENT,
    Scope.REQUEST,
    code="remote_content_refused",
    message="images, sound and files must be sent inline, as a `data:` URL; no upstream may fetch an address out of a request",
    param="messages",
    sent=False,
)


# --- tool calls ---------------------------------------------------------------------------------------------------------------

_CALL: Final = frozenset({"id", "type", "function"})
_CALLED: Final = frozenset({"name", "arguments"})


def _calls(draft: Draft, ids: "CallIds", calls: Any) -> Any:
    if not isinstance(calls, list):
        return calls
    return [_call(draft, ids, call) for call in calls]


def _call(draft: Draft, ids: "CallIds", call: Any) -> Any:
    """One call: id, type, name and arguments. An `index` is a leftover of streaming and says nothing."""
    if not isinstance(call, dict):
        return call
    new = {name: value for name, value in call.items() if name in _CALL}
    for name in call.keys() - _CALL - {"index"}:
        draft.drop(f"messages[].tool_calls[].{name}")
    if "id" in new:
        new["id"] = ids.of(new["id"])
    function = new.get("function")
    if isinstance(function, dict):
        new.setdefault("type", "function")
        arguments = function.get("arguments")
        if not function.keys() <= _CALLED or isinstance(arguments, dict):
            new["function"] = {
                "name": function.get("name"),
                "arguments": orjson.dumps(arguments).decode() if isinstance(arguments, dict) else arguments,
            }
    return new


class CallIds:
    """Tool-call ids of one conversation, as Mistral takes them: nine letters or digits.

    An id that is such a one is kept. Any other becomes a hash of itself, so that a call and its result still agree, and the next
    turn of the conversation maps alike. Should a hash meet an id that is there already, the next hash is taken.
    """

    def __init__(self, messages: list[Any]) -> None:
        self._known = {found: found for found in _ids(messages) if _MISTRAL_ID.fullmatch(found)}
        self._taken = set(self._known)

    def of(self, given: Any) -> Any:
        """The id to send for `given`."""
        if not isinstance(given, str):
            return given
        if (known := self._known.get(given)) is not None:
            return known
        short = next(candidate for salt in count() if (candidate := short_id(given, salt)) not in self._taken)
        self._taken.add(short)
        self._known[given] = short
        return short


class _AsTheyAre(CallIds):
    def __init__(self) -> None:
        super().__init__([])

    def of(self, given: Any) -> Any:
        return given


def short_id(given: str, salt: int = 0) -> str:
    """Nine letters or digits that stand for `given`; about 53 bits of its hash."""
    number = int.from_bytes(blake2b(f"{salt}:{given}".encode("utf-8", "surrogatepass"), digest_size=8).digest())
    letters = []
    for _ in range(9):
        number, digit = divmod(number, 62)
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def _ids(messages: list[Any]) -> Iterator[str]:
    for message in messages:
        if not isinstance(message, dict):
            continue
        if isinstance(found := message.get("tool_call_id"), str):
            yield found
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and isinstance(found := call.get("id"), str):
                yield found
