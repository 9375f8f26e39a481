"""What upstreams answer, brought into OpenAI's shape: chunks of a stream, and whole answers.

One set of rules for all dialects, since each quirk is told by its look: content in a list of pieces (Mistral's thinking),
`reasoning` for `reasoning_content`, arguments as an object, calls without type or id, finish reasons of one's own. What has the
right look is left untouched and reported as unchanged, so that its bytes can be passed on. Reasoning is spelt
`reasoning_content`, which OpenAI's clients keep as an extra field and most agents know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.core.usage import Usage
from gateway.upstream.dialects.messages import short_id, thinking_text
from gateway.upstream.outcomes import BAD_FINISHES, FINISHES
from gateway.upstream.usage import as_openai

CHUNK: Final = "chat.completion.chunk"
ANSWER: Final = "chat.completion"


class NotCanonical(Exception):
    """Something that can't be understood as a chat completion."""


@dataclass(slots=True)
class Identity:
    """What every chunk of one stream, or an answer, says of itself. `model` is the catalogue's name, which a client can ask for."""

    id: str
    created: int  # UTC seconds
    model: str


@dataclass(slots=True)
class Seen:
    """What was found in a chunk or an answer."""

    changed: bool = False
    speaks: bool = False  # text, reasoning, a refusal or a tool call
    finish: str = ""  # as OpenAI spells it
    bad_finish: str = ""  # a finish_reason that is a failure, as a key of outcomes.BY_ANSWER
    finished: list[int] = field(default_factory=list)  # indexes of the choices that ended


# --- chunks -------------------------------------------------------------------------------------------------------------------


class CallIndexes:
    """Which tool call a delta continues, for upstreams that leave out `index`, say 0 for each, or write the id `null`."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._by_theirs: dict[int, int] = {}

    def place(self, call: dict[str, Any]) -> bool:
        """Give `call` its index, and drop an id that is none. Says whether that changed it."""
        found, theirs = call.get("id"), call.get("index")
        has_id = isinstance(found, str) and found not in ("", "null")
        if has_id and found in self._ids:
            ours = self._ids.index(str(found))
        elif has_id or (isinstance(theirs, int) and theirs not in self._by_theirs) or not self._ids:
            ours = len(self._ids)
            self._ids.append(str(found) if has_id else "")
        else:
            ours = self._by_theirs[theirs] if isinstance(theirs, int) else len(self._ids) - 1
        if isinstance(theirs, int):
            self._by_theirs[theirs] = ours
        changed = theirs != ours
        call["index"] = ours
        if not has_id and "id" in call:
            del call["id"]
            changed = True
        return changed


def mend_chunk(chunk: dict[str, Any], calls: dict[int, CallIndexes]) -> Seen:
    """Bring the choices of `chunk` into shape, in place. `calls` is the stream's memory. Raises NotCanonical."""
    seen = Seen()
    for choice in choices_of(chunk):
        delta = choice.get("delta")
        if delta is None:
            choice["delta"] = delta = {}
            seen.changed = True
        if not isinstance(delta, dict):
            raise NotCanonical
        index = choice.get("index", 0)
        if not isinstance(index, int):
            raise NotCanonical
        if "index" not in choice or "finish_reason" not in choice:  # both must be there, if null
            choice["index"] = index
            choice.setdefault("finish_reason", None)
            seen.changed = True
        _mend_text(delta, seen)
        if found := delta.get("tool_calls"):
            seen.speaks = True
            indexes = calls.get(index) or calls.setdefault(index, CallIndexes())
            for call in _calls(found):
                seen.changed |= indexes.place(call)
                seen.changed |= _mend_call(call, first="id" in call)
        elif found is not None:
            del delta["tool_calls"]
            seen.changed = True
        if delta.get("function_call"):
            seen.speaks = True
        mend_finish(choice, seen)
        if choice.get("finish_reason") is not None:
            seen.finished.append(index)
    return seen


