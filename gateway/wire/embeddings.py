"""`POST /v1/embeddings`: a body becomes a Request, or a Problem that says which field is wrong and what would be right.

`input` is a text, a list of texts, one text as a list of token ids, or a list of such lists. Each text is read by itself, so the
longest has to fit into a window, and all together are paid for. Nothing is streamed, and the answer is no tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core import terms
from gateway.core.answer import Problem
from gateway.core.exchange import Needs
from gateway.wire.api import Api
from gateway.wire.checks import MODEL_CHARS_MAX, check_types
from gateway.wire.text import Estimator, Script, script_of

INPUTS_MAX: Final = 2_048  # of one request: OpenAI's own limit, and the largest of any provider's
DIMENSIONS_MAX: Final = 65_536  # the longest vectors of any model on offer have 8,192
TOKEN_ID_MAX: Final = 2**32  # vocabularies have some hundreds of thousands
FORMATS: Final = ("float", "base64")
IDS: Final = "a string, a list of strings, a list of token ids, or a list of such lists"

_TYPES: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "model": (str, "a string"),
    "input": ((str, list), IDS),
    "encoding_format": (str, " or ".join(f"`{name}`" for name in FORMATS)),
    "dimensions": (int, "a whole number"),
    "user": (str, "a string"),
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
}
"""Fields that the gateway or one of its dialects reads, and what they must be. null is as good as not there."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the input of a body holds. `script` None: token ids, which nobody here can read."""

    script: Script | None
    chars: int  # of all texts
    longest_chars: int  # of the longest
    ids: int  # token ids, of all texts
    longest_ids: int
    texts: int

    def needs(self, body: Mapping[str, Any], estimator: Estimator) -> Needs:
        """What this request needs: tokens by estimate, or as many as there are ids."""
        if self.script is None:
            return Needs(terms.EMBEDDINGS, prompt_tokens=self.ids, longest_tokens=self.longest_ids)
        tokens = estimator.tokens(self.script, self.chars) + self.texts - 1  # what is rounded up, is so for each
        return Needs(terms.EMBEDDINGS, prompt_tokens=tokens, longest_tokens=estimator.tokens(self.script, self.longest_chars))


def glance(body: dict[str, Any]) -> tuple[Reading, int, int] | None:
    """What a body holds, and how many names and texts, if it is of the usual shape: a model, and a text or a list of texts.

    None where there is more to see, or anything to complain of.
    """
    if not body.keys() <= _USUAL or body.get("encoding_format", "float") not in FORMATS:
        return None
    model, found = body.get("model"), body.get("input")
    if type(model) is not str or not 1 <= len(model) <= MODEL_CHARS_MAX:
        return None
    texts = len(body)
    if type(found) is list:
        if not 1 <= len(found) <= INPUTS_MAX or set(map(type, found)) != _ONLY_TEXT or not all(found):
            return None
        return _of_texts(found), len(body), texts - 1 + len(found)
    return (_of_texts([found]), len(body), texts) if type(found) is str and found else None


_USUAL: Final = frozenset({"model", "input", "encoding_format"})
_ONLY_TEXT: Final = {str}


def check(body: Mapping[str, Any]) -> None:
    """Raises Problem (400) for the first field of a type or shape that can't be."""
    check_types(body, _TYPES, ("model", "input"))
    encoding_format = body.get("encoding_format")
    if encoding_format is not None and encoding_format not in FORMATS:
        wanted = f"`encoding_format` must be {_TYPES['encoding_format'][1]}"
        raise Problem(400, "invalid_value", wanted, "encoding_format")
    dimensions = body.get("dimensions")
    if dimensions is not None and not 1 <= dimensions <= DIMENSIONS_MAX:
        raise Problem(400, "invalid_value", f"`dimensions` must be 1 to {DIMENSIONS_MAX}", "dimensions")
    if body.get("stream"):
        raise Problem(400, "invalid_value", "embeddings are not streamed; leave out `stream`", "stream")


def read(body: Mapping[str, Any]) -> Reading:
    """Of a body that `check` has let pass. Raises Problem (400)."""
    found = body["input"]
    if type(found) is str:
        found = [found]
    if not found:
        raise Problem(400, "invalid_value", "`input` is empty; send at least one text", "input")
    kinds = set(map(type, found))
    if kinds == {int}:
        return _of_ids([found], whole=True)
    if len(found) > INPUTS_MAX:
        raise Problem(400, "invalid_value", f"`input` holds {len(found)} texts; at most {INPUTS_MAX} go in one request", "input")
    if kinds == {list}:
        return _of_ids(found, whole=False)
    if kinds != {str}:
        raise Problem(400, "invalid_type", f"`input` must be {IDS}", "input")
    if "" in found:
        where = "input" if type(body["input"]) is str else f"input[{found.index('')}]"
        raise Problem(400, "invalid_value", f"`{where}` is an empty text", where)
    return _of_texts(found)


def _of_texts(texts: list[str]) -> Reading:
    """Their script is that of a sample of all."""
    whole = texts[0] if len(texts) == 1 else "".join(texts)
    return Reading(script_of(whole), len(whole), max(map(len, texts)), 0, 0, len(texts))


def _of_ids(found: list[list[Any]], *, whole: bool) -> Reading:
    for index, ids in enumerate(found):
        where = "input" if whole else f"input[{index}]"
        if not ids:
            raise Problem(400, "invalid_value", f"`{where}` is an empty list", where)
        if set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) > TOKEN_ID_MAX:
            raise Problem(400, "invalid_type", f"`{where}` must be a list of token ids: natural numbers", where)
    lengths = list(map(len, found))
    return Reading(None, 0, 0, sum(lengths), max(lengths), len(found))


EMBEDDINGS: Final = Api(terms.EMBEDDINGS, "/v1/embeddings", glance, check, read)
