"""What the documents define: zones written out, and every word by its kind, for all that is compiled afterwards to look up."""

from typing import Final

from gateway.config.catalogue import providers_in
from gateway.config.documents import Node, Sequence
from gateway.config.known import Known, unknown_place
from gateway.config.presets import DIALECTS
from gateway.config.problems import Problems, show
from gateway.config.reading import entries, field, word, words
from gateway.config.sections import Section, Sections
from gateway.config.vocabulary import ABILITIES, APIS, ASSURANCES, CATEGORIES, LANGUAGES, TOOLS
from gateway.config.words import listed
from gateway.config.zones import BUILT_IN, countries
from gateway.core.facts import Vocabulary
from gateway.core.terms import DATA_CLASSES, OTHER, UNGROUPED

BUILT_IN_WORDS: Final = {"assurances": ASSURANCES, "categories": CATEGORIES, "tasks": (), "tags": ()}


def collect(sections: Sections, problems: Problems) -> Known:
    """Every word that the documents define."""
    coined = {name: _coined(name, sections.lists[name], problems) for name in BUILT_IN_WORDS}
    vocabulary = Vocabulary(
        countries=countries(),
        zones=_zones(sections.maps["zones"], problems),
        data_classes=_data_classes(sections.once.get("data_classes"), problems),
        categories=coined["categories"],
        tasks=coined["tasks"] | {OTHER},
        tags=coined["tags"] | {OTHER},
        languages=_languages(sections) | {OTHER},
    )
    endpoints, models, tenants = sections.maps["endpoints"], sections.maps["models"], sections.maps["tenants"]
    makers = [node for name in ("endpoints", "stores", "sinks") for _, node in sections.maps[name].values()]
    gateway = sections.once.get("gateway")
    return Known(
        vocabulary,
        {
            "endpoint": frozenset(endpoints),
            "provider": providers_in([*makers, *([gateway] if gateway is not None else [])]),
            "dialect": frozenset(DIALECTS),
            "model": frozenset(models),
            "asked": frozenset(models) | frozenset(sections.maps["aliases"]),
            "assurances": coined["assurances"],
            "apis": frozenset(APIS),
            "api": frozenset(APIS),
            "tools": frozenset(TOOLS),
            "abilities": frozenset(ABILITIES),
            "ability": frozenset(ABILITIES),
            "tenant": frozenset(tenants),
            "group": frozenset(at.word for _, node in tenants.values() for at in words(field(node, "group"))) | {UNGROUPED},
            "key": frozenset(_key_ids(tenants)),
            "data_class": frozenset(vocabulary.data_classes),
            "categories": coined["categories"],
            "task": coined["tasks"],
            "tag": coined["tags"],
            "language": LANGUAGES,
            "score": frozenset(score for _, node in models.values() for score in entries(field(node, "scores"))),
            "stream": frozenset({"true", "false"}),
        },
    )


def _coined(name: str, nodes: list[Node], problems: Problems) -> frozenset[str]:
    built_in = frozenset(BUILT_IN_WORDS[name])
    found = set(built_in)
    for node in nodes:
        at = word(node)
        if at is None:
            continue  # told by its shape
        if at.word in built_in:
            problems.add(at.mark, show(at.word), "it is built in already; remove it")
        elif at.word == OTHER:
            problems.add(at.mark, "`other`", "the gateway's own word for whatever no document names; choose another")
        found.add(at.word)
    return frozenset(found)


def _key_ids(tenants: Section) -> list[str]:
    found = []
    for _, node in tenants.values():
        keys = field(node, "keys")
        for item in keys.items if isinstance(keys, Sequence) else ():
            if (name := word(field(item, "id"))) is not None:
                found.append(name.word)
    return found


def _data_classes(node: Node | None, problems: Problems) -> tuple[str, ...]:
    found: list[str] = []
    for at in words(node) if isinstance(node, Sequence) else ():
        if at.word in found:
            problems.add(
                at.mark, f"the data class {show(at.word)} for the second time", "each stands once, the least sensitive first"
            )
        else:
            found.append(at.word)
    return tuple(found) or DATA_CLASSES


def _languages(sections: Sections) -> frozenset[str]:
    """Languages that some model or some test names. A fact's value that none names makes no difference, and is `other`."""
    found = {at.word for _, node in sections.maps["models"].values() for at in words(field(node, "languages"))}
    for node in (*sections.lists["rules"], *sections.lists["preferences"], *sections.lists["claims"], *sections.lists["cache"]):
        for key in ("when", "for"):
            found |= {at.word for at in words(field(field(node, key), "language"))}
    return frozenset(found) & LANGUAGES


def _zones(section: Section, problems: Problems) -> dict[str, frozenset[str]]:
    """Every zone, written out to its countries."""
    found = {name: zone.countries for name, zone in BUILT_IN.items()}
    own: Section = {}
    for name, (mark, node) in section.items():
        if name in BUILT_IN:
            problems.add(mark, show(name), f"a built-in zone ({listed(BUILT_IN[name].countries)}); choose another name")
        elif name in countries():
            problems.add(mark, show(name), "the code of a country; choose another name")
        else:
            own[name] = (mark, node)
    names = Vocabulary(countries(), {**found, **dict.fromkeys(own, frozenset[str]())}, (), *[frozenset[str]()] * 4)
    done = dict(found)
    for name in own:
        found[name] = _members(name, own, (), done, names, problems)
    return found


NESTED_MAX: Final = 8  # zones within zones; people nest two


def _members(
    name: str, own: Section, above: tuple[str, ...], done: dict[str, frozenset[str]], names: Vocabulary, problems: Problems
) -> frozenset[str]:
    if name not in own:
        return done.get(name, frozenset((name,)))
    if name in done:  # each zone is written out once, or a few lines would make billions of steps
        return done[name]
    members: set[str] = set()
    for at in words(field(own[name][1], "countries")):
        if at.word in (*above, name):
            problems.add(at.mark, show(at.word), "a zone can't be part of itself")
        elif len(above) >= NESTED_MAX:
            problems.add(at.mark, show(at.word), f"zones nest at most {NESTED_MAX} deep")
        elif names.expand("region", at.word) is None:
            unknown_place(at.word, at.mark, names, problems)
        else:
            members |= _members(at.word, own, (*above, name), done, names, problems)
    done[name] = frozenset(members)
    return done[name]
