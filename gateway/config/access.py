"""The access document: tenants, what each may say of its requests, and keys. A rotated key changes no policy.

Promise: a key is never wider than its tenant. What a tenant asserts by default lies within what it may declare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.config import budgets as spending
from gateway.config.budgets import BUDGETS, compile_budgets
from gateway.config.demo_keys import demo_key, digest_of
from gateway.config.documents import Node, Sequence
from gateway.config.facts import CLASSES, range_of
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.rates import RATES, compile_rates, warn_of_idle
from gateway.config.reading import At, day, end_of, entries, field, flag, last_day, text, whole, word, words
from gateway.config.shapes import Day, Flag, Key, ListOf, MapOf, OneOrMore, Record, Shape, Text, Whole, Word
from gateway.config.vocabulary import DISCLOSABLE, WORD
from gateway.config.words import listed
from gateway.core import policy
from gateway.core.facts import DECLARABLE, NOTHING_SAID, FactSpec

NOT_ENFORCED: Final = "not enforced by this version; remove it"
"""A limit that is written and does nothing is worse than none: somebody relies on it."""


def _spec(fact: str, of: Shape, example: object) -> Key:
    # categories say what was found, so that none is knowledge too; a request without any region would be under no law
    default = OneOrMore(Word("a category"), least=0) if fact == "categories" else of
    keys = [
        Key("within", of, "what a caller may declare; nothing, where it is missing", example),
        Key("default", default, "what holds where a caller declares nothing; all of `within`, where it is missing", example),
        Key("source", Text(), "who says that the default holds", "contract 2026-114"),
    ]
    if fact == "categories":
        keys.append(Key("always", of, "what is added whatever a caller declares", example))
    return Key(fact, Record(f"what is said of `{fact}`", tuple(keys), least=1), _ABOUT[fact], {"within": example})


_ABOUT: Final = {
    "region": "the countries whose data law applies to the content",
    "data_class": "how sensitive the content is",
    "categories": "kinds of content that are on no such line",
    "task": "what requests are for, as preferences know it",
    "tag": "words that an app puts on its requests",
}

FACTS: Final = Record(
    "the facts of a tenant or key",
    (
        _spec("region", OneOrMore(Word("a country or a zone")), "EEA"),
        _spec("data_class", CLASSES, {"at_least": "personal"}),
        _spec("categories", OneOrMore(Word("a category")), ["health"]),
        _spec("task", OneOrMore(Word("a task")), ["coding"]),
        _spec("tag", OneOrMore(Word("a tag")), ["letters"]),
    ),
)

KEY: Final = Record(
    "a key",
    (
        Key(
            "id",
            Word("a key's id: small letters, digits and hyphens", pattern=WORD),
            "what it is found by; its text holds it",
            "ward-3",
            required=True,
        ),
        Key(
            "sha256",
            Word(
                "64 hex digits, the sha256 of the whole key: `gateway keys new` prints them; never the key itself",
                pattern="[0-9a-f]{64}",
                secret=True,
            ),
            "the sha256 of the whole text of the key, as `gateway keys new` prints it",
            "0b6c1f0f9d2c4e8ab1d5a9f3c7e604d28f51b3a6e97c0d4418f2a5b96c3e7d10",
        ),
        Key(
            "demo",
            Flag(),
            "`true`: a key that everybody knows, for the demo; it has no `sha256`, and `gateway serve` refuses it",
            True,
        ),
        Key("expires", Day(), "the last day (UTC) on which it is good", "2027-01-01"),
        Key("revoked", Flag(), "`true` refuses it from now on", True),
        Key("facts", FACTS, "as for a tenant, and narrower", {"region": {"within": ["DE"]}}),
        Key("rates", RATES, "how much it may ask for; what its tenant may holds for it, too", {"requests": "60/min"}),
        Key("budgets", BUDGETS, "how much it may spend; what its tenant may holds for it, too", [{"usd": 5, "per": "day"}]),
        Key(
            "disclose",
            ListOf(Word("what answers may say", of=DISCLOSABLE), least=0),
            "what the headers of its answers say besides the decision's id",
            ["endpoint", "model", "rules"],
        ),
    ),
    refused={"key": "a key's text never stands in a document: write its `sha256`"},
)

TENANT: Final = Record(
    "a tenant",
    (
        Key(
            "group",
            Word("a group: small letters, digits and hyphens", pattern=WORD),
            "the named set of tenants it belongs to",
            "health",
        ),
        Key(
            "facts",
            FACTS,
            "what its requests may say of themselves, and what holds where they say nothing",
            {"region": {"within": "EEA", "default": "DE"}},
        ),
        Key("rates", RATES, "how much all its keys together may ask for", {"requests": "600/min", "concurrency": 50}),
        Key(
            "priority",
            Whole("a priority", 0, 9),
            "where requests wait for a machine of ours that is full: the higher goes first; 0 where it is not stated",
            5,
        ),
        Key("budgets", BUDGETS, "how much all its keys together may spend", [{"usd": 200, "per": "month", "warn_at": [0.8]}]),
        Key("keys", ListOf(KEY, least=0), "what its callers show", [{"id": "ward-3", "demo": True, "disclose": ["endpoint"]}]),
    ),
    refused={"detect": NOT_ENFORCED},
)

GROUP: Final = Record(
    "a group",
    (
        Key("rates", RATES, "how much all its tenants together may ask for", {"requests": "6000/min"}),
        Key("budgets", BUDGETS, "how much all its tenants together may spend", [{"usd": 1000, "per": "month"}]),
    ),
    least=1,
)

GROUPS: Final = MapOf(Word("a group of some tenant", pattern=WORD), GROUP)

TENANTS: Final = MapOf(Word("a tenant: small letters, digits and hyphens", pattern=WORD), TENANT)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key's spec of one fact has to stay within: the tenant's `within`, and all that its requests can be."""

    within: frozenset[str] | None
    possible: frozenset[str]


