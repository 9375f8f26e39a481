"""YAML files → trees of nodes that know where they stand.

A small, strict part of YAML 1.2: maps, lists and scalars. Anchors, aliases, tags, merge keys, directives and second documents
are refused, so that what a reviewer reads is what is meant, and nothing expands. A scalar stays text until a table says what it
should be: `NO` is Norway, `1.10` is a price, and neither is ever a float.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from gateway.config.folder import FILE_BYTES_MAX
from gateway.config.problems import Mark, Problems, show

DEPTH_MAX: Final = 24  # of nested maps and lists; the language itself nests eight deep

NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")
"""Numbers as JSON writes them. `1_000`, `0x10`, `.inf` and `010` are not among them: people read those differently."""

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, as text. `plain`: it was not quoted."""

    mark: Mark
    text: str
    plain: bool = True

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in NULLS

    def number(self) -> Decimal | None:
        """The number that stands here, exactly as written, or None."""
        return Decimal(self.text) if self.plain and NUMBER.fullmatch(self.text) and len(self.text) <= 30 else None

    def flag(self) -> bool | None:
        """YAML 1.2: `true` and `false` alone. `yes`, `no`, `on` and `off` are words."""
        return {"true": True, "false": False}.get(self.text) if self.plain else None

    def day(self) -> date | None:
        """The day that stands here, quoted or not, or None."""
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", self.text):
            return None
        try:
            return date.fromisoformat(self.text)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Sequence:
    mark: Mark
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map and what stands under it."""

    key: Scalar
    node: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    mark: Mark
    entries: dict[str, Entry]

    def get(self, key: str) -> "Node | None":
        """What stands under `key`; None where nothing does."""
        entry = self.entries.get(key)
        return None if entry is None else entry.node


Node = Scalar | Sequence | Mapping


def kind(node: Node) -> str:
    """What was found, for people."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a map"
        case Scalar():
            if node.is_null:
                return "nothing"
            # whoever wrote "1.40" looks at a number and sees nothing wrong with it
            quoted = not node.plain and (NUMBER.fullmatch(node.text) or node.text in ("true", "false"))
            return f"{show(node.text)} in quotes" if quoted else show(node.text)


def read_file(path: Path, name: str, problems: Problems) -> Node | None:
    """The tree of one file, or None once a problem says why there is none. `name` is what messages call it."""
    whole = Mark(name)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problems.add(whole, "a file that can't be read", f"{error.strerror or error}".lower())
        return None
    if len(data) > FILE_BYTES_MAX:
        problems.add(whole, f"more than {FILE_BYTES_MAX} bytes", f"a policy file has at most {FILE_BYTES_MAX} bytes; split it")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        problems.add(Mark(name, line, column), f"the byte 0x{data[error.start]:02x}", "policy files are UTF-8")
        return None
    return read_text(text, name, problems)


def read_text(text: str, name: str, problems: Problems) -> Node | None:
    """The tree of `text`, or None once a problem says why there is none."""
    before = len(problems)
    try:
        node = _Reader(name, problems).read(text)
    except _Stop:
        return None
    except MarkedYAMLError as error:
        # `problem` alone: the library's snippet would quote the line, and a line may hold a secret
        at = error.problem_mark or error.context_mark
        mark = Mark(name, at.line + 1, at.column + 1) if at is not None else Mark(name)
        problems.add(mark, "something that is not YAML", " ".join((error.problem or "it ends too early").split()))
        return None
    except (YAMLError, YAMLStreamError) as error:
        position = getattr(error, "position", None)
        mark = _mark_at(name, text, position) if isinstance(position, int) else Mark(name)
        problems.add(mark, "something that is not YAML", str(getattr(error, "reason", "it can't be read")))
        return None
    if node is None or (isinstance(node, Scalar) and node.is_null):
        if len(problems) == before:
            problems.add(Mark(name, 1, 1), "nothing", "write a section, such as `rules:`, or remove the file")
        return None
    return node


def _mark_at(name: str, text: str, position: int) -> Mark:
    before = text[:position]
    return Mark(name, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


class _Stop(Exception):
    """Reading on would only repeat or multiply what has been told."""


class _Reader:
    """Turns the events of one file into nodes, without recursion: depth is an error before it is a danger."""

    def __init__(self, name: str, problems: Problems) -> None:
        self._name = name
        self._problems = problems
        self._documents = 0

    def read(self, text: str) -> Node | None:
        events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        root: list[Node] = []
        open_: list[tuple[Mark, bool, list[Node]]] = []  # mark, is it a map, children (of a map: key, value, key, …)
        for event in events:
            if isinstance(event, DocumentStartEvent):
                self._document(event)
            elif isinstance(event, AliasEvent):
                self._refuse(event, f"the alias `*{event.anchor}`", "write the value out: aliases are not part of this language")
                (open_[-1][2] if open_ else root).append(Scalar(self._mark(event), "null"))
            elif isinstance(event, ScalarEvent):
                self._look(event)
                node = Scalar(self._mark(event), self._text(event), event.style in (None, ""))
                (open_[-1][2] if open_ else root).append(node)
            elif isinstance(event, MappingStartEvent | SequenceStartEvent):
                self._look(event)
                if len(open_) >= DEPTH_MAX:
                    self._refuse(event, f"more than {DEPTH_MAX} maps and lists within each other", "nothing here nests that deep")
                    raise _Stop
                open_.append((self._mark(event), isinstance(event, MappingStartEvent), []))
            elif isinstance(event, CollectionEndEvent):
                mark, is_map, children = open_.pop()
                done: Node = self._map(mark, children) if is_map else Sequence(mark, tuple(children))
                (open_[-1][2] if open_ else root).append(done)
        return root[0] if root else None

    def _document(self, event: DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self._refuse(event, "a second document", "one file holds one document; make it a file of its own")
            raise _Stop
        if event.version or event.tags:
            self._refuse(event, "a `%` directive", "remove it: policy files are YAML 1.2, without tags")

    def _look(self, event: NodeEvent) -> None:
        if event.anchor:
            self._refuse(event, f"the anchor `&{event.anchor}`", "remove it: anchors are not part of this language")
        tag = getattr(event, "tag", None)
        if tag:
            self._refuse(event, f"the tag {show(str(tag))}", "remove it: tags are not part of this language")

    def _text(self, event: ScalarEvent) -> str:
        text = str(event.value)
        if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
            return text
        self._refuse(event, "half a character (a surrogate)", "write the character itself: an escape can't be sent or stored")
        return "?"

    def _map(self, mark: Mark, children: list[Node]) -> Mapping:
        entries: dict[str, Entry] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._problems.add(key.mark, f"{kind(key)} as a key", "keys are words")
                continue
            if key.text == "<<" and key.plain:
                self._problems.add(key.mark, "the merge key `<<`", "write the entries out: merging is not part of this language")
                continue
            first = entries.get(key.text)
            if first is not None:
                self._problems.add(
                    key.mark, f"{show(key.text)} for the second time", f"it stands on line {first.key.mark.line} already"
                )
                continue
            if isinstance(value, Scalar) and value.plain and not value.text:
                value = Scalar(key.mark, "")  # the parser puts nothing where the next thing stands
            entries[key.text] = Entry(key, value)
        return Mapping(mark, entries)

    def _mark(self, event: Event) -> Mark:
        return Mark(self._name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, event: Event, found: str, wanted: str) -> None:
        self._problems.add(self._mark(event), found, wanted)
