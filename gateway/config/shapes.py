"""The tables that documents are checked against, and that the JSON Schema is made of: one source for both.

A shape says what may stand at one place: which kind of node, which keys, which numbers. It knows no other document; words that
are defined elsewhere (a model, a country) are looked up when compiling. Checking goes on after a mistake, so that all are told.
"""

import re
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol

from gateway.config.documents import Mapping, Node, Scalar, Sequence, kind
from gateway.config.problems import Problems, show
from gateway.config.words import listed, nearest

TEXT_CHARS_MAX: Final = 2_000  # of a note, a source, a `because`: they go into every explanation
WORD_CHARS_MAX: Final = 200  # of an id or a name: ids are metric labels and ledger fields

Schema = dict[str, Any]


class Shape(Protocol):
    """What may stand at one place."""

    def check(self, node: Node, problems: Problems) -> None:
        """Tell every mistake in `node`."""
        ...

    def schema(self) -> Schema:
        """The same as JSON Schema."""
        ...

    @property
    def wanted(self) -> str:
        """What would be right, for people."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """Free text for people."""

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Scalar) or node.is_null or not node.text.strip():
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
        elif len(node.text) > TEXT_CHARS_MAX:
            problems.add(node.mark, f"{len(node.text)} characters", f"at most {TEXT_CHARS_MAX}")

    def schema(self) -> Schema:
        return {"type": ["string", "number"], "minLength": 1, "maxLength": TEXT_CHARS_MAX}

    @property
    def wanted(self) -> str:
        return "text"


@dataclass(frozen=True, slots=True)
class Word:
    """One word: of a closed list (`of`), or of a form (`pattern`), or one that compiling looks up. `what` names it for people."""

    what: str
    of: tuple[str, ...] = ()
    pattern: str = ""
    secret: bool = False  # never shown, whatever it looks like

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Scalar) or node.is_null:
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
            return
        shown = "a value that is not shown" if self.secret else show(node.text)
        if self.of and node.text not in self.of:
            problems.add(node.mark, shown, f"wanted {self.wanted}", nearest(node.text, self.of))
        elif len(node.text) > WORD_CHARS_MAX:
            problems.add(node.mark, f"{len(node.text)} characters", f"wanted {self.what}, of at most {WORD_CHARS_MAX} characters")
        elif (self.pattern and not re.fullmatch(self.pattern, node.text)) or not node.text.strip():
            problems.add(node.mark, shown, f"wanted {self.wanted}")

    def schema(self) -> Schema:
        if self.of:
            if set(self.of) == {"true", "false"}:
                return {"enum": [*self.of, True, False]}
            return {"enum": list(self.of)}
        found: Schema = {"type": ["string", "number"], "minLength": 1, "maxLength": WORD_CHARS_MAX}
        return {**found, "pattern": f"^({self.pattern})$"} if self.pattern else found

    @property
    def wanted(self) -> str:
        return f"{self.what}: {listed(self.of)}" if self.of else self.what


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""

    what: str
    least: int = 0
    most: int = 10**12

    def check(self, node: Node, problems: Problems) -> None:
        number = node.number() if isinstance(node, Scalar) else None
        if number is None or number != number.to_integral_value() or not self.least <= number <= self.most:
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    @property
    def wanted(self) -> str:
        return f"{self.what}: a whole number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Amount:
    """A decimal number, kept exactly as written. 0 is one; a negative one never is."""

    what: str
    least: Decimal = Decimal(0)
    most: Decimal = Decimal(1_000_000)

    def check(self, node: Node, problems: Problems) -> None:
        number = node.number() if isinstance(node, Scalar) else None
        if number is None or not self.least <= number <= self.most:
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")

    def schema(self) -> Schema:
        return {"type": "number", "minimum": float(self.least), "maximum": float(self.most)}

    @property
    def wanted(self) -> str:
        return f"{self.what}: a number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Scalar) or node.flag() is None:
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")

    def schema(self) -> Schema:
        return {"type": "boolean"}

    @property
    def wanted(self) -> str:
        return "`true` or `false`"


@dataclass(frozen=True, slots=True)
class Day:
    """A calendar day. It ends at 24:00 UTC."""

    def check(self, node: Node, problems: Problems) -> None:
        day = node.day() if isinstance(node, Scalar) else None
        if day is None or not 1970 <= day.year < 9999:
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}

    @property
    def wanted(self) -> str:
        return "a day, such as `2027-05-20`"


@dataclass(frozen=True, slots=True)
class Instant:
    """A day (its first second, UTC) or an instant in UTC."""

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Scalar) or not re.fullmatch(INSTANT, node.text):
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^({INSTANT})$"}

    @property
    def wanted(self) -> str:
        return "a day or an instant in UTC, such as `2027-05-20` or `2027-05-20T23:59:59Z`"


INSTANT: Final = r"(19[7-9][0-9]|[2-8][0-9]{3})-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?"


@dataclass(frozen=True, slots=True)
class OneOrMore:
    """One word, or a list of them, not empty unless `least` is 0."""

    item: Word
    least: int = 1

    def check(self, node: Node, problems: Problems) -> None:
        if isinstance(node, Sequence):
            ListOf(self.item, self.least).check(node, problems)
        elif isinstance(node, Mapping):
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
        else:
            self.item.check(node, problems)

    def schema(self) -> Schema:
        return {"anyOf": [self.item.schema(), ListOf(self.item, self.least).schema()]}

    @property
    def wanted(self) -> str:
        return f"{self.item.wanted}; or a list of those"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, not empty unless `least` is 0."""

    item: Shape
    least: int = 1

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Sequence):
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
            return
        if len(node.items) < self.least:
            problems.add(node.mark, "an empty list", f"wanted {self.wanted}")
        for item in node.items:
            self.item.check(item, problems)

    def schema(self) -> Schema:
        return {"type": "array", "items": self.item.schema(), "minItems": self.least}

    @property
    def wanted(self) -> str:
        return f"a list, each {self.item.wanted}"


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map from ids of our own choosing to one shape."""

    key: Word
    value: Shape
    least: int = 0

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Mapping):
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
            return
        if len(node.entries) < self.least:
            problems.add(node.mark, "an empty map", f"wanted {self.wanted}")
        for entry in node.entries.values():
            self.key.check(entry.key, problems)
            self.value.check(entry.node, problems)

    def schema(self) -> Schema:
        found: Schema = {"type": "object", "additionalProperties": self.value.schema(), "minProperties": self.least}
        if self.key.of:
            found["propertyNames"] = {"enum": list(self.key.of)}
        elif self.key.pattern:
            found["propertyNames"] = {"pattern": f"^({self.key.pattern})$"}
        return found

    @property
    def wanted(self) -> str:
        return f"a map, each of whose keys is {self.key.wanted}"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record: its shape, what it is for, and an example (a JSON value)."""

    name: str
    shape: Shape
    about: str
    example: object
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A map with known keys. `what` names it for people."""

    what: str
    keys: tuple[Key, ...]
    least: int = 0
    refused: MappingABC[str, str] = field(default_factory=dict)  # keys that people will write, and why they can't stand
    one_of: tuple[str, ...] = ()  # exactly one of these keys stands

    def check(self, node: Node, problems: Problems) -> None:
        if not isinstance(node, Mapping):
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
            return
        known = {key.name: key for key in self.keys}
        for name, entry in node.entries.items():
            if name in known:
                known[name].shape.check(entry.node, problems)
            elif name in self.refused:
                problems.add(entry.key.mark, show(name), self.refused[name])
            else:
                problems.add(
                    entry.key.mark, show(name), f"{self.what} has no such key; it has {listed(known)}", nearest(name, known)
                )
        for key in self.keys:
            if key.required and key.name not in node.entries:
                problems.add(node.mark, f"{self.what} without `{key.name}`", f"write `{key.name}`: {key.about}")
        chosen = [name for name in self.one_of if name in node.entries]
        if self.one_of and len(chosen) != 1:
            found = " and ".join(f"`{name}`" for name in chosen) if chosen else f"{self.what} with none of {listed(self.one_of)}"
            mark = node.entries[chosen[-1]].key.mark if chosen else node.mark
            problems.add(mark, found, f"exactly one of {listed(self.one_of)} stands in {self.what}")
        if len(node.entries) < self.least:
            problems.add(node.mark, "an empty map", f"wanted {self.wanted}")

    def schema(self) -> Schema:
        properties = {key.name: {**key.shape.schema(), "description": key.about, "examples": [key.example]} for key in self.keys}
        found: Schema = {"title": self.what, "type": "object", "additionalProperties": False, "properties": properties}
        if required := [key.name for key in self.keys if key.required]:
            found["required"] = required
        if self.least:
            found["minProperties"] = self.least
        if self.one_of:
            found["oneOf"] = [{"required": [name]} for name in self.one_of]
        return found

    @property
    def wanted(self) -> str:
        return f"{self.what}: a map of {listed(key.name for key in self.keys)}"


@dataclass(frozen=True, slots=True)
class ByKind:
    """Another shape for each kind of node. What is None is a mistake."""

    what: str
    scalar: Shape | None = None
    sequence: Shape | None = None
    mapping: Shape | None = None

    def check(self, node: Node, problems: Problems) -> None:
        shape = self._for(node)
        if shape is None or (isinstance(node, Scalar) and node.is_null):
            problems.add(node.mark, kind(node), f"wanted {self.wanted}")
        else:
            shape.check(node, problems)

    def _for(self, node: Node) -> Shape | None:
        match node:
            case Scalar():
                return self.scalar
            case Sequence():
                return self.sequence
            case Mapping():
                return self.mapping

    def schema(self) -> Schema:
        return {"anyOf": [shape.schema() for shape in (self.scalar, self.sequence, self.mapping) if shape is not None]}

    @property
    def wanted(self) -> str:
        return self.what
