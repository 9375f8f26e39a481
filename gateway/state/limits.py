"""The port Limiter: rates and budgets of whoever asks, rates of places, and quotas of plans, on accounts that somebody else keeps.

Promises: what is admitted is held, all of it or nothing, before anything is sent; each attempt is checked again, against the limits
of its place and for what it costs more than the one before; whatever was taken is settled once, by the amounts that stand in the
ledger. Limits never add a route: what is used up takes places away, before the decision where it is known by then, else one by one.

All that a request of a key may count toward is looked up when a policy is adopted; a request builds no string but in its headers.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from math import ceil, inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.core.accounts import Book, Bucket, Slots
from gateway.core.answer import OVER_BUDGET, OVER_QUOTA, OVER_RATE, Problem
from gateway.core.budgets import SPENT, WhenSpent
from gateway.core.charging import Counted, Unit
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request, Scope
from gateway.core.limits import Limit, kind_of, of_caller, of_place, of_plans, of_tags, span
from gateway.core.live import BUDGET, QUOTA, RATE, Blocked, LiveState
from gateway.core.policy import Deployment, Snapshot
from gateway.core.rank import output_expected
from gateway.core.rates import NO_HEADERS, RATE_LIMITED, UNLIMITED, Unlimited
from gateway.core.settlement import Settlement
from gateway.state.accounts.port import Account, Accounts, Said

ONE, TOKENS, MONEY, TICKETS = range(4)
"""What a line is held at: one request, the request's tokens, its estimated micro-dollars, the weight of its place."""

RETRY_S: Final = 1.0  # where an account said no and can't say for how long
UNTIL_STEP_S: Final = 60.0  # a budget's end is told by so many: equal live states are one object, and ranks hang on it
TOLD_S: Final = 0.02  # far from a limit all answers of so long say the same: what the store has left is known no better, and each
# reading costs 8 µs of a request
TOLD_AT_LEAST: Final = {ONE: 1_000, TOKENS: 1_000_000}  # requests, tokens: more than a worker serves meanwhile, by far
REMEMBERED_MAX: Final = 64  # live states, by what is taken away from them: tenants whose budget is spent see one each

YES, NO = Said.YES, Said.NO


AMOUNTS: Final = {Unit.REQUESTS: ONE, Unit.TOKENS: TOKENS, Unit.MICRO_USD: MONEY, Unit.TICKETS: TICKETS}


class Line:
    """One limit, its account, and what it is held at (`amount`). `counted` is its book, if it is one, as settlements charge it."""

    __slots__ = (
        "account", "amount", "counted", "counted_at_peak", "id", "is_book", "is_bucket", "is_slots", "limit", "limit_text",
    )  # fmt: skip

    def __init__(self, limit: Limit, account: Account) -> None:
        self.limit = limit
        self.account = account
        self.id = limit.terms.id
        self.amount = AMOUNTS[limit.unit]
        self.is_bucket = isinstance(limit.terms.of, Bucket)
        self.is_slots = isinstance(limit.terms.of, Slots)
        self.is_book = isinstance(limit.terms.of, Book)
        self.counted = Counted(limit.terms, limit.unit, limit.weights)
        self.counted_at_peak = Counted(limit.terms, limit.unit, limit.at_peak)
        self.limit_text = str(limit.terms.of.amount)


Taken = tuple[Line, int]


