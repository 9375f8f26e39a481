"""What a request needs of whoever serves it, and what the policy's limits allow: checked after the rules, each with its reason."""

from collections.abc import Iterable

from gateway.core.exchange import Needs
from gateway.core.rank import EXPECTED_OUTPUT_TOKENS, coarse
from gateway.core.terms import Because, Reason
from gateway.core.view import MEMO_MAX, Fit, View


def fit(view: View, mask: int, needs: Needs) -> int:
    """Those of `mask` that have what the request needs."""
    key = (mask, needs.api, needs.abilities, needs.tools, needs.remote_content)
    found = view.fits.get(key)
    if found is None:
        plain = Needs(needs.api, needs.abilities, needs.tools, remote_content=needs.remote_content)
        windows = tuple((view.subjects[i].context or 0, i) for i in bits(mask) if not unfit(view, i, plain))
        found = Fit(total(index for _, index in windows), min((size for size, _ in windows), default=0), windows)
        if len(view.fits) >= MEMO_MAX:
            view.fits.clear()
        view.fits[key] = found
    length = tokens_needed(needs)
    if length <= found.smallest:
        return found.mask
    return total(index for size, index in found.windows if length <= size)


def tokens_needed(needs: Needs) -> int:
    """The window that a request takes: its prompt, and one token of answer. (`max_tokens` is a wish; upstreams cut it.)"""
    return needs.prompt_tokens + 1


def unfit(view: View, index: int, needs: Needs) -> tuple[Reason, ...]:
    """Why deployment `index` can't do what the request needs; empty if it can."""
    subject = view.subjects[index]
    found = []
    if needs.api not in subject.apis:
        found.append(Reason(Because.NEEDS, f"needs: {needs.api}", f"its labels hold for {_list(subject.apis)}, not for `{needs.api}`"))
    for ability in sorted(needs.abilities - subject.abilities):
        found.append(Reason(Because.NEEDS, f"needs: {ability}", f"`{subject.model}` has {_list(subject.abilities)}"))
    for tool in sorted(needs.tools - subject.tools):
        found.append(Reason(Because.NEEDS, f"needs: tool {tool}", f"its labels hold for the tools {_list(subject.tools)}"))
    if needs.remote_content and not view.deployments[index].endpoint.remote_content:
        found.append(Reason(Because.NEEDS, "needs: remote_content", "the content names a URL to fetch; send the data itself"))
    if subject.context is None or subject.context < tokens_needed(needs):
        window = "is not in the catalogue" if subject.context is None else f"is {subject.context} tokens"
        found.append(Reason(Because.NEEDS, "needs: context", f"about {needs.prompt_tokens} tokens of prompt; the window {window}"))
    return tuple(found)


def within_limits(view: View, mask: int, needs: Needs) -> int:
    """Those of `mask` within the policy's limits."""
    limit = view.snapshot.policy.limits.usd_per_request
    if limit is None:
        return mask
    # nearly always all are far below: one look at the dearest, at rounded-up counts, answers for all requests of about one size
    output = needs.output_tokens if needs.output_tokens is not None else EXPECTED_OUTPUT_TOKENS
    key = (mask, coarse(needs.prompt_tokens), coarse(output))
    dearest = view.dearest.get(key)
    if dearest is None:
        dearest = max((view.deployments[i].tariff.estimate_usd(key[1], key[2]) for i in bits(mask)), default=0.0)
        if len(view.dearest) >= MEMO_MAX:
            view.dearest.clear()
        view.dearest[key] = dearest
    if dearest <= float(limit):
        return mask
    return total(index for index in bits(mask) if over_limit(view, index, needs) is None)


def over_limit(view: View, index: int, needs: Needs) -> Reason | None:
    """Why deployment `index` is over a limit of the policy, by estimate; None if it is not."""
    limit = view.snapshot.policy.limits.usd_per_request
    if limit is None:
        return None
    output = needs.output_tokens if needs.output_tokens is not None else EXPECTED_OUTPUT_TOKENS
    estimate = view.deployments[index].tariff.estimate_usd(needs.prompt_tokens, output)
    if estimate <= float(limit):
        return None
    return Reason(Because.LIMIT, "limit: usd_per_request", f"about ${estimate:.4f}; the policy allows ${limit} a request")


def bits(mask: int) -> list[int]:
    """The indices of the deployments in `mask`, in the order of the catalogue."""
    return [index for index in range(mask.bit_length()) if mask >> index & 1]


def total(indices: Iterable[int]) -> int:
    """The mask of `indices`."""
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


def _list(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none"
