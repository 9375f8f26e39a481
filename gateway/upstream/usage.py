"""Tokens, read from wherever each upstream puts them, into the one record that money is counted from.

Promises: uncached + cached + cache_write is the upstream's prompt, and the parts sum to its total where it states one. What can't
be true (negative, not a whole number, a prompt of nothing, cached more than the prompt, a total of something else) counts as not
reported: then the caller estimates, and the settlement says `estimated`. Zeros are what servers write that have not counted.

Spellings: `prompt_tokens_details.cached_tokens` (OpenAI, Z.ai, vLLM with its flag, newer llama.cpp, Mistral), Mistral's
`prompt_token_details` and `num_cached_tokens`, `reasoning_tokens` in `completion_tokens_details` or (SGLang) beside the totals,
`cache_write_tokens` (OpenAI), llama.cpp's `timings`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from gateway.core.usage import Usage

TOKENS_MAX: Final = 50_000_000
"""Of one exchange, input or output: fifty times the largest window there is. More is a defect of whoever counted."""

BYTES_PER_TOKEN: Final = 4
"""Of English text in today's vocabularies; other scripts take more tokens, which counting events makes up for."""


class Unusable(StrEnum):
    """Why there is no reported usage; also the `code` of an outcome that was served without."""

    MISSING = "usage_missing"
    ABSURD = "usage_absurd"


_DETAILS_IN: Final = ("prompt_tokens_details", "prompt_token_details", "input_tokens_details")
_DETAILS_OUT: Final = ("completion_tokens_details", "output_tokens_details")


def read(usage: Any, timings: Any = None) -> Usage | Unusable:
    """What `usage` (the object of an answer or chunk) and llama.cpp's `timings` beside it say. Never raises."""
    if timings is None and usage.__class__ is dict and usage.keys() <= _USUAL and (found := _usual(usage)) is not None:
        return found
    if not isinstance(usage, dict) or ("prompt_tokens" not in usage and "completion_tokens" not in usage):
        return _from_timings(timings)
    prompt = _count(usage.get("prompt_tokens"))
    output = _count(usage.get("completion_tokens"))
    cached = _largest(usage.get("num_cached_tokens"), usage, _DETAILS_IN, "cached_tokens")
    written = _largest(None, usage, _DETAILS_IN, "cache_write_tokens")
    reasoning = _largest(usage.get("reasoning_tokens"), usage, _DETAILS_OUT, "reasoning_tokens")
    if cached == 0 and isinstance(timings, dict):
        cached = _count(timings.get("cache_n"))
    if prompt < 0 or output < 0 or cached < 0 or written < 0 or reasoning < 0 or cached + written > prompt:
        return Unusable.ABSURD
    if prompt == 0:
        return Unusable.ABSURD if output else Unusable.MISSING
    total = _count(usage.get("total_tokens"))
    if total not in (0, prompt + output):  # some leave it out or at zero
        if total != prompt + output + reasoning:
            return Unusable.ABSURD
        output += reasoning  # reasoning was not counted as output
    return Usage(prompt - cached - written, cached, written, output, min(reasoning, output), reported=True)


_USUAL: Final = frozenset({
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
})  # fmt: skip


def _usual(usage: Mapping[str, Any]) -> Usage | None:
    """What nearly all say, OpenAI's spelling without a flaw, in a third of the time; None: look closer. It judges nothing."""
    prompt: Any = usage.get("prompt_tokens")
    output: Any = usage.get("completion_tokens")
    total: Any = usage.get("total_tokens")
    cached: Any = 0
    written: Any = 0
    reasoning: Any = 0
    if inside := usage.get("prompt_tokens_details"):
        if inside.__class__ is not dict:
            return None
        cached, written = inside.get("cached_tokens", 0), inside.get("cache_write_tokens", 0)
    if inside := usage.get("completion_tokens_details"):
        if inside.__class__ is not dict:
            return None
        reasoning = inside.get("reasoning_tokens", 0)
    for value in (prompt, output, cached, written, reasoning, total):
        if value.__class__ is not int or not 0 <= value <= TOKENS_MAX:
            return None
    uncached = prompt - cached - written
    if not prompt or uncached < 0 or reasoning > output or total != prompt + output:
        return None
    return Usage(uncached, cached, written, output, reasoning, reported=True)


def _largest(beside: Any, usage: Mapping[str, Any], details: tuple[str, ...], name: str) -> int:
    """`name` in any of `details`, or `beside` them. The largest, as some say 0 in one and mean another; -1: one is no number."""
    found = 0 if beside is None else _count(beside)
    for spelling in details:
        inner = usage.get(spelling)
        if inner and isinstance(inner, dict) and (value := inner.get(name)) is not None:
            counted = _count(value)
            if counted < 0 or found < 0:
                return -1
            if counted > found:
                found = counted
    return found


def _from_timings(timings: Any) -> Usage | Unusable:
    """llama.cpp's own counts: `prompt_n` is what was computed, `cache_n` what was in the cache."""
    if not isinstance(timings, dict) or "prompt_n" not in timings or "predicted_n" not in timings:
        return Unusable.MISSING
    uncached, cached, output = (_count(timings.get(name)) for name in ("prompt_n", "cache_n", "predicted_n"))
    if min(uncached, cached, output) < 0:
        return Unusable.ABSURD
    return Usage(uncached=uncached, cached=cached, output=output, reported=True)


def _count(value: Any) -> int:
    """A number of tokens; 0 where nothing is said, -1 for what is none."""
    if value is None:
        return 0
    if value.__class__ is not int or not 0 <= value <= TOKENS_MAX:
        return -1
    return int(value)


def estimate(prompt_tokens: int, events: int, text_bytes: int) -> Usage:
    """Our own count, for when none was reported.

    Output: one token per event that brought content, which is how engines stream, or a token per four bytes of text where that is
    more, for those that send several at once. Input is taken as uncached, the dearest.
    """
    return Usage(uncached=prompt_tokens, output=max(events, -(-text_bytes // BYTES_PER_TOKEN)), reported=False)


def as_openai(usage: Usage) -> dict[str, Any]:
    """The object that OpenAI's API shows."""
    details: dict[str, int] = {"cached_tokens": usage.cached}
    if usage.cache_write:
        details["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
