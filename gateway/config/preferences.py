"""Preferences: the one list where order counts. Each breaks the ties of those before it, and none adds or takes a route."""

from typing import Final

from gateway.config.documents import Node
from gateway.config.facts import WHEN, compile_when
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import amount, entries, field, word
from gateway.config.says import ALTERNATIVES, compile_alternatives
from gateway.config.shapes import Amount, Key, MapOf, Record, Word
from gateway.config.vocabulary import WORD
from gateway.config.words import listed, nearest
from gateway.core.policy import Preference

RANKED: Final = ("cost", "latency")
SCORE: Final = "score."

PREFERENCE: Final = Record(
    "a preference",
    (
        Key(
            "id",
            Word("an id: small letters, digits and hyphens", pattern=WORD),
            "what explanations call it",
            "otherwise-cheapest",
            required=True,
        ),
        Key("when", WHEN, "the requests it is about; all, where it is missing", {"language": "zh"}),
        Key("prefer", ALTERNATIVES, "deployments that meet this come first", {"model": ["glm-5.1", "glm-5.2"]}),
        Key(
            "rank",
            MapOf(Word("what is weighed"), Amount("a weight"), least=1),
            "weights over values from 0 (best of the routes) to 1: `cost`, `latency`, `score.NAME`",
            {"cost": 1, "latency": 0.3},
        ),
    ),
    one_of=("prefer", "rank"),
)


def compile_preferences(nodes: list[Node], known: Known, problems: Problems) -> tuple[Preference, ...]:
    """Each preference, in the order of the documents."""
    found = []
    seen: dict[str, Mark] = {}
    for node in nodes:
        name = word(field(node, "id"))
        if name is None:
            continue  # told by its shape
        problems.once("the preference", name.word, name.mark, seen)
        when = compile_when(field(node, "when"), None, known, problems)
        prefer = compile_alternatives(field(node, "prefer"), known, problems)
        found.append(Preference(name.word, when, prefer, _rank(field(node, "rank"), known, problems), str(node.mark)))
    return tuple(found)


def _rank(node: Node | None, known: Known, problems: Problems) -> dict[str, float]:
    weights: dict[str, float] = {}
    words = frozenset(RANKED) | {SCORE + score for score in known.words["score"]}
    for name, (mark, value) in entries(node).items():
        weight = amount(value)
        if name not in words:
            problems.add(mark, show(name), f"not what can be weighed: {listed(words)}", nearest(name, words))
        elif weight is not None:
            weights[name] = float(weight)
    if weights and not any(weights.values()):
        first = next(iter(entries(node).values()))[0]
        problems.add(first, "weights that are all 0", "some weight above 0: this orders nothing")
    return weights
