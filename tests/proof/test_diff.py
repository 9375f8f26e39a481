"""What one policy changes against another: each sentence has a request that, asked of both, is treated otherwise in that way."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from stage import AT, snapshot, written

from gateway.__main__ import main
from gateway.core.answer import Problem
from gateway.core.policy import Snapshot
from gateway.proof.diff import (
    ANSWER_TOKENS,
    DEARER,
    EXAMPLES_MAX,
    MOVED,
    NEWLY_ALLOWED,
    NEWLY_REFUSED,
    Change,
    Difference,
    difference,
)
from gateway.proof.solver import Z3
from gateway.question import PROMPT_TOKENS, decision

AMERICA = "  - {id: america, when: {region: [EEA, US], data_class: {at_most: internal}}, permit: {processed_in: US}}\n"
CHEAPEST = "{id: cheapest, rank: {cost: 1}}"
VIRGINIA = "medium: {price: {input: 1, output: 3}}"

Edit = tuple[dict[str, str], str]  # texts that are replaced, and rules that come on top
CHANGES: dict[str, Edit] = {
    "a permit more": ({"[EEA, US]}}": "[EEA, US, CN]}}"}, "  - {id: x, when: {tenant: office}, permit: {processed_in: CN}}\n"),
    "a permit less": ({AMERICA: ""}, ""),
    "a forbid more": ({}, "  - {id: x, when: {tenant: office, region: US}, forbid: {processed_in: [FR, US]}}\n"),
    "one that binds the gateway": ({}, "  - {id: x, when: {categories: [health]}, forbid: {processed_in: DE}}\n"),
    "a require less": ({"  - {id: patients, when: {categories: [health]}, require: {provider: ours}}\n": ""}, ""),
    "a key by another name": ({"id: ward,": "id: ward-2,"}, ""),
    "less to declare": ({"within: [DE, US], default: DE": "within: [DE], default: DE"}, ""),
    "more to declare": ({"within: [DE, US], default: DE": "within: [DE, US, CN], default: DE"}, ""),
    "another default": ({"default: internal": "default: public"}, ""),
    "an alias less": ({"aliases: {auto: [medium, glm]}": "aliases: {other: [medium, glm]}"}, ""),
    "a smaller alias": ({"auto: [medium, glm]": "auto: [medium]"}, ""),
    "a place that moved": ({"processed_in: [FR],": "processed_in: [ES],"}, ""),
    "a place nobody vouches for": ({"processed_in: [FR],": "processed_in: anywhere,"}, ""),
    "a place switched off": ({"{provider: zai, ": "{provider: zai, enabled: false, "}, ""),
    "a dearer place": ({VIRGINIA: VIRGINIA.replace("1,", "1.5,")}, ""),
    "a cheaper place": ({VIRGINIA: VIRGINIA.replace("1,", "0.5,")}, ""),
    "another preference": ({CHEAPEST: "{id: best, rank: {score.coding: 1}}"}, ""),
}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(tmp_path_factory.mktemp("old"))


def compared(old: Snapshot, folder: Path, changes: dict[str, str], rules: str = "") -> tuple[Snapshot, Difference]:
    """The changed policy, and what is told of it."""
    new = snapshot(folder / "new", changes, rules=rules)
    return new, difference(old, new, AT, Z3)


def kinds(found: Difference) -> set[tuple[str, str]]:
    return {(change.kind, change.tenant) for change in found.changes}


# --- asked of both ------------------------------------------------------------------------------------------------------------


def routes(of: Snapshot, question: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Where a request goes, best first; None if it can't be asked."""
    try:
        return tuple(route.deployment.id for route in decision(of, question).routes)
    except Problem:
        return None


def countries(of: Snapshot, place: str) -> frozenset[str]:
    (found,) = (d for d in of.policy.deployments if d.id == place)
    return found.processed_in.countries or frozenset({"?"})


def usd(of: Snapshot, place: str) -> float:
    (found,) = (d for d in of.policy.deployments if d.id == place)
    return found.tariff.estimate_usd(PROMPT_TOKENS, ANSWER_TOKENS)