def choices_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices of a chunk or an answer, if they are objects. Raises NotCanonical."""
    choices = found.get("choices")
    if not isinstance(choices, list):
        raise NotCanonical
    for choice in choices:
        if not isinstance(choice, dict):
            raise NotCanonical
    return choices


def _calls(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(call, dict) for call in found):
        raise NotCanonical
    return found


def _mend_text(said: dict[str, Any], seen: Seen) -> None:
    """Content and reasoning of a delta or a message."""
    content = said.get("content")
    if isinstance(content, list):
        text, thought = pieces_of(content)
        said["content"] = content = text
        if thought:
            said["reasoning_content"] = thought
        seen.changed = True
    elif content is not None and not isinstance(content, str):
        raise NotCanonical
    if "reasoning" in said:
        reasoning = said.pop("reasoning")
        if isinstance(reasoning, str) and reasoning and not said.get("reasoning_content"):
            said["reasoning_content"] = reasoning
        seen.changed = True
    if content or said.get("reasoning_content") or said.get("refusal") or said.get("audio"):
        seen.speaks = True


def pieces_of(content: list[Any]) -> tuple[str, str]:
    """Text and reasoning of Mistral's list of pieces. References and the like have no place in OpenAI's shape."""
    text: list[str] = []
    thought: list[str] = []
    for piece in content:
        if isinstance(piece, str):
            text.append(piece)
        elif isinstance(piece, dict) and piece.get("type") == "thinking":
            thought.append(thinking_text(piece))
        elif isinstance(piece, dict) and isinstance(piece.get("text"), str):
            text.append(piece["text"])
    return "".join(text), "".join(thought)


def _mend_call(call: dict[str, Any], *, first: bool) -> bool:
    changed = False
    if first and call.get("type") is None:
        call["type"] = "function"
        changed = True
    function = call.get("function")
    if isinstance(function, dict):
        arguments = function.get("arguments")
        if isinstance(arguments, (dict, list)):
            function["arguments"] = written(arguments).decode()
            changed = True
        if "name" in function and not function["name"] and not first:  # continuations repeat it empty, and clients append
            del function["name"]
            changed = True
    return changed


def mend_finish(choice: dict[str, Any], seen: Seen) -> None:
    """The finish_reason as OpenAI spells it, or the failure that it is."""
    reason = choice.get("finish_reason")
    if reason is None:
        return
    word = reason if isinstance(reason, str) else ""
    if word in BAD_FINISHES:
        seen.bad_finish = BAD_FINISHES[word]
        return
    seen.finish = FINISHES.get(word, "stop")
    if seen.finish != reason:
        choice["finish_reason"] = seen.finish
        seen.changed = True


# --- answers ------------------------------------------------------------------------------------------------------------------


def mend_answer(answer: dict[str, Any], identity: Identity) -> Seen:
    """Bring a whole answer into shape, in place. Raises NotCanonical if it is no chat completion."""
    seen = Seen()
    if finish := _usual_finish(answer):
        seen.speaks, seen.finish = True, finish
        if answer.get("model") != identity.model:
            answer["model"] = identity.model
            seen.changed = True
        return seen
    choices = choices_of(answer)
    if not choices:
        raise NotCanonical
    mend_envelope(answer, identity, ANSWER, seen)
    for at, choice in enumerate(choices):
        message = choice.get("message")
        if not isinstance(message, dict):
            raise NotCanonical
        if choice.get("index").__class__ is not int:
            choice["index"] = at
            seen.changed = True
        if choice.get("finish_reason") is None:  # a whole answer has ended, whatever it says
            choice["finish_reason"] = "tool_calls" if message.get("tool_calls") else "stop"
            seen.changed = True
        _mend_message(message, seen, identity.id)
        mend_finish(choice, seen)
    return seen


def mend_envelope(answer: dict[str, Any], identity: Identity, kind: str, seen: Seen) -> None:
    """What an answer says of itself; `kind` is its `object`."""
    if not isinstance(answer.get("id"), str) or not answer["id"]:
        answer["id"] = identity.id
        seen.changed = True
    if answer.get("created").__class__ is not int:
        answer["created"] = identity.created
        seen.changed = True
    if answer.get("object") != kind or answer.get("model") != identity.model:
        answer["object"], answer["model"] = kind, identity.model
        seen.changed = True


_PLAIN_MESSAGE: Final = frozenset({"role", "content", "refusal", "annotations", "reasoning_content"})


def _usual_finish(answer: Mapping[str, Any]) -> str:
    """Why an answer ended that has nothing to mend but perhaps its model's name: one choice, with text. "": look closer."""
    choices: Any = answer.get("choices")
    if choices.__class__ is not list or len(choices) != 1:
        return ""
    choice = choices[0]
    if choice.__class__ is not dict:
        return ""
    message, finish = choice.get("message"), choice.get("finish_reason")
    if message.__class__ is not dict or not message.keys() <= _PLAIN_MESSAGE or finish.__class__ is not str:
        return ""
    content, own = message.get("content"), answer.get("id")
    if (
        content
        and content.__class__ is str
        and message.get("role") == "assistant"
        and FINISHES.get(finish) == finish
        and choice.get("index").__class__ is int
        and own
        and own.__class__ is str
        and answer.get("created").__class__ is int
        and answer.get("object") == ANSWER
    ):
        return str(finish)
    return ""


