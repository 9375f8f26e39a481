"""The JSON Schema says what loading says, as far as one file can know; every key is described and has an example that is right."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from config_documents import WORLD
from test_config_mistakes import MISTAKES

from gateway.config.documents import Mapping, Node, Scalar, Sequence, read_text
from gateway.config.limits import LIMITS, REASONS
from gateway.config.problems import Problems
from gateway.config.schema import as_text, cases_schema, policy_schema
from gateway.config.sections import SECTIONS
from gateway.config.shapes import ByKind, Key, ListOf, MapOf, Record, Shape
from gateway.core import bounds
from gateway.core.bounds import Bounds

POLICIES = Path(__file__).parents[2] / "policies"


def plain(node: Node) -> Any:
    """What an editor's YAML 1.2 makes of a document."""
    match node:
        case Mapping():
            return {name: plain(entry.node) for name, entry in node.entries.items()}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar():
            if node.is_null:
                return None
            if (flag := node.flag()) is not None:
                return flag
            if (number := node.number()) is not None:
                return int(number) if number == number.to_integral_value() else float(number)
            return node.text


def errors(text: str, schema: dict[str, Any]) -> list[str]:
    node = read_text(text, "x.yaml", Problems())
    assert node is not None
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(plain(node))]


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_files_meet_it(path: Path) -> None:
    assert errors(path.read_text(), policy_schema()) == []


@pytest.mark.parametrize("path", sorted((POLICIES / "cases").glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_cases_meet_it(path: Path) -> None:
    assert errors(path.read_text(), cases_schema()) == []


@pytest.mark.parametrize("path", sorted(POLICIES.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_files_name_it_for_editors(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert (path.parent / "schema.json").exists()


def test_the_shipped_schemas_are_what_the_command_prints() -> None:
    assert (POLICIES / "schema.json").read_text() == as_text(policy_schema())
    assert (POLICIES / "cases" / "schema.json").read_text() == as_text(cases_schema())


@pytest.mark.parametrize("schema", [policy_schema(), cases_schema()], ids=["policy", "cases"])
def test_they_are_schemas(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$ref" in json.dumps(schema)


EXPRESSIBLE = {
    "unknown section", "unknown key", "unknown key in a rule", "unknown key in a tenant", "a list for a map", "a map for a list",
    "a word for a map", "nothing for a map", "no processed_in", "no origin", "no context", "half a price", "a negative price",
    "a price in quotes", "a price with a comma", "an infinite price", "an unknown dialect", "a literal secret",
    "a variable that can't be", "a day as people write it", "an unknown ability", "a zone without source", "a limit that can't be",
    "a limit in halves", "an unknown limit", "no id", "no effect", "two effects", "a forbid of nothing", "a require of nothing",
    "an unknown fact", "an unknown API", "an unknown label", "a claim that claims nothing", "a limit of money that can't be",
    "a fact nobody can declare", "always of a class", "a key with an underscore", "a digest too short", "an unknown disclosure",
    "a flag in words", "budgets of nobody", "a budget without a window", "a budget of nothing", "a budget of two units",
    "a budget of neither unit", "a budget of half tokens", "a budget per week", "a warning at nothing", "a warning at all",
    "a slip in when_spent", "a slip in when_store_is_lost", "a group without limits", "a rate of an endpoint", "a rate of a model",
    "hours without a clock", "hours that are none", "an unknown day", "peak without times", "rates of nobody", "a rate of nothing",
    "a concurrency of nothing", "rates that say nothing", "detect", "a sink that nobody writes to", "a star in the middle",
    "a store with a password",
}  # fmt: skip
"""Mistakes that one file shows by itself, without knowing any other."""


@pytest.mark.parametrize("row", [row for row in MISTAKES if row[0] in EXPRESSIBLE], ids=lambda row: row[0])
def test_it_refuses_what_one_file_can_show(row: tuple[str, str, str, str, str]) -> None:
    _, old, new, _, _ = row
    text = next(text for text in WORLD.values() if old in text)
    assert errors(text, policy_schema()) == []
    assert errors(text.replace(old, new.replace("¦", ""), 1), policy_schema()) != []


def test_nothing_is_expected_that_is_no_mistake() -> None:
    assert {row[0] for row in MISTAKES} >= EXPRESSIBLE


def keys_of(shape: Shape, path: str = "") -> Iterator[tuple[str, Key]]:
    match shape:
        case Record():
            for key in shape.keys:
                yield f"{path}.{key.name}", key
                yield from keys_of(key.shape, f"{path}.{key.name}")
        case MapOf():
            yield from keys_of(shape.value, f"{path}.*")
        case ListOf():
            yield from keys_of(shape.item, f"{path}[]")
        case ByKind():
            for inner in (shape.scalar, shape.sequence, shape.mapping):
                if inner is not None:
                    yield from keys_of(inner, path)
        case _:
            return


KEYS = dict(keys_of(SECTIONS))


@pytest.mark.parametrize("path", KEYS)
def test_every_key_is_described_and_its_example_is_right(path: str) -> None:
    key = KEYS[path]
    assert len(key.about) > 10
    jsonschema.validate(key.example, key.shape.schema(), jsonschema.Draft202012Validator)
    problems = Problems()
    node = read_text(json.dumps({"v": key.example}), "x.yaml", problems)
    assert isinstance(node, Mapping)
    value = node.get("v")
    assert value is not None
    key.shape.check(value, problems)
    assert problems.in_order() == ()


# --- limits -------------------------------------------------------------------------------------------------------------------


def test_the_reasons_of_limits_are_those_that_stand_beside_them() -> None:
    text = Path(bounds.__file__).with_name("bounds.py").read_text()
    commented = dict(re.findall(r"^    (\w+): (?:int|float) = [\d_.]+  # (.+)$", text, re.MULTILINE))
    assert commented
    assert {name: REASONS[name] for name in commented} == commented


def test_every_limit_has_a_reason_a_number_and_bounds() -> None:
    assert set(REASONS) == {item.name for item in fields(Bounds)} == {key.name for key in LIMITS.keys}
    for key in LIMITS.keys:
        schema = key.shape.schema()
        assert schema["minimum"] <= key.example <= schema["maximum"]
        assert str(key.example) in key.about


def test_this_folder_says_what_it_needs_of_the_core() -> None:
    """config knows core and nothing else of the gateway."""
    folder = Path(inspect.getfile(policy_schema)).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway."):
                assert (node.module or "").split(".")[1] in ("config", "core"), path


def _properties(node: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    if isinstance(node, dict):
        for name, found in node.get("properties", {}).items():
            yield f"{path}/{name}", found
        for name, found in node.items():
            yield from _properties(found, f"{path}/{name}")
    elif isinstance(node, list):
        for number, found in enumerate(node):
            yield from _properties(found, f"{path}/{number}")


def test_every_key_is_explained_with_an_example() -> None:
    """What an editor shows at a key; the shipped schema is the one that the modelines name."""
    found = list(_properties(json.loads((Path(__file__).parents[2] / "policies/schema.json").read_text())))
    assert len(found) > 150
    assert [path for path, said in found if not str(said.get("description", "")).strip() or not said.get("examples")] == []
