"""What passes between the stages of one exchange. Frozen: a stage never edits what it was given."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from gateway.core.facts import RequestFacts
from gateway.core.fleeting import fleeting

if TYPE_CHECKING:
    from gateway.core.policy import Deployment


@fleeting(frozen=True, slots=True)
class Needs:
    """What a request needs of whoever serves it; checked after the rules, each with its reason."""

    api: str  # one of terms.APIS
    abilities: frozenset[str] = frozenset()  # of the model: tools, vision, json_schema
    tools: frozenset[str] = frozenset()  # kinds of tool: function
    prompt_tokens: int = 0  # estimate; of all texts together
    output_tokens: int | None = None  # what the caller asked for at most, in all `n` answers, if it did
    remote_content: bool = False  # the content names a URL that the upstream would have to fetch
    longest_tokens: int = 0  # of the longest text, where several are read apart from one another; 0: the prompt is one


@fleeting(frozen=True, slots=True)
class Wish:
    """What a request's `cache-control` says, in the words of RFC 9111, section 5.2.1."""

    look: bool = True  # no-store, no-cache: nothing that was kept will do
    keep: bool = True  # no-store: nothing of it may be kept
    age_s_max: float | None = None  # max-age: nothing older will do
    only: bool = False  # only-if-cached: nothing is to be sent anywhere


ANY: Final = Wish()


@fleeting(frozen=True, slots=True)
class Request:
    """One request of a client, parsed and identified. `body` is read-only by convention: dialects build new ones from it."""

    id: str  # minted here; what money and records use
    client_id: str  # the client's x-request-id or "", echoed and never trusted
    api: str
    asked: str  # as the client wrote it
    facts: RequestFacts
    needs: Needs
    body: Mapping[str, Any]
    body_bytes: int
    stream: bool
    wants_usage: bool  # stream_options.include_usage
    disclose: frozenset[str]  # what this key's answers may say
    began: float  # UTC seconds since 1970
    wish: Wish = ANY
    session: str = ""  # what the client calls its conversation, where prefixes are remembered; never trusted, never recorded
    side_of: str = ""  # the id of the request on whose behalf the gateway itself asks this one; "": a client does


class Fault(StrEnum):
    """Whose fault an outcome is: decides whether we fail over, and whether a breaker counts it."""

    NOBODY = "nobody"
    CLIENT = "client"
    UPSTREAM = "upstream"
    OURS = "ours"  # our credentials, our configuration, our plan


class Ended(StrEnum):
    """How an attempt ended."""

    SERVED = "served"
    CUT_SHORT = "cut short"  # upstream went away after content had reached the client
    CLIENT_GONE = "client gone"
    REJECTED = "rejected"  # the client's own fault, in the upstream's eyes
    THROTTLED = "throttled"
    EXHAUSTED = "exhausted"  # a quota or a balance is used up
    FAILED = "failed"
    UNKNOWN = "unknown"  # what the table of outcomes does not know; treated as failed


class Scope(StrEnum):
    """How far an outcome reaches: other routes that share it are not tried either."""

    REQUEST = "request"  # says nothing about the route
    DEPLOYMENT = "deployment"
    ENDPOINT = "endpoint"  # the address or its credential


@fleeting(frozen=True, slots=True)
class Usage:
    """Tokens of one exchange. Input is uncached + cached + cache_write; reasoning is part of output."""

    uncached: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    reported: bool = False  # False: our own estimate

    @property
    def input(self) -> int:
        return self.uncached + self.cached + self.cache_write


@fleeting(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. `message` is text for the client, masked, and only there when the fault is the client's."""

    ended: Ended
    fault: Fault = Fault.NOBODY
    scope: Scope = Scope.REQUEST
    status: int = 0  # HTTP status of the upstream; 0: none was read
    code: str = ""  # a word of our table, such as `rate_limited`, `connect_timeout`, `context_length_exceeded`
    message: str = ""
    param: str | None = None
    retry_after_s: float | None = None
    permanent: bool = False  # will not mend by waiting: no balance, plan expired, key refused
    sent: bool = True  # False: surely no byte of the request left; nothing was processed anywhere
    usage: Usage | None = None
    finish: str = ""  # the last finish_reason passed on, as OpenAI spells it

    @property
    def tries_next(self) -> bool:
        """Whether another route may still serve the request."""
        match self.ended:
            case Ended.SERVED | Ended.CUT_SHORT | Ended.CLIENT_GONE | Ended.REJECTED:
                return False
            case Ended.THROTTLED | Ended.EXHAUSTED | Ended.FAILED | Ended.UNKNOWN:
                return True


@fleeting(frozen=True, slots=True)
class Attempt:
    """One call to one route. `number` counts from 1. `at_price`: its plan is used up, so it is paid for by the token."""

    number: int
    deployment: "Deployment"
    at_price: bool = False


@fleeting(frozen=True, slots=True)
class Tried:
    """An attempt and how it ended, with times in UTC seconds; `first_content` is 0 when none came."""

    attempt: Attempt
    outcome: Outcome
    began: float
    ended: float
    first_content: float = 0.0
    address: str = ""  # the peer that was really contacted, `ip:port`; "": none was
    dropped: tuple[str, ...] = ()  # fields of the request that this dialect does not know


@fleeting(frozen=True, slots=True)
class Cost:
    """US dollars of one exchange, and how they are known."""

    usd: Decimal
    basis: str  # "reported", "estimated" or "none" (nothing was processed)


class Recall(StrEnum):
    """What the cache had for a request that policy lets it answer. The words of the ledger, of metrics and of `x-gateway-cache`."""

    HIT = "hit"
    JOINED = "joined"  # an equal request was under way, and its answer was waited for
    NEAR = "near"  # of a request that is like it
    MISS = "miss"  # nothing that may be served
    BYPASSED = "bypassed"  # the request wished it
    BARRED = "barred"  # the labels of the store do not meet the rules of the request
    LOST = "lost"  # the store did not answer
    SPOILT = "spoilt"  # what was there did not open, or is not what it says


class Unlike(StrEnum):
    """Why a request that may be given the answer to a like one was not, in words of the ledger and of metrics."""

    UNFIT = "unfit"  # no two such requests are compared (likeness.py), or none of its routes may have made the answer
    BARRED = "barred"  # its message may be sent to no place that could say what it is like
    FAILED = "failed"  # that was asked, and not answered
    LATE = "late"  # or not in time
    LOST = "lost"  # the store did not answer
    FAR = "far"  # nothing that is kept is like enough


@fleeting(frozen=True, slots=True)
class Kept:
    """An answer of another time, ready for the request at hand. `deployment` (its id) is where it was made, `made_by` the request
    that it was made for, `made` when: UTC seconds. `body` is JSON, or for a stream its events, [DONE] included."""

    deployment: str
    made_by: str
    made: float
    usage: Usage | None
    body: bytes


@fleeting(frozen=True, slots=True)
class Recalled:
    """How asking the cache went. `kept` is what may be served, `deployment` where that was made.

    `likeness`: the cosine of the two messages, where that was made for a like request. `unlike`: why no such answer was given,
    where one would do.
    """

    how: Recall
    kept: Kept | None = None
    deployment: "Deployment | None" = None
    likeness: float | None = None
    unlike: Unlike | None = None
