"""The JSON Schema of policy files, made of the tables that validate them: an editor completes and explains every key.

It says what one file can say of itself; words that other files define, and what only the whole shows, are told when loading.
"""

import json
import re
from typing import Any, Final

from gateway.config.cases import CASES
from gateway.config.sections import SECTIONS
from gateway.config.shapes import Schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

ABOUT_THE_PLACE: Final = ("description", "examples")
"""What is said of a property, and not of the shape that stands there."""


def policy_schema() -> Schema:
    """The schema of a policy file."""
    about = "one of the files of a policy folder: any file may hold any section"
    return _document("Residency Gateway policy", about, SECTIONS.schema())


def cases_schema() -> Schema:
    """The schema of a file of cases."""
    about = "requests and their wanted decisions, written by people"
    return _document("Residency Gateway cases", about, CASES.schema())


def as_text(schema: Schema) -> str:
    """A schema as it stands in a file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _document(title: str, about: str, root: Schema) -> Schema:
    shared: dict[str, Schema] = {}
    inner = {key: _hoisted(value, shared) for key, value in root.items()}
    return {"$schema": DIALECT, **inner, "title": title, "description": about, "$defs": dict(sorted(shared.items()))}


def _hoisted(value: Any, shared: dict[str, Schema]) -> Any:
    """`value`, with each record in `$defs` instead: the same ones stand in many places, and a schema is read by people, too."""
    if isinstance(value, list):
        return [_hoisted(item, shared) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") != "object" or "title" not in value:
        return {key: item if key in ABOUT_THE_PLACE else _hoisted(item, shared) for key, item in value.items()}
    place = {key: value[key] for key in ABOUT_THE_PLACE if key in value}
    shape = {key: _hoisted(item, shared) for key, item in value.items() if key not in ABOUT_THE_PLACE}
    return {**place, "$ref": f"#/$defs/{_name(shape, shared)}"}


def _name(shape: Schema, shared: dict[str, Schema]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"^(a|an|the) ", "", shape["title"]).lower()).strip("-")
    number = 1
    while True:
        name = slug if number == 1 else f"{slug}-{number}"
        if shared.setdefault(name, shape) == shape:
            return name
        number += 1
