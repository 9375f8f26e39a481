"""How endpoints are paid: a price per token, a plan, or machines by the hour. Unpriced is an error; 0 is a price."""

import re
from decimal import Decimal
from typing import Final

from gateway.config.documents import Node, Scalar
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems
from gateway.config.reading import At, amount, entries, field, text, whole, word
from gateway.config.shapes import Amount, Key, ListOf, MapOf, Record, Text, Whole, Word
from gateway.core.pricing import Capacity, Plan, Price, Quota, Tariff

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
            "how much of it may be used per window",
            [{"requests": 600, "per": "5h"}],
        ),
        Key(
            "weight",
            MapOf(Word("a model"), Amount("a weight", Decimal("0.001"), Decimal(1_000))),
            "how many requests of a quota one request to a model counts as; 1 where it is not stated",
            {"glm-5.1": 3},
        ),
        Key(
            "when_exhausted",
            Word("what happens then", of=("refuse", "price")),
            "once its quotas are used up: `refuse` (the default) takes the routes away, `price` goes on at each model's price",
            "refuse",
        ),
    ),
)

CAPACITY: Final = Record(
    "`capacity`",
    (
        Key("usd_per_hour", Amount("US dollars an hour"), "what the machines cost, used or not", 12.8, required=True),
        Key("concurrency", Whole("requests", 1, 1_000_000), "how many requests they can work on at once", 48, required=True),
    ),
)


def compile_price(node: Node | None) -> Price | None:
    """US dollars per million tokens."""
    paid, got = amount(field(node, "input")), amount(field(node, "output"))
    if paid is None or got is None:
        return None
    cached, written = amount(field(node, "cached_input")), amount(field(node, "cache_write"))
    return Price(paid, got, paid if cached is None else cached, paid if written is None else written)


def compile_plan(node: Node | None, known: Known, problems: Problems) -> Plan | None:
    """A subscription."""
    cost = amount(field(node, "usd_per_month"))
    if node is None or cost is None:
        return None
    weights = {}
    for name, (mark, value) in entries(field(node, "weight")).items():
        weight = amount(value)
        if known.has("model", At(name, mark), problems) and weight is not None:
            weights[name] = weight
    then = word(field(node, "when_exhausted"))
    return Plan(text(field(node, "name")), cost, _quotas(field(node, "quotas")), then.word if then else "refuse", weights)


def _quotas(node: Node | None) -> tuple[Quota, ...]:
    found = []
    for item in getattr(node, "items", ()):
        requests, per = whole(field(item, "requests")), field(item, "per")
        span = SPAN.fullmatch(per.text) if isinstance(per, Scalar) else None
        if requests is not None and span is not None:
            found.append(Quota(requests, int(span[1]) * SPAN_S[span[2]]))
    return tuple(sorted(found, key=lambda quota: (quota.per_s, quota.requests)))


def compile_capacity(node: Node | None) -> Capacity | None:
    """Machines by the hour."""
    cost, at_once = amount(field(node, "usd_per_hour")), whole(field(node, "concurrency"))
    return None if cost is None or at_once is None else Capacity(cost, at_once)


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
