"""`semantic:` of an entry of the cache: like requests are given each other's answers.

How like they are, an embedding model says, and how like they must be, a threshold for each model that answers: no number is right
for all, so none is there by default, and a model without one is left out.
"""

from decimal import Decimal
from typing import Final

from gateway.config.documents import Node
from gateway.config.known import Known
from gateway.config.problems import Problems, show
from gateway.config.reading import At, amount, entries, field, whole, word
from gateway.config.shapes import Amount, Key, MapOf, Record, Whole, Word
from gateway.config.vocabulary import MODEL
from gateway.config.words import listed, nearest
from gateway.core.policy import Semantic

VECTORS: Final = 64  # of a partition: what is asked most lately; comparing with them takes 0.6 ms of a worker
VECTORS_MAX: Final = 256  # four times as much, which all others of the worker wait for
COSINE_MIN: Final = Decimal("0.01")  # above 0: at 0 any text is like any other

SEMANTIC: Final = Record(
    "`semantic`",
    (
        Key("model", Word("a model of the catalogue"), "embeds the last message, through an allowed route", "mistral-embed", True),
        Key(
            "threshold",
            MapOf(Word("a model's name", pattern=MODEL), Amount("a cosine", COSINE_MIN, Decimal(1)), least=1),
            "by the model that made an answer, the least cosine of the two messages; what has none is given to equal requests only",
            {"mistral-medium-3.5": 0.95},
            True,
        ),
        Key(
            "vectors_max",
            Whole("messages", 1, VECTORS_MAX),
            f"that a message is compared with, the newest of those that all else is equal of. Default: {VECTORS}",
            VECTORS,
        ),
    ),
)


def compile_semantic(node: Node | None, known: Known, embedding: frozenset[str], problems: Problems) -> Semantic | None:
    """What `semantic:` says; None where there is none. `embedding` are the models that some place serves embeddings of."""
    if node is None:
        return None
    model, thresholds, most = word(field(node, "model")), field(node, "threshold"), whole(field(node, "vectors_max"))
    if model is not None and known.has("model", model, problems) and model.word not in embedding:
        served = f"served are those of {listed(embedding)}" if embedding else "no endpoint has `embeddings` among its `apis`"
        what = f"{show(model.word)}, of which no place serves embeddings"
        problems.add(model.mark, what, served, nearest(model.word, embedding))
    found = {}
    for name, (mark, value) in entries(thresholds).items():
        cosine = amount(value)
        if known.has("model", At(name, mark), problems) and cosine is not None:
            found[name] = float(cosine)
    return Semantic("" if model is None else model.word, found, VECTORS if most is None else most)