def _mend_message(message: dict[str, Any], seen: Seen, answer_id: str) -> None:
    if message.get("role") != "assistant":
        message["role"] = "assistant"
        seen.changed = True
    _mend_text(message, seen)
    if "content" not in message:
        message["content"] = None
        seen.changed = True
    if not (found := message.get("tool_calls")):
        if found is not None:
            del message["tool_calls"]
            seen.changed = True
        seen.speaks |= bool(message.get("function_call"))
        return
    seen.speaks = True
    if message["content"] == "":
        message["content"] = None
        seen.changed = True
    for at, call in enumerate(_calls(found)):
        if not isinstance(call.get("id"), str) or call["id"] in ("", "null"):
            call["id"] = short_id(f"{answer_id}:{at}")
            seen.changed = True
        if call.pop("index", None) is not None:
            seen.changed = True
        seen.changed |= _mend_call(call, first=True)


# --- events -------------------------------------------------------------------------------------------------------------------


def written(found: Any) -> bytes:
    """JSON. Raises NotCanonical for what can be read and not written: nested hundreds deep."""
    try:
        return orjson.dumps(found)
    except TypeError as error:
        raise NotCanonical from error


def event(chunk: Mapping[str, Any]) -> bytes:
    """One event of a stream. Raises NotCanonical as `written` does."""
    return b"data: " + written(chunk) + b"\n\n"


DONE_EVENT: Final = b"data: [DONE]\n\n"


def usage_event(identity: Identity, usage: Usage, kind: str = CHUNK) -> bytes:
    """The extra chunk of who asked for usage; `kind` is its `object`."""
    return event(
        {
            "id": identity.id,
            "object": kind,
            "created": identity.created,
            "model": identity.model,
            "choices": [],
            "usage": as_openai(usage),
        }
    )


def as_events(answer: Mapping[str, Any]) -> list[bytes]:
    """A mended answer as a stream would have brought it: a chunk of content and a chunk of the end for each choice."""
    head = {"id": answer["id"], "object": CHUNK, "created": answer["created"], "model": answer["model"]}
    events = []
    for choice in answer["choices"]:
        delta = {name: value for name, value in choice["message"].items() if value is not None}
        if calls := delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls)]
        index = choice["index"]
        content: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": None}
        if choice.get("logprobs") is not None:
            content["logprobs"] = choice["logprobs"]
        events.append(event({**head, "choices": [content]}))
        events.append(event({**head, "choices": [{"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}]}))
    return events
