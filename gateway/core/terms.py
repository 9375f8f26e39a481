"""The words that everything else is written in.

A *fact* is what a rule may look at in a request, and it is a set of possible values. A *label* is what is true of a place that
content may go to, and it may be unknown. Rule 1: an unknown fact may have any value. Rule 2: an unknown label satisfies nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

APIS: Final = ("chat", "completions", "embeddings", "messages", "responses")
"""The clients' APIs, as facts and labels name them."""

EMBEDDINGS: Final = "embeddings"
"""The API whose answers are vectors, and no tokens."""

CONVERSING: Final = frozenset(APIS) - {EMBEDDINGS}
"""What a model is for that does not say: one that answers in words can be asked for words in any way, and gives no vectors."""

ANYWHERE: Final = None
"""Places that nobody vouches for: missing, stale, or written `anywhere`. It satisfies no require, and every forbid hits it."""

UNGROUPED: Final = "-"
"""The group of a tenant in no group. A value, because an empty set would lie inside every test."""

OTHER: Final = "other"
"""The member of a fact's universe that stands for every value nobody configured, so that `all there is` lies inside no test."""

LEDGER: Final = "ledger"
"""The sink without which nothing is sent: content that it may not keep a record of is content that the gateway may not process."""

DATA_CLASSES: Final = ("public", "internal", "personal", "special")
"""How sensitive content is, least first, where a policy does not say otherwise."""


STORE_FAILURES: Final = ("down", "late", "lost", "busy", "full", "refused")
"""Why a shared store did not answer: it is not asked just now; none came in time; the connection ended; too much is on its way
already; it has no memory left; it said no."""


class Effect(StrEnum):
    """What a rule does."""

    PERMIT = "permit"
    REQUIRE = "require"
    FORBID = "forbid"


class Because(StrEnum):
    """The kinds of reason that keep a deployment from being a route, in the order in which they are told."""

    RULE = "rule"  # a require not surely met, a forbid that may hit
    GATEWAY = "gateway"  # the content may not be processed by this gateway at all
    NO_PERMIT = "no permit"  # no permit surely matches
    ASKED = "not asked"  # the name in the request does not stand for it
    DISABLED = "disabled"  # switched off in the catalogue
    NEEDS = "needs"  # the request needs what it does not have
    LIMIT = "limit"  # a limit of the policy, such as usd_per_request
    LIVE = "live"  # breaker, throttle, quota, cordon: what changes from second to second


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for one exclusion.

    `word` is what cases and ledgers call it: a rule's id, or `gateway: RULE`, `no permit`, `not asked`, `disabled`,
    `needs: tools`, `needs: context`, `limit: usd_per_request`, `live: throttled`. `detail` says what was found and wanted.
    """

    kind: Because
    word: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What rules test, as of an instant: a deployment, a store, a sink, or the gateway itself.

    `None` for places means ANYWHERE. `apis`, `tools` and `abilities` are what is promised there; what is not listed is missing.
    """

    name: str
    kind: str  # "deployment", "store", "sink" or "gateway"
    endpoint: str
    provider: str
    dialect: str
    model: str
    processed_in: frozenset[str] | None
    operated_under: frozenset[str] | None
    origin: frozenset[str] | None
    assurances: frozenset[str]
    apis: frozenset[str]
    tools: frozenset[str]
    abilities: frozenset[str]
    context: int | None  # tokens
