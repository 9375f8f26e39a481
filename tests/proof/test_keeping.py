"""Verdicts are kept by what was proved and by what proved it, for a day, and what is damaged is proved again."""

import importlib.metadata
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked import CLAIMS, ENDING, STATUSES, Asked, once_more
from proving import GivesUp
from stage import AT, DAY_S, snapshot

from gateway.core.policy import Snapshot
from gateway.proof.gate import VERDICTS
from gateway.proof.judging import proved
from gateway.proof.keeping import FILES_MAX, Kept, prover
from gateway.proof.verdict import Status, Verdict


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(tmp_path_factory.mktemp("policies"), ENDING, claims=CLAIMS)


def kept_file(state: Path) -> Path:
    (path,) = (state / VERDICTS).iterdir()
    return path


# --- kept ---------------------------------------------------------------------------------------------------------------------


def test_what_was_proved_is_read_and_equal_in_all_it_says(tmp_path: Path, made: Snapshot) -> None:
    first, second = Asked(), Asked()
    verdicts = proved(made, AT, tmp_path, first)
    assert {verdict.status for verdict in verdicts} == STATUSES
    assert proved(made, AT + 60, tmp_path, second) == verdicts
    assert (first.times, second.times) == (1, 0)


def test_without_a_state_folder_nothing_is_kept(made: Snapshot) -> None:
    asked = Asked()
    assert proved(made, AT, None, asked) == proved(made, AT, None, asked)
    assert asked.times == 2


def test_it_holds_for_the_day_and_not_before_it_was_found(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT + 3_600, tmp_path, Asked())
    assert not once_more(made, AT + DAY_S - 1, tmp_path)
    assert once_more(made, AT + 60, tmp_path), "a clock that was set back knows of labels that have not ended yet"
    assert once_more(made, AT + DAY_S, tmp_path), "a claim without a day moves on with the days"


def test_it_holds_until_the_first_claim_lapses(tmp_path: Path, made: Snapshot) -> None:
    kept = Kept(tmp_path, "a prover")
    verdicts = tuple(Verdict(claim.id, Status.LAPSES, AT + DAY_S, lapses=AT + 100) for claim in made.policy.claims)
    kept.keep(made, AT, verdicts)
    assert kept.find(made, AT + 99) == verdicts
    assert kept.find(made, AT + 100) is None


def test_what_was_not_decided_is_asked_again(tmp_path: Path, made: Snapshot) -> None:
    gave_up = proved(made, AT, tmp_path, Asked(GivesUp(0)))
    assert {verdict.status for verdict in gave_up} == {Status.UNDECIDED}
    assert once_more(made, AT, tmp_path)
    assert not once_more(made, AT, tmp_path), "and what was decided then is kept"


# --- by what was proved, and by what proved it --------------------------------------------------------------------------------

