"""What the policy language means, once more, in as few lines as it takes, over plain dicts and sets. No code of the engine is used.

`allowed` is the specification; what stands above it says what the words in it mean.
"""

from typing import Any

World = dict[str, Any]
PLACES = {"processed_in", "operated_under", "origin"}
BINDING = {"provider", "processed_in", "operated_under", "assurances"}  # what is asked of the gateway, stores and sinks


def as_of(place: World, now: float) -> World:
    """A place without what is stale or has ended."""
    ended = {name for name, until in place["stale"].items() if until <= now}
    return place | dict.fromkeys(ended & PLACES) | {"assurances": set(place["assurances"]) - ended}


def meets(place: World, name: str, wanted: Any) -> bool:
    """Whether the label `name` of a place surely is as a permit or require wants it."""
    has = place[name]
    if has is None:
        return False
    if name in PLACES:
        return bool(has <= wanted)
    if isinstance(wanted, int):
        return bool(has >= wanted)
    return has in wanted if isinstance(has, str) else wanted <= set(has)


def hits(place: World, name: str, unwanted: set[str]) -> bool:
    """Whether the label `name` of a place may be what a forbid names."""
    has = place[name]
    return True if has is None else has in unwanted if isinstance(has, str) else bool(has & unwanted)


def against(place: World, rule: World) -> bool:
    """Whether a require is not met by, or a forbid hits, this place: all tests of one alternative, or any of any."""
    says = [{n: v for n, v in tests.items() if "model" in place or n in BINDING} for tests in rule["says"]]
    says = [tests for tests in says if tests] or [{}]
    if rule["effect"] == "require":
        return not any(all(meets(place, n, v) for n, v in tests.items()) for tests in says)
    return any(hits(place, n, v) for tests in says for n, v in tests.items())


def allowed(world: World, facts: World, now: float) -> set[str]:
    """The deployments that `facts` may go to."""
    permits = [r for r in world["rules"] if r["effect"] == "permit" and all(facts[f] <= v for f, v in r["when"].items())]
    others = [r for r in world["rules"] if r["effect"] != "permit" and all(facts[f] & v for f, v in r["when"].items())]
    models = [world["aliases"].get(name, {name}) for name in facts["asked"]]
    if not kept(world, facts, now) >= {"gateway", *world["sinks"]}:
        return set()
    return {
        f"{p['endpoint']}/{p['model']}"
        for p in (as_of(place, now) for place in world["places"])
        if any(all(meets(p, n, v) for n, v in tests.items()) for r in permits for tests in r["says"])
        and not any(against(p, r) for r in others)
        and all(p["model"] in members for members in models)
        and p["enabled"]
    }


def kept(world: World, facts: World, now: float) -> set[str]:
    """The gateway, stores and sinks that such content may be in."""
    others = [r for r in world["rules"] if r["effect"] != "permit" and all(facts[f] & v for f, v in r["when"].items())]
    keepers = {"gateway": world["gateway"], **world["stores"], **world["sinks"]}
    return {name for name, k in keepers.items() if not any(against(as_of(k, now), r) for r in others)}


def able(world: World, place: World, needs: World) -> bool:
    """Whether a place has what a request needs, within the policy's limit."""
    prompt, output = needs["prompt_tokens"], needs["output_tokens"]
    if output is None:
        output = 0 if needs["api"] == "embeddings" else 500  # a vector is no tokens
    usd = 0.0 if isinstance(place["price"], str) else (place["price"][0] * prompt + place["price"][1] * output) / 1e6
    return (
        needs["api"] in place["apis"] & place["model_apis"]
        and needs["abilities"] <= place["abilities"]
        and needs["tools"] <= place["tools"]
        and (place["remote_content"] or not needs["remote_content"])
        and place["context"] is not None
        and (needs["longest_tokens"] or prompt) < place["context"]
        and (world["limit"] is None or usd <= world["limit"])
    )
