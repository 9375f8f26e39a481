"""Places that embed, put beside those of `small_world`."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from small_world import Place

from gateway.core.policy import Deployment, Places, Snapshot
from gateway.core.pricing import Price, Tariff

MODEL = "embed"


def embedding(found: Snapshot, where: Mapping[str, str], places: Mapping[str, Place] | None = None) -> Snapshot:
    """`found` with an endpoint for each in `where` (id -> country) that serves the model MODEL, at 100 dollars a million tokens."""
    like = found.policy.deployments[0]
    model = replace(like.model, id=MODEL, apis=frozenset({"embeddings"}), abilities=frozenset())
    tariff = Tariff(price=Price(Decimal(100), Decimal(0), Decimal(100), Decimal(100)))
    made: list[Deployment] = []
    for name, country in where.items():
        place, labels = (places or {}).get(name, Place()), Places(frozenset({country}))
        endpoint = replace(
            like.endpoint, id=name, dialect=place.dialect, port=place.port, path=place.path, processed_in=labels,
            operated_under=labels, apis=frozenset({"embeddings"}),
        )  # fmt: skip
        spot = replace(like, endpoint=endpoint, model=model, processed_in=labels, operated_under=labels, abilities=frozenset())
        made.append(replace(spot, id=f"{name}/{MODEL}", upstream_model="embed-there", tariff=tariff))
    deployments = tuple(sorted((*found.policy.deployments, *made), key=lambda one: one.id))
    return replace(found, policy=replace(found.policy, deployments=deployments, models={**found.policy.models, MODEL: model}))
