"""Which limits a decision's request counts toward, what happens past each, and how far each can be overshot: for `explain`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.core.accounts import Slots, WhenLost
from gateway.core.budgets import WhenSpent
from gateway.core.charging import Unit
from gateway.core.decide import Decision
from gateway.core.limits import Limit, of_caller, of_place, of_plans, of_tags
from gateway.core.overshoot import Overshoot, crowding, overshoot
from gateway.core.policy import Deployment
from gateway.core.pricing import even_share
from gateway.core.rank import output_expected

STATE: Final = "state"  # the store through which machines hear of each other
WAITS: Final = "more is told 429, and when to come back"


@dataclass(frozen=True, slots=True)
class Limiting:
    """One limit. `id` names its account; the room of an endpoint is none, and is called `room/` and its id. `routes` are the
    deployments at which it counts, empty: wherever the request goes."""

    id: str
    whose: str
    says: str
    unit: str
    then: str
    when_lost: str
    overshoot: Overshoot
    routes: tuple[str, ...] = ()


def limiting(decision: Decision, workers: int) -> tuple[Limiting, ...]:
    """What limits the request of `decision` among so many `workers`: first its caller, then the places that are routes."""
    needs = decision.needs
    tokens = needs.prompt_tokens + output_expected(needs)
    routes: dict[str, list[str]] = {}
    found: dict[str, tuple[Limit, str]] = {}
    for limit, then, name in (*_of_caller(decision), *_of_places(decision)):
        found.setdefault(limit.terms.id, (limit, then))
        routes.setdefault(limit.terms.id, []).extend([name] if name else [])
    limits = tuple(
        Limiting(
            id=limit.terms.id,
            whose=limit.whose,
            says=limit.says,
            unit="requests at once" if isinstance(limit.terms.of, Slots) else str(limit.unit),
            then=then,
            when_lost=str(limit.terms.when_lost),
            overshoot=overshoot(limit.terms, workers, tokens if limit.unit is Unit.TOKENS else 1),
            routes=tuple(routes[limit.terms.id]),
        )
        for limit, then in found.values()
    )
    return limits + tuple(_rooms(decision, workers))


def _rooms(decision: Decision, workers: int) -> Iterator[Limiting]:
    """The endpoints among the routes that work on so many requests at once."""
    policy = decision.view.snapshot.policy
    shared = any(store.name == STATE for store in policy.stores)
    places: dict[str, list[Deployment]] = {}
    for route in decision.routes:
        if route.deployment.tariff.capacity is not None:
            places.setdefault(route.deployment.endpoint.id, []).append(route.deployment)
    for endpoint, at in places.items():
        capacity = at[0].tariff.capacity
        assert capacity is not None
        each = even_share(capacity.concurrency, workers)
        share = f", {each:,} for each of {workers} workers" if workers > 1 else ""
        yield Limiting(
            id=f"room/{endpoint}",
            whose=f"the endpoint `{endpoint}`",
            says=f"room for {capacity.concurrency:,} requests at once{share}",
            unit="requests at once",
            then="more goes to the next route" if capacity.queue is None else "more goes to the next route, or waits without one",
            when_lost=str(WhenLost.SHARE),
            overshoot=crowding(capacity.concurrency, workers, among_machines=shared),
            routes=tuple(place.id for place in at),
        )


def _of_caller(decision: Decision) -> Iterator[tuple[Limit, str, str]]:
    snapshot, facts = decision.view.snapshot, decision.facts
    for key in facts.key.intersection(snapshot.access.keys) if len(facts.key) == 1 else ():
        limits = of_caller(snapshot.access, key)
        yield from ((limit, WAITS, "") for limit in limits.rates)
        yield from ((limit, _spent(limit), "") for limit in limits.budgets)
    for tag, budgets in of_tags(snapshot.policy).items():
        if facts.tag == frozenset((tag,)):
            yield from ((limit, _spent(limit), "") for limit in budgets)


def _of_places(decision: Decision) -> Iterator[tuple[Limit, str, str]]:
    plans = of_plans(decision.view.snapshot.policy)
    for route in decision.routes:
        place = route.deployment
        yield from ((limit, "more goes to the next route", place.id) for limit in of_place(place))
        yield from ((limit, _used_up(place), place.id) for limit in plans if place.id in limit.weights)


def _spent(limit: Limit) -> str:
    if limit.budget is not None and limit.budget.when_spent is WhenSpent.CHEAPER:
        return "more goes only where it costs no more than is left"
    return "more is told 429 until there is some again"


def _used_up(place: Deployment) -> str:
    plan = place.tariff.plan
    if plan is not None and plan.when_exhausted == "price" and place.tariff.price is not None:
        return "more goes there at the price of its tokens"
    return "more goes to the next route"
