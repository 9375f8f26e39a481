"""Which words of refusals and exclusions occur, and which of them some case names.

What occurs is found by asking the engine about every kind of request (worlds.py) with every kind of need (needing.py), as of one
instant, all being well: what live state takes away is no policy's, and no case can want it. A word is covered if a passing case
names it. A case names every reason against what it asks for, or against a deployment, so a passing one has each of them right.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.config.cases import Case
from gateway.core.decide import decide
from gateway.core.exchange import Needs
from gateway.core.fit import over_limit, unfit
from gateway.core.live import ALL_WELL
from gateway.core.masks import bits
from gateway.core.memo import Memo
from gateway.core.policy import Snapshot
from gateway.core.terms import Because
from gateway.core.view import Eligibility, View
from gateway.coverage.fences import Fence, fences
from gateway.coverage.needing import kinds_of_need, with_needs
from gateway.coverage.share import Share
from gateway.coverage.worlds import requests
from gateway.proof.universe import facts_of


@dataclass(frozen=True, slots=True)
class Occurring:
    """The words that occur, each with those of which any stands for it; and what callers may not say of their requests."""

    refusals: Mapping[str, frozenset[str]]
    exclusions: Mapping[str, frozenset[str]]
    fences: tuple[Fence, ...]


def refusal_coverage(occurring: Occurring, passing: Sequence[Case]) -> Share:
    """The refusals that some of the `passing` cases want, by their words: reasons, and `outside: FACT (WHOSE)`."""
    named = frozenset[str]().union(*(case.want.refused or frozenset() for case in passing))
    found = _named(occurring.refusals, named)
    return Share.of([*found, *((fence.name, any(fence.stops(case) for case in passing)) for fence in occurring.fences)])


def exclusion_coverage(occurring: Occurring, passing: Sequence[Case]) -> Share:
    """The reasons against deployments that some of the `passing` cases want, in `excluded` or in `refused`."""
    named = frozenset[str]().union(*(case.want.refused or frozenset() for case in passing))
    named = named.union(*(reasons for case in passing for reasons in case.want.excluded.values()))
    return Share.of(_named(occurring.exclusions, named))


def _named(words: Mapping[str, frozenset[str]], named: frozenset[str]) -> Iterable[tuple[str, bool]]:
    return ((word, not named.isdisjoint(alike)) for word, alike in words.items())


def occurring(snapshot: Snapshot, at: float) -> Occurring:
    """What occurs as of `at` (UTC seconds), in alphabetical order."""
    view = View(snapshot, at)
    kinds = list(kinds_of_need(snapshot.policy))
    alike = {word: need.alike for need in kinds for word in need.alike}
    refusals: set[str] = set()
    exclusions: set[str] = set()
    lacking: Memo[object, Against] = Memo()
    for sending in requests(snapshot, at):
        facts = facts_of(snapshot, sending)
        for number, need in enumerate(kinds):
            needs = need.needs(sending)
            decision = decide(view, with_needs(facts, needs), needs, ALL_WELL, 0)
            key = (number, sending.api, sending.abilities, sending.prompt_tokens)
            lacks = lacking.get(key)
            if lacks is None:
                lacks = lacking.keep(key, _lacking(view, needs))
            against = [*_by_policy(decision.eligibility), *lacks]
            if _news(against, view.all_mask, exclusions):
                exclusions.update(reason.word for reasons in decision.exclusions.values() for reason in reasons)
            if not decision.routes and _news(against, decision.eligibility.asked or view.all_mask, refusals):
                refusals.update(decision.refusing_rules)
    return Occurring(_together(refusals, alike), _together(exclusions, alike), tuple(fences(snapshot, at)))


# To find every reason in full takes a hundred times as long as to decide. So what a decision can say is read off its masks first,
# and it is asked for its reasons only where some word may be new.

Against = list[tuple[str, int]]
"""Words, each with the deployments (a mask) against which it may be a reason."""


def _news(against: Against, among: int, known: set[str]) -> bool:
    """Whether a word against some deployment `among` these is not `known`."""
    return any(mask & among and word not in known for word, mask in against)


def _by_policy(eligibility: Eligibility) -> Against:
    everywhere = -1
    return [
        *((row.rule.id, ~row.spared) for row in eligibility.against),
        *((f"gateway: {rule}", everywhere) for rule in eligibility.gateway_rules),
        (Because.NO_PERMIT, ~eligibility.permitted),
        (Because.ASKED, ~eligibility.asked),
        (Because.DISABLED, ~eligibility.enabled),
    ]


def _lacking(view: View, needs: Needs) -> Against:
    found: dict[str, int] = {}
    for index in bits(view.all_mask):
        limit = over_limit(view, index, needs)
        for reason in (*unfit(view, index, needs), *((limit,) if limit is not None else ())):
            found[reason.word] = found.get(reason.word, 0) | 1 << index
    return list(found.items())


def _together(words: set[str], alike: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Each word with those of which any stands for it; of those alike the first."""
    found = {frozenset(alike.get(word, (word,))): word for word in sorted(words, reverse=True)}
    return {str(word): these for these, word in sorted(found.items(), key=lambda item: item[1])}
