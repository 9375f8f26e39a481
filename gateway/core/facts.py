"""What a rule may look at in a request, and how what a tenant, a key and a caller say becomes it.

Every fact is a frozenset of possible values: one when known, all when not. A test *may hold* if the fact meets it and *must hold*
if the fact lies inside it. Hard rules use whichever of the two can only lose routes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from gateway.core.terms import UNGROUPED

HARD_FACTS: Final = ("tenant", "group", "key", "region", "data_class", "categories", "asked", "api")
"""Facts that a caller can't choose freely."""

SOFT_FACTS: Final = ("task", "tag", "language", "ability", "stream", "prompt_tokens")
"""Facts that a caller chooses. They serve preferences; a hard rule on one says `trust: client`."""

DECLARABLE: Final = ("region", "data_class", "categories", "task", "tag")
"""Facts that headers (`x-gateway-data-class`) or `gateway` in the body may declare."""

FINDINGS: Final = ("categories", "ability")
"""Facts that list what was found in a request, so that an empty set is knowledge: nothing was."""

YES: Final = frozenset({"true"})
NO: Final = frozenset({"false"})


@dataclass(unsafe_hash=True, slots=True, init=False)
class RequestFacts:
    """All that rules and preferences may know of one request. `prompt_tokens` is an estimate."""

    tenant: Final[frozenset[str]]
    group: Final[frozenset[str]]
    key: Final[frozenset[str]]
    region: Final[frozenset[str]]  # countries whose data law applies; all of them count
    data_class: Final[frozenset[str]]
    categories: Final[frozenset[str]]  # kinds of content that may be among it; empty: none was found, declared or asserted
    asked: Final[frozenset[str]]
    api: Final[frozenset[str]]
    task: Final[frozenset[str]]
    tag: Final[frozenset[str]]
    language: Final[frozenset[str]]
    ability: Final[frozenset[str]]  # abilities that the request uses: tools, vision, json_schema, reasoning
    stream: Final[frozenset[str]]
    prompt_tokens: Final[int]
    inspected: Final[str]  # full, partial or no: how much of the content a detector has read

    def __init__(
        self,
        tenant: frozenset[str],
        group: frozenset[str],
        key: frozenset[str],
        region: frozenset[str],
        data_class: frozenset[str],
        categories: frozenset[str],
        asked: frozenset[str],
        api: frozenset[str],
        task: frozenset[str],
        tag: frozenset[str],
        language: frozenset[str],
        ability: frozenset[str],
        stream: frozenset[str],
        prompt_tokens: int,
        inspected: str = "no",
    ) -> None:
        self.tenant = tenant
        self.group = group
        self.key = key
        self.region = region
        self.data_class = data_class
        self.categories = categories
        self.asked = asked
        self.api = api
        self.task = task
        self.tag = tag
        self.language = language
        self.ability = ability
        self.stream = stream
        self.prompt_tokens = prompt_tokens
        self.inspected = inspected

    def as_record(self) -> dict[str, object]:
        """The facts as JSON can hold them, sorted; sets of one value as lists too, so that a reader needs one rule."""
        record: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            record[item.name] = sorted(value) if isinstance(value, frozenset) else value
        return record


@dataclass(frozen=True, slots=True)
class FactSpec:
    """What an access document says of one fact for one tenant or key.

    `within` is what may be declared (None: nothing), `default` what holds when nothing is, `always` what is added whatever is
    declared (categories only). Values are expanded: countries, not zones.
    """

    within: frozenset[str] | None = None
    default: frozenset[str] | None = None
    always: frozenset[str] = frozenset()
    source: str = ""


