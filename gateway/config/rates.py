"""Rates: how much a tenant, a key, a group, an endpoint or a model may be asked in how much time."""

import re
from typing import Final

from gateway.config.documents import Mapping, Node
from gateway.config.problems import Mark, Problems
from gateway.config.reading import field, whole, word
from gateway.config.shapes import Key, Record, Whole, Word
from gateway.config.tariffs import SPAN_S, WHEN_LOST, lost
from gateway.core.rates import Rate, Rates

RATE: Final = re.compile(r"([1-9][0-9]{0,11})/([1-9][0-9]{0,3})?(s|min|h|d|w)")
_RATE: Final = Word("a number per span, such as `600/min` or `1000/5h`", pattern=RATE.pattern)

RATES: Final = Record(
    "`rates`",
    (
        Key("requests", _RATE, "how many requests; all of them may come at once, and then as many as time brings back", "600/min"),
        Key("tokens", _RATE, "tokens of prompts and answers: held by estimate, corrected by what was used", "2000000/min"),
        Key("concurrency", Whole("requests", 1, 1_000_000), "how many requests may be under way at once", 50),
        WHEN_LOST,
    ),
    least=1,
)


def compile_rates(node: Node | None, problems: Problems) -> Rates | None:
    """What `rates:` says; None where it says nothing."""
    if node is None:
        return None
    rates = Rates(
        requests=_rate(field(node, "requests")),
        tokens=_rate(field(node, "tokens")),
        concurrency=whole(field(node, "concurrency")),
        when_lost=lost(node),
    )
    if isinstance(node, Mapping) and set(node.entries) == {WHEN_LOST.name}:
        problems.add(node.mark, "`rates` without a rate", "write `requests`, `tokens` or `concurrency`, or remove it")
    return rates


def _rate(node: Node | None) -> Rate | None:
    found = word(node)
    parts = RATE.fullmatch(found.word) if found is not None else None
    return None if parts is None else Rate(int(parts[1]), int(parts[2] or 1) * SPAN_S[parts[3]])


def warn_of_idle(what: str, mark: Mark, rates: Rates | None, whose: str, above: Rates | None, warnings: Problems) -> None:
    """Both hold, a holder's and those of whoever stands above it: what is wider than theirs never decides. `whose` names them."""
    if rates is None or above is None:
        return
    for kind in ("requests", "tokens"):
        own, other = getattr(rates, kind), getattr(above, kind)
        if own is not None and other is not None and own.per_s == other.per_s and own.amount > other.amount:
            warnings.add(mark, f"{what} with `{kind}` above {whose}", f"{whose} {other.amount} hold for it, too")
    if rates.concurrency is not None and above.concurrency is not None and rates.concurrency > above.concurrency:
        warnings.add(mark, f"{what} with `concurrency` above {whose}", f"{whose} {above.concurrency} hold for it, too")


def warn_of_capacity(what: str, mark: Mark, rates: Rates | None, at_once: int | None, warnings: Problems) -> None:
    """An endpoint is sent no more at once than its machines can work on, but in bad moments: for those it may say as much."""
    if rates is not None and rates.concurrency is not None and at_once is not None and rates.concurrency > at_once:
        warnings.add(mark, f"{what} with a rate of `concurrency` that never decides", f"its capacity lets {at_once} in")
