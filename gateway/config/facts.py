"""Tests of facts: the `when` of rules and preferences, and the `for` of claims.

Which form a test may take depends on what it decides: only such forms stand in hard rules that can't add a route when a class is
raised or a category is found. What asks otherwise is told so here, before anything is decided by it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.config.documents import Mapping as MapNode
from gateway.config.documents import Node
from gateway.config.known import Known
from gateway.config.problems import Problems, show
from gateway.config.reading import field, whole, word, words
from gateway.config.shapes import ByKind, Key, ListOf, OneOrMore, Record, Whole, Word
from gateway.config.vocabulary import ABILITIES, APIS
from gateway.core.facts import SOFT_FACTS
from gateway.core.policy import FactTest, When
from gateway.core.terms import Effect

CLASS: Final = Word("a data class")

CLASS_RANGE: Final = Record(
    "a range of data classes",
    (
        Key("at_least", CLASS, "this class or a more sensitive one", "personal"),
        Key("at_most", CLASS, "this class or a less sensitive one", "public"),
    ),
    least=1,
)

CLASSES: Final = ByKind(
    "data classes: `{at_least: …}`, `{at_most: …}`, or where order is not asked for a word or a list",
    scalar=CLASS,
    sequence=ListOf(CLASS),
    mapping=CLASS_RANGE,
)

TOKENS: Final = Record(
    "a range of tokens",
    (
        Key("at_least", Whole("tokens"), "this many or more", 100000),
        Key("at_most", Whole("tokens"), "this many or fewer", 1000),
    ),
    least=1,
)

WHEN: Final = Record(
    "a test of facts",
    (
        Key("tenant", OneOrMore(Word("a tenant")), "the tenant who asks", ["clinic"]),
        Key("group", OneOrMore(Word("a group")), "the group of who asks; `-` is that of a tenant in none", ["health"]),
        Key("key", OneOrMore(Word("a key")), "the key that was shown", ["ward-3"]),
        Key("region", OneOrMore(Word("a country or a zone")), "whose data law applies to the content", "EEA"),
        Key("data_class", CLASSES, "how sensitive it is", {"at_least": "personal"}),
        Key("categories", OneOrMore(Word("a category")), "kinds of content that may be among it", ["health"]),
        Key("asked", OneOrMore(Word("a model or an alias")), "the name in the request", "auto"),
        Key("api", OneOrMore(Word("an API", of=APIS)), "the API that is asked", "chat"),
        Key("task", OneOrMore(Word("a task")), "what the client says it is for", "coding"),
        Key("tag", OneOrMore(Word("a tag")), "what the client labels it with", "letters"),
        Key("language", OneOrMore(Word("a language (ISO 639-1)")), "the language of the text", "zh"),
        Key("ability", OneOrMore(Word("an ability", of=ABILITIES)), "abilities that the request uses", "tools"),
        Key("stream", Word("`true` or `false`", of=("true", "false")), "whether the answer is streamed", "true"),
        Key("prompt_tokens", TOKENS, "how long the prompt is, by estimate", {"at_least": 100000}),
    ),
)


def compile_when(node: Node | None, effect: Effect | None, known: Known, problems: Problems) -> When:
    """The tests of `node`, by fact. `effect` is that of the hard rule they stand in; None for preferences and claims."""
    if not isinstance(node, MapNode):
        return ()
    found = []
    for fact, entry in node.entries.items():
        compile_test = _TESTS.get(fact)
        if compile_test is None:
            continue  # told by its shape
        if fact == "categories" and effect is Effect.PERMIT:
            wanted = "not in a permit: finding a category never adds a route; write a require or a forbid on it"
            problems.add(entry.key.mark, "`categories`", wanted)
        test = compile_test(fact, entry.node, effect, known, problems)
        if test is not None:
            found.append(test)
    return tuple(sorted(found, key=lambda test: test.fact))


def soft_facts(when: When) -> tuple[str, ...]:
    """The facts of `when` that a client chooses."""
    return tuple(test.fact for test in when if test.fact in SOFT_FACTS)


def range_of(node: Node, known: Known, problems: Problems) -> frozenset[str]:
    """The data classes that a word, a list or a range stands for."""
    if isinstance(node, MapNode):
        return known.classes(word(node.get("at_least")), word(node.get("at_most")), problems)
    return known.those("data_class", words(node), problems)


def _words(fact: str, node: Node, effect: Effect | None, known: Known, problems: Problems) -> FactTest | None:
    return FactTest(fact, known.those(fact, words(node), problems))


def _region(fact: str, node: Node, effect: Effect | None, known: Known, problems: Problems) -> FactTest | None:
    return FactTest(fact, known.places(words(node), problems))


def _language(fact: str, node: Node, effect: Effect | None, known: Known, problems: Problems) -> FactTest | None:
    return FactTest(fact, known.languages(words(node), problems))


def _data_class(fact: str, node: Node, effect: Effect | None, known: Known, problems: Problems) -> FactTest | None:
    if effect is not None:
        may, other = ("at_most", "at_least") if effect is Effect.PERMIT else ("at_least", "at_most")
        why = f"a {effect} takes `{{{may}: …}}` only, so that raising a class never adds a route"
        if not isinstance(node, MapNode):
            first = next(iter(words(node)), None)
            problems.add(node.mark, show(first.word) if first else "a list", why)
            return None
        wrong = node.entries.get(other)
        if wrong is not None:
            problems.add(wrong.key.mark, f"`{other}`", why)
            return None
    return FactTest(fact, range_of(node, known, problems))


def _tokens(fact: str, node: Node, effect: Effect | None, known: Known, problems: Problems) -> FactTest | None:
    least, most = whole(field(node, "at_least")), whole(field(node, "at_most"))
    if least is not None and most is not None and least > most:
        problems.add(node.mark, f"from {least} to {most}", "no number of tokens is both")
    return FactTest(fact, at_least=least, at_most=most)


_Compile = Callable[[str, Node, Effect | None, Known, Problems], FactTest | None]

_TESTS: Final[Mapping[str, _Compile]] = {
    **dict.fromkeys(("tenant", "group", "key", "categories", "asked", "api", "task", "tag", "ability", "stream"), _words),
    "region": _region,
    "data_class": _data_class,
    "language": _language,
    "prompt_tokens": _tokens,
}
