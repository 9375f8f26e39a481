"""`POST /v1/completions`: text goes on where a prompt ends, or, with a `suffix`, fills the gap between the two.

A prompt is text or token ids, and a request has one, or a list of either kind. Checked is what the gateway itself reads; the rest
is the upstream's to judge.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.answer import Problem
from gateway.core.exchange import Needs
from gateway.core.rank import COMPLETION_TOKENS
from gateway.wire.api import Api
from gateway.wire.checks import MODEL_CHARS_MAX, check_types
from gateway.wire.text import Estimator, Script, script_of

_NUMBER: Final = (int, float)
_TYPES: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "model": (str, "a string"),
    "prompt": ((str, list), "a string, a list of token ids, or a list of either"),
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
    "suffix": (str, "a string"),
    "max_tokens": (int, "a whole number"),
    "n": (int, "a whole number"),
    "best_of": (int, "a whole number"),
    "logprobs": (int, "a whole number"),
    "echo": (bool, "true or false"),
    "response_format": (dict, "an object"),
    "temperature": (_NUMBER, "a number"),
    "top_p": (_NUMBER, "a number"),
    "seed": (int, "a whole number"),
    "user": (str, "a string"),
    "stop": ((str, list), "a string or a list of strings"),
}
"""Fields that the gateway or one of its dialects reads, and what they must be. null is as good as not there."""

PROMPTS_MAX: Final = 1_024  # in one request; each is work of its own, and whoever has more can send more requests
CHOICES_MAX: Final = 1_024  # prompts times `n` or `best_of`: each is paid for, and answered in memory
TOKEN_ID_MAX: Final = 10_000_000  # the largest vocabularies have about 260,000
LOGPROBS_MAX: Final = 100  # of one token; OpenAI gives 5, engines 20 unless told otherwise

_LEAST: Final = {"max_tokens": 0, "n": 1, "best_of": 1, "logprobs": 0}
_MOST: Final = {"n": CHOICES_MAX, "best_of": CHOICES_MAX, "logprobs": LOGPROBS_MAX}
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_USUAL: Final[dict[str, frozenset[type]]] = {
    **{name: frozenset(types if isinstance(types, tuple) else (types,)) - {list, dict} for name, (types, _) in _TYPES.items()},
}
"""What a field of a usual request may be, exactly; one that is not listed may be any scalar."""

_ASKS_FOR_USAGE: Final = {"include_usage": True}


def glance(body: dict[str, Any]) -> "tuple[Reading, int, int] | None":
    """What a body holds, and how many names and texts, if it is of the usual shape: scalars, and one prompt of text. None where
    there is more to see, or anything to complain of."""
    names, texts = len(body), 0
    for name, value in body.items():
        kind = type(value)
        if kind is str:
            texts += 1
        elif kind is int and name in _LEAST and not _LEAST[name] <= value <= _MOST.get(name, value):
            return None
        if kind not in _USUAL.get(name, _SCALARS):
            if name != "stream_options" or value != _ASKS_FOR_USAGE:
                return None
            names += 1
    prompt, model = body.get("prompt"), body.get("model")
    if not prompt or not model or len(model) > MODEL_CHARS_MAX or "best_of" in body:
        return None
    return Reading((prompt,), body.get("suffix") or ""), names, texts


def check(body: Mapping[str, Any]) -> None:
    """Raises Problem (400) for the first field of a type or shape that can't be."""
    check_types(body, _TYPES, ("model", "prompt"))
    for name, least in _LEAST.items():
        value = body.get(name)
        if value is not None and value < least:
            raise Problem(400, "invalid_value", f"`{name}` must be at least {least}", name)
        if value is not None and value > _MOST.get(name, value):
            raise Problem(400, "invalid_value", f"`{name}` must be at most {_MOST[name]}", name)
    prompt = body["prompt"]
    _check_prompt(prompt)
    if body.get("suffix") and not isinstance(prompt if isinstance(prompt, str) else prompt[0], str):
        raise Problem(400, "invalid_value", "`suffix` goes with prompts of text, and not of token ids", "suffix")
    if tries(body) > CHOICES_MAX:
        raise Problem(400, "invalid_value", f"more than {CHOICES_MAX} completions are asked for, of all prompts together", "n")
    if body.get("best_of") is not None and body["best_of"] < (body.get("n") or 1):
        raise Problem(400, "invalid_value", "`best_of` must be at least `n`", "best_of")