class Caller:
    """All that a request of one key, with one tag, counts toward."""

    __slots__ = ("books", "headed", "lines", "money", "spending", "told", "told_until")

    def __init__(self, lines: Iterable[Line]) -> None:
        found = tuple(lines)
        self.money = tuple(line for line in found if line.amount == MONEY)
        self.spending = tuple(line for line in self.money if _cheaper(line))  # take routes away, and refuse nobody
        self.lines = tuple(line for line in found if line not in self.spending)
        self.books = tuple(line.counted for line in found if line.is_book)
        self.headed = tuple(
            ((f"x-ratelimit-limit-{kind}", f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}"), told)
            for kind, amount in (("requests", ONE), ("tokens", TOKENS))
            if (told := tuple(line for line in found if line.is_bucket and line.amount == amount))
        )
        self.told: Mapping[str, str] = NO_HEADERS  # what answers say, good before `told_until`
        self.told_until = -inf


def _cheaper(line: Line) -> bool:
    return line.limit.budget is not None and line.limit.budget.when_spent is WhenSpent.CHEAPER


class Place:
    """All that an attempt at one deployment counts toward, and what a token costs there in micro-dollars."""

    __slots__ = ("at_peak", "beyond", "input", "lines", "output", "peak", "quotas", "weights")

    def __init__(self, lines: tuple[Line, ...], quotas: tuple[Line, ...], deployment: Deployment) -> None:
        self.lines = lines
        price, plan = deployment.tariff.marginal, deployment.tariff.plan
        self.input = 0.0 if price is None else float(price.input)
        self.output = 0.0 if price is None else float(price.output)
        beyond = deployment.tariff.price if plan is not None and plan.when_exhausted == "price" else None
        self.beyond = None if beyond is None else (float(beyond.input), float(beyond.output))  # what it costs beyond its plan
        self.quotas = quotas
        self.peak = quotas[0].limit.peak if quotas else None
        self.weights = tuple(line.limit.weights[deployment.id] for line in quotas)
        self.at_peak = tuple(line.limit.at_peak[deployment.id] for line in quotas)

    def micro_usd(self, prompt_tokens: int, output_tokens: int, at_price: bool = False) -> int:
        """What a request of this size is held at; `at_price`: its plan being used up."""
        if at_price and self.beyond is not None:
            return ceil(self.beyond[0] * prompt_tokens + self.beyond[1] * output_tokens)
        return ceil(self.input * prompt_tokens + self.output * output_tokens)


class AccountLimiter:
    """All limits of one worker."""

    def __init__(
        self, accounts: Accounts, snapshot: Snapshot, now: float, limited: dict[tuple[str, ...], float] | None = None
    ) -> None:
        """`now` in UTC seconds. `limited` is where it counts what it lets not begin, by kind of holder and of limit."""
        self._accounts = accounts
        self._limited_by = {} if limited is None else limited
        self._blocked: dict[str, Blocked] = {}  # by quotas and rates that said no
        self._next = inf  # when the first of them lets go
        self._states: dict[object, LiveState] = {}
        self._states_of: LiveState | None = None
        self.adopt(snapshot, now)

    def adopt(self, snapshot: Snapshot, now: float) -> None:
        """Go by another snapshot. What was used stays used."""
        policy, access = snapshot.policy, snapshot.access
        self._lines: dict[str, Line] = {}
        self._by_key: dict[frozenset[str], tuple[Line, ...]] = {}
        for key in access.keys:
            limits = of_caller(access, key)
            if lines := self._opened((*limits.rates, *limits.budgets)):
                self._by_key[frozenset((key,))] = lines
        tags = of_tags(policy)
        self._by_tag = {frozenset((tag,)): lines for tag, limits in tags.items() if (lines := self._opened(limits))}
        self._callers: dict[object, Caller] = {}
        plans = of_plans(policy)
        self.places: dict[str, Place] = {}
        self._members: dict[str, tuple[str, ...]] = {}  # account id -> the deployments that count toward it
        members: dict[str, list[str]] = {}
        for deployment in policy.deployments:
            quotas = self._opened(limit for limit in plans if deployment.id in limit.weights)
            self.places[deployment.id] = Place(self._opened(of_place(deployment)), quotas, deployment)
            for line in (*self.places[deployment.id].lines, *quotas):
                members.setdefault(line.limit.terms.id, []).append(deployment.id)
        self._members = {name: tuple(found) for name, found in members.items()}
        self._limited = any(place.lines or place.quotas for place in self.places.values())
        prices = [(place.input, place.output) for place in self.places.values()]
        self._dearest = max((paid for paid, _ in prices), default=0.0), max((got for _, got in prices), default=0.0)
        self._blocked = {}  # under other terms there may be more: whoever still says no is heard again
        self._next = inf
        self._states.clear()

    def _opened(self, limits: Iterable[Limit]) -> tuple[Line, ...]:
        found = []
        for limit in limits:
            line = self._lines.get(limit.terms.id)
            if line is None:
                line = self._lines[limit.terms.id] = Line(limit, self._accounts.open(limit.terms))
            found.append(line)
        return tuple(found)

    # --- the port -----------------------------------------------------------------------------------------------------------

    def live(self, request: Request, state: LiveState, now: float) -> LiveState:
        """`state` without what quotas, rates and this caller's budgets take away at `now` (UTC seconds)."""
        if now >= self._next:
            self._pass(now)
        caller = self._caller(request)
        if caller is None or not caller.spending:
            return state if not self._blocked else self._without(state, None, {})
        needs = request.needs
        prompt, output = needs.prompt_tokens, output_expected(needs)
        dearest = self._dearest[0] * prompt + self._dearest[1] * output
        short = [(line, left) for line in caller.spending if (left := line.account.left(now)) < dearest]
        if not short:
            return state if not self._blocked else self._without(state, None, {})
        found: dict[str, Blocked] = {}
        for line, left in short:
            reset_s = line.account.reset_s(now)  # 0: nothing is spent, and the request costs more than there ever is
            until = ceil((now + reset_s) / UNTIL_STEP_S) * UNTIL_STEP_S if reset_s else None
            why = Blocked(BUDGET, f"{line.limit.whose} has spent its budget of {line.limit.says}", until)
            for name, place in self.places.items():
                if place.micro_usd(prompt, output) > left:
                    found.setdefault(name, why)
        return self._without(state, frozenset(found.items()), found)

    def hold(self, request: Request, decision: Decision) -> "AccountHold | Unlimited":
        """A hold on nothing as yet, for `request` as it was decided."""
        caller = self._caller(request)
        if caller is None:
            if not self._limited:
                return UNLIMITED
            caller = NOBODY
        return AccountHold(self, caller, request, decision)

    def _caller(self, request: Request) -> Caller | None:
        facts = request.facts
        if not self._by_tag:
            key: object = facts.key
        elif facts.tag in self._by_tag:
            key = (facts.key, facts.tag)
        else:
            key = facts.key
        found = self._callers.get(key)
        if found is None:
            lines = self._by_key.get(facts.key, ())
            if isinstance(key, tuple):
                lines = (*lines, *self._by_tag[facts.tag])
            if not lines:
                return None
            found = self._callers[key] = Caller(lines)
        return found

    # --- what is used up ----------------------------------------------------------------------------------------------------

    def used_up(self, line: Line, amount: int, now: float) -> None:
        """An account of a place said no: nothing more is sent to whoever counts toward it until it lets go."""
        word = QUOTA if line.amount == TICKETS else RATE
        until = now + (line.account.wait_s(amount, now) or RETRY_S)
        why = Blocked(word, f"{line.limit.whose} has used up {line.limit.says}", None if until == inf else until)
        for name in self._members.get(line.limit.terms.id, ()):
            if line.amount == TICKETS and self.places[name].beyond is not None:
                continue  # it goes on at its price
            known = self._blocked.get(name)
            if known is None or (known.until or inf) < until:
                self._blocked[name] = why
        self._next = min(self._next, until)
        self._states.clear()

    def _pass(self, now: float) -> None:
        self._blocked = {name: why for name, why in self._blocked.items() if why.until is None or why.until > now}
        self._next = min((why.until for why in self._blocked.values() if why.until is not None), default=inf)
        self._states.clear()

    def _without(self, state: LiveState, key: object, more: Mapping[str, Blocked]) -> LiveState:
        """`state` with more blocked; the same object for the same reasons, since ledger and ranks remember by it."""
        if state is not self._states_of or len(self._states) >= REMEMBERED_MAX:
            self._states_of = state
            self._states.clear()
        found = self._states.get(key)
        if found is None:
            blocked = MappingProxyType({**more, **self._blocked, **state.blocked})
            found = self._states[key] = LiveState(blocked, state.latency_ms)
        return found

    def count(self, line: Line) -> None:
        """`line` has not let something begin."""
        kind = kind_of(line.limit)
        self._limited_by[kind] = self._limited_by.get(kind, 0) + 1

    def rows(self, now: float) -> list[dict[str, Any]]:
        """How each account stands that something is used of, as JSON can hold it; see core.used."""
        found = []
        for name, line in self._lines.items():
            account = line.account
            if account.untouched:  # most keys of most gateways, at most moments
                continue
            left, alone = account.left(now), account.alone
            if alone or left < line.limit.terms.of.amount:
                found.append({"id": name, "left": left, "reset_s": round(account.reset_s(now), 3), "alone": alone})
        return found


NOBODY: Final = Caller(())


class AccountHold:
    """What one request holds. Settled once; another time does nothing."""

    __slots__ = (
        "_at_place", "_began", "_caller", "_decision", "_limiter", "_now", "_output", "_peak", "_pending", "_prompt", "_taken",
        "at_price", "books",
    )  # fmt: skip

    def __init__(self, limiter: AccountLimiter, caller: Caller, request: Request, decision: Decision) -> None:
        self._limiter = limiter
        self._caller = caller
        self._decision = decision
        self._prompt = request.needs.prompt_tokens
        self._output = output_expected(request.needs)
        self._began = self._now = request.began
        self._taken: dict[Line, int] = {}
        self._at_place: list[Taken] = []  # of the attempt under way
        self._pending: list[Taken] = []  # taken, while more is asked for
        self._peak = False
        self.at_price = False
        self.books = caller.books

    # --- beginning ----------------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> Problem | Awaitable[Problem | None] | None:
        """Hold what the request needs of its caller's limits, or say why it can't begin; then nothing is held."""
        self._now = now
        lines = self._caller.lines
        if not lines:
            return None
        money = 0
        if self._caller.money:
            place = self._limiter.places.get(self._decision.routes[0].deployment.id)
            money = 0 if place is None else place.micro_usd(self._prompt, self._output)
        amounts = (1, self._prompt + self._output, money)
        taken = self._taken
        asks: list[Taken] | None = None
        for line in lines:
            amount = amounts[line.amount]
            said = line.account.take(amount, now)
            if said is YES:
                taken[line] = amount
            elif said is NO:
                return self._refused(amounts, now)
            else:
                asks = [*(asks or ()), (line, amount)]
        return None if asks is None else self._admit_asking(asks, amounts, now)

    async def _admit_asking(self, asks: list[Taken], amounts: tuple[int, ...], now: float) -> Problem | None:
        if not await self._ask(asks, now):
            return self._refused(amounts, now)
        self._taken.update(self._pending)
        self._pending = []
        return None

    def _refused(self, amounts: tuple[int, ...], now: float) -> Problem:
        """Give back what was taken, and say what stands against the request: of several limits, what takes longest to pass."""
        held = {*self._taken, *(line for line, _ in self._pending)}
        _give_back(self._taken.items(), now)
        _give_back(self._pending, now)
        self._taken, self._pending = {}, []
        found: tuple[float, Line] | None = None
        for line in self._caller.lines:
            wait_s = line.account.wait_s(amounts[line.amount], now)
            if line not in held:
                wait_s = wait_s or RETRY_S
            if wait_s and (found is None or wait_s > found[0]):
                found = wait_s, line
        wait_s, line = found or (RETRY_S, self._caller.lines[0])
        self._limiter.count(line)
        return _problem(line, amounts[line.amount], wait_s)

    async def _ask(self, asks: list[Taken], now: float) -> bool:
        """Ask the store for all of `asks` at once; what it gives is `_pending`, whatever happens meanwhile."""
        if len(asks) == 1:
            return await self._ask_one(*asks[0], now)
        answers = await asyncio.gather(*(self._ask_one(line, amount, now) for line, amount in asks), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return all(answers)

    async def _ask_one(self, line: Line, amount: int, now: float) -> bool:
        if not await line.account.ask(amount, now):
            return False
        self._pending.append((line, amount))
        return True

    # --- each attempt -------------------------------------------------------------------------------------------------------

    def attempt(self, attempt: Attempt, now: float) -> Outcome | Awaitable[Outcome | None] | None:
        """Hold what one attempt needs besides, or say how it ended before it began; then nothing more is held than before."""
        place = self._limiter.places.get(attempt.deployment.id)
        if place is None:  # of a policy that has gone: what it was admitted with is what it holds
            return None
        return self._begin(place, now, at_price=False)

    def _begin(self, place: Place, now: float, *, at_price: bool) -> Outcome | Awaitable[Outcome | None] | None:
        self.at_price = at_price
        wants: list[Taken] = []
        if self._caller.money:
            money, taken = place.micro_usd(self._prompt, self._output, at_price), self._taken
            for line in self._caller.money:
                if (more := money - taken.get(line, 0)) > 0:
                    wants.append((line, more))
        for line in place.lines:
            wants.append((line, 1 if line.amount == ONE else self._prompt + self._output))
        if place.quotas and not at_price:
            # as of when the request began, so that all of its attempts, and the ledger, weigh by one scale
            self._peak = place.peak is not None and place.peak.at(self._began)
            wants += zip(place.quotas, place.at_peak if self._peak else place.weights, strict=True)
        return self._want(place, wants, now) if wants else None

    def _want(self, place: Place, wants: list[Taken], now: float) -> Outcome | Awaitable[Outcome | None] | None:
        asks: list[Taken] | None = None
        for want in wants:
            line, amount = want
            said = line.account.take(amount, now)
            if said is YES:
                self._pending.append(want)
            elif said is NO:
                return self._instead(place, line, amount, now)
            else:
                asks = [*(asks or ()), want]
        if asks is not None:
            return self._want_asking(place, asks, now)
        self._attempted_with()
        return None

    async def _want_asking(self, place: Place, asks: list[Taken], now: float) -> Outcome | None:
        if await self._ask(asks, now):
            self._attempted_with()
            return None
        got = {line for line, _ in self._pending}
        line, amount = next(want for want in asks if want[0] not in got)
        instead = self._instead(place, line, amount, now)
        return await instead if isinstance(instead, Awaitable) else instead

    def _instead(self, place: Place, line: Line, amount: int, now: float) -> Outcome | Awaitable[Outcome | None] | None:
        """What becomes of an attempt that `line` does not let begin: a plan that is used up may go on at its price."""
        _give_back(self._pending, now)
        self._pending = []
        if line.amount == TICKETS and place.beyond is not None:
            return self._begin(place, now, at_price=True)
        return self._passed_over(line, amount, now)

    def _attempted_with(self) -> None:
        """What was pending is held: of the caller's budgets and of plans until the end of all, of the place until the attempt's."""
        for line, amount in self._pending:
            if not line.is_book:
                self._at_place.append((line, amount))
                continue
            if line.amount == TICKETS and line not in self._taken:
                self.books = (*self.books, line.counted_at_peak if self._peak else line.counted)
            self._taken[line] = self._taken.get(line, 0) + amount
        self._pending = []

    def _passed_over(self, line: Line, amount: int, now: float) -> Outcome:
        """How an attempt ended that `line` does not let begin. It says nothing of the place, and counts against nobody."""
        self._limiter.count(line)
        if line.amount == TICKETS or (line.is_bucket and line.amount == ONE):
            self._limiter.used_up(line, amount, now)
        if line.is_book:
            ended, code = Ended.EXHAUSTED, OVER_QUOTA if line.amount == TICKETS else OVER_BUDGET
        else:
            ended, code = Ended.THROTTLED, OVER_RATE
        wait_s = line.account.wait_s(amount, now)
        retry_after_s = None if wait_s == inf else wait_s or RETRY_S
        return Outcome(ended, Fault.OURS, Scope.DEPLOYMENT, code=code, retry_after_s=retry_after_s, sent=False)

    def attempted(self, outcome: Outcome, now: float) -> None:
        """The attempt has ended: its place counts it no more. What its plan counts is settled with the rest."""
        if not self._at_place:
            return
        at_place, self._at_place = self._at_place, []
        usage = outcome.usage
        tokens = 0 if usage is None else usage.input + usage.output
        for line, held in at_place:
            used = 0 if line.is_slots else tokens if line.amount == TOKENS else int(outcome.sent)
            line.account.settle(held, used, now)

    # --- the end ------------------------------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement | None, now: float) -> None:
        """The exchange has ended at `now` (UTC seconds), as `settlement` says; None: nobody knows, so it is given back."""
        if self._pending or self._at_place:  # cut off in between
            _give_back(self._pending, now)
            _give_back(self._at_place, now)
            self._pending, self._at_place = [], []
        taken, self._taken = self._taken, {}
        if not taken:
            return
        charged: Mapping[str, int] = dict(settlement.charged) if settlement is not None else {}
        usage = None if settlement is None else settlement.usage
        tokens = 0 if usage is None else usage.input + usage.output
        for line, held in taken.items():
            if line.is_book:
                used = charged.get(line.id, 0)
            elif line.is_slots:
                used = 0
            else:
                used = tokens if line.amount == TOKENS else 1
            line.account.settle(held, used, now)

    @property
    def headers(self) -> Mapping[str, str]:
        """`x-ratelimit-*` as OpenAI has them: of each kind, the limit that has least left. To the last one near it, and as of a
        moment ago far from it."""
        caller, now = self._caller, self._now
        headed = caller.headed
        if not headed:
            return NO_HEADERS
        if now < caller.told_until:
            return caller.told
        found: dict[str, str] = {}
        roomy = True
        for (limit, remaining, reset), lines in headed:
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
            caller.told, caller.told_until = found, now + TOLD_S
        return found


def _give_back(taken: Iterable[Taken], now: float) -> None:
    for line, held in taken:
        line.account.settle(held, 0, now)


def _problem(line: Line, amount: int, wait_s: float) -> Problem:
    """Why a request may not begin that `line` would have to hold `amount` of."""
    limit = line.limit
    if line.is_slots:
        many = limit.says.removesuffix(" at once")
        message = f"{limit.whose} has {many} under way, as many as it may at once: let one end first"
        return Problem(429, RATE_LIMITED, message, retry_after_s=wait_s)
    if line.is_book:
        verb = "spend" if line.amount == MONEY else "use"
        may = f"{limit.whose} may {verb} {limit.says}, and what is left does not cover this request"
        if wait_s == inf:
            return Problem(429, SPENT, f"{may}, nor ever will: send less, or lower `max_tokens`", should_retry=False)
        return Problem(429, SPENT, f"{may}: come back in {span(wait_s)}", retry_after_s=wait_s, should_retry=False)
    if line.amount == ONE:
        return Problem(429, RATE_LIMITED, f"{limit.whose} may send {limit.says}: come back in {span(wait_s)}", retry_after_s=wait_s)
    may = f"{limit.whose} may use {limit.says}, and this request takes about {amount:,}"
    if wait_s == inf:
        never = f"{may}, which is more than it ever has at once: send less, or lower `max_tokens`"
        return Problem(429, RATE_LIMITED, never, should_retry=False)
    return Problem(429, RATE_LIMITED, f"{may}: come back in {span(wait_s)}", retry_after_s=wait_s)


if TYPE_CHECKING:

    def _is_port(limiter: AccountLimiter) -> None:
        from gateway import ports

        _limiter: ports.Limiter = limiter
