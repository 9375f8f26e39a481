"""The supervisor's log: one JSON line an event, on stderr. Events and numbers of our own; never anything a client sent."""

import sys
from collections.abc import Callable

import structlog


def logger() -> Callable[..., None]:
    """A function that takes an event and its fields."""
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()],
    )

    def say(event: str, **fields: object) -> None:
        log.msg(event, **fields)

    return say
