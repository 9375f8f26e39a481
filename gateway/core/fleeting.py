"""The dataclass of values that are made anew for each request.

`fleeting(frozen=True)` is `dataclass(frozen=True)` to mypy, which refuses every assignment to a field, here and in tests. At run
time nothing guards the fields: a guarded class sets each through object.__setattr__, which was 14 µs of a plain request's 135.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

__all__ = ["fleeting"]

if TYPE_CHECKING:
    from dataclasses import dataclass as fleeting
else:

    def fleeting(*, frozen, slots=False):
        """Compared and hashed by value, as a frozen dataclass is."""
        return dataclass(unsafe_hash=frozen, slots=slots)
