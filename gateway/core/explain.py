"""Everything there is to say about a decision."""

from gateway.core.refusal import refusal_message, too_long_message, unavailable_message

__all__ = ["refusal_message", "too_long_message", "unavailable_message"]
