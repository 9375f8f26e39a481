"""What one request holds of limits: the port Hold.

Promises: what is admitted is held, all of it or nothing, before anything is sent; each attempt is checked again, against the limits
of its place and for what it costs more than the one before; whatever was taken is settled once, by the amounts that stand in the
ledger. A hold that has everything leased here, which is nearly always, calls only its slots, to settle them.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from math import inf
from time import monotonic  # a loop's own time may be of a millisecond ago
from typing import TYPE_CHECKING, Final

from gateway.core.accounts import WhenLost
from gateway.core.answer import OVER_BUDGET, OVER_QUOTA, OVER_RATE, SOON_S, Problem
from gateway.core.budgets import SPENT
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Fault, Outcome, Request, Scope
from gateway.core.limits import span
from gateway.core.rank import output_expected
from gateway.core.rates import RATE_LIMITED
from gateway.core.settlement import Settlement
from gateway.ports import Patience
from gateway.state.accounts.port import Said
from gateway.state.lines import MONEY, ONE, TICKETS, TOKENS, Caller, Line, Place
from gateway.state.store.port import WAIT_S

if TYPE_CHECKING:
    from gateway.state.limits import AccountLimiter

RETRY_S: Final = 1.0  # where an account said no and can't say for how long
YES, NO = Said.YES, Said.NO

Taken = tuple[Line, int]
NONE: Final[tuple[Taken, ...]] = ()


class AccountHold:
    """What one request holds. Settled once; another time does nothing."""

    __slots__ = (
        "_amounts", "_at_place", "_began", "_caller", "_decision", "_first", "_limiter", "_more", "_now", "_output", "_patience",
        "_peak", "_pending", "_prompt", "at_price", "books",
    )  # fmt: skip

    def __init__(
        self, limiter: "AccountLimiter", caller: Caller, request: Request, decision: Decision, patience: Patience
    ) -> None:
        self._limiter = limiter
        self._caller = caller
        self._decision = decision
        self._patience = patience
        self._prompt = request.needs.prompt_tokens
        self._output = output_expected(request.needs)
        self._began = self._now = request.began
        self._amounts: tuple[int, int, int] | None = None  # what each of the caller's lines holds, once all of them do
        self._first: Place | None = None  # what the caller's budgets hold the price of
        self._more: dict[Line, int] | None = None  # of books, for attempts: until the end of all
        self._at_place: Sequence[Taken] = NONE  # of the attempt under way
        self._pending: Sequence[Taken] = NONE  # taken, while more is asked for
        self._peak = False
        self.at_price = False
        self.books = caller.counted

    # --- beginning ----------------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> Problem | Awaitable[Problem | None] | None:
        """Hold what the request needs of its caller's limits, or say why it can't begin; then nothing is held."""
        self._now = now
        caller = self._caller
        money = 0
        if caller.money:
            self._first = first = self._limiter.places.get(self._decision.routes[0].deployment.id)
            if first is not None:
                money = first.micro_usd(self._prompt, self._output)
        amounts = (1, self._prompt + self._output, money)
        for taken, (lease, take, at) in enumerate(caller.takes):
            amount = amounts[at]
            left = lease.free - amount
            if left < lease.least:
                if (said := take(amount, now)) is not YES:
                    return self._admit_else(said, taken, amounts, now)
            else:  # as nearly always
                lease.free = left
                lease.held += amount
                lease.taken += amount
                lease.last = amount
        self._amounts = amounts
        return None

    def _admit_else(
        self, said: Said, taken: int, amounts: tuple[int, int, int], now: float
    ) -> Problem | Awaitable[Problem | None] | None:
        """One of the caller's lines has `said` something else than yes, after so many that were `taken`."""
        lines = self._caller.lines
        asks: list[Taken] = []
        self._pending = pending = [(line, amounts[line.amount]) for line in lines[:taken]]
        for line in lines[taken:]:
            amount = amounts[line.amount]
            if line is not lines[taken]:
                said = line.account.take(amount, now)
            if said is NO:
                return self._refused(amounts, now)
            (pending if said is YES else asks).append((line, amount))
        return self._admit_asking(asks, amounts, now)

    async def _admit_asking(self, asks: list[Taken], amounts: tuple[int, int, int], now: float) -> Problem | None:
        if not await self._ask(asks, now):
            return self._refused(amounts, now)
        self._amounts, self._pending = amounts, NONE
        return None

    def _refused(self, amounts: tuple[int, ...], now: float) -> Problem:
        """Give back what was taken, and say what stands against the request: of several limits, what takes longest to pass."""
        held = {line for line, _ in self._pending}
        _give_back(self._pending, now)
        self._pending = NONE
        found: tuple[float, Line] | None = None
        for line in self._caller.lines:
            wait_s = line.account.wait_s(amounts[line.amount], now)
            if wait_s and (found is None or wait_s > found[0]):
                found = wait_s, line
        # else one that said no and can't say for how long; where another can, this one may only not have been asked
        wait_s, line = found or (RETRY_S, next((line for line in self._caller.lines if line not in held), self._caller.lines[0]))
        self._limiter.count(line)
        return _problem(line, amounts[line.amount], wait_s)

    async def _ask(self, asks: list[Taken], now: float) -> bool:
        """Ask the store for all of `asks` at once; what it gives is `_pending`, whatever happens meanwhile."""
        patience = self._patience
        began, wait_s = monotonic(), max(0.0, WAIT_S - patience.spent_s)
        try:
            if len(asks) == 1:
                return await self._ask_one(*asks[0], now, wait_s)
            asked = (self._ask_one(line, amount, now, wait_s) for line, amount in asks)
            answers = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            patience.spent_s += monotonic() - began
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return all(answers)

    async def _ask_one(self, line: Line, amount: int, now: float, wait_s: float) -> bool:
        if not await line.account.ask(amount, now, wait_s):
            return False
        self._pending = [*self._pending, (line, amount)]
        return True

    # --- each attempt -------------------------------------------------------------------------------------------------------

    def attempt(self, attempt: Attempt, now: float) -> Outcome | Awaitable[Outcome | None] | None:
        """Hold what one attempt needs besides, or say how it ended before it began; then nothing more is held than before."""
        place = self._limiter.places.get(attempt.deployment.id)
        if place is None:  # of a policy that has gone: what it was admitted with is what it holds
            return None
        if place is self._first and place.is_free and not self._caller.spending:  # as nearly always
            self.at_price = False
            return None
        return self._begin(place, now, at_price=False)

    def _begin(self, place: Place, now: float, *, at_price: bool) -> Outcome | Awaitable[Outcome | None] | None:
        self.at_price = at_price
        caller = self._caller
        wants: list[Taken] = []
        if caller.money and (place is not self._first or at_price or caller.spending):
            money = place.micro_usd(self._prompt, self._output, at_price)
            first = 0 if self._amounts is None else self._amounts[MONEY]
            for line in caller.money:
                held = 0 if line.cheaper else first
                if self._more is not None:
                    held += self._more.get(line, 0)
                if money > held:
                    wants.append((line, money - held))
        for line in place.lines:
            wants.append((line, 1 if line.amount == ONE else self._prompt + self._output))
        if place.quotas and not at_price:
            # as of when the request began, so that all of its attempts, and the ledger, weigh by one scale
            self._peak = place.peak is not None and place.peak.at(self._began)
            wants += zip(place.quotas, place.at_peak if self._peak else place.weights, strict=True)
        return self._want(place, wants, now) if wants else None

    def _want(self, place: Place, wants: list[Taken], now: float) -> Outcome | Awaitable[Outcome | None] | None:
        asks: list[Taken] = []
        self._pending = pending = list[Taken]()
        for want in wants:
            line, amount = want
            said = line.account.take(amount, now)
            if said is NO:
                return self._instead(place, line, amount, now)
            (pending if said is YES else asks).append(want)
        if asks:
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
        self._pending = NONE
        if line.amount == TICKETS and place.beyond is not None:
            return self._begin(place, now, at_price=True)
        return self._passed_over(line, amount, now)

    def _attempted_with(self) -> None:
        """What was pending is held: of the caller's budgets and of plans until the end of all, of the place until the attempt's."""
        more = {} if self._more is None else self._more
        for line, amount in self._pending:
            if not line.is_book:
                continue
            if line.amount == TICKETS and line not in more:
                self.books = (*self.books, line.counted_at_peak if self._peak else line.counted)
            more[line] = more.get(line, 0) + amount
        self._at_place = [*self._at_place, *(taken for taken in self._pending if not taken[0].is_book)]
        self._more, self._pending = more, NONE

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
        at_place, self._at_place = self._at_place, NONE
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
            self._pending = self._at_place = NONE
        amounts, more = self._amounts, self._more
        self._amounts = self._more = None
        if amounts is None and more is None:
            return
        charged: Mapping[str, int] = dict(settlement.charged) if settlement is not None else {}
        if amounts is not None:
            usage = None if settlement is None else settlement.usage
            used = (1, 0 if usage is None else usage.input + usage.output)
            for settle, at in self._caller.slots:
                settle(amounts[at], 0, now)
            for lease, settle, at in self._caller.buckets:
                held, took = amounts[at], used[at]
                free = lease.free + held - took
                if free < lease.least or free > lease.most:
                    settle(held, took, now)
                else:  # as nearly always
                    lease.free = free
                    lease.held -= held
            for lease, settle, amount, name in self._caller.books:
                held, took = amounts[amount], charged.get(name, 0)
                free = lease.free + held - took
                if free < lease.least or free > lease.most or now < lease.since or now >= lease.until:
                    settle(held, took, now)
                else:
                    lease.free = free
                    lease.held -= held
                    lease.used += took
        if more is not None:
            for line, held in more.items():
                # a budget that the request began with has been charged above
                begun = line.amount == MONEY and not line.cheaper
                line.account.settle(held, 0 if begun else charged.get(line.id, 0), now)

    @property
    def headers(self) -> Mapping[str, str]:
        """What answers say of rates: see `Caller.tell`."""
        caller, now = self._caller, self._now
        return caller.told if now < caller.told_until else caller.tell(now)


