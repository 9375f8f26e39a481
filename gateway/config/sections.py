"""The sections of a policy folder: any file may hold any of them, and together the files are one document.

Maps and lists are merged, and an id that stands twice is told with both places. What can't be merged (`gateway`, `limits`, …)
stands once. Files are taken in the order of their names, which matters for `preferences` alone.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.config import access, affinity, caching, catalogue, claims, endpoints, limits, preferences, rules
from gateway.config.budgets import BUDGETS
from gateway.config.documents import Entry, Mapping, Node, Scalar, Sequence
from gateway.config.labels import PLACE
from gateway.config.problems import Mark, Problems, show
from gateway.config.shapes import Day, Key, ListOf, MapOf, OneOrMore, Record, Text, Word
from gateway.config.vocabulary import NAME, WORD

ZONE: Final = Record(
    "a zone",
    (
        Key("countries", OneOrMore(PLACE), "its countries; other zones stand for theirs", ["EEA", "CH"], required=True),
        Key("source", Text(), "who says so", "adequacy decision 2000/518/EC for CH", required=True),
        Key("verified", Day(), "the day on which somebody last looked it up", "2026-11-20", required=True),
    ),
)

COINED: Final = Word("a word: small letters, digits and hyphens", pattern=WORD)

_LABELS: Final = {"processed_in": ["DE"], "operated_under": ["DE"]}
_MODEL: Final = {"origin": ["CN"], "context": 200000, "abilities": ["tools"], "languages": ["zh", "en"]}
_ENDPOINT: Final = {
    "provider": "ours",
    "dialect": "vllm",
    "base_url": "http://10.2.0.7:8000/v1",
    "resolves_to": ["10.2.0.0/16"],
    **_LABELS,
    "capacity": {"usd_per_hour": 12.8, "concurrency": 48},
    "models": {"glm-5.1": {}},
}
_RULE: Final = {"id": "europe-for-europeans", "when": {"region": "EEA"}, "permit": {"processed_in": "EEA"}}
_CLAIM: Final = {"id": "nothing-of-europe-in-china", "for": {"region": "EEA"}, "never": {"processed_in": "CN"}}
_TENANT: Final = {
    "facts": {"region": {"within": "EEA", "default": "DE"}},
    "keys": [{"id": "ward-3", "demo": True}],
}

SECTIONS: Final = Record(
    "a policy file",
    (
        Key("gateway", catalogue.GATEWAY, "this gateway itself: it reads every prompt, and is bound by the same rules", _LABELS),
        Key(
            "zones",
            MapOf(Word("a zone", pattern=NAME), ZONE),
            "named sets of countries, besides EU, EFTA, EEA, UK, CN and GDPR-adequacy",
            {"gdpr-space": {"countries": ["EEA", "CH"], "source": "decision 2000/518/EC", "verified": "2026-11-20"}},
        ),
        Key("endpoints", endpoints.ENDPOINTS, "places that serve models, by name", {"frankfurt": _ENDPOINT}),
        Key("models", catalogue.MODELS, "what is true of a model wherever it runs", {"glm-5.1": _MODEL}),
        Key("aliases", catalogue.ALIASES, "names that stand for sets of models; the longest with `*` wins", {"auto": ["glm-5.1"]}),
        Key(
            "stores",
            catalogue.STORES,
            "where the gateway keeps things of its own, elsewhere than beside itself: `state` for limits, and `cache` for answers, "
            "if they are to be apart. Without `state` a server is started beside the gateway, for this machine alone",
            {"state": {"url": "env:REDIS_URL", **_LABELS}},
        ),
        Key("sinks", catalogue.SINKS_MAP, "where the gateway sends records, elsewhere than beside itself", {"ledger": _LABELS}),
        Key(
            "rules",
            ListOf(rules.RULE, least=0),
            "permit, require, forbid; without a permit there is no route, and order means nothing",
            [_RULE],
        ),
        Key(
            "claims", ListOf(claims.CLAIM, least=0), "sentences about all requests, to be proved before the policy serves", [_CLAIM]
        ),
        Key(
            "preferences",
            ListOf(preferences.PREFERENCE, least=0),
            "orders routes; each breaks the ties of those before it",
            [{"id": "otherwise-cheapest", "rank": {"cost": 1}}],
        ),
        Key(
            "cache",
            ListOf(caching.ENTRY, least=0),
            "answers that may be kept and given again; without an entry none is",
            [{"id": "faq", "when": {"data_class": {"at_most": "internal"}}, "ttl": "1h"}],
        ),
        Key("at_most", limits.AT_MOST, "limits of one request", {"usd_per_request": 1.0}),
        Key(
            "affinity",
            affinity.AFFINITY,
            "requests prefer, among the routes allowed, places that read the beginning of their prompt before",
            {"min_tokens": 1024, "for": "5min"},
        ),
        Key("limits", limits.LIMITS, "numbers of the data path", {"attempts_max": 4}),
        Key(
            "data_classes",
            ListOf(COINED),
            "how sensitive content can be, least first",
            ["public", "internal", "personal", "special"],
        ),
        Key("categories", ListOf(COINED), "more kinds of content, besides those that are built in", ["salary"]),
        Key("assurances", ListOf(COINED), "more assurances, besides those that are built in", ["c5"]),
        Key("tasks", ListOf(COINED), "what clients may say that a request is for", ["coding"]),
        Key("tags", ListOf(COINED), "words that apps may put on requests", ["letters"]),
        Key(
            "tag_budgets",
            MapOf(Word("a tag", pattern=WORD), BUDGETS),
            "how much may be spent on requests that surely bear a tag",
            {"letters": [{"usd": 50, "per": "month"}]},
        ),
        Key("tenants", access.TENANTS, "who asks, what may be said, and keys: the access document", {"clinic": _TENANT}),
        Key(
            "groups",
            access.GROUPS,
            "limits of all tenants of a group together",
            {"health": {"budgets": [{"usd": 1000, "per": "month"}]}},
        ),
    ),
    refused={
        "budgets": "budgets are a key's, a tenant's, a group's or a tag's: write them there (of tags: `tag_budgets`)",
        "rates": "rates are a key's, a tenant's, a group's, a model's or an endpoint's: write them there",
        "detect": access.NOT_ENFORCED,
    },
)

ONCE: Final = ("gateway", "at_most", "affinity", "limits", "data_classes")
MAPS: Final = ("zones", "endpoints", "models", "aliases", "stores", "sinks", "tag_budgets", "tenants", "groups")
WORD_LISTS: Final = ("categories", "assurances", "tasks", "tags")
LISTS: Final = ("rules", "claims", "preferences", "cache")

Section = dict[str, tuple[Mark, Node]]


@dataclass(frozen=True, slots=True)
class Sections:
    """All files of a folder as one document."""

    once: dict[str, Node] = field(default_factory=dict)
    maps: dict[str, Section] = field(default_factory=lambda: {name: {} for name in MAPS})
    lists: dict[str, list[Node]] = field(default_factory=lambda: {name: [] for name in (*LISTS, *WORD_LISTS)})


def check(document: Node, problems: Problems) -> Node:
    """Tell all that is wrong with the shape of one file, and give it back with each `for_each` written out."""
    written_out = document
    if isinstance(document, Mapping) and isinstance(section := document.get("rules"), Sequence):
        each = rules.FOR_EACH
        for item in section.items:
            if isinstance(item, Mapping) and (variables := item.get("for_each")) is not None:
                each.check(variables, problems)
        expanded = Sequence(section.mark, tuple(rules.expand(list(section.items), problems)))
        key = document.entries["rules"].key
        written_out = Mapping(document.mark, {**document.entries, "rules": Entry(key, expanded)})
    SECTIONS.check(written_out, problems)
    return written_out


def merge(documents: list[Node], problems: Problems) -> Sections:
    """One document out of many; what stands twice is told with both places."""
    found = Sections()
    once: dict[str, Mark] = {}
    words: dict[tuple[str, str], Mark] = {}
    for document in documents:
        for name, entry in document.entries.items() if isinstance(document, Mapping) else ():
            if name in ONCE:
                if name in once:
                    problems.add(
                        entry.key.mark, f"`{name}` for the second time", f"the first stands at {once[name]}, and it can't be merged"
                    )
                once.setdefault(name, entry.key.mark)
                found.once.setdefault(name, entry.node)
            elif name in MAPS and isinstance(entry.node, Mapping):
                _merge_map(name, entry.node, found.maps[name], problems)
            elif name in LISTS and isinstance(entry.node, Sequence):
                found.lists[name].extend(entry.node.items)
            elif name in WORD_LISTS and isinstance(entry.node, Sequence):
                _merge_words(name, entry.node, found.lists[name], words, problems)
    return found


_ONE: Final = {
    "zones": "zone",
    "endpoints": "endpoint",
    "models": "model",
    "aliases": "alias",
    "stores": "store",
    "sinks": "sink",
    "tag_budgets": "tag",
    "tenants": "tenant",
    "groups": "group",
    "categories": "category",
    "assurances": "assurance",
    "tasks": "task",
    "tags": "tag",
}


def _merge_map(name: str, node: Mapping, into: Section, problems: Problems) -> None:
    for id, entry in node.entries.items():
        if id in into:
            problems.add(entry.key.mark, f"the {_ONE[name]} {show(id)} for the second time", f"the first stands at {into[id][0]}")
        else:
            into[id] = (entry.key.mark, entry.node)


def _merge_words(name: str, node: Sequence, into: list[Node], seen: dict[tuple[str, str], Mark], problems: Problems) -> None:
    for item in node.items:
        if not isinstance(item, Scalar):
            continue  # told by its shape
        first = seen.setdefault((name, item.text), item.mark)
        if first is item.mark:
            into.append(item)
        else:
            problems.add(item.mark, f"the {_ONE[name]} {show(item.text)} for the second time", f"the first stands at {first}")
