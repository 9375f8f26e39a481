"""The requests that keys can make, of each kind one: keys x names x what they may declare.

Two requests are of one kind if the same rules apply to them and they ask for the same models; then they are treated alike, and one
stands for all. So a few dozen or hundred stand for everything that can be asked, and no solver is needed to walk through them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from gateway.config.vocabulary import ABILITIES, APIS
from gateway.core.facts import DECLARABLE, RequestFacts
from gateway.core.masks import where
from gateway.core.policy import FactTest, Key, Policy, Rule, Snapshot, resolve
from gateway.core.terms import Effect
from gateway.proof.space import WHO, usable_keys
from gateway.proof.universe import SEVERAL, Sending, classes, facts_of, lengths, names, said, tests_by_fact

FIELDS: Final = {"api": "api", "ability": "abilities", "stream": "stream", "prompt_tokens": "prompt_tokens", "language": "language"}
"""Facts that are sent and not declared, with what of a Sending says them."""


def value_sets(snapshot: Snapshot, fact: str) -> list[frozenset[str]]:
    """Every set that something in the documents makes of the values of a declarable `fact`: rules, zones, tenants and keys."""
    policy, access = snapshot.policy, snapshot.access
    found = [test.values for rule in policy.rules for test in rule.when if test.fact == fact]
    found += policy.vocabulary.zones.values() if fact == "region" else ()
    said_of = [*(tenant.facts for tenant in access.tenants.values()), *(key.facts for key in access.keys.values())]
    specs = [facts[fact] for facts in said_of if fact in facts]
    return found + [values for spec in specs for values in (spec.within, spec.default) if values is not None]


def value_classes(snapshot: Snapshot, fact: str) -> list[frozenset[str]]:
    """The values of a declarable `fact`, in classes that nothing in the documents tells apart."""
    return classes(snapshot.policy.vocabulary.universe(fact), value_sets(snapshot, fact))


def requests(snapshot: Snapshot, at: float) -> list[Sending]:
    """One request of each kind that some key, usable at `at` (UTC seconds), can make; of those alike the one that says least."""
    policy = snapshot.policy
    tests = tests_by_fact(rule.when for rule in policy.rules)
    deployed = frozenset(deployment.model.id for deployment in policy.deployments)
    found: dict[object, Sending] = {}
    for key in usable_keys(snapshot, at):
        said_so = _sayings(snapshot, key, tests)
        for name in names((policy,)):
            asked = resolve(policy, name)
            models = frozenset[str]() if asked is None else asked.models & deployed
            facts = facts_of(snapshot, Sending(key.id, name))
            known = _lets(policy.rules, {*WHO, "asked"}, facts)
            for lines, sending in said_so.items():
                found.setdefault((known & lines, models), replace(sending, asked=name))
    return list(found.values())


def _sayings(snapshot: Snapshot, key: Key, tests: dict[str, list[FactTest]]) -> dict[int, Sending]:
    """What requests with `key` can say, of each kind one, by the rules (bit i is rule i) that it lets apply."""
    rules, name = snapshot.policy.rules, next(iter(names((snapshot.policy,))), "")
    found = {(1 << len(rules)) - 1: Sending(key.id, name)}
    for fact in (fact for fact in tests if fact not in {*WHO, "asked"}):
        let: dict[int, object] = {}
        for value in _values(snapshot, key, fact, tests[fact]):
            facts = facts_of(snapshot, _saying(Sending(key.id, name), fact, value))
            let.setdefault(_lets(rules, {fact}, facts), value)
        both: dict[int, Sending] = {}
        for lines, sending in found.items():
            for more, value in let.items():
                both.setdefault(lines & more, _saying(sending, fact, value))
        found = both
    return found


def _saying(sending: Sending, fact: str, value: Any) -> Sending:
    """`sending`, and beside that `value` of `fact`; None: nothing is said of it."""
    if value is None:
        return sending
    if fact in DECLARABLE:
        return replace(sending, declared={**sending.declared, fact: value})
    return replace(sending, **{FIELDS[fact]: value})


def _lets(rules: Iterable[Rule], facts: set[str], request: RequestFacts) -> int:
    """The rules that these `facts` of a request do not keep from applying, as a mask."""
    return where(all(_holds(rule, test, request) for test in rule.when if test.fact in facts) for rule in rules)


def _holds(rule: Rule, test: FactTest, request: RequestFacts) -> bool:
    return test.must_hold(request) if rule.effect is Effect.PERMIT else test.may_hold(request)


def _values(snapshot: Snapshot, key: Key, fact: str, tests: list[FactTest]) -> Iterator[object]:
    """What can be said of `fact`, a value of each class; None first: nothing is said."""
    yield None
    sets = [test.values for test in tests]
    if fact in DECLARABLE:
        yield from _declarable(snapshot, key, fact)
    elif fact == "api":
        yield from (min(members) for members in classes(APIS, sets))
    elif fact == "stream":
        yield "true"
    elif fact == "prompt_tokens":
        yield from lengths(tests)
    else:
        universe = frozenset(ABILITIES) if fact == "ability" else snapshot.policy.vocabulary.universe(fact)
        yield from (frozenset((min(members),)) for members in classes(universe, sets))


def _declarable(snapshot: Snapshot, key: Key, fact: str) -> Iterator[frozenset[str]]:
    within = said(snapshot, key, fact).within
    if within is None:
        return
    for members in value_classes(snapshot, fact):
        if members & within:
            yield frozenset((min(members & within),))
    if fact in SEVERAL:
        yield within
    if fact == "categories":
        yield frozenset()  # `categories: []` declares that there are none


def widest_name(policy: Policy) -> str:
    """The name that stands for most deployments, for asking what would happen to anybody; "" if there is none."""
    found = {name: resolve(policy, name) for name in names((policy,))}
    served = {name: sum(d.model.id in asked.models for d in policy.deployments) for name, asked in found.items() if asked}
    return max(served, key=lambda name: served[name], default="")
