"""How much of something is covered, and what is not."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor
from typing import Self


@dataclass(frozen=True, slots=True)
class Share:
    """So many things of `total`; `missing` names the others, in order."""

    total: int
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Iterable[tuple[str, bool]]) -> Self:
        """The share of names that come with True."""
        found = list(found)
        return cls(len(found), tuple(name for name, covered in found if not covered))

    @property
    def covered(self) -> int:
        return self.total - len(self.missing)

    @property
    def percent(self) -> float:
        """From 0 to 100. Of nothing, all is covered."""
        return 100.0 * self.covered / self.total if self.total else 100.0

    def __str__(self) -> str:
        return f"{self.covered} of {self.total} ({floor(self.percent)} %)"  # down: 100 % is said of all and of nothing less

    def as_record(self) -> dict[str, object]:
        """The share as JSON can hold it."""
        return {"covered": self.covered, "total": self.total, "missing": list(self.missing)}