OTHERS: dict[str, tuple[dict[str, str], str, str]] = {
    "another label": ({**ENDING, "operated_under: [US]": "operated_under: [US, FR]"}, CLAIMS, ""),
    "another rule": (ENDING, CLAIMS, "  - {id: one-more, forbid: {provider: zai}}\n"),
    "another access document": ({**ENDING, "default: internal": "default: public"}, CLAIMS, ""),
    "another claim of that name": (ENDING, CLAIMS.replace("never: {processed_in: FR}", "never: {processed_in: CN}"), ""),
    "a claim on another line": (ENDING, f"\n{CLAIMS}", ""),
    "another day of the label": ({"processed_in: [FR],": ENDING["processed_in: [FR],"].replace("12-10", "12-11")}, CLAIMS, ""),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_changed_policy_is_asked_again(tmp_path: Path, made: Snapshot, other: tuple[dict[str, str], str, str]) -> None:
    changes, claims, rules = other
    proved(made, AT, tmp_path, Asked())
    changed = snapshot(tmp_path / "changed", changes, claims=claims, rules=rules)
    assert once_more(changed, AT, tmp_path)
    assert not once_more(changed, AT, tmp_path) and not once_more(made, AT, tmp_path), "both are kept side by side"


def test_another_prover_asks_again(tmp_path: Path, made: Snapshot) -> None:
    verdicts = proved(made, AT, tmp_path, Asked())
    folder = tmp_path / VERDICTS
    assert Kept(folder, prover()).find(made, AT) == verdicts
    assert Kept(folder, prover().replace("z3 ", "z3 9")).find(made, AT) is None


def test_a_prover_is_named_by_its_versions_and_its_own_text() -> None:
    assert prover().startswith(f"z3 {importlib.metadata.version('z3-solver')}, gateway ")
    assert prover() == prover() and len(prover().rsplit(", ", 1)[1]) == 16


# --- damaged ------------------------------------------------------------------------------------------------------------------


def record(change: Callable[[Any], Any]) -> Callable[[str], str]:
    """Damage that leaves JSON behind."""

    def damage(text: str) -> str:
        found = json.loads(text)
        changed = change(found)
        return json.dumps(found if changed is None else changed)

    return damage


DAMAGES: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "cut short": lambda text: text[: len(text) // 2],
    "no JSON": lambda text: text.replace("{", "<", 1),
    "a list": lambda text: f"[{text}]",
    "null": lambda text: "null",
    "a claim fewer": record(lambda found: found["verdicts"].pop() and None),
    "no claims": record(lambda found: found.update(verdicts=[])),
    "claims in another order": record(lambda found: found["verdicts"].reverse()),
    "a claim by another name": record(lambda found: found["verdicts"][3].update(claim="truer")),
    "a status that is none": record(lambda found: found["verdicts"][1].update(status="fine")),
    "a status that is no text": record(lambda found: found["verdicts"][1].update(status=None)),
    "a field that is missing": record(lambda found: found["verdicts"][0].pop("because") and None),
    "text that is a number": record(lambda found: found["verdicts"][0].update(because=7)),
    "half a counterexample": record(lambda found: found["verdicts"][1]["counterexample"].pop("rules") and None),
    "a counterexample that is text": record(lambda found: found["verdicts"][1].update(counterexample="yes")),
    "no time": record(lambda found: found.update(at=None)),
    "a time that is no number": record(lambda found: found.update(at=float("nan"))),
    "found tomorrow": record(lambda found: found.update(at=AT + DAY_S)),
    "found yesterday": record(lambda found: found.update(at=AT - 1)),
    "another prover in the same file": record(lambda found: found.update(prover="z3 1.0")),
    "other keys": record(lambda found: found["keys"].update(ward=["else", None])),
    "no keys": record(lambda found: found.pop("keys") and None),
    "keys that are text": record(lambda found: found.update(keys="ward")),
    "a key that is a number": record(lambda found: found["keys"].update(ward=7)),
    "no prover": record(lambda found: found.pop("prover") and None),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_believed_and_made_anew(tmp_path: Path, made: Snapshot, damage: Callable[[str], str]) -> None:
    verdicts = proved(made, AT, tmp_path, Asked())
    path = kept_file(tmp_path)
    text = path.read_text()
    path.write_text(damage(text))
    asked = Asked()
    assert proved(made, AT, tmp_path, asked) == verdicts and asked.times == 1
    assert json.loads(path.read_text()) == json.loads(text)


def test_bytes_that_are_no_text_are_not_believed(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT, tmp_path, Asked())
    kept_file(tmp_path).write_bytes(b"\xff\xfe\x00garbage")
    assert once_more(made, AT, tmp_path)


def test_a_folder_where_the_file_should_be_costs_a_proof_and_nothing_else(tmp_path: Path, made: Snapshot) -> None:
    verdicts = proved(made, AT, tmp_path, Asked())
    path = kept_file(tmp_path)
    path.unlink()
    path.mkdir()
    asked = Asked()
    assert proved(made, AT, tmp_path, asked) == verdicts and asked.times == 1


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, made: Snapshot) -> None:
    state = tmp_path / "state"
    state.write_text("a file, and no folder")
    assert {verdict.status for verdict in proved(made, AT, state, Asked())} == STATUSES
    assert state.read_text() == "a file, and no folder"


# --- tidy ---------------------------------------------------------------------------------------------------------------------


def test_only_the_last_so_many_are_kept(tmp_path: Path, made: Snapshot) -> None:
    kept = Kept(tmp_path, "a prover")
    for number in range(FILES_MAX):
        path = tmp_path / f"{number}.json"
        path.write_text("{}")
        os.utime(path, (number, number))
    kept.keep(made, AT, tuple(Verdict(claim.id, Status.PROVED, AT) for claim in made.policy.claims))
    left = {path.name for path in tmp_path.glob("*.json")}
    assert len(left) == FILES_MAX and "0.json" not in left and "1.json" in left
    assert kept.find(made, AT) is not None


def test_nothing_half_written_stays_and_nobody_else_can_read(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT, tmp_path, Asked())
    proved(replace(made, policy=replace(made.policy, hash="of another")), AT, tmp_path, Asked())
    names = [path.name for path in (tmp_path / VERDICTS).iterdir()]
    assert len(names) == 2 and all(name.endswith(".json") and not name.startswith(".") for name in names)
    assert (tmp_path / VERDICTS).stat().st_mode & 0o077 == 0


def test_a_verdict_that_was_turned_is_not_believed(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT, tmp_path, Asked())
    path = kept_file(tmp_path)
    before = path.read_text()
    path.write_text(before.replace('"status": "false"', '"status": "proved"'))
    assert path.read_text() != before and once_more(made, AT, tmp_path)


def test_json_that_is_too_deep_is_not_believed(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT, tmp_path, Asked())
    kept_file(tmp_path).write_text("[" * 200_000)
    assert once_more(made, AT, tmp_path)


def test_a_day_that_no_calendar_has_is_not_believed(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT, tmp_path, Asked())
    found = json.loads(kept_file(tmp_path).read_text())
    found["verdicts"][3]["until"] = 1e300
    kept_file(tmp_path).write_text(json.dumps(found))
    assert once_more(made, AT, tmp_path)
