"""What is wrong with a document, and where: one line for people, fields for machines.

Promises: every mistake is told at once, each with file, line, column, what was found, what would be right and the nearest known
word. What looks like a secret is never shown, even where somebody put it by mistake.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

SHOWN_CHARS_MAX: Final = 60  # of a value that is quoted back: enough to find it, not enough to flood a terminal

PROBLEMS_MAX: Final = 1_000  # told at once; a bomb makes millions, a person mends a handful

SECRET: Final = re.compile(
    r"rg_(live|demo)_|\bsk-|\beyJ[\w-]{10}|[Bb]earer |AKIA[0-9A-Z]{8}|://[^/\s]*@|(?=(?:[A-Za-z+_=]*[0-9]){3})[A-Za-z0-9+_=]{24,}"
)
"""Shapes of credentials: our keys, OpenAI's, JWTs, AWS', a URL's user part, and anything long, unbroken and with digits in it."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a document. Lines and columns count from 1, columns in characters; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake, or one warning. `nearest` is the known word that was probably meant, or empty."""

    file: str
    line: int
    column: int
    found: str
    wanted: str
    nearest: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        mend = f"; did you mean `{self.nearest}`?" if self.nearest else ""
        return f"{place}: {self.found}: {self.wanted}{mend}"

    def as_record(self) -> dict[str, object]:
        """The problem as JSON can hold it."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "found": self.found,
            "wanted": self.wanted,
            "nearest": self.nearest,
        }


@dataclass(slots=True)
class Problems:
    """Collects mistakes while documents are checked; the same one at the same place is told once."""

    found: dict[Problem, None] = field(default_factory=dict)
    _places: set[tuple[str, int, int]] = field(default_factory=set)

    def add(self, mark: Mark, found: str, wanted: str, nearest: str = "") -> None:
        """Note one mistake at `mark`."""
        if len(self.found) < PROBLEMS_MAX:
            self._places.add((mark.file, mark.line, mark.column))
            meant = nearest if show(nearest) == f"`{nearest}`" else ""  # a name can be wrong where it is defined, too
            self.found.setdefault(Problem(mark.file, mark.line, mark.column, printable(found), printable(wanted), meant))

    def once(self, what: str, name: str, mark: Mark, seen: dict[str, Mark], why: str = "") -> None:
        """Tell of `what` is called `name` if another one is; `seen` has where each name stood first."""
        if name in seen:
            self.add(mark, f"{what} {show(name)} for the second time", f"the first stands at {seen[name]}{why}")
        seen.setdefault(name, mark)

    def told_of(self, mark: Mark) -> bool:
        """Whether something is wrong at `mark` already, so that more about the same word would be an echo."""
        return (mark.file, mark.line, mark.column) in self._places

    def __len__(self) -> int:
        return len(self.found)

    def in_order(self) -> tuple[Problem, ...]:
        """All of them, by file, line and column."""
        return tuple(sorted(self.found))


def printable(text: str) -> str:
    """`text` on one line, and nothing in it that a terminal obeys."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def show(value: str) -> str:
    """`value` in backticks, short, on one line, and masked if it looks like a secret."""
    if SECRET.search(value):
        return "a value that looks like a secret"
    line = printable(value)
    return f"`{line[:SHOWN_CHARS_MAX]}…`" if len(line) > SHOWN_CHARS_MAX else f"`{line}`"


def render(problems: Iterable[Problem], heading: str) -> str:
    """One line for each problem under `heading`, as the commands print them."""
    lines = [str(problem) for problem in problems]
    return "\n".join((f"{heading} ({len(lines)}):", *(f"  {line}" for line in lines))) if lines else ""
