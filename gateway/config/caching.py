"""`cache:`: which answers may be kept, for how long, and who shares them.

An entry is matched as a permit is: it must surely hold, so that what is unknown is not kept, and raising a data class never keeps
more. Where several apply, the shortest time and the narrowest sharing hold; so their order means nothing.
"""

from collections.abc import Iterable
from typing import Final

from gateway.config.documents import Node
from gateway.config.facts import WHEN, compile_when
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import field, word, words
from gateway.config.semantic import SEMANTIC, compile_semantic
from gateway.config.shapes import Key, OneOrMore, Record, Word
from gateway.config.tariffs import SPAN, SPAN_S
from gateway.config.vocabulary import APIS, WORD
from gateway.core.policy import Caching, Deployment
from gateway.core.terms import EMBEDDINGS, Effect

TENANT: Final = "tenant"  # each its own
CHAT: Final = "chat"
CACHED_APIS: Final = (CHAT, "completions", EMBEDDINGS)  # whose answers this version can keep
TTL_S_MAX: Final = 30 * 86_400  # a month: models are replaced and facts change, and nobody remembers what was kept

ENTRY: Final = Record(
    "an entry of the cache",
    (
        Key("id", Word("an id: small letters, digits and hyphens", pattern=WORD), "what people call it", "faq", required=True),
        Key(
            "when",
            WHEN,
            "the requests whose answers are kept: they must surely meet this; all, where it is missing",
            {"data_class": {"at_most": "internal"}},
        ),
        Key(
            "ttl",
            Word("a span, such as `30min`, `1h` or `7d`", pattern=SPAN.pattern),
            "how long an answer is kept at most; where several entries apply, the shortest",
            "1h",
            required=True,
        ),
        Key(
            "share",
            Word("`tenant`, or the name of a scope", pattern=WORD),
            "who gets it: each tenant its own (the default), or all tenants to whom entries with this name apply",
            TENANT,
        ),
        Key(
            "semantic",
            SEMANTIC,
            "chat requests that are equal but for their last message, and there like enough, are given each other's answers. "
            "Off, unless all entries that apply have it with one model, which is called with the message",
            {"model": "mistral-embed", "threshold": {"mistral-medium-3.5": 0.95}},
        ),
        Key(
            "apis",
            OneOrMore(Word("an API", of=APIS)),
            f"the APIs whose answers are kept; {', '.join(CACHED_APIS)}, where it is missing",
            ["chat"],
        ),
    ),
)


def compile_caching(
    nodes: list[Node], known: Known, deployments: Iterable[Deployment], problems: Problems, warnings: Problems
) -> tuple[Caching, ...]:
    """Each entry, by id."""
    embedding = frozenset(one.model.id for one in deployments if EMBEDDINGS in one.apis)
    found: dict[str, Caching] = {}
    seen: dict[str, Mark] = {}
    for node in nodes:
        name = word(field(node, "id"))
        if name is None:
            continue  # told by its shape
        problems.once("the cache's entry", name.word, name.mark, seen)
        when = compile_when(field(node, "when"), Effect.PERMIT, known, problems)
        share = word(field(node, "share"))
        scope = None if share is None or share.word == TENANT else share.word
        if share is not None and scope is not None and not {"data_class", "tenant"} & {test.fact for test in when}:
            wanted = "all tenants share answers to whatever they ask: say `data_class: {at_most: …}` or `tenant` in its `when`"
            warnings.add(share.mark, f"the scope {show(scope)}", wanted)
        apis = frozenset(api.word for api in words(field(node, "apis"))) or frozenset(CACHED_APIS)
        semantic = compile_semantic(field(node, "semantic"), known, embedding, problems)
        if semantic is not None and scope is not None and "data_class" not in {test.fact for test in when}:
            wanted = "tenants are given answers to what others asked in other words: say `data_class: {at_most: …}` in its `when`"
            warnings.add(node.mark, f"`semantic` in the scope {show(scope)}", wanted)
        if semantic is not None and CHAT not in apis:
            problems.add(node.mark, f"`semantic` in {show(name.word)}", "its `apis` leave out chat, and nothing else is compared")
        ttl_s = _ttl_s(field(node, "ttl"), problems)
        found[name.word] = Caching(name.word, when, ttl_s, scope, apis, str(node.mark), semantic)
    return tuple(found[name] for name in sorted(found))


def _ttl_s(node: Node | None, problems: Problems) -> int:
    found = word(node)
    parts = SPAN.fullmatch(found.word) if found is not None else None
    if found is None or parts is None:
        return 0  # told by its shape
    ttl_s = int(parts[1]) * SPAN_S[parts[2]]
    if ttl_s > TTL_S_MAX:
        problems.add(found.mark, show(found.word), f"at most {TTL_S_MAX // 86_400}d: what is kept longer, nobody remembers")
    return ttl_s