def compile_groups(section: Mapping[str, tuple[Mark, Node]], known: Known, problems: Problems) -> dict[str, policy.Group]:
    """The limits of groups, each of which some tenant belongs to."""
    found = {}
    for name, (mark, node) in section.items():
        if known.has("group", At(name, mark), problems):
            budgets = compile_budgets(f"the group {show(name)}", field(node, "budgets"), problems)
            found[name] = policy.Group(name, compile_rates(field(node, "rates"), problems), budgets)
    return found


def compile_tenants(
    section: Mapping[str, tuple[Mark, Node]],
    groups: Mapping[str, policy.Group],
    known: Known,
    at: float,
    problems: Problems,
    warnings: Problems,
) -> tuple[dict[str, policy.Tenant], dict[str, policy.Key]]:
    """Tenants and, of all of them, keys: a key is found by its id alone, so ids are unique over all."""
    tenants: dict[str, policy.Tenant] = {}
    keys: dict[str, policy.Key] = {}
    seen: dict[str, Mark] = {}
    for name, (mark, node) in section.items():
        group = word(field(node, "group"))
        facts = _facts(field(node, "facts"), {}, known, problems)
        what, rates = f"the tenant {show(name)}", compile_rates(field(node, "rates"), problems)
        budgets = compile_budgets(what, field(node, "budgets"), problems)
        tenants[name] = policy.Tenant(
            name, group.word if group else None, facts, rates, budgets, whole(field(node, "priority")) or 0
        )
        if group is not None and (above := groups.get(group.word)) is not None:
            _warn_of_idle(what, mark, tenants[name], "its group's", above, warnings)
        listed_keys = field(node, "keys")
        for item in listed_keys.items if isinstance(listed_keys, Sequence) else ():
            key = _key(item, tenants[name], seen, known, at, problems, warnings)
            if key is not None:
                keys[key.id] = key
        if not isinstance(listed_keys, Sequence) or not listed_keys.items:
            warnings.add(mark, f"the tenant {show(name)} without keys", "nobody can ask in its name")
    return tenants, keys


