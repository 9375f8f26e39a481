"""Rates: how much a tenant or a key may ask for in how much time."""

import re
from typing import Final

from gateway.config.documents import Node
from gateway.config.problems import Mark, Problems
from gateway.config.reading import field, whole, word
from gateway.config.shapes import Key, Record, Whole, Word
from gateway.config.tariffs import SPAN_S
from gateway.core.rates import Rate, Rates

RATE: Final = re.compile(r"([1-9][0-9]{0,11})/([1-9][0-9]{0,3})?(s|min|h|d|w)")
_RATE: Final = Word("a number per span, such as `600/min` or `1000/5h`", pattern=RATE.pattern)

RATES: Final = Record(
    "`rates`",
    (
        Key("requests", _RATE, "how many requests; all of them may come at once, and then as many as time brings back", "600/min"),
        Key("tokens", _RATE, "tokens of prompts and answers: held by estimate, corrected by what was used", "2000000/min"),
        Key("concurrency", Whole("requests", 1, 1_000_000), "how many requests may be under way at once", 50),
    ),
    least=1,
)


def compile_rates(node: Node | None) -> Rates | None:
    """What `rates:` says; None where it says nothing."""
    if node is None:
        return None
    return Rates(_rate(field(node, "requests")), _rate(field(node, "tokens")), whole(field(node, "concurrency")))


def _rate(node: Node | None) -> Rate | None:
    found = word(node)
    parts = RATE.fullmatch(found.word) if found is not None else None
    return None if parts is None else Rate(int(parts[1]), int(parts[2] or 1) * SPAN_S[parts[3]])


def warn_of_idle(what: str, mark: Mark, rates: Rates | None, tenant: Rates | None, warnings: Problems) -> None:
    """Both hold, a key's and its tenant's: what is wider than the tenant's never decides."""
    if rates is None or tenant is None:
        return
    for kind in ("requests", "tokens"):
        own, whose = getattr(rates, kind), getattr(tenant, kind)
        if own is not None and whose is not None and own.per_s == whose.per_s and own.amount > whose.amount:
            warnings.add(mark, f"{what} with `{kind}` above its tenant's", f"the tenant's {whose.amount} hold for it, too")
    if rates.concurrency is not None and tenant.concurrency is not None and rates.concurrency > tenant.concurrency:
        warnings.add(mark, f"{what} with `concurrency` above its tenant's", f"the tenant's {tenant.concurrency} hold for it, too")
