"""Claims: sentences about all requests. Parsed and their words checked here; proving them is another part's work."""

from typing import Final

from gateway.config.documents import Node
from gateway.config.facts import WHEN, compile_when
from gateway.config.known import Known
from gateway.config.labels import UNTIL
from gateway.config.problems import Mark, Problems
from gateway.config.reading import day, end_of, field, text, word
from gateway.config.says import ALTERNATIVES, SAYS, compile_alternatives
from gateway.config.shapes import Key, Record, Text, Word
from gateway.config.vocabulary import WORD
from gateway.core.policy import Claim

KINDS: Final = ("always", "never", "some")

CLAIM: Final = Record(
    "a claim",
    (
        Key(
            "id",
            Word("an id: small letters, digits and hyphens", pattern=WORD),
            "what proofs call it",
            "nothing-of-europe-in-china",
            required=True,
        ),
        Key("for", WHEN, "the requests it is about; all, where it is missing", {"region": "EEA"}),
        Key("always", ALTERNATIVES, "every allowed deployment, store and sink surely meets this", {"operated_under": "EEA"}),
        Key(
            "never",
            ALTERNATIVES,
            "no allowed deployment, store or sink may match this: one attribute, or alternatives",
            {"processed_in": "CN"},
        ),
        Key("some", SAYS, "each such request has an allowed deployment that meets this; `{}` is any", {}),
        Key(UNTIL.name, UNTIL.shape, "the last day for which it is claimed; 30 days on where it is missing", "2027-05-20"),
        Key("because", Text(), "why, for people", "the board promised it"),
    ),
    one_of=KINDS,
)


def compile_claims(nodes: list[Node], known: Known, problems: Problems) -> tuple[Claim, ...]:
    """Each claim, by id."""
    found = []
    seen: dict[str, Mark] = {}
    for node in nodes:
        name = word(field(node, "id"))
        kind = next((kind for kind in KINDS if field(node, kind) is not None), None)
        if name is None or kind is None:
            continue  # told by its shape
        problems.once("the claim", name.word, name.mark, seen)
        found.append(
            Claim(
                id=name.word,
                because=text(field(node, "because")),
                line=str(node.mark),
                kind=kind,
                when=compile_when(field(node, "for"), None, known, problems),
                says=compile_alternatives(field(node, kind), known, problems, hits=kind == "never"),
                until=end_of(day(field(node, "until"))),
            )
        )
    return tuple(sorted(found, key=lambda claim: claim.id))
