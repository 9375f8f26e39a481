"""What an exchange took, in tokens and in money."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final


@dataclass(unsafe_hash=True, slots=True, init=False)
class Usage:
    """Tokens of one exchange. Input is uncached + cached + cache_write; reasoning is part of output."""

    uncached: Final[int]
    cached: Final[int]
    cache_write: Final[int]
    output: Final[int]
    reasoning: Final[int]
    reported: Final[bool]  # False: our own estimate

    def __init__(
        self,
        uncached: int = 0,
        cached: int = 0,
        cache_write: int = 0,
        output: int = 0,
        reasoning: int = 0,
        reported: bool = False,
    ) -> None:
        self.uncached = uncached
        self.cached = cached
        self.cache_write = cache_write
        self.output = output
        self.reasoning = reasoning
        self.reported = reported

    @property
    def input(self) -> int:
        return self.uncached + self.cached + self.cache_write


@dataclass(unsafe_hash=True, slots=True, init=False)
class Cost:
    """US dollars of one exchange, and how they are known."""

    usd: Final[Decimal]
    basis: Final[str]  # "reported", "estimated" or "none" (nothing was processed)

    def __init__(self, usd: Decimal, basis: str) -> None:
        self.usd = usd
        self.basis = basis
