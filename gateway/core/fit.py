"""What a request needs of whoever serves it, and what the policy's limits allow: checked after the rules, each with its reason."""

from bisect import bisect_left
from dataclasses import replace

from gateway.core.exchange import Needs
from gateway.core.masks import bits, total
from gateway.core.policy import Deployment
from gateway.core.pricing import usd
from gateway.core.rank import output_expected
from gateway.core.terms import Because, Reason
from gateway.core.view import Fit, View


def fit(view: View, mask: int, needs: Needs) -> int:
    """Those of `mask` that have what the request needs."""
    key = (mask, needs.api, needs.abilities, needs.tools, needs.remote_content)
    found = view.fits.get(key)
    if found is None:
        found = view.fits.keep(key, _fit(view, mask, of_no_length(needs)))
    return found.masks[bisect_left(found.sizes, tokens_needed(needs))]


def _fit(view: View, mask: int, needs: Needs) -> Fit:
    windows = {index: view.subjects[index].context or 0 for index in bits(mask) if not unfit(view, index, needs)}
    sizes = sorted(set(windows.values()))
    masks = [total(index for index, window in windows.items() if window >= size) for size in sizes]
    return Fit(tuple(sizes), (*masks, 0))


def of_no_length(needs: Needs) -> Needs:
    """The same, of a prompt that fits into every window."""
    return replace(needs, prompt_tokens=0, longest_tokens=0)


def tokens_needed(needs: Needs) -> int:
    """The window that a request takes: its prompt, or the longest of its texts where each has a window to itself, and one token of
    answer. (`max_tokens` is a wish; upstreams cut it.)"""
    return (needs.longest_tokens or needs.prompt_tokens) + 1


def unfit(view: View, index: int, needs: Needs) -> tuple[Reason, ...]:
    """Why deployment `index` can't do what the request needs; empty if it can."""
    subject = view.subjects[index]
    found = []
    if needs.api not in subject.apis:
        found.append(_need(needs.api, _not_offered(view.deployments[index], needs.api)))
    for ability in sorted(needs.abilities - subject.abilities):
        found.append(_need(ability, f"`{subject.model}` has {_list(subject.abilities)}"))
    for tool in sorted(needs.tools - subject.tools):
        found.append(_need(f"tool {tool}", f"its labels hold for the tools {_list(subject.tools)}"))
    if needs.remote_content and not view.deployments[index].endpoint.remote_content:
        found.append(_need("remote_content", "the content names a URL to fetch; send the data itself"))
    if subject.context is None or subject.context < tokens_needed(needs):
        window = "is not in the catalogue" if subject.context is None else f"is {subject.context:,} tokens"
        part = "in its longest text" if needs.longest_tokens else "of prompt"
        found.append(_need("context", f"about {tokens_needed(needs) - 1:,} tokens {part}; the window {window}"))
    return tuple(found)


def _not_offered(deployment: Deployment, api: str) -> str:
    """Which of both is missing: the model is not for it, or its endpoint's labels do not hold for it."""
    model, endpoint = deployment.model, deployment.endpoint
    missing = []
    if api not in model.apis:
        missing.append(f"`{model.id}` is for {_list(model.apis)}, not for `{api}`")
    if api not in endpoint.apis:
        missing.append(f"its labels hold for {_list(endpoint.apis)}, not for `{api}`")
    return "; ".join(missing)


def _need(word: str, detail: str) -> Reason:
    return Reason(Because.NEEDS, f"needs: {word}", detail)


def within_limits(view: View, mask: int, needs: Needs) -> int:
    """Those of `mask` within the policy's limits."""
    limit = view.limit_usd
    if limit is None:
        return mask
    # nearly always all are far below: the highest prices there are, of whichever deployments, answer for all of them
    if usd(*view.dearest, needs.prompt_tokens, output_expected(needs)) <= limit:
        return mask
    return total(index for index in bits(mask) if over_limit(view, index, needs) is None)


def over_limit(view: View, index: int, needs: Needs) -> Reason | None:
    """Why deployment `index` is over a limit of the policy, by estimate; None if it is not."""
    limit = view.snapshot.policy.limits.usd_per_request
    if limit is None:
        return None
    estimate = view.deployments[index].tariff.estimate_usd(needs.prompt_tokens, output_expected(needs))
    if estimate <= float(limit):
        return None
    return Reason(Because.LIMIT, "limit: usd_per_request", f"about ${estimate:.4f}; the policy allows ${limit} a request")


def _list(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none"
