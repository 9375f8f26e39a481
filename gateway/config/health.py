"""`health`: how an endpoint is asked whether it is well, and how busy it is. Changes no rule, and where nothing may go."""

from typing import Final

from gateway.config.documents import Node
from gateway.config.reading import field, whole, word
from gateway.config.shapes import Key, Record, Whole, Word
from gateway.core.policy import HealthCheck

# no query, no dots to climb, nothing that could name another host or end a line
PATH: Final = Word("a path from the root of its host, such as `/health`", pattern=r"(/[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)+")
USUAL: Final = HealthCheck()

HEALTH: Final = Record(
    "`health`",
    (
        Key("path", PATH, f"what answers 200 while it is well; `{USUAL.path}` by default", "/health"),
        Key("every_s", Whole("seconds", 1, 3_600), f"how often it is asked; {USUAL.every_s} by default", 5),
        Key(
            "failures",
            Whole("checks", 1, 100),
            f"how many in a row must fail until nothing is sent there; {USUAL.failures} by default; one that succeeds mends it",
            3,
        ),
        Key("load", PATH, "where its own metrics are: while requests wait inside it, it comes after all other routes", "/metrics"),
    ),
)


def compile_health(node: Node | None) -> HealthCheck | None:
    """What `health:` says; None where it does not stand."""
    if node is None:
        return None
    path, load = word(field(node, "path")), word(field(node, "load"))
    every_s, failures = whole(field(node, "every_s")), whole(field(node, "failures"))
    return HealthCheck(
        USUAL.path if path is None else path.word,
        USUAL.every_s if every_s is None else every_s,
        USUAL.failures if failures is None else failures,
        None if load is None else load.word,
    )
