"""The catalogue beside its endpoints: models, aliases, and what of ours keeps or reads content.

Whatever a label does not say counts against its holder; so what must be there is asked for when loading, not when deciding.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.config import labels
from gateway.config.addresses import SECRET
from gateway.config.documents import Node
from gateway.config.endpoints import ABILITY_LIST, CONTEXT, PROVIDER
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.rates import RATES, compile_rates
from gateway.config.reading import amount, entries, field, whole, word, words
from gateway.config.shapes import Amount, Key, ListOf, MapOf, Record, Word
from gateway.config.vocabulary import ALIAS, APIS, FIM, GAP, MODEL, OURS, SINKS, WORD
from gateway.config.words import listed
from gateway.core.policy import Keeper, Model
from gateway.core.terms import CONVERSING, EMBEDDINGS

MODEL_RECORD: Final = Record(
    "a model",
    (
        labels.ORIGIN,
        Key("context", CONTEXT, "its window: tokens of prompt and answer together", 256000, required=True),
        Key(
            "apis",
            ListOf(Word("an API", of=APIS)),
            "what it is for; all but embeddings, where it is missing",
            ["embeddings"],
        ),
        Key("abilities", ABILITY_LIST, "what it can do", ["tools", "vision"]),
        Key(
            "fim",
            Word("a text with `{prefix}` and `{suffix}` in it", pattern=GAP),
            "how a gap is shown to it, which gives it the ability `fim` on machines that take no `suffix`",
            "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        ),
        Key("languages", ListOf(Word("a language (ISO 639-1)"), least=0), "languages that it is good at", ["en", "fr"]),
        Key(
            "scores",
            MapOf(Word("a score", pattern=WORD), Amount("points")),
            "points of benchmarks, for preferences: `rank: {score.coding: 1}`",
            {"coding": 92.1},
        ),
        Key("rates", RATES, "how much it may be asked, wherever it runs", {"tokens": "5000000/min"}),
    ),
)

KEEPER_KEYS: Final = (
    labels.PROCESSED_IN,
    labels.OPERATED_UNDER,
    labels.ASSURANCES,
    Key("provider", PROVIDER, "who runs it; `ours` by default", "ours"),
)

GATEWAY: Final = Record("the gateway", KEEPER_KEYS)

STORE: Final = Record(
    "a store",
    (
        Key(
            "url",
            SECRET,
            "where its URL is kept: `env:NAME` or `file:/path`, since it may hold a password. It is redis://, rediss:// (TLS), "
            "unix://, redis+sentinel:// or redis+cluster://",
            "env:REDIS_URL",
            required=True,
        ),
        Key(
            "key",
            SECRET,
            "seals the entries of the store `cache` where machines share it: `env:NAME` or `file:/path`; else each has its own",
            "env:CACHE_KEY",
        ),
        *KEEPER_KEYS,
    ),
)

SINK: Final = Record("a sink", KEEPER_KEYS)

MODELS: Final = MapOf(Word("a model's name", pattern=MODEL), MODEL_RECORD)
ALIASES: Final = MapOf(Word("an alias, perhaps with `*` at its end", pattern=ALIAS), ListOf(Word("a model")))
STORES: Final = MapOf(Word("a store's name", pattern=WORD), STORE)
SINKS_MAP: Final = MapOf(Word("a sink of this version", of=SINKS), SINK)


class Catalogue:
    """Compiles the sections of the catalogue. Built for one load; problems and warnings are added to as it goes."""

    def __init__(self, known: Known, at: float, problems: Problems, warnings: Problems) -> None:
        self._known = known
        self._at = at
        self._problems = problems
        self._warnings = warnings

    def keeper(self, name: str, kind: str, mark: Mark, node: Node) -> Keeper:
        """The gateway itself, a store or a sink."""
        what = "the gateway" if kind == "gateway" else f"the {kind} {show(name)}"
        processed = labels.places_of(node, labels.PROCESSED_IN, self._known, self._problems)
        operated = labels.places_of(node, labels.OPERATED_UNDER, self._known, self._problems)
        held = labels.compile_assurances(field(node, "assurances"), self._known, self._problems)
        labels.warn_of_stale(what, mark, "processed_in", processed, self._at, self._warnings)
        labels.warn_of_stale(what, mark, "operated_under", operated, self._at, self._warnings)
        labels.warn_of_ended(what, mark, held, self._at, self._warnings)
        provider, url, key = (word(field(node, at)) for at in ("provider", "url", "key"))
        place, seal = url.word if url else None, key.word if key else None
        return Keeper(name, kind, provider.word if provider else OURS, processed, operated, held, place, seal)

    def models(self, section: Mapping[str, tuple[Mark, Node]]) -> dict[str, Model]:
        """What is true of each model wherever it runs."""
        found = {}
        for name, (mark, node) in section.items():
            origin = labels.places_of(node, labels.ORIGIN, self._known, self._problems)
            labels.warn_of_stale(f"the model {show(name)}", mark, "origin", origin, self._at, self._warnings)
            scores = {
                score: float(value)
                for score, (_, at) in entries(field(node, "scores")).items()
                if (value := amount(at)) is not None
            }
            template = word(field(node, "fim"))
            found[name] = Model(
                id=name,
                origin=origin,
                context=whole(field(node, "context")),
                abilities=frozenset(at.word for at in words(field(node, "abilities"))) | ({FIM} if template else set()),
                languages=self._known.those("language", words(field(node, "languages")), self._problems),
                scores=scores,
                rates=compile_rates(field(node, "rates"), self._problems),
                apis=frozenset(at.word for at in words(field(node, "apis"))) or CONVERSING,
                fim=template.word if template else "",
            )
        return found

    def aliases(self, section: Mapping[str, tuple[Mark, Node]], models: Mapping[str, Model]) -> dict[str, frozenset[str]]:
        """Names that stand for sets of models. They do not nest, and never hide a model."""
        found = {}
        for name, (mark, node) in section.items():
            if name in models:
                self._problems.add(
                    mark, show(name), "it is the name of a model already, and a model's name always means that model"
                )
            members = []
            for at in words(node):
                if at.word in section and at.word not in models:
                    self._problems.add(at.mark, show(at.word), "it is an alias itself, and aliases do not nest: name its models")
                elif self._known.has("model", at, self._problems):
                    members.append(at.word)
            found[name] = frozenset(members)
            vectors = sorted({member for member in members if member in models and EMBEDDINGS in models[member].apis})
            if len(vectors) > 1:
                wanted = f"vectors of one model can't be compared with another's: of {listed(vectors)} let it stand for one"
                self._warnings.add(mark, f"the alias {show(name)} of several models for embeddings", wanted)
        return found


def providers_in(holders: Iterable[Node]) -> frozenset[str]:
    """The providers that endpoints, stores, sinks and the gateway name, and `ours`."""
    named = (word(field(holder, "provider")) for holder in holders)
    return frozenset(provider.word for provider in named if provider is not None) | {OURS}
