"""A decision, explained: as JSON for machines, as text for people, as a paragraph for the caller."""

from dataclasses import asdict

from gateway.core.decide import Decision, Verdict
from gateway.core.explanation import explain
from gateway.core.prose import prose
from gateway.core.refusal import refusal_message, too_long_message, unavailable_message

__all__ = ["as_json", "as_text", "refusal_message", "told", "too_long_message", "unavailable_message"]


def as_json(decision: Decision, workers: int = 1) -> dict[str, object]:
    """The whole explanation in JSON's own types. Equal decisions give equal bytes. `workers` share the limits."""
    plain = _plain(asdict(explain(decision, workers)))
    assert isinstance(plain, dict)
    return plain


def as_text(decision: Decision, workers: int = 1) -> str:
    """The whole explanation for somebody who answers for the policy."""
    return prose(explain(decision, workers), told(decision))


def told(decision: Decision) -> str:
    """What the caller is told; "" where there are routes."""
    match decision.verdict:
        case Verdict.ROUTED:
            return ""
        case Verdict.REFUSED:
            return refusal_message(decision)
        case Verdict.TOO_LONG:
            return too_long_message(decision)
        case Verdict.UNAVAILABLE:
            return unavailable_message(decision)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
