"""Cases: their words are checked, what is wrong with them keeps no policy from serving, and a difference says wanted and got."""

from pathlib import Path

import pytest
from config_documents import AT, RULES, load_world, mark_in

from gateway.config.check import run_cases
from gateway.config.compile import Loaded

CASE = "- note: a case\n  given: {tenant: clinic, asked: auto}\n  want: {routes: [frankfurt/glm]}\n"

WRONG = [
    ("no list", "¦note: a case\n", "a map", ""),
    ("no note", "- ¦given: {tenant: clinic, asked: auto}\n  want: {routes: [frankfurt/glm]}\n", "without `note`", ""),
    ("an unknown key", CASE.replace("given: {", "given: {¦models: 1, "), "no such key", ""),
    ("an unknown tenant", CASE.replace("clinic", "¦clinc"), "not a tenant", "clinic"),
    ("a key of somebody else", CASE.replace("auto}", "auto, key: ¦notebook}"), "not a key of `clinic`", ""),
    ("an unknown name", CASE.replace("asked: auto", "asked: ¦atuo"), "neither a model nor an alias", "auto"),
    ("an unknown country", CASE.replace("auto}", "auto, region: ¦Germany}"), "neither a country", "DE"),
    ("an unknown class", CASE.replace("auto}", "auto, data_class: ¦privat}"), "not a data class", ""),
    ("an unknown language", CASE.replace("auto}", "auto, language: ¦xx}"), "not a language", ""),
    ("an unknown ability", CASE.replace("auto}", "auto, abilities: [¦visio]}"), "an ability", "vision"),
    ("an unknown deployment", CASE.replace("frankfurt/glm", "¦frankfurt/gml"), "not a deployment", "frankfurt/glm"),
    ("an unknown reason", CASE.replace("routes: [frankfurt/glm]", "refused: [¦no-permit]"), "not a reason", "no permit"),
    ("an unknown rule", CASE.replace("routes: [frankfurt/glm]", "excluded: {zai/glm: [¦persnal]}"), "not a reason", "personal"),
    ("both ways", CASE.replace("{routes", "¦{refused: [personal], routes"), "`routes` and `refused`", ""),
    ("a day that is none", CASE.replace("auto}", "auto, at: ¦2027-02-30}"), "does not exist", ""),
    ("nothing wanted", CASE.replace("{routes: [frankfurt/glm]}", "¦{}"), "an empty map", ""),
]


def with_cases(folder: Path, text: str) -> Loaded:
    return load_world(folder, {"cases/some.yaml": text})


@pytest.mark.parametrize(("text", "told", "nearest"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_with_a_case_is_told_and_the_policy_loads(tmp_path: Path, text: str, told: str, nearest: str) -> None:
    loaded = with_cases(tmp_path, text)
    assert loaded.snapshot is not None
    assert loaded.problems == ()
    assert loaded.cases == (), "what is not understood is not run"
    (problem,) = loaded.case_problems
    assert told in str(problem)
    assert problem.nearest == nearest
    name, line, column = mark_in({"cases/some.yaml": text})
    assert (problem.file, problem.line, problem.column) == (str(tmp_path / name), line, column)


def differences(folder: Path, given: str, want: str) -> str:
    loaded = with_cases(folder, f"- note: n\n  given: {given}\n  want: {want}\n")
    assert loaded.case_problems == ()
    assert loaded.snapshot is not None
    (result,) = run_cases(loaded.snapshot, loaded.cases, AT)
    assert result.passed == (not result.differences)
    assert result.as_record()["line"] == "cases/some.yaml:1"
    return " ".join(result.differences)


CLINIC = "{tenant: clinic, asked: auto}"


def test_a_case_that_comes_as_wanted(tmp_path: Path) -> None:
    want = "{routes: [mistral-eu/medium], excluded: {zai/glm: [no-china, no permit, personal]}}"
    assert differences(tmp_path, CLINIC, want) == ""


@pytest.mark.parametrize(
    ("given", "want", "told"),
    [
        (CLINIC, "{routes: [zai/glm]}", "wanted routes: zai/glm; got: mistral-eu/medium"),
        (CLINIC, "{refused: [personal]}", "wanted a refusal (personal); got routes: mistral-eu/medium"),
        (CLINIC, "{excluded: {mistral-eu/medium: [personal]}}", "it is a route"),
        (CLINIC, "{excluded: {zai/glm: [personal]}}", "got: no permit, no-china, personal"),
        (CLINIC, "{outside: region}", "wanted `region` to lie outside"),
        ("{tenant: clinic, asked: glm}", "{refused: [no permit]}", "wanted refused: no permit; got: no permit, no-china, personal"),
        ("{tenant: clinic, asked: auto, data_class: public}", "{routes: [zai/glm]}", "wanted a decision, got: "),
        ("{tenant: clinic, asked: auto, data_class: public}", "{outside: region}", "wanted `region` to lie outside, got: "),
    ],
)
def test_a_difference_says_what_was_wanted_and_what_came(tmp_path: Path, given: str, want: str, told: str) -> None:
    assert told in differences(tmp_path, given, want)


@pytest.mark.parametrize(
    ("routes", "passes"),
    [
        ("[frankfurt/glm, mistral-eu/medium, zai/glm]", True),
        ("[mistral-eu/medium, frankfurt/glm, zai/glm]", False),
        ("[frankfurt/glm, mistral-eu/medium]", False),
    ],
)
def test_routes_are_the_whole_list_in_order(tmp_path: Path, routes: str, passes: bool) -> None:
    """By hand: cost and half the score, each from 0 to 1: frankfurt 0 + 0.5, medium 1 + 0, glm at Z.ai about 0.55 + 0.5."""
    everything = RULES.replace("permit: {provider: ours}", "permit: {}")
    cases = f"- {{note: n, given: {{tenant: lab, asked: auto}}, want: {{routes: {routes}}}}}\n"
    loaded = load_world(tmp_path, {"rules.yaml": everything, "cases/some.yaml": cases})
    assert loaded.snapshot is not None
    (result,) = run_cases(loaded.snapshot, loaded.cases, AT)
    assert result.passed is passes, result.differences


def test_a_case_has_a_time_of_its_own(tmp_path: Path) -> None:
    """The label of Mistral's endpoint is good through 2027-05-20, the assurance longer."""
    assert differences(tmp_path, "{tenant: clinic, asked: medium, at: 2027-05-20T23:59:59Z}", "{routes: [mistral-eu/medium]}") == ""
    assert differences(tmp_path, "{tenant: clinic, asked: medium, at: 2027-05-21}", "{refused: [personal, no permit]}") == ""


def test_a_key_narrows_what_its_tenant_may_say(tmp_path: Path) -> None:
    assert differences(tmp_path, "{tenant: clinic, key: ward-3, asked: medium, region: FR}", "{routes: [mistral-eu/medium]}") == ""
    assert differences(tmp_path, "{tenant: clinic, key: ward-4, asked: medium, region: FR}", "{outside: region}") == ""


def test_a_language_that_nothing_names_is_known_and_no_other(tmp_path: Path) -> None:
    loaded = with_cases(tmp_path, CASE.replace("auto}", "auto, language: sw}"))
    assert loaded.case_problems == ()
    assert loaded.cases[0].given.language == {"other"}


def test_no_folder_of_cases_is_no_case(tmp_path: Path) -> None:
    assert load_world(tmp_path).cases == ()
