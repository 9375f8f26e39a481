"""How endpoints are paid: a price per token, a plan, or machines by the hour. Unpriced is an error; 0 is a price."""

import re
from collections.abc import Collection
from decimal import Decimal
from itertools import pairwise
from typing import Final

from gateway.config.documents import Node, Scalar
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At, amount, entries, field, text, whole, word, words
from gateway.config.shapes import Amount, Key, ListOf, MapOf, Record, Text, Whole, Word
from gateway.core.accounts import WhenLost
from gateway.core.pricing import DAY_MIN, EVERY_DAY, Capacity, Peak, Plan, Price, Quota, Tariff, Waiting

USD_PER_MILLION: Final = Amount("US dollars per million tokens", most=Decimal(100_000))

PRICE: Final = Record(
    "a price",
    (
        Key("input", USD_PER_MILLION, "US dollars per million tokens of input", 1.5, required=True),
        Key("output", USD_PER_MILLION, "US dollars per million tokens of output", 7.5, required=True),
        Key("cached_input", USD_PER_MILLION, "for input that the provider had cached; as `input` where it is not stated", 0.15),
        Key(
            "cache_write",
            USD_PER_MILLION,
            "for input that the provider puts into its cache; as `input` where it is not stated",
            1.875,
        ),
    ),
)

SPAN: Final = re.compile(r"([1-9][0-9]{0,5})(s|min|h|d|w)")
SPAN_S: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}

WHEN_LOST: Final = Key(
    "when_store_is_lost",
    Word("what happens then", of=tuple(WhenLost)),
    "while the shared store can't be asked: `share` (the default) has each worker keep to its even share, `admit` limits nothing, "
    "`refuse` lets nothing begin",
    "share",
)


def lost(node: Node | None) -> WhenLost:
    """What `when_store_is_lost` of a limit says."""
    found = word(field(node, WHEN_LOST.name))
    return WhenLost(found.word) if found is not None and found.word in tuple(WhenLost) else WhenLost.SHARE


HOURS: Final = re.compile(
    r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9]) UTC(?:([+-])([0-9]{1,2})(?::([0-5][0-9]))?)?"
)
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

PEAK: Final = Record(
    "`peak`",
    (
        Key(
            "hours",
            Word("hours and where their clock is, such as `14:00-18:00 UTC+8`", pattern=HOURS.pattern),
            "from when to when, and on which clock; an end before its beginning is the next day's",
            "14:00-18:00 UTC+8",
            required=True,
        ),
        Key("days", ListOf(Word("a day", of=DAYS)), "on which days it begins; on all, where it is not stated", ["mon", "tue"]),
        Key(
            "times",
            Amount("a factor", Decimal("0.001"), Decimal(1_000)),
            "how many times as much of the quotas a request takes then",
            1.5,
            required=True,
        ),
    ),
)

PLAN: Final = Record(
    "a plan",
    (
        Key("name", Text(), "what the provider calls it", "pro", required=True),
        Key("usd_per_month", Amount("US dollars a month"), "what it costs, used or not", 18, required=True),
        Key(
            "quotas",
            ListOf(
                Record(
                    "a quota",
                    (
                        Key("requests", Whole("requests", 1), "how many requests the plan covers per window", 600, required=True),
                        Key(
                            "per",
                            Word("a span, such as `5h`, `30min` or `7d`", pattern=SPAN.pattern),
                            "the window they are counted in",
                            "5h",
                            required=True,
                        ),
                    ),
                )
            ),
            "how much of it may be used in any span of that length, by all endpoints that show the same credential",
            [{"requests": 600, "per": "5h"}, {"requests": 3000, "per": "7d"}],
        ),
        Key(
            "weight",
            MapOf(Word("a model"), Amount("a weight", Decimal("0.001"), Decimal(1_000))),
            "how many requests of a quota one request to a model counts as; 1 where it is not stated",
            {"glm-5.1": 3},
        ),
        Key("peak", PEAK, "hours in which a request takes more of the quotas", {"hours": "14:00-18:00 UTC+8", "times": 1.5}),
        Key(
            "when_exhausted",
            Word("what happens then", of=("refuse", "price")),
            "once its quotas are used up: `refuse` (the default) takes the routes away, `price` goes on at each model's price",
            "refuse",
        ),
        WHEN_LOST,
    ),
)

AT_ONCE: Final = "how many requests they can work on at once; workers of all machines on one store share it, and the queue, evenly"

CAPACITY: Final = Record(
    "`capacity`",
    (
        Key("usd_per_hour", Amount("US dollars an hour"), "what the machines cost, used or not", 12.8, required=True),
        Key("concurrency", Whole("requests", 1, 1_000_000), AT_ONCE, 48, required=True),
        Key(
            "queue",
            Record(
                "a queue",
                (
                    Key("length", Whole("requests", 1, 100_000), "how many may wait; what is beyond goes on", 100, required=True),
                    Key("wait_s", Amount("seconds", Decimal("0.1"), Decimal(600)), "how long each may wait", 5, required=True),
                ),
            ),
            "whether requests wait while they are full and no other route is open; tenants take turns, higher `priority` first",
            {"length": 100, "wait_s": 5},
        ),
    ),
)


