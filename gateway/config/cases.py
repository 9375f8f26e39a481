"""Cases: one request and its wanted decision, written by people. Read, and their words checked, here; run in check.py.

    - note: a German letter with personal data stays in Europe even when China is cheaper
      given: {tenant: insurer, asked: auto, language: zh}
      want: {routes: [frankfurt/glm-5.1], excluded: {zai/glm-5.1: [transfers, no permit]}}

`routes` is the whole list, in order. `excluded` names every reason against a deployment, of those that the writer cares for.
`refused` names every reason against what was asked for. `outside` names the fact that the caller may not declare.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config.documents import Node, Sequence, read_file
from gateway.config.folder import FILES_MAX
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At, entries, flag, instant, text, whole, word, words
from gateway.config.reading import field as under
from gateway.config.shapes import Flag, Instant, Key, ListOf, MapOf, OneOrMore, Record, Text, Whole, Word
from gateway.config.vocabulary import ABILITIES, APIS, TOOLS
from gateway.config.words import listed, nearest
from gateway.core.facts import DECLARABLE
from gateway.core.policy import Policy, Snapshot, resolve
from gateway.core.terms import Because

GIVEN: Final = Record(
    "what is given",
    (
        Key("tenant", Word("a tenant"), "the tenant who asks", "insurer", required=True),
        Key("key", Word("a key of that tenant"), "the key shown; any of the tenant's, where it is missing", "letters"),
        Key("asked", Word("a model or an alias"), "the name in the request", "auto", required=True),
        Key("region", OneOrMore(Word("a country or a zone")), "declared with the request", "DE"),
        Key("data_class", OneOrMore(Word("a data class")), "declared with the request", "personal"),
        Key("categories", OneOrMore(Word("a category")), "declared with the request", ["health"]),
        Key("task", Word("a task"), "declared with the request", "coding"),
        Key("tag", Word("a tag"), "declared with the request", "letters"),
        Key("language", OneOrMore(Word("a language (ISO 639-1)")), "the language of its text; unknown, where it is missing", "de"),
        Key("api", Word("an API", of=APIS), "the API that is asked; `chat` by default", "chat"),
        Key("abilities", OneOrMore(Word("an ability", of=ABILITIES)), "abilities that it uses", ["tools"]),
        Key("tools", OneOrMore(Word("a kind of tool", of=TOOLS)), "kinds of tool that it brings along", ["function"]),
        Key("prompt_tokens", Whole("tokens"), "the length of its prompt; 100 by default", 220000),
        Key("output_tokens", Whole("tokens", 1), "the longest answer it asks for", 1000),
        Key("stream", Flag(), "whether the answer is streamed; `false` by default", True),
        Key("remote_content", Flag(), "whether it names a URL to fetch; `false` by default", True),
        Key("at", Instant(), "when it is asked; now, where it is missing", "2027-05-21"),
    ),
)

WANT: Final = Record(
    "what is wanted",
    (
        Key("routes", ListOf(Word("a deployment, `endpoint/model`")), "every route, best first", ["frankfurt/glm-5.1"]),
        Key(
            "excluded",
            MapOf(Word("a deployment, `endpoint/model`"), ListOf(Word("a reason")), least=1),
            "deployments that are no route, each with every reason",
            {"zai/glm-5.1": ["transfers", "no permit"]},
        ),
        Key(
            "refused",
            ListOf(Word("a reason")),
            "there is no route; every reason against what was asked for",
            ["patients-on-our-machines"],
        ),
        Key("outside", Word("a fact", of=DECLARABLE), "the fact that lies outside what the caller may declare", "data_class"),
    ),
    least=1,
)

CASE: Final = Record(
    "a case",
    (
        Key("note", Text(), "what it shows, in a sentence", "a letter with personal data stays in Europe", required=True),
        Key("given", GIVEN, "the request", {"tenant": "insurer", "asked": "auto"}, required=True),
        Key("want", WANT, "the decision", {"routes": ["frankfurt/glm-5.1"]}, required=True),
    ),
)

CASES: Final = ListOf(CASE)

PROMPT_TOKENS: Final = 100  # a short question: long enough to have a price, short enough for every window


@dataclass(frozen=True, slots=True)
class Given:
    """A request, as facts and needs see it. `declared` holds what headers would say, written out."""

    tenant: str
    asked: str
    key: str | None = None
    declared: Mapping[str, frozenset[str]] = field(default_factory=dict)
    language: frozenset[str] | None = None
    api: str = "chat"
    abilities: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    prompt_tokens: int = PROMPT_TOKENS
    output_tokens: int | None = None
    stream: bool = False
    remote_content: bool = False
    at: float | None = None  # UTC seconds


@dataclass(frozen=True, slots=True)
class Want:
    """What is wanted of the decision. None, or no entry: the writer does not care."""

    routes: tuple[str, ...] | None = None
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    refused: frozenset[str] | None = None
    outside: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One request and its wanted decision."""

    note: str
    given: Given
    want: Want
    line: str = ""  # file:line


def load_cases(folder: Path, name: str, known: Known, snapshot: Snapshot, problems: Problems) -> tuple[Case, ...]:
    """Every case of the `*.yaml` files in `folder`, which messages call `name`. No folder: no cases."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".yaml" and not path.name.startswith("."))
    except FileNotFoundError:
        return ()
    except OSError as error:
        problems.add(Mark(name), "a folder that can't be read", f"{error.strerror or error}".lower())
        return ()
    if len(paths) > FILES_MAX:
        problems.add(Mark(name), f"{len(paths)} files", f"at most {FILES_MAX}")
        return ()
    found = []
    for path in paths:
        node = read_file(path, f"{name}/{path.name}", problems)
        if node is not None:
            found += read_cases(node, known, snapshot, problems)
    return tuple(found)


def read_cases(node: Node, known: Known, snapshot: Snapshot, problems: Problems) -> list[Case]:
    """The cases of one file; one with a mistake in it can't be run, and is left out."""
    CASES.check(node, problems)
    reader = _Reader(known, snapshot, problems)
    found = []
    for item in node.items if isinstance(node, Sequence) else ():
        alone, before = Problems(), len(problems)
        CASE.check(item, alone)
        case = reader.case(item)
        if case is not None and not alone.found and len(problems) == before:
            found.append(case)
    return found


