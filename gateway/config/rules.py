"""permit, require and forbid: what a document may write, written out once per value of `for_each`, and compiled.

The order in which rules stand means nothing, so they are sorted by id. Each id is one word of every explanation and every ledger
line, so no two rules share one, and none is a word that decisions use themselves.
"""

import itertools
import re
from dataclasses import replace
from typing import Final

from gateway.config.documents import Entry, Mapping, Node, Scalar, Sequence
from gateway.config.facts import WHEN, compile_when, soft_facts
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At, entries, field, text, word, words
from gateway.config.says import ALTERNATIVES, SAYS, compile_alternatives
from gateway.config.shapes import Key, MapOf, OneOrMore, Record, Text, Word
from gateway.config.vocabulary import WORD
from gateway.core.policy import Rule
from gateway.core.terms import Because, Effect

RESERVED: Final = frozenset(word for because in Because for word in (because.value, because.value.replace(" ", "-")))
"""Words that decisions and cases use beside the ids of rules."""

EXPANDED_MAX: Final = 1_000  # rules that one `for_each` may become: a slip with three variables makes millions

VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")

FOR_EACH: Final = MapOf(Word("a variable's name", pattern="[a-z]+"), OneOrMore(Word("a word")), least=1)

RULE: Final = Record(
    "a rule",
    (
        Key(
            "id",
            Word("an id: small letters, digits and hyphens", pattern=r"[a-z0-9$][a-zA-Z0-9${}-]*"),
            "what explanations, cases and the ledger call it",
            "personal-data-stays-under-eea-law",
            required=True,
        ),
        Key(
            "when",
            WHEN,
            "the requests it is about; all, where it is missing",
            {"region": "EEA", "data_class": {"at_least": "personal"}},
        ),
        Key(
            "permit",
            SAYS,
            "these deployments may be used; `{}` is every one. Without a permit there is no route",
            {"provider": "ours"},
        ),
        Key(
            "require",
            ALTERNATIVES,
            "only deployments that meet all of this, or one whole alternative of a list, may be used",
            {"processed_in": "EEA", "assurances": ["dpa"]},
        ),
        Key(
            "forbid",
            ALTERNATIVES,
            "deployments that this may hit are not used: one attribute, or a list of alternatives",
            {"origin": "CN"},
        ),
        Key("because", Text(), "why, for people; it is told with every exclusion", "GDPR chapter V; see the transfer register"),
        Key(
            "for_each",
            FOR_EACH,
            "writes the rule once per value; `${z}` stands for the value, also in the id",
            {"z": ["EEA", "UK"]},
        ),
        Key(
            "trust",
            Word("whom", of=("client",)),
            "says that a fact of `when` is the client's own word: who leaves it out, leaves the rule",
            "client",
        ),
    ),
    one_of=tuple(effect.value for effect in Effect),
)


def expand(nodes: list[Node], problems: Problems) -> list[Node]:
    """`nodes`, with each `for_each` written out."""
    found: list[Node] = []
    for node in nodes:
        variables = {name: words(value) for name, (_, value) in entries(field(node, "for_each")).items()}
        if not isinstance(node, Mapping) or not variables:
            found.append(_substituted(node, {}, problems))
            continue
        id_node = node.get("id")
        unused = [name for name in variables if not isinstance(id_node, Scalar) or f"${{{name}}}" not in id_node.text]
        if unused:
            problems.add(
                id_node.mark if id_node else node.mark, "an id that is the same for each value", f"write `${{{unused[0]}}}` into it"
            )
            continue
        count = 1
        for values in variables.values():
            count *= len(values)
        if count > EXPANDED_MAX:
            problems.add(node.mark, f"{count} rules in one", f"at most {EXPANDED_MAX}")
            continue
        rest = Mapping(node.mark, {name: entry for name, entry in node.entries.items() if name != "for_each"})
        for chosen in itertools.product(*variables.values()):
            found.append(_substituted(rest, dict(zip(variables, chosen, strict=True)), problems))
    return found


def _substituted(node: Node, values: dict[str, At], problems: Problems) -> Node:
    match node:
        case Mapping():
            inner = {name: Entry(entry.key, _substituted(entry.node, values, problems)) for name, entry in node.entries.items()}
            if isinstance(done := inner.get("id"), Entry) and values and isinstance(done.node, Scalar):
                inner["id"] = Entry(done.key, replace(done.node, text=done.node.text.lower()))  # `stay-in-EEA` is `stay-in-eea`
            return Mapping(node.mark, inner)
        case Sequence():
            return Sequence(node.mark, tuple(_substituted(item, values, problems) for item in node.items))
        case Scalar() if "${" in node.text:
            return _scalar(node, values, problems)
        case Scalar():
            return node


def _scalar(node: Scalar, values: dict[str, At], problems: Problems) -> Scalar:
    whole = VARIABLE.fullmatch(node.text)
    if whole is not None and whole[1] in values:  # a wrong word is told where it was written, not where it was put
        return replace(node, text=values[whole[1]].word, mark=values[whole[1]].mark)
    for name in VARIABLE.findall(node.text):
        if name not in values:
            problems.add(node.mark, f"`${{{name}}}`", "`for_each` gives no value to it")
    return replace(node, text=VARIABLE.sub(lambda found: values[found[1]].word if found[1] in values else "x", node.text))


def compile_rules(nodes: list[Node], known: Known, problems: Problems) -> list[tuple[Rule, Mark, bool]]:
    """Each rule, where it stands, and whether it says that it trusts the client. `for_each` is written out already."""
    found = []
    seen: dict[str, Mark] = {}
    for node in nodes:
        name = word(field(node, "id"))
        effect = next((effect for effect in Effect if field(node, effect.value) is not None), None)
        if name is None or effect is None:
            continue  # told by its shape
        _check_id(name, seen, problems)
        when = compile_when(field(node, "when"), effect, known, problems)
        says = compile_alternatives(field(node, effect.value), known, problems, hits=effect is Effect.FORBID)
        trust = field(node, "trust")
        soft = soft_facts(when)
        if soft and trust is None:
            wanted = (
                f"{_the(soft)} the client's own word: a hard rule says `trust: client`, and whoever leaves it out leaves the rule"
            )
            at = field(field(node, "when"), soft[0])
            problems.add(at.mark if at else node.mark, f"a {effect} on {' and '.join(f'`{fact}`' for fact in soft)}", wanted)
        if trust is not None and not soft:
            problems.add(trust.mark, "`trust: client`", "no fact of `when` is the client's own word; remove it")
        rule = Rule(name.word, effect, when, says, text(field(node, "because")), str(node.mark))
        found.append((rule, node.mark, trust is not None))
    return sorted(found, key=lambda item: item[0].id)


def _the(soft: tuple[str, ...]) -> str:
    return f"`{soft[0]}` is" if len(soft) == 1 else "these are"


def _check_id(name: At, seen: dict[str, Mark], problems: Problems) -> None:
    if name.word in RESERVED:
        problems.add(name.mark, show(name.word), "decisions use this word themselves; choose another id")
    elif not re.fullmatch(WORD, name.word):
        problems.add(name.mark, show(name.word), "wanted an id: small letters, digits and hyphens")
    else:
        problems.once("the rule", name.word, name.mark, seen)
