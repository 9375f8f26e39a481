"""Which of the allowed routes is best. Preferences order and do nothing else: what goes in comes out, in tiers.

Each preference breaks the ties of those before it; what is still equal is one tier, spread by `draw`. Prices are ranked on
rounded token counts (an eighth of an octave, rounded up), so that one order serves all requests of about one size.
"""

from collections.abc import Callable, Mapping
from typing import cast

from gateway.core.facts import RequestFacts
from gateway.core.policy import Preference, must_hold, surely_meets
from gateway.core.view import View

EXPECTED_OUTPUT_TOKENS = 500  # what an answer is taken to be long where the request doesn't say less; chat answers lie around it
TIE = 3  # decimals within which two ranks are equal: a thousandth of the spread is no reason to send everything to one place

Tiers = tuple[tuple[int, ...], ...]
"""Indices of deployments: best tier first; within a tier, in the order of the catalogue."""


def coarse(tokens: int) -> int:
    """`tokens` rounded up to an eighth of an octave, so that it has few values: 1,000 → 1,024; 100,000 → 106,496."""
    shift = max(0, tokens.bit_length() - 4)
    return -(-tokens >> shift) << shift


def rank(view: View, mask: int, facts: RequestFacts, output_tokens: int | None, latency_ms: Mapping[str, int]) -> Tiers:
    """The deployments of `mask`, in tiers, under the preferences that must hold for `facts`."""
    applying = tuple(p for p in view.snapshot.policy.preferences if must_hold(p.when, facts))
    prompt = coarse(facts.prompt_tokens)
    output = coarse(min(output_tokens if output_tokens is not None else EXPECTED_OUTPUT_TOKENS, EXPECTED_OUTPUT_TOKENS))
    memo = view.ranked(latency_ms)
    key = (mask, prompt, output, *[p.id for p in applying])
    tiers = memo.get(key)
    if tiers is None:
        tiers = memo[key] = _tiers(view, mask, applying, prompt, output, latency_ms)
    return cast(Tiers, tiers)


def _tiers(
    view: View, mask: int, applying: tuple[Preference, ...], prompt: int, output: int, latency_ms: Mapping[str, int]
) -> Tiers:
    indices = tuple(index for index in range(len(view.deployments)) if mask >> index & 1)
    if not indices:
        return ()
    keys: dict[int, tuple[float, ...]] = {index: () for index in indices}
    for preference in applying:
        if preference.prefer:
            for index in indices:
                keys[index] += (0.0 if surely_meets(view.subjects[index], preference.prefer) else 1.0,)
        else:
            weighed = _weigh(view, indices, preference.rank, prompt, output, latency_ms)
            for index in indices:
                keys[index] += (weighed[index],)
    tiers: dict[tuple[float, ...], list[int]] = {}
    for index in indices:
        tiers.setdefault(keys[index], []).append(index)
    return tuple(tuple(tiers[key]) for key in sorted(tiers))


def _weigh(
    view: View, indices: tuple[int, ...], weights: Mapping[str, float], prompt: int, output: int, latency_ms: Mapping[str, int]
) -> dict[int, float]:
    """The weighted sum of values normalised to 0 (best) … 1 (worst) among `indices`. What is unknown is worst."""
    total = dict.fromkeys(indices, 0.0)
    for name, weight in weights.items():
        value: Callable[[int], float | None]
        if name == "cost":
            value = lambda i: view.deployments[i].tariff.estimate_usd(prompt, output)  # noqa: E731
        elif name == "latency":
            value = lambda i: latency_ms.get(view.deployments[i].id)  # noqa: E731
        else:
            score = name.removeprefix("score.")
            value = lambda i, score=score: _negative(view.deployments[i].model.scores.get(score))  # type: ignore[misc]  # noqa: E731
        values = {index: value(index) for index in indices}
        known = [v for v in values.values() if v is not None]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        for index, found in values.items():
            share = 1.0 if found is None else (found - low) / (high - low) if high > low else 0.0
            total[index] += weight * share
    return {index: round(share, TIE) for index, share in total.items()}


def _negative(score: float | None) -> float | None:
    return None if score is None else -score


def spread(tiers: Tiers, draw: int) -> tuple[int, ...]:
    """One order out of `tiers`: each tier is turned by `draw` (any natural number), so that equals share the load."""
    order: list[int] = []
    for tier in tiers:
        turn = draw % len(tier)
        order += tier[turn:] + tier[:turn]
    return tuple(order)