def _key(
    node: Node, tenant: policy.Tenant, seen: dict[str, Mark], known: Known, at: float, problems: Problems, warnings: Problems
) -> policy.Key | None:
    name = word(field(node, "id"))
    if name is None:
        return None  # told by its shape
    problems.once("the key", name.word, name.mark, seen, "; keys are found by id")
    digest = _digest(name, node, problems)
    expires = end_of(day(field(node, "expires")))
    if expires is not None and expires <= at:
        warnings.add(name.mark, f"the key {show(name.word)}", f"expired on {last_day(expires)}")
    scopes = {fact: _scope(fact, tenant.facts.get(fact, NOTHING_SAID), known) for fact in DECLARABLE}
    key = policy.Key(
        id=name.word,
        tenant=tenant.id,
        digest=digest,
        expires=expires,
        revoked=flag(field(node, "revoked"), otherwise=False),
        facts=_facts(field(node, "facts"), scopes, known, problems),
        disclose=frozenset(found.word for found in words(field(node, "disclose"))),
        demo=flag(field(node, "demo"), otherwise=False),
        rates=compile_rates(field(node, "rates"), problems),
        budgets=compile_budgets(f"the key {show(name.word)}", field(node, "budgets"), problems),
    )
    _warn_of_idle(f"the key {show(name.word)}", name.mark, key, "its tenant's", tenant, warnings)
    return key


Holder = policy.Key | policy.Tenant | policy.Group


def _warn_of_idle(what: str, mark: Mark, holder: Holder, whose: str, above: Holder, warnings: Problems) -> None:
    warn_of_idle(what, mark, holder.rates, whose, above.rates, warnings)
    spending.warn_of_idle(what, mark, holder.budgets, whose, above.budgets, warnings)


def _digest(name: At, node: Node, problems: Problems) -> bytes:
    said, sha256 = field(node, "demo"), field(node, "sha256")
    demo = flag(said, otherwise=False)
    if demo and sha256 is not None:
        problems.add(sha256.mark, "`sha256` of a demo key", "a demo key's text follows from its id; remove `sha256`, or `demo`")
    if demo:
        return digest_of(demo_key(name.word))
    if sha256 is None and (said is None or not problems.told_of(said.mark)):
        problems.add(
            node.mark, f"the key {show(name.word)} without `sha256`", "`gateway keys new` prints a key once, and this line for it"
        )
    try:
        return bytes.fromhex(text(sha256))
    except ValueError:
        return b""  # told by its shape


def _scope(fact: str, spec: FactSpec, known: Known) -> Scope:
    possible = (spec.within or frozenset()) | (spec.default or frozenset())
    return Scope(spec.within, possible if spec.within is not None or spec.default is not None else known.vocabulary.universe(fact))


def _facts(node: Node | None, scopes: Mapping[str, Scope], known: Known, problems: Problems) -> dict[str, FactSpec]:
    found = {}
    for fact, (_, said) in entries(node).items():
        if fact in DECLARABLE:
            found[fact] = _fact(fact, said, scopes.get(fact), known, problems)
    return found


def _fact(fact: str, node: Node, scope: Scope | None, known: Known, problems: Problems) -> FactSpec:
    within, default = _values(fact, field(node, "within"), known, problems), _values(fact, field(node, "default"), known, problems)
    always = _values(fact, field(node, "always"), known, problems) or frozenset()
    spec = FactSpec(within, default, always, text(field(node, "source")))
    if within is not None and default is not None and not default <= within:
        _tell(node, "default", default - within, "outside `within`, where a default has to lie", problems)
    if scope is not None:
        _check_narrower(fact, node, spec, scope, problems)
    return spec


def _check_narrower(fact: str, node: Node, spec: FactSpec, scope: Scope, problems: Problems) -> None:
    if spec.within is not None and scope.within is None:
        _tell(
            node,
            "within",
            spec.within,
            f"a key narrows its tenant, and its tenant has no `within` for `{fact}`: nothing can be declared",
            problems,
        )
    elif spec.within is not None and scope.within is not None and not spec.within <= scope.within:
        _tell(
            node,
            "within",
            spec.within - scope.within,
            f"a key narrows its tenant, whose `within` is {listed(scope.within)}",
            problems,
        )
    if spec.default is not None and not spec.default <= scope.possible:
        _tell(
            node,
            "default",
            spec.default - scope.possible,
            f"a key narrows its tenant, whose `{fact}` is among {listed(scope.possible)}",
            problems,
        )


def _tell(node: Node, key: str, extra: frozenset[str], wanted: str, problems: Problems) -> None:
    at = field(node, key) or node
    problems.add(at.mark, listed(extra), wanted)


def _values(fact: str, node: Node | None, known: Known, problems: Problems) -> frozenset[str] | None:
    if node is None:
        return None
    if fact == "region":
        return known.places(words(node), problems)
    if fact == "data_class":
        return range_of(node, known, problems)
    return known.those(fact, words(node), problems)