def really(change: Change, old: Snapshot, new: Snapshot) -> bool:
    """Whether the example of a change, asked of both, is treated otherwise in the way that its kind says."""
    before, after = routes(old, change.example), routes(new, change.example)
    assert (before or (), after or ()) == (change.before, change.after), "what it tells of its example is what comes"
    if change.kind == NEWLY_ALLOWED:
        gained = set(after or ()) - set(before or ())
        return bool(gained) and any(place in change.sentence for place in gained)
    if change.kind == NEWLY_REFUSED:
        return bool(before) and not after
    if not before or not after:
        return False
    there, _, here = change.sentence.partition(", and went to " if change.kind == MOVED else " instead of $")
    if change.kind == DEARER:
        there = here.split(" instead of ")[0]
    first = [place for place in after if place in there]  # equals share the load: all of them come first
    if after[0] not in first:
        return False
    if change.kind == MOVED:
        return bool(frozenset[str]().union(*(countries(new, place) for place in first)) - countries(old, before[0]))
    dearest = max(usd(new, place) for place in first)
    return dearest > usd(old, before[0]) and f"about ${dearest:.6f} instead of ${usd(old, before[0]):.6f}" in change.sentence


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_example_is_really_treated_otherwise(tmp_path: Path, old: Snapshot, change: Edit) -> None:
    new, found = compared(old, tmp_path, *change)
    assert found.left_off == ()
    for one in found.changes:
        assert really(one, old, new), f"{one.sentence}: {one.before} {one.after}"
        assert one.sentence.startswith(f"`{one.tenant}`, asking `{one.example['asked']}`")


# --- nothing is left out --------------------------------------------------------------------------------------------------------

# what each tenant may declare, now or after some change: None, nothing
SAYINGS: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
    "clinic": ([None, ["DE"], ["FR"], ["DE", "FR"]], [None, "personal", "special"], [None, [], ["health"]]),
    "office": ([None, ["DE"], ["US"], ["CN"], ["DE", "US"], ["US", "CN"]], [None, "public", "internal"], [None]),
    "lab": ([None], [None, "public"], [None]),
}


def requests() -> Iterator[dict[str, Any]]:
    """Every kind of request that can be made of one of these policies."""
    keys = {"clinic": ("ward", "ward-2"), "office": ("desk",), "lab": ("notebook",)}
    for tenant, sayings in SAYINGS.items():
        for key, asked, *said in itertools.product(keys[tenant], ("auto", "other", "medium", "glm"), *sayings):
            declared = zip(("region", "data_class", "categories"), said, strict=True)
            yield {"tenant": tenant, "key": key, "asked": asked, **{fact: value for fact, value in declared if value is not None}}


@pytest.fixture(scope="module")
def before_all(old: Snapshot) -> list[tuple[str, ...]]:
    """Where each of `requests` went."""
    return [routes(old, asked) or () for asked in requests()]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_newly_allowed_and_newly_refused_are_complete(
    tmp_path: Path, old: Snapshot, before_all: list[tuple[str, ...]], change: Edit
) -> None:
    new, found = compared(old, tmp_path, *change)
    wanted = set()
    gained: dict[str, set[str]] = {}
    for asked, before in zip(requests(), before_all, strict=True):
        after = routes(new, asked) or ()
        if more := set(after) - set(before):
            gained.setdefault(asked["tenant"], set()).update(more)
            wanted.add((NEWLY_ALLOWED, asked["tenant"]))
        if before and not after:
            wanted.add((NEWLY_REFUSED, asked["tenant"]))
    assert {pair for pair in kinds(found) if pair[0] in (NEWLY_ALLOWED, NEWLY_REFUSED)} == wanted
    for tenant, places in gained.items():
        sentences = "".join(one.sentence for one in found.changes if (one.kind, one.tenant) == (NEWLY_ALLOWED, tenant))
        told = sum(place in sentences for place in places) + sum(map(int, re.findall(r" and (\d+) more, let", sentences)))
        assert told >= len(places), "each place is told, or counted where a sentence would get too long"


# --- each kind, in its words ----------------------------------------------------------------------------------------------------


def sentences(old: Snapshot, folder: Path, name: str) -> list[tuple[str, str]]:
    _, found = compared(old, folder, *CHANGES[name])
    return [(change.kind, change.sentence) for change in found.changes]


def test_newly_allowed_names_the_place_its_country_and_the_permit(tmp_path: Path, old: Snapshot) -> None:
    assert sentences(old, tmp_path, "a permit more") == [(
        NEWLY_ALLOWED, "`office`, asking `glm`, may now go to beijing/glm (in CN), let through by x; it went elsewhere before",
    )]  # fmt: skip


def test_newly_refused_names_the_rule(tmp_path: Path, old: Snapshot) -> None:
    assert sentences(old, tmp_path, "a forbid more") == [
        (NEWLY_REFUSED, "`office`, asking `medium` (region: US), is refused now: x")
    ]


def test_what_can_no_longer_be_said_is_refused_too(tmp_path: Path, old: Snapshot) -> None:
    assert sentences(old, tmp_path, "less to declare") == [
        (NEWLY_REFUSED, "`office`, asking `glm` (region: US), can no longer ask so: its key may not say region US")
    ]
    told = sentences(old, tmp_path / "key", "a key by another name")
    assert (NEWLY_REFUSED, "`clinic`, asking `glm`, can no longer ask so: there is no key `ward` any more") in told
    assert any(kind == NEWLY_ALLOWED and sentence.endswith("it could not ask so before") for kind, sentence in told)


