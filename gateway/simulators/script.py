"""A fault script: which requests go wrong, and how. JSON, checked whole before any of it is used.

    [
      {"match": {"model": "glm-5.1", "nth": 1}, "fault": "throttle"},
      {"match": {"contains": "Rechnung"}, "times": 2, "fault": {"kind": "stall", "after": 3}},
      {"fault": [{"kind": "wrong_usage", "factor": 10}, "no_done"]}
    ]

The first rule that matches a request decides; a rule that has fired `times` times matches no more. `match` may hold:

- `model`     the model in the body, or a list of them;
- `nth`       the number, or numbers, of the request among those that meet the rest of this match (the first is 1);
- `header`    an object of header names and values that must be there;
- `contains`  text somewhere in the messages, the prompts or the texts to embed;
- `stream`    true or false;
- `path`      the end of the path, such as `/models`. Without it all that asks a model matches, and nothing else.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.simulators.ask import Ask
from gateway.simulators.dialects.base import Dialect
from gateway.simulators.faults import FAULTS, Fault
from gateway.simulators.journal import Entry

CHAT = "/chat/completions"
TEXTS = "/completions"  # and Mistral's, at /fim/completions
VECTORS = "/embeddings"


class ScriptError(ValueError):
    """A script that cannot be used. `mistakes` has every one, each a sentence that says what would mend it."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True)
class Match:
    """Which requests a rule is about. What is None matches all."""

    model: tuple[str, ...] | None = None
    nth: tuple[int, ...] | None = None
    header: Mapping[str, str] = field(default_factory=dict)
    contains: str | None = None
    stream: bool | None = None
    path: str | None = None

    def meets(self, entry: Entry, ask: Ask | None) -> bool:
        """Whether a request meets all but `nth`, which only the rule can count."""
        if not entry.path.endswith(self.path if self.path is not None else (CHAT, TEXTS, VECTORS)):
            return False
        if any(entry.header(name) != value for name, value in self.header.items()):
            return False
        if self.model is not None and (ask is None or ask.model not in self.model):
            return False
        if self.stream is not None and (ask is None or ask.stream != self.stream):
            return False
        return self.contains is None or (ask is not None and self.contains in ask.text)


@dataclass
class Rule:
    """A match, its faults, and how often each has happened."""

    match: Match
    faults: tuple[Fault, ...]
    times: int | None = None
    seen: int = 0
    fired: int = 0

    def applies(self, entry: Entry, ask: Ask | None) -> bool:
        """Whether this rule decides about a request. Counts it, so ask once for each request."""
        if not self.match.meets(entry, ask):
            return False
        self.seen += 1
        if self.match.nth is not None and self.seen not in self.match.nth:
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        self.fired += 1
        return True


