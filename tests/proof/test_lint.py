"""What is well written and surely not meant is told with its line; and what is near it, and meant, is not."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stage import AT, loaded

from gateway.__main__ import main
from gateway.proof.judging import linted

SHIPPED = Path(__file__).resolve().parents[2] / "policies"


def warnings(folder: Path, changes: dict[str, str], rules: str = "", cases: str = "") -> list[str]:
    """What is told of the policy of `stage` with something else in it, a line each, without the folder."""
    found = loaded(folder, changes, rules=rules, cases=cases)
    return [str(problem).removeprefix(f"{folder}/") for problem in linted(found, folder, AT)]


@dataclass(frozen=True)
class Slip:
    """A policy with one thing in it that surely is not meant, and one near it in which it may be."""

    text: str  # what is told of it; of what else it makes idle, more may be
    rules: str = ""
    changes: dict[str, str] = field(default_factory=dict)
    near: str = ""  # rules
    near_changes: dict[str, str] = field(default_factory=dict)


NEVER = "no request that any key can make matches it"
NOTHING = "it changes nothing: "
BY_PERMITS = f"{NOTHING}other permits cover whatever it lets through, or other rules take it away"
BY_OTHERS = f"{NOTHING}other rules take away whatever it does"
UNDECIDED = "it never decides: what it would part is parted before, or never allowed together"
UNREACHED = "no request can reach it: no permit covers it for anybody, or other rules take it away"
PUBLIC = "  - {id: public, when: {data_class: {at_most: public}}, permit: {}}\n"
ABROAD = "require: {processed_in: [EEA, US]}}"
CHEAPEST = "  - {id: cheapest, rank: {cost: 1}}\n"

SLIPS = {
    "a forbid that nobody's requests match": Slip(
        f"rules.yaml:2:1: the forbid `x`: {NEVER}",
        "  - {id: x, when: {tenant: clinic, region: CN}, forbid: {model: glm}}\n",
        near="  - {id: x, when: {tenant: clinic, region: FR}, forbid: {model: glm}}\n",
    ),
    "a permit that nobody's requests surely match": Slip(  # the lab's may be of Japan, which is not enough for a permit
        f"rules.yaml:2:1: the permit `x`: {NEVER}",
        "  - {id: x, when: {region: JP}, permit: {processed_in: CN}}\n",
        near="  - {id: x, when: {region: US}, permit: {processed_in: EEA}}\n",
    ),
    "a permit that others cover": Slip(
        f"rules.yaml:2:1: the permit `x`: {BY_PERMITS}",
        "  - {id: x, when: {tenant: lab}, permit: {processed_in: CN}}\n",
        near="  - {id: x, when: {region: US, data_class: {at_most: internal}}, permit: {processed_in: FR}}\n",
    ),
    "a permit that a require takes away": Slip(
        f"rules.yaml:2:1: the permit `x`: {BY_PERMITS}",
        "  - {id: x, when: {tenant: clinic}, permit: {processed_in: CN}}\n",
        near="  - {id: x, when: {tenant: office}, permit: {processed_in: FR}}\n",
    ),
    "a require that all places meet": Slip(
        f"rules.yaml:2:1: the require `x`: {NOTHING}everything in the catalogue meets it",
        "  - {id: x, when: {tenant: lab}, require: {processed_in: [EEA, US, CN]}}\n",
        near="  - {id: x, when: {tenant: lab}, require: {processed_in: [EEA, US]}}\n",
    ),
    "a forbid that hits no place": Slip(
        f"rules.yaml:2:1: the forbid `x`: {NOTHING}it hits nothing in the catalogue",
        "  - {id: x, forbid: {processed_in: JP}}\n",
        near="  - {id: x, when: {tenant: lab}, forbid: {processed_in: [US, JP]}}\n",
    ),
    "a forbid that hits a label only when it has ended": Slip(
        f"rules.yaml:2:1: the forbid `x`: {NOTHING}it hits nothing in the catalogue",
        "  - {id: x, forbid: {processed_in: JP}}\n",
        near="  - {id: x, forbid: {processed_in: JP}}\n",
        near_changes={
            "processed_in: [FR],": "processed_in: {countries: [FR], source: docs, verified: 2026-11-01, until: 2026-12-10},"
        },
    ),
    "a forbid that does what another does": Slip(
        f"rules.yaml:2:1: the forbid `x`: {BY_OTHERS}",
        "  - {id: x, when: {tenant: clinic}, forbid: {processed_in: CN}}\n",
        near="  - {id: x, when: {tenant: lab}, forbid: {processed_in: CN}}\n",
    ),
    "a deployment that nothing reaches": Slip(
        f"catalogue.yaml:13:1: the deployment `beijing/glm`: {UNREACHED}",
        changes={PUBLIC: ""},
        near_changes={PUBLIC: PUBLIC.replace("permit: {}", "permit: {model: glm}")},
    ),
    "a key that is never served": Slip(
        "tenants.yaml:8:14: the key `ward` of `clinic`: no request of it is ever served, whatever it asks and declares",
        "  - {id: x, when: {tenant: clinic}, forbid: {processed_in: EEA}}\n",
        near="  - {id: x, when: {tenant: clinic}, forbid: {processed_in: FR}}\n",
    ),
    "what a key may declare and is never served for": Slip(
        "tenants.yaml:15:14: the key `desk` of `office`: it may declare region `US`, and then is never served; "
        "if that is meant, write a case that wants it",
        "  - {id: x, when: {tenant: office, region: US}, forbid: {processed_in: [EEA, US, CN]}}\n",
        near="  - {id: x, when: {tenant: office, region: US}, forbid: {processed_in: [FR, US, CN]}}\n",
    ),
    "a preference that nobody's requests match": Slip(
        f"rules.yaml:10:1: the preference `x`: {NEVER}",
        changes={CHEAPEST: "  - {id: x, when: {tenant: clinic, region: CN}, prefer: {model: glm}}\n" + CHEAPEST},
        near_changes={CHEAPEST: "  - {id: x, when: {tenant: clinic, region: FR}, prefer: {model: glm}}\n" + CHEAPEST},
    ),
    "a preference for what is never allowed": Slip(
        f"rules.yaml:10:1: the preference `x`: {UNDECIDED}",
        changes={CHEAPEST: "  - {id: x, when: {tenant: clinic}, prefer: {provider: zai}}\n" + CHEAPEST},
        near_changes={CHEAPEST: "  - {id: x, when: {tenant: lab}, prefer: {provider: zai}}\n" + CHEAPEST},
    ),
    "a preference after one that leaves nothing equal": Slip(
        f"rules.yaml:11:1: the preference `x`: {UNDECIDED}",
        changes={CHEAPEST: CHEAPEST + "  - {id: x, prefer: {provider: ours}}\n"},
        near_changes={CHEAPEST: CHEAPEST + "  - {id: x, rank: {score.coding: 1}}\n"},  # two models in one place at one price
    ),
    "a permit for which no require answers": Slip(
        "rules.yaml:5:1: the permit `america`: wider than any require: none answers for `virginia/medium`, "
        "given {tenant: office, key: desk, asked: auto}",
        changes={ABROAD: "forbid: {processed_in: CN}}"},
        near_changes={ABROAD: "require: {operated_under: [EEA, US]}}"},
    ),
}  # fmt: skip


def test_of_the_policy_that_all_these_start_from_nothing_is_told(tmp_path: Path) -> None:
    assert warnings(tmp_path, {}) == []


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_it_is_told_with_its_line(tmp_path: Path, slip: Slip) -> None:
    assert slip.text in warnings(tmp_path, slip.changes, slip.rules)


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_what_is_near_it_is_not(tmp_path: Path, slip: Slip) -> None:
    _, subject, _ = slip.text.split(": ", 2)
    assert [text for text in warnings(tmp_path, slip.near_changes, slip.near) if subject in text] == []


# --- what cases say is meant --------------------------------------------------------------------------------------------------

UNSERVED = SLIPS["what a key may declare and is never served for"]
REFUSED = "- note: not for Americans\n  given: {tenant: office, asked: glm, region: US}\n  want: {refused: [%s]}\n"


def test_a_refusal_that_a_case_wants_is_meant(tmp_path: Path) -> None:
    assert UNSERVED.text not in warnings(tmp_path, {}, UNSERVED.rules, REFUSED % "x, no permit")


@pytest.mark.parametrize("change", [("region: US", "region: DE"), ("tenant: office", "tenant: lab"), (", region: US", "")])
def test_a_refusal_of_something_else_is_not_that(tmp_path: Path, change: tuple[str, str]) -> None:
    case = (REFUSED % "x").replace(*change)
    if "tenant: lab" in case:
        case = case.replace(", region: US", "")
    assert UNSERVED.text in warnings(tmp_path, {}, UNSERVED.rules, case)


# --- as of one instant, and all at once ---------------------------------------------------------------------------------------


def test_several_are_told_at_once_in_the_order_of_their_places(tmp_path: Path) -> None:
    rules = SLIPS["a require that all places meet"].rules + "  - {id: y, when: {region: JP}, permit: {provider: zai}}\n"
    assert [text.partition(" the ")[2].partition(":")[0] for text in warnings(tmp_path, {}, rules)] == ["require `x`", "permit `y`"]


def test_where_nobody_can_ask_nothing_is_told(tmp_path: Path) -> None:
    keys = ("ward", "desk", "notebook")
    expired = {f"{{id: {key}, demo: true}}": f"{{id: {key}, demo: true, expires: 2026-01-01}}" for key in keys}
    assert warnings(tmp_path, expired, SLIPS["a forbid that hits no place"].rules) == []


def test_of_the_shipped_policy_nothing_is_told_and_check_tells_what_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "policies")
    assert main(["policy", "check", "--policies", str(folder)]) == 0
    assert "changes nothing" not in capsys.readouterr().out
    path = folder / "residency.yaml"
    path.write_text(path.read_text() + "  - {id: more-of-it, when: {tenant: clinic, region: JP}, forbid: {provider: zai}}\n")
    line = len(path.read_text().splitlines())
    assert main(["policy", "check", "--policies", str(folder)]) == 0, "a warning keeps nothing from serving"
    assert f"residency.yaml:{line}:1: the forbid `more-of-it`: {NEVER}" in capsys.readouterr().out
