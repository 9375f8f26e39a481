"""Every word that the documents of one folder define, and the looking up of those that they use.

Collected before anything is compiled, and leniently: an entry with a mistake in it still defines its name, so that one mistake is
told once and not again at every place that uses the name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At
from gateway.config.words import listed, nearest
from gateway.config.zones import country_named
from gateway.core.facts import Vocabulary
from gateway.core.terms import OTHER

ANYWHERE_WORD = "anywhere"

WHAT: Mapping[str, str] = {
    "endpoint": "an endpoint of the catalogue",
    "provider": "a provider of the catalogue",
    "dialect": "a dialect",
    "model": "a model of the catalogue",
    "asked": "a model or an alias of the catalogue",
    "assurances": "an assurance",
    "apis": "an API",
    "api": "an API",
    "tools": "a kind of tool",
    "abilities": "an ability",
    "ability": "an ability",
    "tenant": "a tenant",
    "group": "a group of some tenant",
    "key": "a key of some tenant",
    "data_class": "a data class",
    "categories": "a category",
    "task": "a task",
    "tag": "a tag",
    "language": "a language (ISO 639-1)",
    "score": "a score of some model",
    "stream": "`true` or `false`",
}
"""What each kind of word is, for people."""

ADDED_BY: Mapping[str, str] = {
    "assurances": "assurances",
    "categories": "categories",
    "task": "tasks",
    "tag": "tags",
    "data_class": "data_classes",
}
"""The section in which a policy defines more words of a kind."""


@dataclass(frozen=True, slots=True)
class Known:
    """All words, by kind, and the vocabulary of facts."""

    vocabulary: Vocabulary
    words: Mapping[str, frozenset[str]]

    def has(self, kind: str, at: At, problems: Problems) -> bool:
        """Whether `at` is a known word of `kind`; if not, that is told."""
        known = self.words[kind]
        if at.word in known:
            return True
        if problems.told_of(at.mark):
            return False
        examples = "such as `en`" if kind == "language" else f"known: {listed(known)}"
        wanted = f"not {WHAT[kind]}; {examples}"
        if kind in ADDED_BY:
            wanted += f"; `{ADDED_BY[kind]}:` defines more"
        problems.add(at.mark, show(at.word), wanted, nearest(at.word, known))
        return False

    def those(self, kind: str, found: Iterable[At], problems: Problems) -> frozenset[str]:
        """The known words among `found`; the others are told."""
        return frozenset(at.word for at in found if self.has(kind, at, problems))

    def places(self, found: Iterable[At], problems: Problems) -> frozenset[str]:
        """Countries, zones written out. Lists may mix both."""
        members: set[str] = set()
        for at in found:
            expanded = self.vocabulary.expand("region", at.word)
            if expanded is not None:
                members |= expanded
            elif problems.told_of(at.mark):
                continue
            elif at.word == ANYWHERE_WORD:
                problems.add(
                    at.mark, "`anywhere`", "it is a label of its own, and no place: it stands alone, on an endpoint or deployment"
                )
            else:
                unknown_place(at.word, at.mark, self.vocabulary, problems)
        return frozenset(members)

    def classes(self, least: At | None, most: At | None, problems: Problems) -> frozenset[str]:
        """The data classes from `least` to `most`; empty if a word is unknown or there are none."""
        order = self.vocabulary.data_classes
        for at in (least, most):
            if at is not None and not self.has("data_class", at, problems):
                return frozenset()
        low = order.index(least.word) if least is not None else 0
        high = order.index(most.word) if most is not None else len(order) - 1
        if low > high and least is not None and most is not None:
            problems.add(most.mark, show(most.word), f"`at_least: {least.word}` is above it, so that no data class is meant")
        return frozenset(order[low : high + 1])

    def languages(self, found: Iterable[At], problems: Problems) -> frozenset[str]:
        """Languages as the fact holds them: those that nothing in the policy names are all `other`."""
        known = self.those("language", found, problems)
        return frozenset(word if word in self.vocabulary.languages else OTHER for word in known)


def unknown_place(word: str, mark: Mark, vocabulary: Vocabulary, problems: Problems) -> None:
    """Tell that `word` is neither a country nor a zone, and what it probably was to be."""
    meant = country_named(word) or nearest(word, vocabulary.countries | frozenset(vocabulary.zones))
    wanted = f"neither a country (ISO 3166-1 alpha-2) nor a zone; zones: {listed(vocabulary.zones)}"
    problems.add(mark, show(word), wanted, meant)
