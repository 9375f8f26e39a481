"""The matrix of tenant, data class and region: its cells, what pins one, and what would happen in those that nothing pins."""

from pathlib import Path

import pytest
from config_documents import AT, changed, load_world
from small_world import NOW, snapshot
from wishes import case

from gateway.config.cases import Case
from gateway.config.check import run_cases
from gateway.coverage.outcomes import called, cells, outcome_coverage
from gateway.coverage.worlds import value_classes

WORLD = snapshot()
CELLS = {
    "clinic, personal, DE", "clinic, personal, FR", "clinic, special, DE", "clinic, special, FR",
    "lab, public, not said (any of 4)", "shop, internal, CN",
}  # fmt: skip
CLINIC = "one/alpha, two/alpha, three/alpha"


def unpinned(*cases: Case) -> set[str]:
    assert [result.differences for result in run_cases(WORLD, cases, NOW)] == [()] * len(cases)
    found = outcome_coverage(WORLD, cases, NOW)
    assert found.total == 6 and found.share.covered == 6 - len(found.unpinned)
    return set(found.share.missing)


def test_countries_that_nothing_tells_apart_are_one_class() -> None:
    """A key of the clinic may say FR, and its tenant's default is DE, so the two are not alike; nothing speaks of the US."""
    assert [sorted(members) for members in value_classes(WORLD, "region")] == [["CN"], ["DE"], ["FR"], ["US"]]


def test_cells_are_those_that_some_key_can_reach() -> None:
    assert unpinned() == CELLS


def test_a_case_pins_the_cell_that_its_facts_lie_in() -> None:
    assert CELLS - unpinned(case("clinic", routes=CLINIC)) == {"clinic, personal, DE"}
    french = case("clinic", declared={"region": "FR", "data_class": "special"}, routes=CLINIC)
    assert CELLS - unpinned(french) == {"clinic, special, FR"}
    assert CELLS - unpinned(case("shop", "beta", refused="no permit")) == {"shop, internal, CN"}


def test_what_is_not_said_is_a_cell_of_its_own() -> None:
    assert CELLS - unpinned(case("lab", routes=f"far/alpha, {CLINIC}")) == {"lab, public, not said (any of 4)"}


@pytest.mark.parametrize(
    "other",
    [
        case("clinic", excluded={"far/alpha": "personal-in-europe, no permit"}),
        case("clinic", declared={"region": "DE, FR"}, routes=CLINIC),
        case("clinic", declared={"region": "CN"}, outside="region"),
    ],
    ids=["says not where it goes", "of two classes", "never decided"],
)
def test_other_cases_pin_nothing(other: Case) -> None:
    assert unpinned(other) == CELLS


def test_what_would_happen_is_told() -> None:
    told = {one.name: one for one in outcome_coverage(WORLD, (), NOW).unpinned}
    shop = told["shop, internal, CN"].as_record()
    assert shop == {
        "tenant": "shop", "data_class": "internal", "region": "CN", "routes": ["far/alpha"], "refused": [],
        "given": {"tenant": "shop", "key": "store", "asked": "auto"},
    }  # fmt: skip
    french = told["clinic, special, FR"]
    assert french.given["data_class"] == "special" and french.given["region"] == ["FR"]
    assert french.routes == ("one/alpha", "one/beta", "two/alpha", "two/beta", "three/alpha")


def test_a_refusal_is_told_with_the_rules_that_refuse(tmp_path: Path) -> None:
    world = load_world(tmp_path, changed("{provider: ours}}", "{provider: zai}}")).snapshot
    assert world is not None
    told = {one.name: one for one in outcome_coverage(world, (), AT).unpinned}
    assert told["lab, internal, not said (any of 249)"].routes == ("zai/glm",)
    assert told["clinic, special, DE"].routes == ("mistral-eu/medium",)
    nothing = load_world(tmp_path, changed("{processed_in: gdpr-space}}", "{processed_in: UK}}")).snapshot
    assert nothing is not None
    refused = {one.name: one for one in outcome_coverage(nothing, (), AT).unpinned}["clinic, special, DE"]
    assert refused.routes == () and set(refused.refused) >= {"personal", "no permit"}


def test_classes_have_names_that_people_know(tmp_path: Path) -> None:
    """AT and DE are apart from the rest, as a key of the clinic may say them alone."""
    world = load_world(tmp_path).snapshot
    assert world is not None
    names = [called(world, members) for members in value_classes(world, "region")]
    assert {"DE", "AT", "CN", "CH", "EU (BE, BG, CY and 22 more)", "EFTA (IS, LI, NO)"} <= set(names)
    assert {cell.region.name for cell in cells(world, AT) if cell.tenant == "clinic"} == {
        "DE", "AT", "EU (BE, BG, CY and 22 more)", "EFTA (IS, LI, NO)",
    }  # fmt: skip