class _Reader:
    """Compiles cases against one snapshot."""

    def __init__(self, known: Known, snapshot: Snapshot, problems: Problems) -> None:
        self._known = known
        self._snapshot = snapshot
        self._problems = problems
        self._deployments = frozenset(deployment.id for deployment in snapshot.policy.deployments)
        self._reasons = _reasons(snapshot.policy)

    def case(self, node: Node) -> Case | None:
        given, want = self._given(under(node, "given")), self._want(under(node, "want"))
        if given is None or want is None:
            return None  # told by its shape
        return Case(text(under(node, "note")), given, want, str(node.mark))

    def _given(self, node: Node | None) -> Given | None:
        tenant, asked = word(under(node, "tenant")), word(under(node, "asked"))
        if tenant is None or asked is None:
            return None
        self._known.has("tenant", tenant, self._problems)
        self._check_asked(asked)
        language = words(under(node, "language"))
        tokens = whole(under(node, "prompt_tokens"))
        return Given(
            tenant=tenant.word,
            asked=asked.word,
            key=self._key(tenant, word(under(node, "key"))),
            declared=self._declared(node),
            language=self._known.languages(language, self._problems) if language else None,
            api=text(under(node, "api")) or "chat",
            abilities=frozenset(at.word for at in words(under(node, "abilities"))),
            tools=frozenset(at.word for at in words(under(node, "tools"))),
            prompt_tokens=PROMPT_TOKENS if tokens is None else tokens,
            output_tokens=whole(under(node, "output_tokens")),
            stream=flag(under(node, "stream"), otherwise=False),
            remote_content=flag(under(node, "remote_content"), otherwise=False),
            at=self._at(under(node, "at")),
        )

    def _check_asked(self, asked: At) -> None:
        policy = self._snapshot.policy
        if resolve(policy, asked.word) is None:
            names = self._known.words["asked"]
            wanted = f"neither a model nor an alias of the catalogue; known: {listed(names)}"
            self._problems.add(asked.mark, show(asked.word), wanted, nearest(asked.word, names))

    def _key(self, tenant: At, key: At | None) -> str | None:
        if key is None:
            return None
        own = {id for id, found in self._snapshot.access.keys.items() if found.tenant == tenant.word}
        if key.word not in own:
            self._problems.add(
                key.mark, show(key.word), f"not a key of {show(tenant.word)}; it has {listed(own)}", nearest(key.word, own)
            )
        return key.word

    def _declared(self, node: Node | None) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for fact in DECLARABLE:
            said = words(under(node, fact))
            if said and fact == "region":
                found[fact] = self._known.places(said, self._problems)
            elif said:
                found[fact] = self._known.those(fact, said, self._problems)
        return found

    def _at(self, node: Node | None) -> float | None:
        found = instant(node)
        if node is not None and found is None:
            self._problems.add(node.mark, "a day or time that does not exist", f"wanted {Instant().wanted}")
        return found

    def _want(self, node: Node | None) -> Want | None:
        if node is None:
            return None
        routes, refused, outside = under(node, "routes"), under(node, "refused"), word(under(node, "outside"))
        said = [name for name in ("routes", "refused", "outside") if under(node, name) is not None]
        if len(said) > 1:
            self._problems.add(
                node.mark,
                " and ".join(f"`{name}`" for name in said),
                "a request has routes, or is refused, or never gets to a decision",
            )
        excluded = {}
        for deployment, (mark, reasons) in entries(under(node, "excluded")).items():
            self._check_deployment(At(deployment, mark))
            excluded[deployment] = self._words(words(reasons))
        for at in words(routes):
            self._check_deployment(at)
        return Want(
            routes=tuple(at.word for at in words(routes)) if routes is not None else None,
            excluded=excluded,
            refused=self._words(words(refused)) if refused is not None else None,
            outside=outside.word if outside else None,
        )

    def _check_deployment(self, at: At) -> None:
        if at.word not in self._deployments:
            wanted = f"not a deployment, `endpoint/model`; known: {listed(self._deployments)}"
            self._problems.add(at.mark, show(at.word), wanted, nearest(at.word, self._deployments))

    def _words(self, found: tuple[At, ...]) -> frozenset[str]:
        for at in found:
            if at.word not in self._reasons:
                wanted = (
                    "not a reason: a rule's id, `gateway: RULE`, `no permit`, `not asked`, `disabled`, `needs: …` or `limit: …`"
                )
                self._problems.add(at.mark, show(at.word), wanted, nearest(at.word, self._reasons))
        return frozenset(at.word for at in found)


def _reasons(policy: Policy) -> frozenset[str]:
    """Every word that an exclusion can have when nothing is wrong with the world: what a case can want."""
    rules = [rule.id for rule in policy.rules]
    needs = [*APIS, *ABILITIES, *(f"tool {tool}" for tool in TOOLS), "context", "remote_content"]
    return frozenset(
        {
            *rules,
            *(f"gateway: {rule}" for rule in rules),
            Because.NO_PERMIT.value,
            Because.ASKED.value,
            Because.DISABLED.value,
            *(f"needs: {need}" for need in needs),
            "limit: usd_per_request",
        }
    )
