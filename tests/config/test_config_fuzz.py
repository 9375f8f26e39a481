"""Whatever stands anywhere in the documents, loading answers: with a snapshot, or with problems that have a place; never both."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from config_documents import AT, WORLD
from hypothesis import given, settings
from hypothesis import strategies as st
from test_config_schema import plain

from gateway.config.check import run_cases
from gateway.config.compile import load
from gateway.config.documents import read_text
from gateway.config.problems import Problems
from gateway.config.secrets import resolve_secrets
from gateway.core.view import View, edges

CASES = [
    {
        "note": "n",
        "given": {"tenant": "clinic", "key": "ward-4", "asked": "auto", "region": "DE", "at": "2027-05-21", "abilities": ["tools"]},
        "want": {"routes": ["frankfurt/glm"], "excluded": {"zai/glm": ["no permit"]}},
    }
]


def _document(text: str) -> Any:
    node = read_text(text, "x.yaml", Problems())
    assert node is not None
    return plain(node)


DOCUMENTS: dict[str, Any] = {name: _document(text) for name, text in WORLD.items()} | {"cases/some.yaml": CASES}

Path_ = tuple[str | int, ...]


def _paths(value: Any, path: Path_ = ()) -> list[Path_]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for key, item in inner for found in _paths(item, (*path, key)))]


PLACES = [(name, path) for name, document in DOCUMENTS.items() for path in _paths(document)]

WORDS = [
    "EEA",
    "DE",
    "dpa",
    "personal",
    "health",
    "clinic",
    "auto",
    "glm",
    "anywhere",
    "other",
    "-",
    "${z}",
    "env:X",
    "",
    " ",
    "2027-05-20",
]
ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, False, 0, -1, 1, 10**30, 0.5, [], {}, [[]], [None], [{}], {"": None}, {"id": "x"}, {"at_least": "x"}]
    ),
    st.sampled_from(WORDS),
    st.sampled_from(WORDS).map(lambda word: [word]),
    st.text(max_size=12),
    st.sampled_from(PLACES).map(lambda place: _at(place)),
)


def _at(place: tuple[str, Path_]) -> Any:
    value = DOCUMENTS[place[0]]
    for step in place[1]:
        value = value[step]
    return copy.deepcopy(value)


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """The small world with one to three things elsewhere than they belong, or gone, or under another name."""
    documents = copy.deepcopy(DOCUMENTS)
    for _ in range(draw(st.integers(1, 3))):
        name, path = draw(st.sampled_from(PLACES))
        holder: Any
        holder, last = documents, [name, *path]
        try:
            for step in last[:-1]:
                holder = holder[step]
            if draw(st.booleans()) or not isinstance(holder, dict):
                holder[last[-1]] = copy.deepcopy(draw(ODD))
            elif draw(st.booleans()):
                del holder[last[-1]]
            else:
                holder[draw(st.text(max_size=6))] = holder.pop(last[-1])
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    return documents


@settings(max_examples=150)
@given(documents=spoilt())
def test_loading_always_answers(tmp_path_factory: pytest.TempPathFactory, documents: dict[str, Any]) -> None:
    folder: Path = tmp_path_factory.mktemp("spoilt")
    (folder / "cases").mkdir()
    for name, document in documents.items():
        if name.endswith(".yaml"):
            (folder / name).write_text(json.dumps(document, indent=1))
    loaded = load(folder, at=AT)
    assert (loaded.snapshot is None) == bool(loaded.problems)
    for problem in (*loaded.problems, *loaded.warnings, *loaded.case_problems):
        assert problem.found
        assert problem.wanted
        assert "\n" not in str(problem)
        assert (problem.line == 0) == (problem.column == 0)
    if loaded.snapshot is not None:  # what loads can be used
        for instant in (AT, *edges(loaded.snapshot)):
            View(loaded.snapshot, instant)
        run_cases(loaded.snapshot, loaded.cases, AT)
        resolve_secrets(loaded.snapshot.policy, {})
