"""Where in a folder of documents something stands, for warnings on values that remember only a line, or no place at all."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.config.documents import Sequence, read_file
from gateway.config.problems import Mark, Problem, Problems
from gateway.config.reading import entries, field, word
from gateway.proof.lint import Advice


def marked(folder: Path, found: Iterable[Advice]) -> tuple[Problem, ...]:
    """Each warning with its place; what stands nowhere is told of the folder."""
    found = tuple(found)
    keys = _keys(folder) if any(advice.key for advice in found) else {}
    problems = Problems()
    for advice in found:
        mark = keys.get(advice.key, Mark(".")) if advice.key else _mark(advice.line)
        problems.add(Mark(str(folder / mark.file), mark.line, mark.column), advice.found, advice.wanted)
    return problems.in_order()


def _mark(line: str) -> Mark:
    """What `file:line` says; the column is the first."""
    file, _, number = line.rpartition(":")
    return Mark(file, int(number), 1) if file and number.isdigit() else Mark(line or ".")


def _keys(folder: Path) -> dict[str, Mark]:
    """Where each key stands."""
    return {name: mark for path in sorted(folder.glob("*.yaml")) for name, mark in _keys_in(path)}


def _keys_in(path: Path) -> Iterator[tuple[str, Mark]]:
    document = read_file(path, path.name, Problems())
    for _, tenant in entries(field(document, "tenants")).values():
        keys = field(tenant, "keys")
        for item in keys.items if isinstance(keys, Sequence) else ():
            if (name := word(field(item, "id"))) is not None:
                yield name.word, name.mark
