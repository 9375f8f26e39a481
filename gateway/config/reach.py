"""What the requests of a tenant can be: for each fact, the values that any of them may have. Lint asks it, deciding never does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.config.vocabulary import ABILITIES, APIS
from gateway.core.facts import DECLARABLE, NOTHING_SAID, FactSpec, Vocabulary, group_of
from gateway.core.policy import Access, FactTest, Tenant, When


@dataclass(frozen=True, slots=True)
class Reach:
    """The values that each fact of one tenant's requests may have."""

    tenant: str
    values: Mapping[str, frozenset[str]]
    declares: frozenset[str]  # facts that its callers may declare

    def may_meet(self, when: When) -> bool:
        """Whether some request of this tenant may meet all of `when`."""
        return all(self._may(test) for test in when)

    def may_leave(self, test: FactTest) -> bool:
        """Whether some request of this tenant may fail `test`."""
        return test.fact not in self.values or not self.values[test.fact] <= test.values

    def _may(self, test: FactTest) -> bool:
        return test.fact not in self.values or not test.values.isdisjoint(self.values[test.fact])


def reaches(access: Access, vocabulary: Vocabulary, names: Iterable[str]) -> tuple[Reach, ...]:
    """One for each tenant. `names` are the models and aliases."""
    keys: dict[str, set[str]] = {tenant: set() for tenant in access.tenants}
    for key in access.keys.values():
        keys[key.tenant].add(key.id)
    return tuple(
        _reach(tenant, frozenset(keys[tenant.id]), access, vocabulary, frozenset(names)) for tenant in access.tenants.values()
    )


def _reach(tenant: Tenant, keys: frozenset[str], access: Access, vocabulary: Vocabulary, names: frozenset[str]) -> Reach:
    values = {
        "tenant": frozenset((tenant.id,)),
        "group": group_of(tenant.group),
        "key": keys,
        "asked": names,
        "api": frozenset(APIS),
        "ability": frozenset(ABILITIES),
        "language": vocabulary.languages,
        "stream": frozenset({"true", "false"}),
    }
    for fact in DECLARABLE:
        specs = [tenant.facts.get(fact, NOTHING_SAID), *(access.keys[key].facts.get(fact, NOTHING_SAID) for key in keys)]
        values[fact] = _possible(fact, specs, vocabulary)
    declares = frozenset(fact for fact, spec in tenant.facts.items() if spec.within is not None)
    return Reach(tenant.id, values, declares)


def _possible(fact: str, specs: list[FactSpec], vocabulary: Vocabulary) -> frozenset[str]:
    tenant = specs[0]
    found = (tenant.within or frozenset()) | (tenant.default or frozenset())
    if tenant.within is None and tenant.default is None and fact != "categories":
        return vocabulary.universe(fact)
    for spec in specs:
        found |= spec.always
    return found