NOTHING_SAID: Final = FactSpec()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All there is: the universe of each fact that a document can name, zones expanded."""

    countries: frozenset[str]
    zones: Mapping[str, frozenset[str]]
    data_classes: tuple[str, ...]  # least sensitive first
    categories: frozenset[str]
    tasks: frozenset[str]
    tags: frozenset[str]
    languages: frozenset[str]

    def universe(self, fact: str) -> frozenset[str]:
        """Every value that `fact` can have when nothing is known of it."""
        match fact:
            case "region":
                return self.countries
            case "data_class":
                return frozenset(self.data_classes)
            case "categories":
                return self.categories
            case "task":
                return self.tasks
            case "tag":
                return self.tags
            case "language":
                return self.languages
        raise KeyError(fact)

    def expand(self, fact: str, word: str) -> frozenset[str] | None:
        """The values that `word` stands for (a zone is its countries), or None if nothing defines it."""
        if fact == "region" and (members := self.zones.get(word)) is not None:
            return members
        return frozenset((word,)) if word in self.universe(fact) else None


class FactError(Exception):
    """A declared fact that can't stand. `status` is 400 (not a known word, two values) or 403 (outside `within`)."""

    def __init__(self, fact: str, found: str, wanted: str, status: int, message: str = "") -> None:
        super().__init__(fact, found, wanted, status, message)
        self.fact = fact
        self.found = found
        self.wanted = wanted
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message or f"`{self.found}` can't be the `{self.fact}` of this request; {self.wanted}"


def said_of(fact: str, tenant: Mapping[str, FactSpec], vocabulary: Vocabulary) -> FactSpec:
    """What a tenant's facts say of `fact`. task and tag only order and report: with no `within`, any word may be said."""
    found = tenant.get(fact, NOTHING_SAID)
    if fact in HARD_FACTS or found.within is not None:
        return found
    everything = vocabulary.universe(fact)
    return FactSpec(within=everything, default=found.default or everything)


def settle(
    fact: str,
    tenant: FactSpec,
    key: FactSpec,
    declared: frozenset[str] | None,
    vocabulary: Vocabulary,
) -> frozenset[str]:
    """What `fact` is for one request: declared inside `within`, else the default, else all of `within`, else all there is.

    A key's spec narrows its tenant's. Categories are the one exception to "all there is": they say what was *found*, so with
    nothing declared, asserted or detected there are none; `within` without a default means any of them may be there.
    No other fact comes out empty: that would be a request to which nothing applies. Raises FactError: 400 when nothing is
    declared where something must be, 403 when what is declared lies outside.
    """
    within = _narrowed(tenant.within, key.within)
    always = tenant.always | key.always
    if declared is not None:
        if not declared and fact not in FINDINGS:
            raise FactError(fact, "", "name at least one value, or do not declare it", 400)
        if within is None or not declared <= within:
            raise _outside(fact, declared, within)
        return declared | always
    if key.default is not None:
        return key.default | always
    if tenant.default is not None:
        # a key that is narrower than its tenant's default keeps what lies inside; what lies outside can't be its own
        inside = tenant.default if key.within is None else tenant.default & key.within
        # an empty default (findings only) is said on purpose: nothing is among it unless somebody says so
        return (inside or (within if tenant.default else None) or tenant.default) | always
    if within:
        return within | always
    return always if fact == "categories" else vocabulary.universe(fact)


def _narrowed(tenant: frozenset[str] | None, key: frozenset[str] | None) -> frozenset[str] | None:
    if key is None or tenant is None:
        return tenant
    return tenant & key


def _outside(fact: str, declared: frozenset[str], within: frozenset[str] | None) -> FactError:
    found = ", ".join(sorted(declared)[:5])
    if within is None:
        wanted = "this key may not declare it: the access document gives it no `within`"
    else:
        allowed = sorted(within)
        shown = ", ".join(allowed[:12]) + (f" and {len(allowed) - 12} more" if len(allowed) > 12 else "")
        wanted = f"this key may declare: {shown}"
    return FactError(fact, found, wanted, 403)


def group_of(group: str | None) -> frozenset[str]:
    """The fact `group` of a tenant."""
    return frozenset((group if group is not None else UNGROUPED,))
