"""What a caller declares of its request: `x-gateway-…` headers, or the same names under `gateway` in the body.

Two values for one fact are an error, never a choice. Region and categories are sets, all of which count, so one header may list
several with commas; the others are one word.
"""

from collections.abc import Mapping, Sequence

from gateway.core.answer import Problem
from gateway.core.facts import DECLARABLE, NOTHING_SAID, FactError, Vocabulary, said_of, settle
from gateway.core.policy import Key, Tenant

PREFIX = "x-gateway-"
HEADERS = {PREFIX + fact.replace("_", "-"): fact for fact in DECLARABLE}
BODY_NAMES = {name: fact for fact in DECLARABLE for name in (fact, fact.replace("_", "-"))}
SETS = frozenset({"region", "categories"})
VALUES_MAX = 32  # words in one declaration; a zone says more with less

Declared = tuple[tuple[str, tuple[str, ...]], ...]
"""(fact, words) in the order of DECLARABLE: hashable, so that what follows from it can be remembered."""


def declared(headers: Sequence[tuple[str, str]], body: object) -> Declared:
    """What headers and the body's `gateway` object say together. Raises Problem (400) on anything unclear.

    An `x-gateway-…` header that is none of ours is an error too: whoever sends one means something by it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers:
        if not name.startswith(PREFIX):
            continue
        fact = HEADERS.get(name)
        if fact is None:
            raise Problem(400, "unknown_header", f"header `{name}` means nothing here; known are {', '.join(HEADERS)}", name)
        _take(found, fact, name, value.split(",") if fact in SETS else [value])
    if body is not None:
        if not isinstance(body, dict):
            raise Problem(400, "invalid_type", "`gateway` must be an object of facts", "gateway")
        for named, words in body.items():
            fact = BODY_NAMES.get(named)
            if fact is None:
                known = ", ".join(DECLARABLE)
                where = f"gateway.{named[:64]}"
                raise Problem(400, "unknown_parameter", f"`{where}` is no fact; known are {known}", where)
            said = words if isinstance(words, list) and fact in SETS else [words]
            if not all(isinstance(word, str) for word in said):
                wanted = "a word or a list of words" if fact in SETS else "a word"
                raise Problem(400, "invalid_type", f"`gateway.{named}` must be {wanted}", f"gateway.{named}")
            _take(found, fact, f"gateway.{named}", said)
    return tuple((fact, found[fact]) for fact in DECLARABLE if fact in found)


def _take(found: dict[str, tuple[str, ...]], fact: str, where: str, words: list[str]) -> None:
    value = tuple(sorted({word.strip() for word in words}))
    if not all(value) or len(value) > VALUES_MAX:
        raise Problem(400, "invalid_fact", f"`{where}` is empty or lists more than {VALUES_MAX} words", where)
    if found.setdefault(fact, value) != value:
        raise Problem(400, "conflicting_facts", f"two values were given for the fact `{fact}`; give one", where)


def settled(vocabulary: Vocabulary, tenant: Tenant, key: Key, said: Declared) -> dict[str, frozenset[str]]:
    """Each declarable fact of a request, from what tenant, key and caller say. Raises Problem (400 or 403)."""
    words: Mapping[str, tuple[str, ...]] = dict(said)
    facts = {}
    for fact in DECLARABLE:
        values = _values(vocabulary, fact, words[fact]) if fact in words else None
        tenant_says = said_of(fact, tenant.facts, vocabulary)
        try:
            facts[fact] = settle(fact, tenant_says, key.facts.get(fact, NOTHING_SAID), values, vocabulary)
        except FactError as error:
            code = "fact_not_allowed" if error.status == 403 else "invalid_fact"
            raise Problem(error.status, code, str(error), fact, should_retry=False) from error
    return facts


def _values(vocabulary: Vocabulary, fact: str, words: tuple[str, ...]) -> frozenset[str]:
    values: frozenset[str] = frozenset()
    for word in words:
        found = vocabulary.expand(fact, word)
        if found is None:
            raise Problem(400, "unknown_fact_value", f"`{word[:64]}` is no known value of the fact `{fact}`", fact)
        values |= found
    return values
