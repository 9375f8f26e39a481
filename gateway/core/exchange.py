"""What passes between the stages of one exchange. Frozen: a stage never edits what it was given."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.core.facts import RequestFacts
from gateway.core.policy import Deployment
from gateway.core.usage import Usage


@dataclass(unsafe_hash=True, slots=True, init=False)
class Needs:
    """What a request needs of whoever serves it; checked after the rules, each with its reason."""

    api: Final[str]  # one of terms.APIS
    abilities: Final[frozenset[str]]  # of the model: tools, vision, json_schema
    tools: Final[frozenset[str]]  # kinds of tool: function
    prompt_tokens: Final[int]  # estimate; of all texts together
    output_tokens: Final[int | None]  # what the caller asked for at most, in all `n` answers, if it did
    remote_content: Final[bool]  # the content names a URL that the upstream would have to fetch
    longest_tokens: Final[int]  # of the longest text, where several are read apart from one another; 0: the prompt is one

    def __init__(
        self,
        api: str,
        abilities: frozenset[str] = frozenset(),
        tools: frozenset[str] = frozenset(),
        prompt_tokens: int = 0,
        output_tokens: int | None = None,
        remote_content: bool = False,
        longest_tokens: int = 0,
    ) -> None:
        self.api = api
        self.abilities = abilities
        self.tools = tools
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.remote_content = remote_content
        self.longest_tokens = longest_tokens


@dataclass(unsafe_hash=True, slots=True, init=False)
class Wish:
    """What a request's `cache-control` says, in the words of RFC 9111, section 5.2.1."""

    look: Final[bool]  # no-store, no-cache: nothing that was kept will do
    keep: Final[bool]  # no-store: nothing of it may be kept
    age_s_max: Final[float | None]  # max-age: nothing older will do
    only: Final[bool]  # only-if-cached: nothing is to be sent anywhere

    def __init__(self, look: bool = True, keep: bool = True, age_s_max: float | None = None, only: bool = False) -> None:
        self.look = look
        self.keep = keep
        self.age_s_max = age_s_max
        self.only = only


ANY: Final = Wish()


@dataclass(unsafe_hash=True, slots=True, init=False)
class Request:
    """One request of a client, parsed and identified. `body` is read-only by convention: dialects build new ones from it."""

    id: Final[str]  # minted here; what money and records use
    client_id: Final[str]  # the client's x-request-id or "", echoed and never trusted
    api: Final[str]
    asked: Final[str]  # as the client wrote it
    facts: Final[RequestFacts]
    needs: Final[Needs]
    body: Final[Mapping[str, Any]]
    body_bytes: Final[int]
    stream: Final[bool]
    wants_usage: Final[bool]  # stream_options.include_usage
    disclose: Final[frozenset[str]]  # what this key's answers may say
    began: Final[float]  # UTC seconds since 1970
    wish: Final[Wish]
    session: Final[str]  # what the client calls its conversation, where prefixes are remembered; never trusted, never recorded
    side_of: Final[str]  # the id of the request on whose behalf the gateway itself asks this one; "": a client does

    def __init__(
        self,
        id: str,
        client_id: str,
        api: str,
        asked: str,
        facts: RequestFacts,
        needs: Needs,
        body: Mapping[str, Any],
        body_bytes: int,
        stream: bool,
        wants_usage: bool,
        disclose: frozenset[str],
        began: float,
        wish: Wish = ANY,
        session: str = "",
        side_of: str = "",
    ) -> None:
        self.id = id
        self.client_id = client_id
        self.api = api
        self.asked = asked
        self.facts = facts
        self.needs = needs
        self.body = body
        self.body_bytes = body_bytes
        self.stream = stream
        self.wants_usage = wants_usage
        self.disclose = disclose
        self.began = began
        self.wish = wish
        self.session = session
        self.side_of = side_of


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


