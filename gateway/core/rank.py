"""Which of the allowed routes is best. Preferences order and do nothing else: what goes in comes out, in tiers.

Each preference breaks the ties of those before it, and then warmth does; what is still equal is one tier, spread by `draw`. Prices
are ranked on rounded token counts (an eighth of an octave, rounded up), so that one order serves all requests of about one size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.exchange import Needs
from gateway.core.live import LiveState
from gateway.core.masks import bits
from gateway.core.order import Order, Tiers
from gateway.core.policy import surely_meets
from gateway.core.terms import EMBEDDINGS
from gateway.core.view import View

EXPECTED_OUTPUT_TOKENS = 500  # what an answer is taken to be long where the request doesn't say less; chat answers lie around it
COMPLETION_TOKENS = 16  # what a text completion is long at most where the request says nothing, as OpenAI's API has it
TIE = 3  # decimals within which two ranks are equal: a thousandth of the spread is no reason to send everything to one place


def coarse(tokens: int) -> int:
    """`tokens` rounded up to an eighth of an octave, so that it has few values: 1,000 → 1,024; 100,000 → 106,496."""
    shift = max(0, tokens.bit_length() - 4)
    return -(-tokens >> shift) << shift


def coarse_below(tokens: int) -> int:
    """`tokens` rounded down to an eighth of an octave: 1,100 → 1,024. For what may be there, and should not be counted on."""
    shift = max(0, tokens.bit_length() - 4)
    return tokens >> shift << shift


UNSAID = {"completions": COMPLETION_TOKENS, EMBEDDINGS: 0}  # what the APIs come to that are no conversation


def output_expected(needs: Needs) -> int:
    """Tokens of answer that an estimate counts on: what the caller said at most, or what is usual. A vector has none."""
    if needs.output_tokens is not None:
        return needs.output_tokens
    return UNSAID.get(needs.api, EXPECTED_OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class Basis:
    """What places are compared on: tokens in and out, and how many of those in are warm where it saves something, by index."""

    prompt: int
    output: int
    latency_ms: Mapping[str, int]
    warm: Mapping[int, int]


def basis(view: View, needs: Needs, live: LiveState) -> Basis:
    """What a request with these needs is ranked on. Warmth counts for nothing where it saves nothing."""
    warm = {index: tokens for name, tokens in live.warm.items() if (index := view.indices.get(name)) is not None}
    saving = {index: tokens for index, tokens in warm.items() if tokens and view.deployments[index].tariff.warmth_saves}
    output = coarse(min(output_expected(needs), EXPECTED_OUTPUT_TOKENS))
    return Basis(coarse(needs.prompt_tokens), output, live.latency_ms, saving)


def rank(view: View, mask: int, usable: int, preferences: int, needs: Needs, live: LiveState) -> Order:
    """Those of `mask` that are `usable`, in tiers, under the policy's `preferences` (bit i is number i).

    The whole of `mask` is ranked and then what can't be used falls out, so that an outage leaves the others in their order.
    """
    prompt = coarse(needs.prompt_tokens)
    output = coarse(min(output_expected(needs), EXPECTED_OUTPUT_TOKENS))
    memo = view.ranked(live.latency_ms)
    key: object = (mask, usable, preferences, prompt, output)
    if live.warm:
        key = key, frozenset(live.warm.items())
    order = memo.get(key)
    if order is None:
        tiers = _left(_tiers(view, mask, preferences, basis(view, needs, live)), usable)
        order = memo.keep(key, Order(tiers, view.routes))
    return order


def _tiers(view: View, mask: int, preferences: int, on: Basis) -> Tiers:
    indices = bits(mask)
    keys: dict[int, tuple[float, ...]] = dict.fromkeys(indices, ())
    for line in bits(preferences):
        preference = view.snapshot.policy.preferences[line]
        for index in indices if preference.prefer else ():
            keys[index] += (0.0 if surely_meets(view.subjects[index], preference.prefer) else 1.0,)
        if preference.rank:
            for index, weight in weighed(view, indices, preference.rank, on).items():
                keys[index] += (weight,)
    for index in indices if on.warm else ():  # among equals, those that have less to read; where that costs money, see `value`
        keys[index] += (coldness(on, index),)
    tiers: dict[tuple[float, ...], list[int]] = {}
    for index in indices:
        tiers.setdefault(keys[index], []).append(index)
    return tuple(tuple(tiers[key]) for key in sorted(tiers))


def coldness(on: Basis, index: int) -> float:
    """How many tokens deployment `index` has yet to read."""
    return float(max(0, on.prompt - on.warm.get(index, 0)))


def weighed(view: View, indices: list[int], weights: Mapping[str, float], on: Basis) -> dict[int, float]:
    """The weighted sum of values normalised to 0 (best) … 1 (worst) among `indices`. What is unknown is worst."""
    sums = dict.fromkeys(indices, 0.0)
    for name, weight in weights.items():
        values = {index: value(view, index, name, on) for index in indices}
        known = [found for found in values.values() if found is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        for index, found in values.items():
            if found is None:
                sums[index] += weight
            elif high > low:
                sums[index] += weight * (found - low) / (high - low)
    return {index: round(share, TIE) for index, share in sums.items()}


def value(view: View, index: int, name: str, on: Basis) -> float | None:
    """What deployment `index` has of `name` (`cost` in USD, `latency` in ms, `score.NAME` turned round): less is better."""
    deployment = view.deployments[index]
    if name == "cost":
        return deployment.tariff.estimate_usd(on.prompt, on.output, on.warm.get(index, 0))
    if name == "latency":
        return on.latency_ms.get(deployment.id)
    score = deployment.model.scores.get(name.removeprefix("score."))
    return None if score is None else -score


def _left(tiers: Tiers, mask: int) -> Tiers:
    """`tiers` without what is not in `mask`; what is left keeps its order."""
    kept = (tuple(index for index in tier if mask >> index & 1) for tier in tiers)
    return tuple(tier for tier in kept if tier)
