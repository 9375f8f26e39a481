"""`affinity:` whether requests prefer places that read the beginning of their prompt before. Without it, nothing is remembered."""

from typing import Final

from gateway.config.documents import Node
from gateway.config.problems import Problems, show
from gateway.config.reading import field, whole, word
from gateway.config.shapes import Key, Record, Whole, Word
from gateway.config.tariffs import SPAN, SPAN_S
from gateway.core.policy import Affinity

MIN_TOKENS: Final = 1_024  # below it, providers cache nothing (OpenAI's least; Mistral's blocks of 64 save little)
FOR_S: Final = 300  # what a provider keeps unused for five to ten minutes, an engine for as long as nobody needs the room
FOR_S_MAX: Final = 86_400  # a day: the longest that a provider says it keeps anything

AFFINITY: Final = Record(
    "`affinity`",
    (
        Key(
            "min_tokens",
            Whole("tokens", 64, 10_000_000),
            f"of a prompt's beginning that must have been read before; a shorter one counts for nothing. Default: {MIN_TOKENS}",
            MIN_TOKENS,
        ),
        Key(
            "for",
            Word("a span such as `5min`, up to a day", pattern=SPAN.pattern),
            "how long a place is taken to keep what it read. Default: 5min",
            "5min",
        ),
    ),
)


def compile_affinity(node: Node | None, problems: Problems) -> Affinity | None:
    """What `affinity:` says; None where there is none."""
    if node is None:
        return None
    least, span = whole(field(node, "min_tokens")), word(field(node, "for"))
    parts = SPAN.fullmatch(span.word) if span is not None else None
    for_s = FOR_S if parts is None else int(parts[1]) * SPAN_S[parts[2]]
    if span is not None and for_s > FOR_S_MAX:
        problems.add(span.mark, f"{show(span.word)} of `for`", "at most a day, `24h`: no place keeps a prompt for longer")
    return Affinity(MIN_TOKENS if least is None else least, for_s)
