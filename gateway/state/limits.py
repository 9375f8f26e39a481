"""The port Limiter: rates and budgets of whoever asks, rates of places, and quotas of plans, on accounts that somebody else keeps.

Promises: limits never add a route: what is used up takes places away, before the decision where it is known by then, else one by
one. What a request holds is in holding.py.

An account costs 0.1 ms to open, and there may be as many as keys times limits, so it is opened by the first request that counts
toward it, for all that follow. What others have spent should be seen though nobody asks here: so budgets are looked at one by one,
in the background (`open_more`), and those of which nothing is used are let go again.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from math import ceil, inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.core.decide import Decision
from gateway.core.exchange import Request
from gateway.core.facts import RequestFacts
from gateway.core.limits import Limit, budgets_of_holders, kind_of, of_caller, of_place, of_plans, of_tags
from gateway.core.live import BUDGET, QUOTA, RATE, Blocked, LiveState
from gateway.core.policy import Snapshot
from gateway.core.rank import output_expected
from gateway.core.unlimited import UNLIMITED, Unlimited
from gateway.ports import Patience
from gateway.state.accounts.port import Accounts
from gateway.state.holding import RETRY_S, AccountHold
from gateway.state.lines import NOBODY, TICKETS, Caller, Line, Place

UNTIL_STEP_S: Final = 60.0  # a budget's end is told by so many: equal live states are one object, and ranks hang on it
REMEMBERED_MAX: Final = 64  # live states, by what is taken away from them: tenants whose budget is spent see one each
ROWS_AT_ONCE: Final = 1_000  # accounts that are looked at for one report: 5 ms of an event loop
OPENED_AT_ONCE: Final = 8  # callers or budgets: 2 ms of an event loop


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
        self._callers: dict[object, Caller | None] = {}  # by their key, or that and a tag
        self._round: list[str] = []  # accounts that are yet to be told of, before all are again
        self._facts: RequestFacts | None = None  # of the request that was looked at last
        self._facts_of: Caller | None = None
        self.adopt(snapshot, now)

    def adopt(self, snapshot: Snapshot, now: float) -> None:
        """Go by another snapshot. What was used stays used."""
        policy = snapshot.policy
        self._access = snapshot.access
        before = self._callers
        self._lines: dict[str, Line] = {}  # by account: what somebody has asked for
        self._seen: dict[str, Line] = {}  # and what was looked at though nobody has
        self._by_tag = {frozenset((tag,)): limits for tag, limits in of_tags(policy).items()}
        self._callers = {}
        self._facts = None
        self._unopened: Iterator[None] = chain(self._again(before), self._budgets())
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

    def open_more(self, steps: int = OPENED_AT_ONCE) -> bool:
        """Open some of what was used under the last snapshot, and of the budgets that nobody asked for. False: that was all; the
        next call begins to look at the budgets anew, for others may have spent something by then."""
        more = sum(1 for _ in islice(self._unopened, steps)) == steps
        if not more:
            self._unopened = self._budgets()
        return more

    @property
    def looked_at(self) -> int:
        """How many accounts are open that no request has asked for."""
        return len(self._seen)

    def _again(self, callers: Iterable[object]) -> Iterator[None]:
        """One of the `callers` of before at a time: what they have used, and hold, goes by the terms in force."""
        for key in callers:
            if key not in self._callers:
                self._of(key)
            yield

    def _budgets(self) -> Iterator[None]:
        """One budget at a time, as it stands among all; alone there is nothing to be seen."""
        for limit in budgets_of_holders(self._access) if self._accounts.shared else ():
            if limit.terms.id not in self._lines and limit.terms.id not in self._seen:
                self._seen[limit.terms.id] = Line(limit, self._accounts.open(limit.terms))
            yield

    def _opened(self, limits: Iterable[Limit]) -> tuple[Line, ...]:
        found = []
        for limit in limits:
            line = self._lines.get(limit.terms.id)
            if line is None:
                line = self._seen.pop(limit.terms.id, None) or Line(limit, self._accounts.open(limit.terms))
                self._lines[limit.terms.id] = line
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

    def hold(self, request: Request, decision: Decision, patience: Patience) -> "AccountHold | Unlimited":
        """A hold on nothing as yet, for `request` as it was decided."""
        caller = self._caller(request)
        if caller is None:
            if not self._limited:
                return UNLIMITED
            caller = NOBODY
        return AccountHold(self, caller, request, decision, patience)

    def _caller(self, request: Request) -> Caller | None:
        facts = request.facts
        if facts is self._facts:  # what is decided is held next
            return self._facts_of
        key: object = (facts.key, facts.tag) if facts.tag in self._by_tag else facts.key
        try:
            caller = self._callers[key]
        except KeyError:
            caller = self._of(key)
        self._facts, self._facts_of = facts, caller
        return caller

    def _of(self, key: object) -> Caller | None:
        """All that binds whoever shows `key`, which is a set of keys' names, or that and a tag; None: nothing does."""
        names, tag = key if isinstance(key, tuple) else (key, None)
        limits: list[Limit] = []
        if len(names) == 1 and (name := next(iter(names))) in self._access.keys:
            found = of_caller(self._access, name)
            limits += (*found.rates, *found.budgets)
        limits += self._by_tag.get(tag, ())
        caller = self._callers[key] = Caller(self._opened(limits)) if limits else None
        return caller

    # --- what is used up ----------------------------------------------------------------------------------------------------

    def used_up(self, line: Line, amount: int, now: float) -> None:
        """An account of a place said no to `amount`: until it lets go nothing more is sent to whoever takes as much of it.

        What is left of a plan may be enough for a lighter model, and for this one once the peak hours are over.
        """
        limit = line.limit
        word = QUOTA if line.amount == TICKETS else RATE
        until = now + (line.account.wait_s(amount, now) or RETRY_S)
        weights = limit.weights
        if limit.peak is not None and limit.peak.at(now):
            weights, until = limit.at_peak, min(until, limit.peak.ends(now))
        why = Blocked(word, f"{limit.whose} has used up {limit.says}", None if until == inf else until)
        for name in self._members.get(limit.terms.id, ()):
            if line.amount == TICKETS and (self.places[name].beyond is not None or weights[name] < amount):
                continue  # it goes on at its price, or takes less
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
        return self._rows((*self._lines, *self._seen), now)

    def some_rows(self, now: float, most: int = ROWS_AT_ONCE) -> dict[str, Any]:
        """The same of `most` accounts, in turn, and whether they are the first and the last of a round; see rounds.py."""
        if first := not self._round:
            self._round = [*self._lines, *self._seen]
        names, self._round = self._round[:most], self._round[most:]
        return {"rows": self._rows(names, now), "first": first, "last": not self._round}

    def _rows(self, names: Iterable[str], now: float) -> list[dict[str, Any]]:
        found = []
        for name in names:
            line = self._lines.get(name) or self._seen.get(name)
            if line is None:  # it is no more
                continue
            account = line.account
            if account.untouched:  # most keys of most gateways, at most moments
                self._seen.pop(name, None)
                continue
            left, alone = account.left(now), account.alone
            if alone or left < line.limit.terms.of.amount:
                found.append({"id": name, "left": left, "reset_s": round(account.reset_s(now), 3), "alone": alone})
        return found


if TYPE_CHECKING:

    def _is_port(limiter: AccountLimiter) -> None:
        from gateway import ports

        _limiter: ports.Limiter = limiter