class Script:
    """Rules in order. An empty script lets everything go well."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)

    def pick(self, entry: Entry, ask: Ask | None) -> tuple[Fault, ...]:
        """The faults for a request: those of the first rule that applies, or none."""
        for rule in self.rules:
            if rule.applies(entry, ask):
                return rule.faults
        return ()


def load(path: Path, dialect: Dialect) -> Script:
    """The script in a file. Raises ScriptError if it is no JSON or makes no sense, OSError if it cannot be read."""
    try:
        given = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as bad:
        raise ScriptError([f"{path} is no JSON: {bad}"]) from None
    return parse(given, dialect)


def parse(given: Any, dialect: Dialect) -> Script:
    """A script from JSON values, or faults in place of objects. Raises ScriptError with every mistake."""
    if not isinstance(given, list | tuple):
        raise ScriptError([f"a script is a list of rules, and this is {_kind(given)}"])
    mistakes: list[str] = []
    rules = [_rule(f"rule {i}", rule, dialect, mistakes) for i, rule in enumerate(given, 1)]
    if mistakes:
        raise ScriptError(mistakes)
    return Script(rules)


def _rule(where: str, given: Any, dialect: Dialect, mistakes: list[str]) -> Rule:
    if isinstance(given, Fault):
        return Rule(Match(), (given,))
    if not isinstance(given, dict):
        mistakes.append(f"{where} is {_kind(given)}; a rule is an object with `fault` and perhaps `match` and `times`")
        return Rule(Match(), ())
    _unknown(where, given, ("match", "times", "fault"), mistakes)
    times = given.get("times")
    if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
        mistakes.append(f"{where}: `times` is {times!r}; it counts, from 1")
    if "fault" not in given:
        mistakes.append(f"{where} has no `fault`; known are {', '.join(FAULTS)}")
    wanted = given.get("fault", [])
    listed = wanted if isinstance(wanted, list) else [wanted]
    faults = [_fault(where, fault, dialect, mistakes) for fault in listed]
    return Rule(_match(where, given.get("match", {}), mistakes), tuple(f for f in faults if f), times)


def _match(where: str, given: Any, mistakes: list[str]) -> Match:
    if not isinstance(given, dict):
        mistakes.append(f"{where}: `match` is {_kind(given)}; it is an object")
        return Match()
    _unknown(f"{where}: `match`", given, tuple(f.name for f in dataclasses.fields(Match)), mistakes)
    model = _list_of(where, "model", given.get("model"), str, mistakes)
    nth = _list_of(where, "nth", given.get("nth"), int, mistakes)
    header = given.get("header", {})
    if not isinstance(header, dict) or not all(isinstance(v, str) for v in header.values()):
        mistakes.append(f"{where}: `header` is an object of names and values, both text")
        header = {}
    for name, kind in (("contains", str), ("path", str), ("stream", bool)):
        if given.get(name) is not None and not isinstance(given[name], kind):
            mistakes.append(f"{where}: `{name}` is {_kind(given[name])}; it is {_words(kind)}")
    return Match(model, nth, header, given.get("contains"), given.get("stream"), given.get("path"))


def _list_of(where: str, name: str, value: Any, kind: type, mistakes: list[str]) -> Any:
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
        mistakes.append(f"{where}: `{name}` is {value!r}; it is {_words(kind)} or a list of them")
        return None
    return tuple(values)


def _fault(where: str, given: Any, dialect: Dialect, mistakes: list[str]) -> Fault | None:
    if isinstance(given, Fault):
        fault = given
    else:
        if isinstance(given, str):
            given = {"kind": given}
        if not isinstance(given, dict) or not isinstance(given.get("kind"), str):
            mistakes.append(f"{where}: a fault is a word or an object with `kind`; known are {', '.join(FAULTS)}")
            return None
        kind = given["kind"]
        if kind not in FAULTS:
            mistakes.append(f"{where}: there is no fault `{kind}`; {_nearest(kind, FAULTS)}")
            return None
        found = _build(f"{where}: fault `{kind}`", FAULTS[kind], given, mistakes)
        if found is None:
            return None
        fault = found
    mistakes += [f"{where}: fault `{fault.kind}`: {words}" for words in fault.mistakes(dialect)]
    return fault


def _build(where: str, kind: type[Fault], given: Mapping[str, Any], mistakes: list[str]) -> Fault | None:
    hints = typing.get_type_hints(kind)
    fields = [f.name for f in dataclasses.fields(kind)]
    before = len(mistakes)
    values = {name: value for name, value in given.items() if name != "kind"}
    _unknown(where, values, fields, mistakes)
    for name, value in values.items():
        if name in fields and not _fits(value, hints[name]):
            mistakes.append(f"{where}: `{name}` is {value!r}; it is {_words(hints[name])}")
    return kind(**values) if len(mistakes) == before else None


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    options = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(f"`{o}`" for o in options)
    if options:
        return " or ".join(_words(o) for o in options if o is not types.NoneType)
    return {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}.get(
        getattr(hint, "__name__", ""), str(hint)
    )


def _unknown(where: str, given: Mapping[str, Any], known: Iterable[str], mistakes: list[str]) -> None:
    names = tuple(known)
    for name in given:
        if name not in names:
            mistakes.append(f"{where}: unknown key `{name}`; {_nearest(str(name), names)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    names = tuple(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known are {', '.join(names)}" if names else "it takes no fields"


def _kind(value: Any) -> str:
    words = {list: "a list", dict: "an object", str: "text", int: "a number", float: "a number", bool: "true or false"}
    return words.get(type(value), "null" if value is None else type(value).__name__)
