"""Our own frozen values as bytes, for another process of this gateway: never for anybody else, and from nobody else."""

import io
import pickle
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any


class _Pickler(pickle.Pickler):
    """Takes a dataclass for what its fields are, and has it made of them again: pickle by itself would fill it in afterwards,
    which a frozen one that is compiled does not let it."""

    def reducer_override(self, obj: object) -> Any:
        if is_dataclass(obj) and not isinstance(obj, type):
            kind = type(obj)
            return kind, tuple([getattr(obj, name) for name in _fields(kind)])
        return NotImplemented


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if each.init)


def pickled(value: object) -> bytes:
    """`value` for pickle.loads. Raises what pickle.dumps raises."""
    body = io.BytesIO()
    _Pickler(body, pickle.HIGHEST_PROTOCOL).dump(value)
    return body.getvalue()
