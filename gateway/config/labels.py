"""Labels: places, assurances, and who holds them. What says nothing is an error, what goes stale has a day, nothing ever widens."""

from gateway.config.documents import Mapping, Node
from gateway.config.known import ANYWHERE_WORD, Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At, day, end_of, entries, field, last_day, text, words
from gateway.config.shapes import ByKind, Day, Key, ListOf, MapOf, OneOrMore, Record, Text, Word
from gateway.config.words import listed
from gateway.core.policy import Assurance, Places

PLACE = Word("a country (ISO 3166-1 alpha-2) or a zone")

UNTIL = Key("until", Day(), "the last day (UTC) on which it is good; from the next on it counts as missing", "2027-05-20")

PLACES = ByKind(
    "countries, zones, or `anywhere`: a word, a list, or a map of `countries`, `source`, `verified` and `until`",
    scalar=PLACE,
    sequence=ListOf(PLACE),
    mapping=Record(
        "a label",
        (
            Key("countries", OneOrMore(PLACE), "the countries and zones, or `anywhere`", ["EU", "EFTA"], required=True),
            Key("source", Text(), "who says so, and where", "the provider's documentation of regional inference"),
            Key("verified", Day(), "the day on which somebody last looked it up", "2026-11-20"),
            UNTIL,
        ),
    ),
)

ASSURANCES_HELD = MapOf(
    Word("an assurance"),
    Record(
        "an assurance",
        (UNTIL, Key("evidence", Text(), "where the contract or certificate lies", "contracts/mistral-dpa.pdf")),
    ),
)

PROCESSED_IN = Key(
    "processed_in",
    PLACES,
    "countries in which content may be computed on, kept, or read from (support access counts); `anywhere` where nobody vouches",
    ["DE"],
    required=True,
)
OPERATED_UNDER = Key(
    "operated_under",
    PLACES,
    "countries whose law can compel the operator; `anywhere` where nobody knows",
    ["DE"],
    required=True,
)
ORIGIN = Key("origin", PLACES, "where its weights come from; `anywhere` where nobody knows", ["FR"], required=True)
ASSURANCES = Key("assurances", ASSURANCES_HELD, "what is signed or certified, by name", {"dpa": {"until": "2027-06-30"}})


def compile_places(node: Node, known: Known, problems: Problems) -> Places:
    """A label as the documents say it."""
    if not isinstance(node, Mapping):
        return Places(_countries(words(node), known, problems))
    verified, until = day(node.get("verified")), day(node.get("until"))
    if verified is not None and until is not None and until < verified:
        stale = node.get("until")
        problems.add(stale.mark if stale else node.mark, show(until.isoformat()), "wanted a day after `verified`")
    return Places(
        _countries(words(node.get("countries")), known, problems),
        source=text(node.get("source")),
        verified=verified.isoformat() if verified else "",
        until=end_of(until),
    )


def _countries(found: tuple[At, ...], known: Known, problems: Problems) -> frozenset[str] | None:
    if len(found) == 1 and found[0].word == ANYWHERE_WORD:
        return None
    return known.places(found, problems)


def places_of(holder: Node, key: Key, known: Known, problems: Problems) -> Places:
    """The label `key` of `holder`. Not written at all is an error, told by its shape: `anywhere` has to be said."""
    node, before = field(holder, key.name), len(problems)
    places = Places(None) if node is None else compile_places(node, known, problems)
    return places if len(problems) == before else Places(None)  # what is wrong in itself is compared with nothing


def compile_assurances(node: Node | None, known: Known, problems: Problems) -> tuple[Assurance, ...]:
    """What a holder holds, by name."""
    found = []
    for name, (mark, value) in entries(node).items():
        if known.has("assurances", At(name, mark), problems):
            found.append(Assurance(name, end_of(day(field(value, "until"))), text(field(value, "evidence"))))
    return tuple(sorted(found, key=lambda assurance: assurance.name))


def narrowed_places(holder: Node, key: Key, wider: Places, what: str, known: Known, problems: Problems) -> Places:
    """A deployment's own label, which lies inside its endpoint's, in places and in time; or its endpoint's."""
    node = field(holder, key.name)
    if node is None:
        return wider
    own = compile_places(node, known, problems)
    if wider.countries is not None and (own.countries is None or not own.countries <= wider.countries):
        extra = "`anywhere`" if own.countries is None else listed(own.countries - wider.countries)
        problems.add(node.mark, extra, f"{what} may narrow the `{key.name}` of its endpoint and not widen it")
    if wider.until is not None and own.until is not None and own.until > wider.until:
        until = field(node, "until") or node
        problems.add(
            until.mark,
            f"`{last_day(own.until)}`",
            f"the label of its endpoint is good until {last_day(wider.until)}, and no longer",
        )
    until_ = own.until if wider.until is None else min(own.until or wider.until, wider.until)
    return Places(own.countries, own.source or wider.source, own.verified or wider.verified, until_)


def narrowed_assurances(
    holder: Node, wider: tuple[Assurance, ...], what: str, known: Known, problems: Problems
) -> tuple[Assurance, ...]:
    """A deployment's own assurances, which are among its endpoint's; or its endpoint's."""
    node = field(holder, "assurances")
    if node is None:
        return wider
    held = {assurance.name: assurance for assurance in wider}
    found = []
    for own in compile_assurances(node, known, problems):
        mark = entries(node)[own.name][0]
        above = held.get(own.name)
        if above is None:
            problems.add(
                mark, show(own.name), f"{what} may narrow the assurances of its endpoint and not widen them: {listed(held)}"
            )
            continue
        if above.until is not None and own.until is not None and own.until > above.until:
            problems.add(mark, show(own.name), f"that of its endpoint is good until {last_day(above.until)}, and no longer")
        until = own.until if above.until is None else min(own.until or above.until, above.until)
        found.append(Assurance(own.name, until, own.evidence or above.evidence))
    return tuple(found)


def warn_of_stale(what: str, mark: Mark, label: str, places: Places, at: float, warnings: Problems) -> None:
    """Say that a label is stale as of `at`: nothing that asks for a place goes there any more."""
    if places.until is not None and places.until <= at:
        warnings.add(
            mark, f"`{label}` of {what}", f"went stale on {last_day(places.until)}, and counts as `anywhere`: look it up again"
        )


def warn_of_ended(what: str, mark: Mark, assurances: tuple[Assurance, ...], at: float, warnings: Problems) -> None:
    """Say which assurances have ended as of `at`."""
    for assurance in assurances:
        if assurance.until is not None and assurance.until <= at:
            warnings.add(
                mark, f"the assurance `{assurance.name}` of {what}", f"ended on {last_day(assurance.until)}, and counts as absent"
            )
