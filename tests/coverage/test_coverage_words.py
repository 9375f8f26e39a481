"""Which refusals and reasons occur: counted by hand on a small world, and against every request one by one."""

import itertools
from pathlib import Path

from config_documents import AT, load_world
from small_world import NOW, snapshot
from wishes import case

from gateway.config.cases import Case
from gateway.config.check import run_cases
from gateway.core.decide import decide
from gateway.core.live import ALL_WELL
from gateway.core.view import View
from gateway.coverage.needing import kinds_of_need, with_needs
from gateway.coverage.words import exclusion_coverage, occurring, refusal_coverage
from gateway.coverage.worlds import requests, widest_name
from gateway.proof.universe import Sending, facts_of, names, said

WORLD = snapshot()
OCCURRING = occurring(WORLD, NOW)
NEEDS = {"needs: audio", "needs: embeddings", "needs: context", "needs: remote_content", "needs: tool code_interpreter"}
FENCES = {
    "outside: region (clinic)", "outside: data_class (clinic)", "outside: region (clinic, key french)",
    "outside: region (lab)", "outside: data_class (lab)", "outside: region (shop)", "outside: data_class (shop)",
}  # fmt: skip


def refusals_missing(*cases: Case) -> set[str]:
    assert all(result.passed for result in run_cases(WORLD, cases, NOW))
    return set(refusal_coverage(OCCURRING, cases).missing)


def exclusions_missing(*cases: Case) -> set[str]:
    assert all(result.passed for result in run_cases(WORLD, cases, NOW))
    return set(exclusion_coverage(OCCURRING, cases).missing)


def test_what_occurs_in_the_small_world_by_hand() -> None:
    """All is chat and completions, with functions and pictures, in windows of 100,000; nothing is switched off or limited."""
    assert set(OCCURRING.refusals) == {"no permit", "personal-in-europe", *NEEDS}
    assert set(OCCURRING.exclusions) == {"no permit", "not asked", "personal-in-europe", *NEEDS}
    assert {fence.name for fence in OCCURRING.fences} == FENCES
    assert refusal_coverage(OCCURRING, ()).total == 14 and exclusion_coverage(OCCURRING, ()).total == 8


def test_needs_that_nothing_tells_apart_are_one() -> None:
    assert OCCURRING.exclusions["needs: audio"] == {"needs: audio", "needs: reasoning"}
    assert OCCURRING.exclusions["needs: embeddings"] == {f"needs: {api}" for api in ("embeddings", "messages", "responses")}


def test_a_refusal_is_covered_by_a_case_that_wants_it() -> None:
    assert "no permit" in refusals_missing()
    assert "no permit" not in refusals_missing(case("shop", "beta", refused="no permit"))


def test_an_exclusion_beside_routes_is_no_refusal() -> None:
    named = case("clinic", excluded={"far/alpha": "personal-in-europe, no permit"})
    assert exclusions_missing(named) == {"not asked", *NEEDS}
    assert {"no permit", "personal-in-europe"} <= refusals_missing(named)


def test_a_fence_is_covered_by_a_case_of_its_own_tenant() -> None:
    clinic = case("clinic", declared={"data_class": "public"}, outside="data_class")
    assert FENCES - refusals_missing(clinic) == {"outside: data_class (clinic)"}
    lab = case("lab", declared={"region": "DE"}, outside="region")
    assert FENCES - refusals_missing(lab) == {"outside: region (lab)"}


def test_the_fence_of_a_key_is_not_that_of_its_tenant() -> None:
    """Beyond the tenant's own fence, a case says nothing of the narrower one, and inside it nothing of the wider one."""
    beyond = case("clinic", key="french", declared={"region": "US"}, outside="region")
    assert FENCES - refusals_missing(beyond) == {"outside: region (clinic)"}
    between = case("clinic", key="french", declared={"region": "DE"}, outside="region")
    assert FENCES - refusals_missing(between) == {"outside: region (clinic, key french)"}


def test_few_requests_stand_for_all_of_them() -> None:
    """Of the clinic, the lab and the shop: both models, or one."""
    assert len(requests(WORLD, NOW)) == 9
    assert widest_name(WORLD.policy) == "auto"


def _declared(within: frozenset[str] | None) -> list[frozenset[str] | None]:
    return [None, *(frozenset((value,)) for value in sorted(within or ()))]


def test_every_word_that_any_request_meets_is_found(tmp_path: Path) -> None:
    """Each key, each name, each country and class that may be declared or not, with each need: asked one by one."""
    world = load_world(tmp_path).snapshot
    assert world is not None
    view, refusals, exclusions = View(world, AT), set(), set()
    for key, name in itertools.product(world.access.keys.values(), names((world.policy,))):
        regions, data_classes = (_declared(said(world, key, fact).within) for fact in ("region", "data_class"))
        for region, data_class in itertools.product(regions, data_classes):
            declared = {fact: found for fact, found in (("region", region), ("data_class", data_class)) if found is not None}
            sending = Sending(key.id, name, declared)
            facts = facts_of(world, sending)
            for need in kinds_of_need(world.policy):
                needs = need.needs(sending)
                decision = decide(view, with_needs(facts, needs), needs, ALL_WELL, 0)
                exclusions |= {reason.word for found in decision.exclusions.values() for reason in found}
                refusals |= set() if decision.routes else set(decision.refusing_rules)
    found = occurring(world, AT)
    assert refusals - {word for alike in found.refusals.values() for word in alike} == set()
    assert exclusions - {word for alike in found.exclusions.values() for word in alike} == set()
    assert refusals >= set(found.refusals) and exclusions >= set(found.exclusions)