def _check_prompt(prompt: str | list[Any]) -> None:
    if not prompt:
        raise Problem(400, "invalid_value", "`prompt` is empty; send at least one character or token id", "prompt")
    if isinstance(prompt, str):
        return
    kind = type(prompt[0])
    if kind is int:
        _check_ids(prompt, "prompt")
        return
    if len(prompt) > PROMPTS_MAX:
        raise Problem(400, "invalid_value", f"`prompt` lists more than {PROMPTS_MAX}; send them in several requests", "prompt")
    for index, one in enumerate(prompt):
        where = f"prompt[{index}]"
        if type(one) is not kind or kind not in (str, list):
            raise Problem(400, "invalid_type", f"`{where}` must be a string or a list of token ids, as all others are", where)
        if not one:
            raise Problem(400, "invalid_value", f"`{where}` is empty", where)
        if kind is list:
            _check_ids(one, where)


def _check_ids(ids: list[Any], where: str) -> None:
    if set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) <= TOKEN_ID_MAX:  # a million of them take 50 ms, not 90
        return
    wrong = next(index for index, token in enumerate(ids) if type(token) is not int or not 0 <= token <= TOKEN_ID_MAX)
    place = f"{where}[{wrong}]"
    raise Problem(400, "invalid_type", f"`{place}` must be a token id, from 0 to {TOKEN_ID_MAX}", place)


def tries(body: Mapping[str, Any]) -> int:
    """How many completions are made, and paid for: of each prompt `n`, or as many as the best are chosen from."""
    prompt = body["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and type(prompt[0]) is not int else 1
    return prompts * max(body.get("n") or 1, body.get("best_of") or 1)


class Reading:
    """What the prompts of a body hold."""

    __slots__ = ("_chars", "_ids", "_longest", "_several", "_suffix", "script")

    def __init__(self, prompts: "tuple[str | list[int], ...]", suffix: str) -> None:
        """Of prompts that `check` has let pass, all of one kind."""
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        lengths = [len(prompt) for prompt in prompts]
        self.script: Script | None = script_of(texts[-1]) if texts else None
        self._ids = 0 if texts else sum(lengths)
        self._chars = (sum(lengths) if texts else 0) + len(suffix)
        self._longest = max(lengths)
        self._several = len(prompts) > 1
        self._suffix = suffix

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Reading":
        """Of a body that `check` has let pass."""
        prompt = body["prompt"]
        several = isinstance(prompt, list) and type(prompt[0]) is not int
        return cls(tuple(prompt) if several else (prompt,), body.get("suffix") or "")

    def needs(self, body: Mapping[str, Any], estimator: Estimator) -> Needs:
        """What this request needs, its text in tokens by estimate, its token ids as they are."""
        script = self.script or Script.LATIN
        wished = body.get("max_tokens")
        output_tokens = tries(body) * (COMPLETION_TOKENS if wished is None else wished)
        abilities = {"fim"} if self._suffix else set()
        if (body.get("response_format") or {}).get("type") == "json_schema":
            abilities.add("json_schema")
        prompt_tokens = self._ids + (estimator.tokens(script, self._chars) if self._chars else 0)
        longest = self._longest if self._ids else estimator.tokens(script, self._longest)
        return Needs(
            "completions",
            frozenset(abilities),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            longest_tokens=longest if self._several else 0,
        )


COMPLETIONS: Final = Api("completions", "/v1/completions", glance, check, Reading.of)
