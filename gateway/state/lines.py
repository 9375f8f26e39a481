"""What requests and attempts count toward, laid out so that a request looks nothing up and builds no string.

A Line is one limit and its account, a Caller all that binds the requests of one key with one tag, and a Place all that binds the
attempts at one deployment.
"""

from collections.abc import Iterable, Mapping
from math import ceil, inf
from typing import Final

from gateway.core.accounts import Book, Bucket, Slots
from gateway.core.budgets import WhenSpent
from gateway.core.charging import Counted, Unit
from gateway.core.limits import Limit, span
from gateway.core.policy import Deployment
from gateway.core.unlimited import NO_HEADERS
from gateway.state.accounts.port import Account

ONE, TOKENS, MONEY, TICKETS = range(4)
"""What a line is held at: one request, the request's tokens, its estimated micro-dollars, the weight of its place."""

AMOUNTS: Final = {Unit.REQUESTS: ONE, Unit.TOKENS: TOKENS, Unit.MICRO_USD: MONEY, Unit.TICKETS: TICKETS}

TOLD_S: Final = 0.02  # far from a limit all answers of so long say the same: what the store has left is known no better, and each
# reading costs 8 µs of a request
TOLD_AT_LEAST: Final = {ONE: 1_000, TOKENS: 1_000_000}  # requests, tokens: more than a worker serves meanwhile, by far


class Line:
    """One limit, its account, and what it is held at (`amount`). `counted` is its book, if it is one, as settlements charge it.
    `cheaper`: spent, it refuses nobody and takes places away."""

    __slots__ = (
        "account", "amount", "cheaper", "counted", "counted_at_peak", "id", "is_book", "is_bucket", "is_slots", "limit",
        "limit_text",
    )  # fmt: skip

    def __init__(self, limit: Limit, account: Account) -> None:
        of, budget = limit.terms.of, limit.budget
        self.limit = limit
        self.account = account
        self.id = limit.terms.id
        self.amount = AMOUNTS[limit.unit]
        self.is_bucket = isinstance(of, Bucket)
        self.is_slots = isinstance(of, Slots)
        self.is_book = isinstance(of, Book)
        self.cheaper = budget is not None and budget.when_spent is WhenSpent.CHEAPER
        self.counted = Counted(limit.terms, limit.unit, limit.weights)
        self.counted_at_peak = Counted(limit.terms, limit.unit, limit.at_peak)
        self.limit_text = str(of.amount)


class Caller:
    """All that a request of one key, with one tag, counts toward. `lines` are what it needs to begin.

    `takes` are those as a hold goes through them: what is leased of each, how to take where that is not all, and at what. `buckets`
    and `books` say likewise how each is settled: the former at one or all tokens (`ONE`, `TOKENS`), the latter at what the ledger
    charges to their ids. `slots` are settled by a call.
    """

    __slots__ = ("books", "buckets", "counted", "headed", "lines", "money", "slots", "spending", "takes", "told", "told_until")

    def __init__(self, lines: Iterable[Line]) -> None:
        found = tuple(lines)
        self.money = tuple(line for line in found if line.amount == MONEY)
        self.spending = tuple(line for line in self.money if line.cheaper)  # take routes away, and refuse nobody
        self.lines = tuple(line for line in found if line.amount != MONEY or not line.cheaper)
        self.takes = tuple((line.account.lease, line.account.take, line.amount) for line in self.lines)
        self.buckets = tuple((line.account.lease, line.account.settle, line.amount) for line in self.lines if line.is_bucket)
        self.slots = tuple((line.account.settle, line.amount) for line in self.lines if line.is_slots)
        self.books = tuple((line.account.lease, line.account.settle, line.amount, line.id) for line in self.lines if line.is_book)
        self.counted = tuple(line.counted for line in found if line.is_book)
        self.headed = tuple(
            ((f"x-ratelimit-limit-{kind}", f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}"), told)
            for kind, amount in (("requests", ONE), ("tokens", TOKENS))
            if (told := tuple(line for line in found if line.is_bucket and line.amount == amount))
        )
        self.told: Mapping[str, str] = NO_HEADERS  # what answers say, good before `told_until`
        self.told_until = -inf

    def tell(self, now: float) -> Mapping[str, str]:
        """`x-ratelimit-*` as OpenAI has them: of each kind, the limit that has least left. To the last one near it, and as of a
        moment ago far from it: `told`, until `told_until`."""
        if not self.headed:
            self.told_until = inf
            return self.told
        found: dict[str, str] = {}
        roomy = True
        for (limit, remaining, reset), lines in self.headed:
            line = lines[0]
            left, reset_s = line.account.standing(now)
            for other in lines[1:]:
                found_left, found_reset_s = other.account.standing(now)
                if found_left < left:
                    line, left, reset_s = other, found_left, found_reset_s
            found[limit] = line.limit_text
            found[remaining] = str(left)
            found[reset] = span(reset_s)
            roomy = roomy and left > TOLD_AT_LEAST[line.amount]
        if roomy:
            self.told, self.told_until = found, now + TOLD_S
        return found


NOBODY: Final = Caller(())


class Place:
    """All that an attempt at one deployment counts toward (`is_free`: nothing), and what a token costs there in micro-dollars."""

    __slots__ = ("at_peak", "beyond", "input", "is_free", "lines", "output", "peak", "quotas", "weights")

    def __init__(self, lines: tuple[Line, ...], quotas: tuple[Line, ...], deployment: Deployment) -> None:
        self.lines = lines
        price, plan = deployment.tariff.marginal, deployment.tariff.plan
        self.input = 0.0 if price is None else float(price.input)
        self.output = 0.0 if price is None else float(price.output)
        beyond = deployment.tariff.price if plan is not None and plan.when_exhausted == "price" else None
        self.beyond = None if beyond is None else (float(beyond.input), float(beyond.output))  # what it costs beyond its plan
        self.quotas = quotas
        self.is_free = not lines and not quotas
        self.peak = quotas[0].limit.peak if quotas else None
        self.weights = tuple(line.limit.weights[deployment.id] for line in quotas)
        self.at_peak = tuple(line.limit.at_peak[deployment.id] for line in quotas)

    def micro_usd(self, prompt_tokens: int, output_tokens: int, at_price: bool = False) -> int:
        """What a request of this size is held at; `at_price`: its plan being used up."""
        if at_price and self.beyond is not None:
            return ceil(self.beyond[0] * prompt_tokens + self.beyond[1] * output_tokens)
        return ceil(self.input * prompt_tokens + self.output * output_tokens)
