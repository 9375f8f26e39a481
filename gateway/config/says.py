"""What rules, preferences and claims say of deployments: tests of labels, and alternatives of them."""

from typing import Final

from gateway.config.documents import Mapping, Node, Sequence
from gateway.config.known import Known
from gateway.config.problems import Problems
from gateway.config.reading import field, whole, words
from gateway.config.shapes import ByKind, Key, ListOf, OneOrMore, Record, Whole, Word
from gateway.config.vocabulary import ABILITIES, APIS, TOOLS
from gateway.core.policy import HOLDINGS, NUMBERS, PLACES, Alternative, LabelTest

_PLACE = OneOrMore(Word("a country or a zone"))

SAYS: Final = Record(
    "what is said of deployments",
    (
        Key("endpoint", OneOrMore(Word("an endpoint")), "one of these endpoints", "frankfurt"),
        Key("provider", OneOrMore(Word("a provider")), "one of these providers; `ours` is nobody but us", "ours"),
        Key("dialect", OneOrMore(Word("a dialect")), "one of these dialects", "vllm"),
        Key("model", OneOrMore(Word("a model")), "one of these models", ["glm-5.1", "glm-5.2"]),
        Key("processed_in", _PLACE, "every place of processing lies among these (forbid: some does)", "EEA"),
        Key("operated_under", _PLACE, "every law that can compel the operator is of these (forbid: some is)", "EEA"),
        Key("origin", _PLACE, "the weights come from these and nowhere else (forbid: from one of these)", "FR"),
        Key("assurances", OneOrMore(Word("an assurance")), "has every one of these", ["dpa"]),
        Key("apis", OneOrMore(Word("an API", of=APIS)), "its labels hold for every one of these", ["chat"]),
        Key("tools", OneOrMore(Word("a kind of tool", of=TOOLS)), "its labels hold for every one of these", ["function"]),
        Key("abilities", OneOrMore(Word("an ability", of=ABILITIES)), "can do every one of these", ["vision"]),
        Key(
            "context",
            Record("a window", (Key("at_least", Whole("tokens", 1), "this many tokens or more", 100000, required=True),)),
            "how large its window is",
            {"at_least": 100000},
        ),
    ),
)

WHOLE: Final = Record(SAYS.what, SAYS.keys, least=1)
"""As SAYS, but what says nothing would do nothing."""

ALTERNATIVES: Final = ByKind("a map of what is said of deployments, or a list of such maps", mapping=WHOLE, sequence=ListOf(WHOLE))


def compile_alternatives(node: Node | None, known: Known, problems: Problems, *, hits: bool = False) -> tuple[Alternative, ...]:
    """One map or a list of them, in an order of its own. `hits`: as a forbid reads it, where each map names one attribute."""
    nodes = node.items if isinstance(node, Sequence) else (node,)
    found = {_alternative(item, known, problems, hits) for item in nodes if isinstance(item, Mapping)}
    return tuple(sorted(found, key=_order))


def _alternative(node: Mapping, known: Known, problems: Problems, hits: bool) -> Alternative:
    if hits and len(node.entries) > 1:
        wanted = "one attribute, or a list of alternatives, any of which hits: `[{provider: …}, {origin: …}]`"
        problems.add(node.mark, f"{len(node.entries)} attributes in one map", wanted)
    tests = []
    for attribute, entry in node.entries.items():
        if hits and (attribute in HOLDINGS or attribute in NUMBERS):
            wanted = "not here: what a deployment lacks can't be forbidden; write a require on it"
            problems.add(entry.key.mark, f"`{attribute}`", wanted)
        elif attribute in NUMBERS:
            tests.append(LabelTest(attribute, at_least=whole(field(entry.node, "at_least"))))
        elif attribute in PLACES:
            tests.append(LabelTest(attribute, known.places(words(entry.node), problems)))
        elif attribute in known.words:
            tests.append(LabelTest(attribute, known.those(attribute, words(entry.node), problems)))
    return tuple(sorted(tests, key=lambda test: test.attribute))


def _order(tests: Alternative) -> list[tuple[str, list[str], int]]:
    return [(test.attribute, sorted(test.values), test.at_least or 0) for test in tests]
