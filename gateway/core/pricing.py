"""What a request costs at the margin: tokens at a price, a plan's quota, a GPU that is paid for anyway.

Prices are USD per million tokens, in Decimal. Ranking works on floats of the same numbers: it orders, it does not bill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from gateway.core.accounts import WhenLost
from gateway.core.usage import Cost, Usage

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
    """How much of a plan may be used in any `per_s` seconds."""

    requests: int
    per_s: int


EVERY_DAY = frozenset(range(7))
DAY_MIN = 1_440


@dataclass(frozen=True, slots=True)
class Peak:
    """Hours in which a request takes `times` as much of a plan. Minutes of the day where the clocks are `ahead_min` of UTC.

    From `begins_min` up to `ends_min`, which may be the next day's. `days` are those on which it begins; Monday is 0.
    """

    begins_min: int
    ends_min: int
    ahead_min: int
    times: Decimal
    days: frozenset[int] = EVERY_DAY

    def at(self, now: float) -> bool:
        """Whether `now` (UTC seconds) lies in it."""
        minutes = int(now // 60) + self.ahead_min
        day, minute = (minutes // DAY_MIN + 3) % 7, minutes % DAY_MIN  # 1970 began on a Thursday
        if self.begins_min < self.ends_min:
            return day in self.days and self.begins_min <= minute < self.ends_min
        return (minute >= self.begins_min and day in self.days) or (minute < self.ends_min and (day - 1) % 7 in self.days)

    def ends(self, now: float) -> float:
        """When the hours in which `now` lies are over (UTC seconds)."""
        minutes = int(now // 60)
        return 60.0 * (minutes + ((self.ends_min - minutes - self.ahead_min) % DAY_MIN or DAY_MIN))


@dataclass(frozen=True, slots=True)
class Plan:
    """A subscription: nothing at the margin until its quota is used up."""

    name: str
    usd_per_month: Decimal
    quotas: tuple[Quota, ...]
    when_exhausted: str  # "refuse" or "price"
    weights: Mapping[str, Decimal] = field(default_factory=dict)  # model -> how much of a quota one request takes; 1 if not here
    peak: Peak | None = None
    when_lost: WhenLost = WhenLost.SHARE


def even_share(amount: int, workers: int | None) -> int:
    """What each of so many workers has of `amount`: one at the least, or it could do nothing; and that if nobody knows how many."""
    return 1 if workers is None else max(1, amount // workers)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many requests may wait for room at an endpoint, and how long each."""

    length: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """Machines that are paid for by the hour, used or not."""

    usd_per_hour: Decimal
    concurrency: int
    queue: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """How one deployment is paid: a price, a plan, or capacity. At least one of them is there."""

    price: Price | None = None
    plan: Plan | None = None
    capacity: Capacity | None = None

    @property
    def marginal(self) -> Price | None:
        """The price at which one more token is paid; None where it is paid for anyway."""
        return self.price if self.plan is None and self.capacity is None else None

    @property
    def warmth_saves(self) -> bool:
        """Whether a prompt that is cached there saves anything: money, or the time of machines that are paid for anyway."""
        price = self.marginal
        return price is None or price.cached_input < price.input

    def estimate_usd(self, prompt_tokens: int, output_tokens: int, warm_tokens: int = 0) -> float:
        """Marginal USD of a request that is yet to be made; `warm_tokens` of its prompt are taken to be cached there."""
        price = self.marginal
        if price is None:
            return 0.0
        cold = usd(float(price.input), float(price.output), prompt_tokens, output_tokens)
        if not warm_tokens or price.cached_input >= price.input:
            return cold
        return cold - float(price.input - price.cached_input) * min(warm_tokens, prompt_tokens) / 1e6

    def settle(self, usage: Usage | None, at_price: bool = False) -> Cost:
        """Marginal USD of a request that was made; usage None: nothing was processed. `at_price`: its plan was used up."""
        if usage is None:
            return Cost(Decimal(0), "none")
        basis = "reported" if usage.reported else "estimated"
        price = self.price if at_price else self.marginal
        return Cost(Decimal(0) if price is None else price.cost(usage), basis)


def usd(input_price: float, output_price: float, prompt_tokens: int, output_tokens: int) -> float:
    """USD at prices per million tokens. It never falls when a price or a count rises, not even by rounding."""
    return (input_price * prompt_tokens + output_price * output_tokens) / 1e6