def compile_price(node: Node | None) -> Price | None:
    """US dollars per million tokens."""
    paid, got = amount(field(node, "input")), amount(field(node, "output"))
    if paid is None or got is None:
        return None
    cached, written = amount(field(node, "cached_input")), amount(field(node, "cache_write"))
    return Price(paid, got, paid if cached is None else cached, paid if written is None else written)


def compile_plan(node: Node | None, served: Collection[str], known: Known, problems: Problems, warnings: Problems) -> Plan | None:
    """A subscription of an endpoint that serves the models `served`."""
    cost = amount(field(node, "usd_per_month"))
    if node is None or cost is None:
        return None
    weights = {}
    for name, (mark, value) in entries(field(node, "weight")).items():
        weight = amount(value)
        if known.has("model", At(name, mark), problems) and weight is not None:
            weights[name] = weight
            if name not in served:
                warnings.add(mark, f"the weight of `{name}`", "this endpoint does not serve it, so nothing is weighed by it")
    then, quotas = word(field(node, "when_exhausted")), _quotas(field(node, "quotas"), problems, warnings)
    for name in ("weight", "peak", WHEN_LOST.name) if not quotas else ():
        if (idle := field(node, name)) is not None:
            warnings.add(idle.mark, f"`{name}` of a plan without `quotas`", "it does nothing: nothing is counted")
    return Plan(
        name=text(field(node, "name")),
        usd_per_month=cost,
        quotas=quotas,
        when_exhausted=then.word if then else "refuse",
        weights=weights,
        peak=_peak(field(node, "peak"), problems),
        when_lost=lost(node),
    )


def _peak(node: Node | None, problems: Problems) -> Peak | None:
    hours, times, days = word(field(node, "hours")), amount(field(node, "times")), words(field(node, "days"))
    parts = HOURS.fullmatch(hours.word) if hours is not None else None
    if hours is None or parts is None or times is None:
        return None
    begins, ends = int(parts[1]) * 60 + int(parts[2]), int(parts[3]) * 60 + int(parts[4])
    ahead = (int(parts[6] or 0) * 60 + int(parts[7] or 0)) * (-1 if parts[5] == "-" else 1)
    if begins == ends or ends > DAY_MIN or abs(ahead) > AHEAD_MIN_MAX:
        problems.add(hours.mark, show(hours.word), f"wanted {PEAK.keys[0].shape.wanted}")
    on = frozenset(DAYS.index(at.word) for at in days if at.word in DAYS)
    return Peak(begins, ends, ahead, times, on or EVERY_DAY)


AHEAD_MIN_MAX: Final = 14 * 60  # no clock on earth is further from UTC


def _quotas(node: Node | None, problems: Problems, warnings: Problems) -> tuple[Quota, ...]:
    found: dict[int, Quota] = {}
    marks: dict[int, Mark] = {}
    for item in getattr(node, "items", ()):
        requests, per = whole(field(item, "requests")), field(item, "per")
        span = SPAN.fullmatch(per.text) if isinstance(per, Scalar) else None
        if requests is None or span is None:
            continue  # told by its shape
        quota = Quota(requests, int(span[1]) * SPAN_S[span[2]])
        if quota.per_s in found:
            problems.add(item.mark, "two quotas for one window", "the smaller one holds; keep that")
        found.setdefault(quota.per_s, quota)
        marks.setdefault(quota.per_s, item.mark)
    ascending = [found[per_s] for per_s in sorted(found)]
    for shorter, longer in pairwise(ascending):
        if longer.requests <= shorter.requests:
            wanted = f"the longer window's {longer.requests} hold for it, too"
            warnings.add(marks[shorter.per_s], f"a quota of {shorter.requests} that never decides", wanted)
        elif longer.requests >= -(-longer.per_s // shorter.per_s) * shorter.requests:
            wanted = f"the shorter window's {shorter.requests} let no more through"
            warnings.add(marks[longer.per_s], f"a quota of {longer.requests} that never decides", wanted)
    return tuple(ascending)


def compile_capacity(node: Node | None) -> Capacity | None:
    """Machines by the hour."""
    cost, at_once = amount(field(node, "usd_per_hour")), whole(field(node, "concurrency"))
    return None if cost is None or at_once is None else Capacity(cost, at_once, _waiting(field(node, "queue")))


def _waiting(node: Node | None) -> Waiting | None:
    length, wait_s = whole(field(node, "length")), amount(field(node, "wait_s"))
    return None if length is None or wait_s is None else Waiting(length, float(wait_s))


def compile_tariff(
    what: str, mark: Mark, price: Node | None, plan: Plan | None, capacity: Capacity | None, problems: Problems
) -> Tariff:
    """How one deployment is paid. Nothing at all is an error: a router that takes it for free would send everything there."""
    found = compile_price(price)
    if price is None and plan is None and capacity is None:
        problems.add(
            mark,
            f"{what} without a price",
            "write `price: {input: …, output: …}` (0 is one), or `plan` or `capacity` on its endpoint",
        )
    if plan is not None and plan.when_exhausted == "price" and price is None:
        problems.add(mark, f"{what} without a price", "its plan says `when_exhausted: price`, so it needs one")
    return Tariff(found, plan, capacity)
