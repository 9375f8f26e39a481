"""Text completions, brought into OpenAI's shape: chunks of a stream and whole answers, which look alike.

Told by their look: fill-in-the-middle that is answered in the shape of chat (Mistral), probabilities in the shape of chat
(llama.cpp), usage of the first choice alone (llama.cpp; the mark is its `timings`), finish reasons of one's own. Offsets of tokens
that are worked out here count from where the completion begins, as vLLM has it.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.usage import Usage
from gateway.upstream import usage
from gateway.upstream.canonical import Identity, NotCanonical, Seen, choices_of, event, mend_envelope, mend_finish, pieces_of
from gateway.upstream.shape import Shape, read_usage, wanted

TEXT: Final = "text_completion"
ENDS: Final = frozenset({"stop", "length", "content_filter"})


def prompts_in(body: Mapping[str, Any]) -> int:
    """How many prompts a request has. One is a text, or a list of token ids."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and not (prompt and isinstance(prompt[0], int)) else 1


def choices_wanted(body: Mapping[str, Any]) -> int:
    """As many as `n` of each prompt."""
    return prompts_in(body) * wanted(body)


def may_say_nothing(body: Mapping[str, Any]) -> bool:
    """A completion may end at once where it is to stop at words, or nothing belongs into a gap."""
    return bool(body.get("stop")) or body.get("suffix") is not None


def mend_chunk(chunk: dict[str, Any], said: dict[int, int]) -> Seen:
    """Bring the choices of `chunk` into shape, in place. `said`: characters of each choice so far. Raises NotCanonical."""
    seen = Seen()
    for choice in choices_of(chunk):
        index = choice.get("index", 0)
        if not isinstance(index, int):
            raise NotCanonical
        if "index" not in choice or "finish_reason" not in choice or "logprobs" not in choice:  # all must be there, if null
            choice["index"] = index
            choice.setdefault("finish_reason", None)
            choice.setdefault("logprobs", None)
            seen.changed = True
        text = _mend_text(choice, "delta", seen)
        _mend_logprobs(choice, said.get(index, 0), seen)
        said[index] = said.get(index, 0) + len(text)
        _mend_finish(choice, seen)
        if choice["finish_reason"] is not None:
            seen.finished.append(index)
    return seen


def mend_answer(answer: dict[str, Any], identity: Identity) -> Seen:
    """Bring a whole answer into shape, in place. Raises NotCanonical if it is no completion."""
    seen = Seen()
    choices = choices_of(answer)
    if not choices:
        raise NotCanonical
    mend_envelope(answer, identity, TEXT, seen)
    for at, choice in enumerate(choices):
        if choice.get("index").__class__ is not int or "logprobs" not in choice:
            choice.setdefault("index", at)
            choice.setdefault("logprobs", None)
            seen.changed = True
        if not isinstance(choice["index"], int):
            raise NotCanonical
        if choice.get("finish_reason") is None:  # a whole answer has ended, whatever it says
            choice["finish_reason"] = "stop"
            seen.changed = True
        _mend_text(choice, "message", seen)
        _mend_logprobs(choice, 0, seen)
        _mend_finish(choice, seen)
    return seen


def _mend_text(choice: dict[str, Any], chats: str, seen: Seen) -> str:
    """The text of a choice, or what it has in place of it: `chats` names the object that chat has it in."""
    text = choice.get("text")
    if text is None:
        said = choice.pop(chats, None)
        text = said.get("content") if isinstance(said, dict) else None
        if isinstance(text, list):
            text, _ = pieces_of(text)
        choice["text"] = text = text or ""
        seen.changed = True
    if not isinstance(text, str):
        raise NotCanonical
    if text:
        seen.speaks = True
    return text


def _mend_logprobs(choice: dict[str, Any], begin: int, seen: Seen) -> None:
    """Probabilities in the shape of chat, written as lists. Those of another look are the upstream's own affair."""
    found = choice.get("logprobs")
    tokens = found.get("content") if isinstance(found, dict) else None
    if tokens is None:
        return
    out: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    if not isinstance(tokens, list):
        raise NotCanonical
    for token in tokens:
        if not isinstance(token, dict) or not isinstance(token.get("token"), str):
            raise NotCanonical
        others = token.get("top_logprobs") or ()
        out["tokens"].append(token["token"])
        out["token_logprobs"].append(token.get("logprob"))
        out["top_logprobs"].append({one["token"]: one.get("logprob") for one in others if isinstance(one, dict) and "token" in one})
        out["text_offset"].append(begin)
        begin += len(token["token"])
    choice["logprobs"] = out
    seen.changed = True


def _mend_finish(choice: dict[str, Any], seen: Seen) -> None:
    mend_finish(choice, seen)
    if seen.finish and seen.finish not in ENDS:  # a call of a tool, of which this API knows none
        choice["finish_reason"] = seen.finish = "stop"
        seen.changed = True


def as_events(answer: Mapping[str, Any]) -> list[bytes]:
    """A mended answer as a stream would have brought it: one chunk for each choice."""
    head = {"id": answer["id"], "object": TEXT, "created": answer["created"], "model": answer["model"]}
    names = ("index", "text", "logprobs", "finish_reason")
    return [event({**head, "choices": [{name: choice[name] for name in names}]}) for choice in answer["choices"]]


def usage_of(answer: Mapping[str, Any]) -> Usage | usage.Unusable:
    """The usage of a whole answer, unless it is that of the first of its choices."""
    return usage.Unusable.MISSING if "timings" in answer and len(answer["choices"]) > 1 else read_usage(answer)


COMPLETION: Final = Shape(
    ids="cmpl-",
    chunk=TEXT,
    mend_chunk=mend_chunk,
    mend_answer=mend_answer,
    as_events=as_events,
    usage=usage_of,
    choices=choices_wanted,
    may_say_nothing=may_say_nothing,
)
