"""What the client is told, in no API's spelling: `wire/` writes it in the shape of the API that was called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core.budgets import SPENT
from gateway.core.decide import Decision, Verdict
from gateway.core.exchange import Ended, Fault, Outcome
from gateway.core.explain import refusal_message, too_long_message, unavailable_message
from gateway.core.live import BUDGET, LIMITS
from gateway.core.rates import RATE_LIMITED
from gateway.core.unlimited import NO_HEADERS
from gateway.core.usage import Usage

OVER_RATE: Final = "over_rate"  # codes of attempts that a limit of our own did not let begin
OVER_QUOTA: Final = "over_quota"
OVER_BUDGET: Final = "over_budget"
OVER: Final = frozenset({OVER_RATE, OVER_QUOTA, OVER_BUDGET})

PROMPTS: Final = {"chat": "messages", "completions": "prompt", "embeddings": "input"}  # where each API has its text
SOON_S: Final = 1.0  # by then what is held of a budget may be settled: whoever needs not wait longer for one should try again
RETRY_AFTER_S = 30.0  # where nothing tells when a route will be back: one breaker period and its doubling


class Problem(Exception):
    """One error for the client. `should_retry` False: no retry can mend it, and SDKs are told so."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(status, code, message, param, retry_after_s, should_retry)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry

    def __str__(self) -> str:
        return self.message


@dataclass(unsafe_hash=True, slots=True, init=False)
class Answer:
    """The end of an exchange. Either `body`, or `problem`, or `streamed` (all is written already)."""

    status: Final[int]
    body: Final[bytes]
    problem: Final[Problem | None]
    streamed: Final[bool]
    headers: Final[Mapping[str, str]]
    usage: Final[Usage | None]
    made_at: Final[str]  # the deployment that made `body`

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        problem: Problem | None = None,
        streamed: bool = False,
        headers: Mapping[str, str] = NO_HEADERS,
        usage: Usage | None = None,
        made_at: str = "",
    ) -> None:
        self.status = status
        self.body = body
        self.problem = problem
        self.streamed = streamed
        self.headers = headers
        self.usage = usage
        self.made_at = made_at

    @property
    def code(self) -> str:
        """The error's code; "" where there is none."""
        return self.problem.code if self.problem is not None else ""


DEFECT: Final = Problem(500, "internal_error", "the gateway has a defect, and has recorded where")


def gone() -> Answer:
    """Nobody was there to be answered."""
    return Answer(0)


def refused(decision: Decision, now: float) -> Problem:
    """What to say where a decision has no routes. `now` in UTC seconds."""
    match decision.verdict:
        case Verdict.TOO_LONG:
            where = PROMPTS.get(decision.needs.api)
            return Problem(400, "context_length_exceeded", too_long_message(decision), where, should_retry=False)
        case Verdict.UNAVAILABLE:
            words = {blocked.word for blocked in decision.blocking}
            until = [blocked.until for blocked in decision.blocking if blocked.until is not None]
            wait_s = max(1.0, min(until) - now) if until else RETRY_AFTER_S
            if words <= LIMITS:
                spent = BUDGET in words
                code, retry = (SPENT, False) if spent else (RATE_LIMITED, None)
                return Problem(429, code, unavailable_message(decision), retry_after_s=wait_s, should_retry=retry)
            return Problem(503, "no_route_available", unavailable_message(decision), retry_after_s=wait_s)
        case Verdict.REFUSED | Verdict.ROUTED:
            return Problem(403, "no_route_allowed", refusal_message(decision), should_retry=False)


def failed(outcomes: list[Outcome]) -> Problem:
    """What to say when every attempt ended badly; the last one speaks, unless waiting is what would help."""
    last = outcomes[-1]
    if last.ended is Ended.REJECTED or last.fault is Fault.CLIENT:
        status = last.status if 400 <= last.status < 500 and last.status not in (401, 403, 408, 409, 429) else 400
        message = last.message or "the model's server rejected this request"
        return Problem(status, last.code or "rejected_upstream", message, last.param, should_retry=False)
    waits = [outcome.retry_after_s for outcome in outcomes if outcome.retry_after_s is not None]
    tried = f"{len(outcomes)} allowed {'route was' if len(outcomes) == 1 else 'routes were'} tried"
    how = ", ".join(dict.fromkeys(f"{outcome.ended} ({outcome.code or outcome.status})" for outcome in outcomes))
    if all(outcome.code in OVER for outcome in outcomes):  # none of them was asked: our own limits stand before all
        wait_s = max(1.0, min(waits)) if waits else RETRY_AFTER_S
        message = f"{len(outcomes)} allowed {'route is' if len(outcomes) == 1 else 'routes are'} over a limit: {how}"
        if any(outcome.code == OVER_BUDGET for outcome in outcomes):
            return Problem(429, SPENT, message, retry_after_s=wait_s, should_retry=None if wait_s <= SOON_S else False)
        return Problem(429, RATE_LIMITED, message, retry_after_s=wait_s)
    if all(outcome.ended in (Ended.THROTTLED, Ended.EXHAUSTED) for outcome in outcomes):
        wait_s = max(1.0, min(waits)) if waits else RETRY_AFTER_S
        return Problem(503, "no_route_available", f"{tried}, and all are at their limits: {how}", retry_after_s=wait_s)
    status = 504 if "timeout" in last.code else 502
    mendable = any(not (outcome.permanent and outcome.fault is Fault.OURS) for outcome in outcomes)
    back_s = max(1.0, min(waits)) if len(waits) == len(outcomes) else None  # of one that did not say, nobody knows
    return Problem(status, "upstream_failed", f"{tried}: {how}", retry_after_s=back_s, should_retry=None if mendable else False)


def stopping() -> Problem:
    """What to say when the worker stops before the exchange has ended."""
    return Problem(503, "shutting_down", "the gateway is stopping; try again", retry_after_s=1.0)


def cut_short(outcome: Outcome) -> Problem:
    """What to say in the stream when an upstream went away after content had reached the client."""
    return Problem(502, "upstream_cut_short", f"the model's server ended the stream early ({outcome.code or 'connection lost'})")