@dataclass(unsafe_hash=True, slots=True, init=False)
class Outcome:
    """How one attempt ended. `message` is text for the client, masked, and only there when the fault is the client's."""

    ended: Final[Ended]
    fault: Final[Fault]
    scope: Final[Scope]
    status: Final[int]  # HTTP status of the upstream; 0: none was read
    code: Final[str]  # a word of our table, such as `rate_limited`, `connect_timeout`, `context_length_exceeded`
    message: Final[str]
    param: Final[str | None]
    retry_after_s: Final[float | None]
    permanent: Final[bool]  # will not mend by waiting: no balance, plan expired, key refused
    sent: Final[bool]  # False: surely no byte of the request left; nothing was processed anywhere
    usage: Final[Usage | None]
    finish: Final[str]  # the last finish_reason passed on, as OpenAI spells it

    def __init__(
        self,
        ended: Ended,
        fault: Fault = Fault.NOBODY,
        scope: Scope = Scope.REQUEST,
        status: int = 0,
        code: str = "",
        message: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
        permanent: bool = False,
        sent: bool = True,
        usage: Usage | None = None,
        finish: str = "",
    ) -> None:
        self.ended = ended
        self.fault = fault
        self.scope = scope
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.permanent = permanent
        self.sent = sent
        self.usage = usage
        self.finish = finish

    @property
    def tries_next(self) -> bool:
        """Whether another route may still serve the request."""
        match self.ended:
            case Ended.SERVED | Ended.CUT_SHORT | Ended.CLIENT_GONE | Ended.REJECTED:
                return False
            case Ended.THROTTLED | Ended.EXHAUSTED | Ended.FAILED | Ended.UNKNOWN:
                return True


@dataclass(unsafe_hash=True, slots=True, init=False)
class Attempt:
    """One call to one route. `number` counts from 1. `at_price`: its plan is used up, so it is paid for by the token."""

    number: Final[int]
    deployment: Final[Deployment]
    at_price: Final[bool]

    def __init__(self, number: int, deployment: Deployment, at_price: bool = False) -> None:
        self.number = number
        self.deployment = deployment
        self.at_price = at_price


@dataclass(unsafe_hash=True, slots=True, init=False)
class Tried:
    """An attempt and how it ended, with times in UTC seconds; `first_content` is 0 when none came."""

    attempt: Final[Attempt]
    outcome: Final[Outcome]
    began: Final[float]
    ended: Final[float]
    first_content: Final[float]
    address: Final[str]  # the peer that was really contacted, `ip:port`; "": none was
    dropped: Final[tuple[str, ...]]  # fields of the request that this dialect does not know

    def __init__(
        self,
        attempt: Attempt,
        outcome: Outcome,
        began: float,
        ended: float,
        first_content: float = 0.0,
        address: str = "",
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.attempt = attempt
        self.outcome = outcome
        self.began = began
        self.ended = ended
        self.first_content = first_content
        self.address = address
        self.dropped = dropped


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


@dataclass(unsafe_hash=True, slots=True, init=False)
class Kept:
    """An answer of another time, ready for the request at hand. `deployment` (its id) is where it was made, `made_by` the request
    that it was made for, `made` when: UTC seconds. `body` is JSON, or for a stream its events, [DONE] included."""

    deployment: Final[str]
    made_by: Final[str]
    made: Final[float]
    usage: Final[Usage | None]
    body: Final[bytes]

    def __init__(self, deployment: str, made_by: str, made: float, usage: Usage | None, body: bytes) -> None:
        self.deployment = deployment
        self.made_by = made_by
        self.made = made
        self.usage = usage
        self.body = body


@dataclass(unsafe_hash=True, slots=True, init=False)
class Recalled:
    """How asking the cache went. `kept` is what may be served, `deployment` where that was made.

    `likeness`: the cosine of the two messages, where that was made for a like request. `unlike`: why no such answer was given,
    where one would do.
    """

    how: Final[Recall]
    kept: Final[Kept | None]
    deployment: Final[Deployment | None]
    likeness: Final[float | None]
    unlike: Final[Unlike | None]

    def __init__(
        self,
        how: Recall,
        kept: Kept | None = None,
        deployment: Deployment | None = None,
        likeness: float | None = None,
        unlike: Unlike | None = None,
    ) -> None:
        self.how = how
        self.kept = kept
        self.deployment = deployment
        self.likeness = likeness
        self.unlike = unlike