def _give_back(taken: Iterable[Taken], now: float) -> None:
    for line, held in taken:
        line.account.settle(held, 0, now)


def _problem(line: Line, amount: int, wait_s: float) -> Problem:
    """Why a request may not begin that `line` would have to hold `amount` of."""
    limit, account = line.limit, line.account
    if account.alone and account.terms.when_lost is WhenLost.REFUSE and wait_s != inf:
        code = SPENT if line.is_book else RATE_LIMITED
        unknown = f"how much {limit.whose} has left of {limit.says} can't be told now, for the store that counts it does not answer"
        return Problem(429, code, f"{unknown}; nothing begins then: come back in {span(RETRY_S)}", retry_after_s=RETRY_S)
    if line.is_slots:
        many = limit.says.removesuffix(" at once")
        message = f"{limit.whose} has {many} under way, as many as it may at once: let one end first"
        return Problem(429, RATE_LIMITED, message, retry_after_s=wait_s)
    if line.is_book:
        verb = "spend" if line.amount == MONEY else "use"
        may = f"{limit.whose} may {verb} {limit.says}, and what is left does not cover this request"
        if wait_s == inf:
            return Problem(429, SPENT, f"{may}, nor ever will: send less, or lower `max_tokens`", should_retry=False)
        again = None if wait_s <= SOON_S else False
        return Problem(429, SPENT, f"{may}: come back in {span(wait_s)}", retry_after_s=wait_s, should_retry=again)
    if line.amount == ONE:
        return Problem(429, RATE_LIMITED, f"{limit.whose} may send {limit.says}: come back in {span(wait_s)}", retry_after_s=wait_s)
    may = f"{limit.whose} may use {limit.says}, and this request takes about {amount:,}"
    if wait_s == inf:
        never = f"{may}, which is more than it ever has at once: send less, or lower `max_tokens`"
        return Problem(429, RATE_LIMITED, never, should_retry=False)
    return Problem(429, RATE_LIMITED, f"{may}: come back in {span(wait_s)}", retry_after_s=wait_s)
