"""One line for one exchange, from its ledger records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

QUIET: Final = frozenset({"not asked", "disabled"})
"""Reasons that tell nothing of a policy at work."""

SHOWN_MAX: Final = 3  # rules named in a line; the ledger has all


@dataclass(frozen=True, slots=True)
class Line:
    """What there is to see of an exchange."""

    tenant: str
    asked: str
    went: str
    excluded: str
    tokens: str
    usd: str
    ms: float

    @classmethod
    def of(cls, settled: Mapping[str, Any], decided: Mapping[str, Any]) -> Self:
        """From a `settled` record, and the record that says the decision."""
        tried = [
            attempt["route"] if attempt["outcome"] == "served" else f"{attempt['route']} ({attempt['outcome']})"
            for attempt in settled["attempts"]
        ]
        words: dict[str, int] = {}
        for reasons in decided["decision"]["excluded"].values():
            if not QUIET.intersection(reasons):
                for word in reasons:
                    words[word] = words.get(word, 0) + 1
        named = [f"{count} by {word}" for word, count in sorted(words.items(), key=lambda item: -item[1])]
        more = f" and {len(named) - SHOWN_MAX} more" if len(named) > SHOWN_MAX else ""
        usage = settled["usage"]
        tokens = "0" if usage is None else f"{usage['uncached'] + usage['cached'] + usage['cache_write']}+{usage['output']}"
        return cls(
            tenant=settled["tenant"],
            asked=settled["asked"],
            went=" → ".join(tried) or f"nowhere ({settled['result']})",
            excluded=", ".join(named[:SHOWN_MAX]) + more,
            tokens=tokens,
            usd=f"{float(settled['cost_usd']):.6f}",
            ms=(settled["ended"] - settled["began"]) * 1000,
        )


def headed() -> str:
    """The heading over lines."""
    return f"{'tenant':9}{'asked':20}{'tokens':>10}{'USD':>10}{'ms':>8}  went, and what was excluded"


def lined(line: Line) -> str:
    """A line as a table's row."""
    out = f"  (not: {line.excluded})" if line.excluded else ""
    return f"{line.tenant:9.9}{line.asked:20.19}{line.tokens:>10}{line.usd:>10}{line.ms:>8.0f}  {line.went}{out}"
