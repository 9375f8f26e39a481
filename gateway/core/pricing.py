"""What a request costs at the margin: tokens at a price, a plan's quota, a GPU that is paid for anyway.

Prices are USD per million tokens, in Decimal. Ranking works on floats of the same numbers: it orders, it does not bill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from gateway.core.exchange import Cost, Usage

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. A `cached_input` that is not stated costs what input costs."""

    input: Decimal
    output: Decimal
    cached_input: Decimal
    cache_write: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """USD for `usage`, exact."""
        return (
            self.input * usage.uncached
            + self.cached_input * usage.cached
            + self.cache_write * usage.cache_write
            + self.output * usage.output
        ) / MILLION


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a plan may be used per window."""

    requests: int
    per_s: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A subscription: nothing at the margin until its quota is used up."""

    name: str
    usd_per_month: Decimal
    quotas: tuple[Quota, ...]
    when_exhausted: str  # "refuse" or "price"
    weights: Mapping[str, Decimal] = field(default_factory=dict)  # model -> how much of a quota one request takes; 1 if not here


@dataclass(frozen=True, slots=True)
class Capacity:
    """Machines that are paid for by the hour, used or not."""

    usd_per_hour: Decimal
    concurrency: int


@dataclass(frozen=True, slots=True)
class Tariff:
    """How one deployment is paid: a price, a plan, or capacity. At least one of them is there."""

    price: Price | None = None
    plan: Plan | None = None
    capacity: Capacity | None = None

    def estimate_usd(self, prompt_tokens: int, output_tokens: int) -> float:
        """Marginal USD of a request that is yet to be made, nothing of it cached."""
        if self.plan is not None or self.capacity is not None or self.price is None:
            return 0.0
        return (float(self.price.input) * prompt_tokens + float(self.price.output) * output_tokens) / 1e6

    def settle(self, usage: Usage | None) -> Cost:
        """Marginal USD of a request that was made; usage None: nothing was processed."""
        if usage is None:
            return Cost(Decimal(0), "none")
        basis = "reported" if usage.reported else "estimated"
        if self.plan is not None or self.capacity is not None or self.price is None:
            return Cost(Decimal(0), basis)
        return Cost(self.price.cost(usage), basis)
