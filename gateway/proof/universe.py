"""What requests there can be: what each key may say of each fact, by which names one may ask, and which values are alike.

A rule sees of a value only which of its tests list it. So values that the same tests list are one class, 250 countries are a
few, and one value stands for its class in an example.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.config.cases import PROMPT_TOKENS, Given
from gateway.config.check import facts_of as facts_of_case
from gateway.core.facts import NOTHING_SAID, FactSpec, RequestFacts, Vocabulary, said_of, settle
from gateway.core.policy import FactTest, Key, Policy, Snapshot, When, resolve

SEVERAL: Final = frozenset({"region", "categories"})
"""Facts of which one request may declare several values."""

ENDINGS: Final = ("any", "1", "x", "0-any", "zz-9")
"""What is tried after the beginning that an alias with `*` stands for, to get a name that no longer alias takes."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one key's requests can say of one fact: `within` (None: nothing can be declared), or else `undeclared`."""

    within: frozenset[str] | None
    undeclared: frozenset[str]  # what the fact is where nothing is declared, `always` included
    always: frozenset[str]


def said(snapshot: Snapshot, key: Key, fact: str) -> Said:
    """What requests with `key` can say of the declarable `fact`."""
    vocabulary = snapshot.policy.vocabulary
    tenant, own = _specs(snapshot, key, fact)
    within = tenant.within if own.within is None or tenant.within is None else tenant.within & own.within
    return Said(within, settle(fact, tenant, own, None, vocabulary), tenant.always | own.always)


def _specs(snapshot: Snapshot, key: Key, fact: str) -> tuple[FactSpec, FactSpec]:
    tenant = said_of(fact, snapshot.access.tenants[key.tenant].facts, snapshot.policy.vocabulary)
    return tenant, key.facts.get(fact, NOTHING_SAID)


@dataclass(frozen=True, slots=True)
class Sending:
    """One request as it is sent. `declared` has an entry for each fact that it declares; `language` None: any."""

    key: str
    asked: str  # a name as a client writes it
    declared: Mapping[str, frozenset[str]] = field(default_factory=dict)
    api: str = "chat"
    language: frozenset[str] | None = None
    abilities: frozenset[str] = frozenset()
    stream: bool = False
    prompt_tokens: int = PROMPT_TOKENS


def facts_of(snapshot: Snapshot, sending: Sending) -> RequestFacts:
    """The facts of a request, as the data plane settles them. Raises FactError and KeyError for one that can't be."""
    tenant = snapshot.access.keys[sending.key].tenant
    given = Given(
        tenant, sending.asked, sending.key, sending.declared, sending.language, sending.api, sending.abilities,
        prompt_tokens=sending.prompt_tokens, stream=sending.stream,
    )  # fmt: skip
    return facts_of_case(snapshot, given)


# --- names --------------------------------------------------------------------------------------------------------------


def names(policies: Iterable[Policy]) -> list[str]:
    """Names that clients may write, aliases first: each model and alias once, and for one with `*` a name that it takes."""
    found: dict[str, None] = {}
    policies = list(policies)
    for policy in policies:
        found.update(dict.fromkeys(alias for alias in policy.aliases if not alias.endswith("*")))
    for policy in policies:
        found.update(dict.fromkeys(policy.models))
    for policy in policies:
        for alias in policy.aliases:
            if alias.endswith("*") and (name := _taken_by(policy, alias)) is not None:
                found[name] = None
    return list(found)


def _taken_by(policy: Policy, alias: str) -> str | None:
    """A name that `alias`, which ends in `*`, takes; None if longer ones take all that are tried."""
    for ending in ENDINGS:
        resolved = resolve(policy, alias[:-1] + ending)
        if resolved is not None and resolved.asked == alias:
            return alias[:-1] + ending
    return None


# --- classes of values --------------------------------------------------------------------------------------------------


def tests_by_fact(whens: Iterable[When]) -> dict[str, list[FactTest]]:
    """Each fact that is looked at, with the tests that look at it, each once."""
    found: dict[str, dict[FactTest, None]] = {}
    for when in whens:
        for test in when:
            found.setdefault(test.fact, {})[test] = None
    return {fact: list(tests) for fact, tests in sorted(found.items())}


def classes(values: Iterable[str], sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """`values` in classes: two are in one if the same `sets` hold them. In the order of their first values."""
    different = list(dict.fromkeys(sets))
    found: dict[tuple[bool, ...], list[str]] = {}
    for value in sorted(values):
        found.setdefault(tuple(value in one for one in different), []).append(value)
    return [frozenset(members) for members in found.values()]


def lengths(tests: Iterable[FactTest]) -> list[int]:
    """Prompts, in tokens, of which each meets other `tests` of `prompt_tokens`. A short one first."""
    tests = list(tests)
    edges = {PROMPT_TOKENS}
    for test in tests:
        for edge in (test.at_least, test.at_most):
            edges |= {edge - 1, edge, edge + 1} if edge is not None else set()
    found: dict[tuple[bool, ...], int] = {}
    for tokens in sorted((edge for edge in edges if edge >= 0), key=lambda edge: (edge != PROMPT_TOKENS, edge)):
        found.setdefault(tuple(in_range(test, tokens) for test in tests), tokens)
    return list(found.values())


def in_range(test: FactTest, tokens: int) -> bool:
    """Whether a prompt of so many tokens meets a test of `prompt_tokens`."""
    return (test.at_least or 0) <= tokens and (test.at_most is None or tokens <= test.at_most)


def words(vocabulary: Vocabulary, fact: str) -> frozenset[str]:
    """All values of a declarable fact, or of `language`."""
    return vocabulary.universe(fact)
