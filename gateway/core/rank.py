"""Which of the allowed routes is best. Preferences order and do nothing else: what goes in comes out, in tiers.

Each preference breaks the ties of those before it; what is still equal is one tier, spread by `draw`. Prices are ranked on
rounded token counts (an eighth of an octave, rounded up), so that one order serves all requests of about one size.
"""

from collections.abc import Mapping

from gateway.core.exchange import Needs
from gateway.core.masks import bits
from gateway.core.order import Order, Tiers
from gateway.core.policy import surely_meets
from gateway.core.view import View

EXPECTED_OUTPUT_TOKENS = 500  # what an answer is taken to be long where the request doesn't say less; chat answers lie around it
TIE = 3  # decimals within which two ranks are equal: a thousandth of the spread is no reason to send everything to one place


def coarse(tokens: int) -> int:
    """`tokens` rounded up to an eighth of an octave, so that it has few values: 1,000 → 1,024; 100,000 → 106,496."""
    shift = max(0, tokens.bit_length() - 4)
    return -(-tokens >> shift) << shift


def output_expected(needs: Needs) -> int:
    """Tokens of answer that an estimate counts on: what the caller said at most, or what is usual."""
    return needs.output_tokens if needs.output_tokens is not None else EXPECTED_OUTPUT_TOKENS


def rank(view: View, mask: int, usable: int, preferences: int, needs: Needs, latency_ms: Mapping[str, int]) -> Order:
    """Those of `mask` that are `usable`, in tiers, under the policy's `preferences` (bit i is number i).

    The whole of `mask` is ranked and then what can't be used falls out, so that an outage leaves the others in their order.
    """
    prompt = coarse(needs.prompt_tokens)
    output = coarse(min(output_expected(needs), EXPECTED_OUTPUT_TOKENS))
    memo = view.ranked(latency_ms)
    key = (mask, usable, preferences, prompt, output)
    order = memo.get(key)
    if order is None:
        tiers = _left(_tiers(view, mask, preferences, prompt, output, latency_ms), usable)
        order = memo.keep(key, Order(tiers, view.routes))
    return order


def _tiers(view: View, mask: int, preferences: int, prompt: int, output: int, latency_ms: Mapping[str, int]) -> Tiers:
    indices = bits(mask)
    keys: dict[int, tuple[float, ...]] = dict.fromkeys(indices, ())
    for line in bits(preferences):
        preference = view.snapshot.policy.preferences[line]
        for index in indices if preference.prefer else ():
            keys[index] += (0.0 if surely_meets(view.subjects[index], preference.prefer) else 1.0,)
        if preference.rank:
            for index, weight in weighed(view, indices, preference.rank, prompt, output, latency_ms).items():
                keys[index] += (weight,)
    tiers: dict[tuple[float, ...], list[int]] = {}
    for index in indices:
        tiers.setdefault(keys[index], []).append(index)
    return tuple(tuple(tiers[key]) for key in sorted(tiers))


def weighed(
    view: View, indices: list[int], weights: Mapping[str, float], prompt: int, output: int, latency_ms: Mapping[str, int]
) -> dict[int, float]:
    """The weighted sum of values normalised to 0 (best) … 1 (worst) among `indices`. What is unknown is worst."""
    sums = dict.fromkeys(indices, 0.0)
    for name, weight in weights.items():
        values = {index: value(view, index, name, prompt, output, latency_ms) for index in indices}
        known = [found for found in values.values() if found is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        for index, found in values.items():
            if found is None:
                sums[index] += weight
            elif high > low:
                sums[index] += weight * (found - low) / (high - low)
    return {index: round(share, TIE) for index, share in sums.items()}


def value(view: View, index: int, name: str, prompt: int, output: int, latency_ms: Mapping[str, int]) -> float | None:
    """What deployment `index` has of `name` (`cost` in USD, `latency` in ms, `score.NAME` turned round): less is better."""
    deployment = view.deployments[index]
    if name == "cost":
        return deployment.tariff.estimate_usd(prompt, output)
    if name == "latency":
        return latency_ms.get(deployment.id)
    score = deployment.model.scores.get(name.removeprefix("score."))
    return None if score is None else -score


def _left(tiers: Tiers, mask: int) -> Tiers:
    """`tiers` without what is not in `mask`; what is left keeps its order."""
    kept = (tuple(index for index in tier if mask >> index & 1) for tier in tiers)
    return tuple(tier for tier in kept if tier)
