"""What a snapshot would be if somebody renewed a label: how a claim that will lapse finds the label to blame."""

from dataclasses import replace
from typing import TypeVar

from gateway.config.reading import last_day
from gateway.core.policy import Assurance, Deployment, Endpoint, Keeper, Model, Places, Snapshot

L = TypeVar("L", Deployment, Keeper, Endpoint)


def ended_at(snapshot: Snapshot, instant: float) -> dict[str, str]:
    """The labels that end at `instant` (UTC seconds): a name for each, and how people find it."""
    policy = snapshot.policy
    found: dict[str, str] = {}
    for deployment in policy.deployments:
        endpoint = deployment.endpoint
        for label in _ending(deployment, instant):
            own = label not in _ending(endpoint, instant)  # narrowed at the deployment, or its endpoint's
            place = deployment.id if own else endpoint.id
            found[f"{label} of {place}"] = _told(label, place, endpoint.line, instant)
        if deployment.model.origin.until == instant:
            found[f"origin of {deployment.model.id}"] = _told("origin", deployment.model.id, "", instant)
    for keeper in (policy.gateway, *policy.stores, *policy.sinks):
        for label in _ending(keeper, instant):
            found[f"{label} of {keeper.name}"] = _told(label, keeper.name, "", instant)
    return found


def renewed(snapshot: Snapshot, instant: float, labels: list[str]) -> Snapshot:
    """The snapshot with those of `labels` (names of `ended_at`) that end at `instant` good for ever."""
    policy = snapshot.policy
    endpoints = {d.endpoint.id: _renewed(d.endpoint, d.endpoint.id, instant, labels) for d in policy.deployments}
    models = {name: _model(model, instant, labels) for name, model in policy.models.items()}

    def deployment(found: Deployment) -> Deployment:
        moved = replace(found, endpoint=endpoints[found.endpoint.id], model=models[found.model.id])
        for name in (found.id, found.endpoint.id):
            moved = _renewed(moved, name, instant, labels)
        return moved

    return replace(snapshot, policy=replace(
        policy,
        gateway=_renewed(policy.gateway, policy.gateway.name, instant, labels),
        stores=tuple(_renewed(keeper, keeper.name, instant, labels) for keeper in policy.stores),
        sinks=tuple(_renewed(keeper, keeper.name, instant, labels) for keeper in policy.sinks),
        deployments=tuple(deployment(found) for found in policy.deployments),
        models=models,
    ))  # fmt: skip


def _ending(holder: Deployment | Keeper | Endpoint, instant: float) -> list[str]:
    found = [name for name in ("processed_in", "operated_under") if getattr(holder, name).until == instant]
    return found + [f"assurances.{assurance.name}" for assurance in holder.assurances if assurance.until == instant]


def _told(label: str, place: str, line: str, instant: float) -> str:
    where = f" ({line})" if line else ""
    return f"`{label}` of `{place}`{where}, good until {last_day(instant)}"


def _renewed(holder: L, name: str, instant: float, labels: list[str]) -> L:
    def places(label: str, found: Places) -> Places:
        return replace(found, until=None) if f"{label} of {name}" in labels and found.until == instant else found

    def assurance(found: Assurance) -> Assurance:
        named = f"assurances.{found.name} of {name}" in labels and found.until == instant
        return replace(found, until=None) if named else found

    return replace(
        holder,
        processed_in=places("processed_in", holder.processed_in),
        operated_under=places("operated_under", holder.operated_under),
        assurances=tuple(assurance(found) for found in holder.assurances),
    )


def _model(model: Model, instant: float, labels: list[str]) -> Model:
    ended = f"origin of {model.id}" in labels and model.origin.until == instant
    return replace(model, origin=replace(model.origin, until=None)) if ended else model
