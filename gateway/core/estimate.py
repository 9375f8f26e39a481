"""What a request would cost at one deployment, with its parts: tokens at a price each, or a plan or capacity paid for anyway."""

from dataclasses import dataclass
from decimal import Decimal

from gateway.core.policy import Deployment
from gateway.core.pricing import MILLION, Capacity, Plan
from gateway.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Charge:
    """One part of an estimate. Money is written out in decimal, never as a float."""

    what: str  # "input", "cached input" or "output"
    tokens: int
    usd_per_million: str
    usd: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the request would cost at the margin. `paid`: by tokens, or by a plan or capacity, whose `terms` are told."""

    paid: str
    usd: str
    parts: tuple[Charge, ...]
    terms: str = ""


def estimate(deployment: Deployment, prompt_tokens: int, output_tokens: int) -> Estimate:
    """What a request of this size costs there at the margin, with its parts. Nothing is taken to be cached yet."""
    tariff = deployment.tariff
    if tariff.plan is not None:
        return Estimate(f"plan {tariff.plan.name}", "0", (), _plan(tariff.plan, deployment.model.id))
    if tariff.capacity is not None or tariff.price is None:
        return Estimate("capacity", "0", (), "" if tariff.capacity is None else _capacity(tariff.capacity))
    price = tariff.price
    sizes = (
        ("input", prompt_tokens, price.input),
        ("cached input", 0, price.cached_input),
        ("output", output_tokens, price.output),
    )
    parts = tuple(Charge(what, tokens, money(usd), money(usd * tokens / MILLION)) for what, tokens, usd in sizes)
    return Estimate("tokens", money(price.cost(Usage(uncached=prompt_tokens, output=output_tokens))), parts)


def money(usd: Decimal) -> str:
    """US dollars in decimal, without zeros at the end."""
    return f"{usd.normalize():f}"


def _plan(plan: Plan, model: str) -> str:
    weight = plan.weights.get(model, Decimal(1))
    quotas = [f"{quota.requests:,} requests per {_span(quota.per_s)}" for quota in plan.quotas]
    counts = f"one of `{model}` counts as {money(weight)}" if weight != 1 else ""
    told = [f"${money(plan.usd_per_month)} a month", *quotas, counts, f"when exhausted: {plan.when_exhausted}"]
    return ", ".join(part for part in told if part)


def _capacity(capacity: Capacity) -> str:
    return f"${money(capacity.usd_per_hour)} an hour whether used or not, {capacity.concurrency:,} requests at once"


def _span(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
