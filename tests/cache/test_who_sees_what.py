"""Whatever is asked, by whomever, under whatever policies: nobody is given what is not theirs, or is from where they may not go."""

import asyncio
import math
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inprocess import run
from store_servers import Server, opened, single
from who_sees import HOME, TENANTS, TURN, WHERE, Asked, Line, Moved, Parts, Passed, Purged, Reloaded, Rulebook, Step, Watching

from gateway import pipeline
from gateway.core import caching, likeness, side
from gateway.core.exchange import ANY, Wish
from gateway.state.cache import cache, digest, likes, place, sealing

PATHS: Final = {
    **{name: f"gateway.core.{name}" for name in ("caching", "likeness", "side")},
    **{name: f"gateway.state.cache.{name}" for name in ("digest", "likes", "place", "sealing")},
}
COUNTRIES: Final = (frozenset({"DE"}), frozenset({"DE", "FR"}), frozenset({"CN"}), frozenset({"DE", "FR", "CN"}))
CLOSE: Final = math.cos(TURN) - 1e-3  # the next wording is like enough, the one after it not
LOOSE: Final = math.cos(2 * TURN) - 1e-3
BOTH: Final = (("alpha", LOOSE), ("beta", LOOSE))
TRIES: Final = 4
THRESHOLDS: Final = (*[BOTH] * 6, (("alpha", CLOSE),), (("alpha", CLOSE), ("beta", LOOSE)), (("beta", 1.0),), ())
ANYWHERE: Final = COUNTRIES[3]
lines = st.lists(
    st.builds(
        Line,
        st.sampled_from((None, None, None, *TENANTS)),
        st.sampled_from((None, "faq")),
        st.sampled_from((3600, 3600, 60)),
        st.sampled_from(THRESHOLDS),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
allowed = st.sampled_from((*COUNTRIES, *[ANYWHERE] * 3))
rulebooks = st.builds(Rulebook, allowed, allowed, st.booleans(), st.sampled_from(("DE", "CN")), lines)
none: frozenset[str] = frozenset()
wishes = st.sampled_from((*[ANY] * 9, Wish(look=False), Wish(look=False, keep=False), Wish(age_s_max=30.0)))
asks = st.builds(  # each is usual in most, so that some are equal or like
    Asked,
    st.sampled_from(("lab", "lab", "lab", "clinic")),
    st.sampled_from(("DE", "DE", "DE", "CN")),
    st.sampled_from((False, False, False, True)),
    st.sampled_from((0, 0, 0, 1)),
    st.booleans(),
    wishes,
    st.sampled_from((*[none] * 6, frozenset({"far"}), frozenset({"one"}), frozenset({"here"}))),
    st.integers(0, 1),
    st.sampled_from(("alpha", "alpha", "auto")),
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from((*[0] * 6, 1)),
    st.sampled_from((*[0] * 6, 1)),
)


def steps(books: Sequence[Rulebook]) -> st.SearchStrategy[list[Step]]:
    """Mostly questions; `books` come and go."""
    number = st.integers(0, 7)
    others = st.one_of(
        st.sampled_from(books).map(Reloaded),
        st.sampled_from((20, 45, 1800)).map(Passed),
        st.sampled_from(TENANTS).map(Purged),
        st.builds(Moved, number, number, st.sampled_from(("", *WHERE)), st.booleans()),
    )
    one = st.integers(0, 8).flatmap(lambda which: others if which == 8 else asks)  # `one_of` takes no strategy twice
    return st.lists(one, min_size=10, max_size=25)


courses = st.lists(rulebooks, min_size=1, max_size=3).flatmap(lambda books: st.tuples(st.just(books[0]), steps(books)))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with single() as server:
        yield server


def watched(server: Server, rulebook: Rulebook, taken: Sequence[Step], parts: Parts) -> Watching:
    """What was seen on a course, from an empty store."""
    seen: list[Watching] = []

    async def main() -> None:
        server.ask("FLUSHALL")
        async with opened(server.url) as one, opened(server.url) as other:
            watching = Watching(server, [one, other], rulebook, parts, asyncio.get_running_loop())
            try:
                for step in taken:
                    await watching.take(step)
            finally:
                await watching.close()
            seen.append(watching)

    run(main)
    return seen[0]


def until(look: Callable[[], object]) -> bool:
    """Whether it comes: a store that is waited for 50 ms is late now and then on a busy machine, and a miss follows."""
    return any(look() for _ in range(TRIES))


@settings(max_examples=70, deadline=None, suppress_health_check=list(HealthCheck))
@given(course=courses)
def test_nobody_is_given_what_is_not_theirs(server: Server, course: tuple[Rulebook, list[Step]]) -> None:
    assert watched(server, *course, Parts()).complaints == []


def copy(module: types.ModuleType, *spoils: tuple[str, str], **others: types.ModuleType) -> types.ModuleType:
    """A copy of `module` whose text reads otherwise, and which imports `others` in place of what it imports by those names."""
    text = Path(str(module.__file__)).read_text()
    for good, bad in spoils:
        assert text.count(good) == 1, f"the text to be spoilt stands there {text.count(good)} times: {good}"
        text = text.replace(good, bad)
    for name, other in others.items():
        text = text.replace(f"from {PATHS[name]} import", f"from {other.__name__} import")
    found = types.ModuleType(f"{module.__name__} spoilt {len(sys.modules)}".replace(" ", "_").replace(".", "_"))
    sys.modules[found.__name__] = found
    exec(compile(text, found.__name__, "exec"), found.__dict__)  # noqa: S102
    return found


def with_caching(*spoils: tuple[str, str]) -> Parts:
    return Parts(exchange=copy(pipeline, caching=copy(caching, *spoils)).exchange)


def with_sealing(*spoils: tuple[str, str]) -> Parts:
    return Parts(cache=copy(cache, sealing=copy(sealing, *spoils)).SharedCache)


def with_likeness(*spoils: tuple[str, str]) -> Parts:
    return Parts(cache=copy(cache, place=copy(place, likeness=copy(likeness, *spoils))).SharedCache)


def with_likes(*spoils: tuple[str, str]) -> Parts:
    return Parts(cache=copy(cache, likes=copy(likes, *spoils)).SharedCache)


def with_place(*spoils: tuple[str, str]) -> Parts:
    return Parts(cache=copy(cache, place=copy(place, *spoils)).SharedCache)


ALLOWED: Final = 'f"{policy.hash}/{decision.eligibility.mask:x}/{preferred:x}"'
MASK: Final = "    return view.deployments[index] if index is not None and decision.fitting >> index & 1 else None"
BOUND: Final = "_framed(self._scope, name, deployment)"
ALL: Final = (Line(None, None, 3600),)
SHARED: Final = (Line(None, "faq", 3600),)
BOOK: Final = Rulebook(ANYWHERE, ANYWHERE, False, "DE", ALL)
LAB: Final = Asked("lab")
OTHER: Final = Asked("lab", question=1)
NEAR_BOOK: Final = replace(BOOK, lines=(Line(None, None, 3600, (("alpha", CLOSE),)),))
AUTO: Final = Asked("lab", asked="auto")
FITTING: Final = "for index in bits(decision.fitting)"
ALL_OF_THEM: Final = "for index in range(len(decision.view.deployments))"
Course = tuple[Rulebook, list[Step]]

BUGS: Final[dict[str, tuple[Callable[[], Parts], Course]]] = {
    "the tenant is left out of the key": (
        lambda: with_caching(('return f"tenant/{tenant}"', 'return "tenant/all"')),
        (BOOK, [LAB, Asked("clinic")]),
    ),
    "whoever shares something shares all": (
        lambda: with_caching(("shares.pop() if len(shares) == 1 else None", "max((one for one in shares if one), default=None)")),
        (replace(BOOK, lines=(*SHARED, Line("lab", None, 60))), [LAB, Asked("clinic")]),
    ),
    "neither key nor hit knows what is allowed": (
        lambda: with_caching((ALLOWED, "policy.hash"), (MASK, "    return view.deployments[index]")),
        (replace(BOOK, german=HOME["DE"], lines=SHARED), [Asked("lab", "CN"), Asked("clinic", "DE")]),
    ),
    "the key does not say which policy": (
        lambda: with_caching((ALLOWED, ALLOWED.replace("{policy.hash}", ""))),
        (BOOK, [LAB, Reloaded(replace(BOOK, lines=(Line(None, None, 1800),))), LAB]),
    ),
    "the labels of the store are not asked": (
        lambda: with_caching(("if spot is not None and", "if False and")),
        (replace(BOOK, strict=True, store_in="CN"), [replace(LAB, personal=True)] * 2),
    ),
    "a value is not bound to its name": (
        lambda: with_sealing((BOUND, '_framed(self._scope, b"", deployment)')),
        (BOOK, [LAB, OTHER, Moved(0, 1), LAB, OTHER]),
    ),
    "a value is not bound to where it was made": (
        lambda: with_sealing((BOUND, '_framed(self._scope, name, b"")')),
        (BOOK, [LAB, Moved(0, 0, "two/alpha"), LAB]),
    ),
    "whoever keeps for long gives others what is old": (
        lambda: with_place((" or age_s >= self._keeping.ttl_s", "")),
        (replace(BOOK, lines=(*SHARED, Line("lab", "faq", 60))), [Asked("clinic"), Passed(90), LAB]),
    ),
    "the wish for something fresh is not heard": (
        lambda: with_place(("return wished is not None and age_s > wished and", "return False and")),
        (BOOK, [LAB, Passed(45), replace(LAB, wish=Wish(age_s_max=30.0))]),
    ),
    "all questions are one": (
        lambda: Parts(cache=copy(cache, digest=copy(digest, ("orjson.dumps(sent, ", "orjson.dumps({}, "))).SharedCache),
        (BOOK, [LAB, OTHER]),
    ),
    "what is compared need not be equal in all else": (
        lambda: with_likeness(('"messages": [*before, {**last, "content": None}]', '"messages": [{**last, "content": None}]')),
        (NEAR_BOOK, [LAB, replace(LAB, wording=1, system=1)]),
    ),
    "a number is outweighed by likeness": (
        lambda: with_likes((" or numbers != like.numbers", "")),
        (NEAR_BOOK, [LAB, replace(LAB, wording=1, year=1)]),
    ),
    "the threshold of another model counts": (
        lambda: with_caching(
            ("semantic.thresholds.get(made_at.model.id)", "min(semantic.thresholds.values())"),
            ("semantic.thresholds.get(deployment.model.id)", "min(semantic.thresholds.values())"),
        ),
        (replace(NEAR_BOOK, lines=(Line(None, None, 60, (("alpha", CLOSE), ("beta", LOOSE))),)), [AUTO, replace(AUTO, wording=2)]),
    ),
    "whoever lets it be compared lets it for all": (
        lambda: with_caching(
            ("if found is None or other is None or other.model != found.model:", "if True:"),
            ("            return None\n        common", "            return found or other\n        common"),
        ),
        (replace(NEAR_BOOK, lines=(*NEAR_BOOK.lines, Line("lab", None, 60))), [LAB, replace(LAB, wording=1)]),
    ),
    "what is like an entry is not bound to it": (
        lambda: with_sealing(("return LIKE + _framed(self._scope, partition, name)", "return LIKE")),
        (NEAR_BOOK, [LAB, OTHER, Moved(0, 1, like=True), replace(LAB, wording=1), replace(OTHER, wording=1)]),
    ),
    "what is like an entry opens in another scope": (
        lambda: with_sealing(
            ("return LIKE + _framed(self._scope, partition, name)", "return LIKE"),
            ('salt, b"residency-gateway cache 1 " + scope.encode()', 'b"", b""'),
        ),
        (
            NEAR_BOOK,
            [
                LAB,
                replace(OTHER, tenant="clinic"),
                Moved(0, 1, like=True),
                *(replace(asked, tenant=tenant, wording=1) for asked in (LAB, OTHER) for tenant in TENANTS),
            ],
        ),
    ),
    "what is near is not authorised": (
        lambda: with_caching((ALLOWED, "policy.hash"), (MASK, "    return view.deployments[index]"), (FITTING, ALL_OF_THEM)),
        (
            replace(NEAR_BOOK, german=HOME["DE"], lines=(Line(None, "faq", 3600, (("alpha", CLOSE),)),)),
            [Asked("lab", "CN", down=frozenset({"one", "two", "three", "there"})), Asked("clinic", "DE", wording=1)],
        ),
    ),
    "a side call forgets the law that applies": (
        lambda: Parts(
            exchange=copy(
                pipeline,
                side=copy(side, ("api=frozenset((EMBEDDINGS,)))", 'api=frozenset((EMBEDDINGS,)), region=frozenset({"CN"}))')),
            ).exchange
        ),
        (replace(NEAR_BOOK, german=HOME["DE"], chinese=HOME["CN"]), [LAB]),
    ),
    "what it wishes is not heard when its message is embedded": (
        lambda: Parts(
            exchange=copy(
                pipeline,
                ("course.recalled.how is Recall.MISS and not only", "True"),
                (
                    "        if course.recalled is None:\n            course.recalled = await",
                    "        if True:\n            course.recalled = await",
                ),
            ).exchange
        ),
        (NEAR_BOOK, [replace(LAB, wish=Wish(look=False))]),
    ),
}


@pytest.mark.source_only
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(server: Server, bug: str) -> None:
    spoilt, course = BUGS[bug]
    assert watched(server, *course, Parts()).complaints == []
    assert until(lambda: watched(server, *course, spoilt()).complaints), "nobody complained"


@pytest.mark.source_only
def test_the_copies_are_as_good_as_the_originals_and_something_is_given(server: Server) -> None:
    near = [LAB, *(replace(LAB, wording=wording, stream=True, worker=1) for wording in (1, 2, 1))]
    for parts in (with_caching(), with_sealing(), with_place(), with_likes(), with_likeness()):
        for book, steps, hits in (
            (BOOK, [LAB, replace(LAB, stream=True, worker=1), Asked("clinic"), LAB], (2, 0)),
            (NEAR_BOOK, near, (2, 2)),  # the third is like the second only, which has no answer of its own
        ):

            def given_again() -> bool:
                seen = watched(server, book, steps, parts)  # noqa: B023
                assert seen.complaints == []
                return (seen.hits, seen.near) == hits  # noqa: B023

            assert until(given_again)