def test_moved_names_both_countries(tmp_path: Path, old: Snapshot) -> None:
    assert sentences(old, tmp_path, "a place that moved") == [
        (MOVED, "`clinic`, asking `medium`, goes to paris/medium (in ES) first, and went to paris/medium (in FR)")
    ]


def test_dearer_names_both_prices_and_cheaper_is_no_news(tmp_path: Path, old: Snapshot) -> None:
    told = sentences(old, tmp_path, "a dearer place")
    words = "`lab`, asking `medium`, costs about $0.001650 instead of $0.001600 at virginia/medium (in US)"
    assert (DEARER, words) in told and {kind for kind, _ in told} == {DEARER}
    assert sentences(old, tmp_path / "cheaper", "a cheaper place") == []


def test_a_place_that_is_gone_moves_what_went_there_and_makes_it_dearer(tmp_path: Path, old: Snapshot) -> None:
    _, found = compared(old, tmp_path, *CHANGES["a permit less"])
    assert kinds(found) == {(NEWLY_REFUSED, "office"), (MOVED, "office"), (DEARER, "office")}


def test_what_is_told_comes_by_kind_the_worst_first(tmp_path: Path, old: Snapshot) -> None:
    rules = "  - {id: x, when: {tenant: clinic, region: FR}, forbid: {processed_in: [DE, FR]}}\n"
    changes = {"[EEA, US]}}": "[EEA, US, CN]}}", VIRGINIA: VIRGINIA.replace("1,", "1.5,")}
    permit = "  - {id: y, when: {tenant: office}, permit: {processed_in: CN}}\n"
    _, found = compared(old, tmp_path, changes, rules + permit)
    told = [kind for kind, _ in itertools.groupby(change.kind for change in found.changes)]
    assert told == [NEWLY_ALLOWED, NEWLY_REFUSED, DEARER]


# --- nothing --------------------------------------------------------------------------------------------------------------------

EQUAL: dict[str, Edit] = {
    "equal to the letter": ({}, ""),
    "rules in another order": (
        {AMERICA: "", "preferences:\n": f"{AMERICA}preferences:\n"}, ""
    ),
    "a rule by another name": ({"id: patients": "id: health-stays-here"}, ""),
    "another reason": ({"require: {provider: ours}}": "require: {provider: ours}, because: the contract}"}, ""),
    "a rule that changes nothing": ({}, "  - {id: x, when: {tenant: lab}, permit: {processed_in: CN}}\n"),
    "a model that no place serves": ({"aliases:": "  huge: {origin: [FR], context: 1000}\naliases:"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("change", EQUAL.values(), ids=EQUAL)
def test_of_policies_that_treat_all_requests_alike_nothing_is_told(tmp_path: Path, old: Snapshot, change: Edit) -> None:
    _, found = compared(old, tmp_path, *change)
    assert found == Difference(())


def test_back_again_what_was_allowed_is_refused(tmp_path: Path, old: Snapshot) -> None:
    new, there = compared(old, tmp_path, *CHANGES["a permit less"])
    back = difference(new, old, AT, Z3)
    assert (NEWLY_REFUSED, "office") in kinds(there) and (NEWLY_ALLOWED, "office") in kinds(back)
    assert not {kind for kind, _ in kinds(back)} & {NEWLY_REFUSED, DEARER}


def test_of_many_examples_a_few_are_told(tmp_path: Path, old: Snapshot) -> None:
    rules = "  - {id: x, permit: {}}\n"
    _, found = compared(old, tmp_path, {"[EEA, US]}}": "[EEA, US, CN]}}", "operated_under: EEA, ": ""}, rules)
    told = [change for change in found.changes if change.kind == NEWLY_ALLOWED]
    assert told and all(sum(one.tenant == change.tenant for one in told) <= EXAMPLES_MAX + 1 for change in told)


# --- the command --------------------------------------------------------------------------------------------------------------


def test_the_command_says_so_with_examples_and_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, same = str(written(tmp_path / "old")), str(written(tmp_path / "same"))
    after = str(written(tmp_path / "new", CHANGES["a permit less"][0]))
    assert main(["policy", "diff", before, same]) == 0
    assert capsys.readouterr().out == "no request is treated otherwise\n"
    assert main(["policy", "diff", before, after]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "newly refused:" and '"region": ["US"]' in told[2]
    assert main(["policy", "diff", before, after, "--json"]) == 1
    assert {change["kind"] for change in json.loads(capsys.readouterr().out)["changes"]} == {NEWLY_REFUSED, MOVED, DEARER}
    assert main(["policy", "diff", before, str(tmp_path / "nowhere")]) == 2
