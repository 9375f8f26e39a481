"""What all bodies have in common when looked at closely: fields of a type, some of which must be there, and a model's name."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.answer import Problem

MODEL_CHARS_MAX: Final = 256  # the longest name of a model on any hub is below 100; names are compared and remembered

Types = Mapping[str, tuple[type | tuple[type, ...], str]]
"""What a field must be, and how that is called in a message."""


def check_types(body: Mapping[str, Any], known: Types, required: tuple[str, ...]) -> None:
    """Raises Problem (400) for the first field that is missing or of another type than `known`, and for a model without a name.

    null is as good as not there; a field that is not `known` may be anything.
    """
    for name in required:
        if body.get(name) is None:
            raise Problem(400, "missing_parameter", f"`{name}` is missing; it must be {known[name][1]}", name)
    for name, value in body.items():
        if name not in known or value is None:
            continue
        types, wanted = known[name]
        if not isinstance(value, types) or isinstance(value, bool) != (types is bool):
            raise Problem(400, "invalid_type", f"`{name}` must be {wanted}", name)
    if not 1 <= len(body["model"]) <= MODEL_CHARS_MAX:
        raise Problem(400, "invalid_value", f"`model` must have 1 to {MODEL_CHARS_MAX} characters", "model")
