"""A request's `cache-control`, as RFC 9111 has it (section 5.2.1). What is not known there is passed over, as it says.

`no-store` looks up nothing either: asking the store would tell it of the request. A `max-age` that is no number counts as 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.core.exchange import ANY, Wish

HEADER: Final = "cache-control"
DIGITS_MAX: Final = 10  # of seconds: three centuries


def wish_of(headers: Sequence[tuple[str, str]]) -> Wish:
    """What `headers` (lower-case name, value) wish; several such headers are one list."""
    wish = ANY
    for name, value in headers:
        if name == HEADER:
            wish = _with(wish, value)
    return wish


def _with(wish: Wish, value: str) -> Wish:
    for directive in value.lower().split(","):
        word, _, argument = directive.strip().partition("=")
        match word.strip():
            case "no-store":
                wish = replace(wish, look=False, keep=False)
            case "no-cache":
                wish = replace(wish, look=False)
            case "only-if-cached":
                wish = replace(wish, only=True)
            case "max-age":
                found = _seconds(argument)
                wish = replace(wish, age_s_max=found if wish.age_s_max is None else min(found, wish.age_s_max))
    return wish


def _seconds(argument: str) -> float:
    text = argument.strip().strip('"')
    return float(text[:DIGITS_MAX]) if text.isascii() and text.isdigit() else 0.0
