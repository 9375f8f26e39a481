"""Whether answers to a request may be kept, and be given to it: what policy says, before any store is asked.

Promises: only what surely meets an entry of `cache:` is kept, and where several apply, the shortest time, the narrowest sharing and
the highest threshold of likeness hold, so that their order means nothing. What the policy made of a request is part of the name
under which its answer is kept. A store whose labels do not meet the request's rules is not used. What was kept is authorised again:
it is given to nobody whose own request could not have been sent where it was made.
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.decide import Decision
from gateway.core.exchange import Recall
from gateway.core.likeness import COMPARED_API
from gateway.core.masks import bits
from gateway.core.policy import Deployment, Policy, Semantic

Spot = tuple[str, str | None, str | None]
"""Which store the cache is in: its name, and where its URL and its key are said."""

STORES: Final = ("cache", "state")  # the cache is in the first of these that the catalogue has; else beside the gateway


@dataclass(unsafe_hash=True, slots=True, init=False)
class Keeping:
    """How an answer may be kept. `scope` says who shares it: `tenant/lab`, `scope/faq`. `allowed` is what the policy made of it.
    `semantic` says to which like requests it may be given; None: to equal ones only."""

    scope: Final[str]
    ttl_s: Final[int]
    allowed: Final[str]
    semantic: Final[Semantic | None]

    def __init__(self, scope: str, ttl_s: int, allowed: str, semantic: Semantic | None = None) -> None:
        self.scope = scope
        self.ttl_s = ttl_s
        self.allowed = allowed
        self.semantic = semantic


def keeping(decision: Decision, api: str) -> Keeping | Recall | None:
    """How answers to the request of `decision` may be kept; BARRED: the store's labels forbid it; None: no policy asks for it."""
    view, facts = decision.view, decision.facts
    policy = view.snapshot.policy
    if not policy.caching:
        return None
    entries = [entry for line in bits(view.caching(facts)) if api in (entry := policy.caching[line]).apis]
    if not entries or len(facts.tenant) != 1:
        return None
    spot = spot_of(policy)
    if spot is not None and spot[0] not in decision.eligibility.keepers:
        return Recall.BARRED
    shares = {entry.share for entry in entries}
    share = shares.pop() if len(shares) == 1 else None
    scope = tenant_scope(*facts.tenant) if share is None else shared_scope(share)
    # bit i of a mask is deployment or preference i of the policy with this hash
    preferred = view.preferences(view.applying(facts))
    allowed = f"{policy.hash}/{decision.eligibility.mask:x}/{preferred:x}"
    semantic = narrowest([entry.semantic for entry in entries]) if api == COMPARED_API else None
    return Keeping(scope, min(entry.ttl_s for entry in entries), allowed, semantic)


def narrowest(said: list[Semantic | None]) -> Semantic | None:
    """What all of them let: nothing where one says nothing, or another model's likeness; else the highest threshold of each."""
    found = said[0]
    for other in said[1:]:
        if found is None or other is None or other.model != found.model:
            return None
        common = found.thresholds.keys() & other.thresholds.keys()
        thresholds = {name: max(found.thresholds[name], other.thresholds[name]) for name in common}
        found = Semantic(found.model, thresholds, min(found.vectors_max, other.vectors_max))
    return found


def like_enough(semantic: Semantic | None, made_at: Deployment, likeness: float) -> bool:
    """Whether an answer that was made there, for a request of that `likeness` (a cosine), may be given."""
    least = None if semantic is None else semantic.thresholds.get(made_at.model.id)
    return least is not None and likeness >= least


def least_likeness(decision: Decision, semantic: Semantic) -> dict[str, float]:
    """The least cosine, by the deployment that made an answer: of all whose answers the request of `decision` may be given."""
    found = {}
    for index in bits(decision.fitting):
        deployment = decision.view.deployments[index]
        if (least := semantic.thresholds.get(deployment.model.id)) is not None:
            found[deployment.id] = least
    return found


def authorised(decision: Decision, made_at: str) -> Deployment | None:
    """The deployment of that id, if the request of `decision` could be sent there as far as rules, needs and limits go."""
    view = decision.view
    index = view.indices.get(made_at)
    return view.deployments[index] if index is not None and decision.fitting >> index & 1 else None


def spot_of(policy: Policy) -> Spot | None:
    """The store that the cache is in; None: it is beside the gateway, and has the gateway's own labels."""
    stores = {store.name: store for store in policy.stores}
    found = next((stores[name] for name in STORES if name in stores), None)
    return None if found is None else (found.name, found.url, found.key)


def tenant_scope(tenant: str) -> str:
    """The scope that a tenant has to itself."""
    return f"tenant/{tenant}"


def shared_scope(share: str) -> str:
    """The scope of all whom an entry with this `share` applies to."""
    return f"scope/{share}"
