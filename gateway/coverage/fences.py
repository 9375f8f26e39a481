"""What callers may not say of their requests, though rules look at it: each `within` of a tenant, and each narrower one of a key.

A fence that somebody widens by a slip changes what whole applications may do, and no rule. So each is to be leaned against by a
case of its own: one of that tenant, or with that key, that wants `outside`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config.cases import Case
from gateway.core.facts import DECLARABLE, HARD_FACTS, NOTHING_SAID
from gateway.core.policy import Snapshot
from gateway.proof.space import usable_keys
from gateway.proof.universe import tests_by_fact


@dataclass(frozen=True, slots=True)
class Fence:
    """`fact` lies outside for whoever declares what is not among `within` (None: for whoever declares it at all).

    With a `key`, the fence is that key's own, inside its tenant's: `beyond` is what the tenant may say.
    """

    fact: str
    tenant: str
    within: frozenset[str] | None
    key: str | None = None
    beyond: frozenset[str] | None = None

    @property
    def name(self) -> str:
        return f"outside: {self.fact} ({self.tenant if self.key is None else f'{self.tenant}, key {self.key}'})"

    def stops(self, case: Case) -> bool:
        """Whether it is this fence, and no other, that stops a case that passes."""
        given, declared = case.given, case.given.declared.get(self.fact, frozenset())
        if case.want.outside != self.fact or given.tenant != self.tenant:
            return False
        if self.within is not None and declared <= self.within:
            return False
        return self.key is None or (given.key == self.key and self.beyond is not None and declared <= self.beyond)


def fences(snapshot: Snapshot, at: float) -> Iterator[Fence]:
    """Every fence that a request with a key usable at `at` (UTC seconds) can run into, tenant by tenant.

    Of the facts that rules look at and that callers can't choose freely: task and tag order and report, and open no way.
    """
    keys = usable_keys(snapshot, at)
    tested = tests_by_fact(rule.when for rule in snapshot.policy.rules)
    facts = [fact for fact in DECLARABLE if fact in HARD_FACTS and fact in tested]
    for tenant in snapshot.access.tenants.values():
        own = [key for key in keys if key.tenant == tenant.id]
        for fact in facts if own else ():
            within = tenant.facts.get(fact, NOTHING_SAID).within
            if within is None or not snapshot.policy.vocabulary.universe(fact) <= within:
                yield Fence(fact, tenant.id, within)
            for key in own:
                narrower = key.facts.get(fact, NOTHING_SAID).within
                if within is not None and narrower is not None and not within <= narrower:
                    yield Fence(fact, tenant.id, narrower, key.id, within)
