"""The command line: what it prints, and its exit codes (0 yes, 1 no, 2 could not be asked)."""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.__main__ import main, parser
from gateway.wire.identity import shown

ROOT = Path(__file__).resolve().parent.parent
POLICIES = str(ROOT / "policies")


def test_the_shipped_policy_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "--policies", POLICIES, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == [] and told["warnings"] == []
    assert len(told["cases"]) > 20 and all(case["passed"] for case in told["cases"])
    assert len(told["claims"]) > 3 and all(claim["status"] == "proved" for claim in told["claims"])


def test_a_mistake_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in Path(POLICIES).glob("*.yaml"):
        text = file.read_text().replace("permit: {provider: ours}", "permit: {providr: ours}")
        (tmp_path / file.name).write_text(text)
    assert main(["policy", "check", "--policies", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "residency.yaml:" in out and "did you mean `provider`?" in out


def test_explain_says_yes_no_and_can_not_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["policy", "explain", "--policies", POLICIES, "--tenant"]
    assert main([*ask, "clinic", "--asked", "auto"]) == 0
    assert "frankfurt/glm-5.1" in capsys.readouterr().out
    assert main([*ask, "clinic", "--asked", "mistral-medium-3.5"]) == 1
    assert "patients-on-our-machines" in capsys.readouterr().out
    assert main([*ask, "nobody", "--asked", "auto"]) == 2
    assert "no tenant" in capsys.readouterr().err
    assert main([*ask[:-1], "--asked", "auto"]) == 2
    assert "`tenant` or `key` is missing" in capsys.readouterr().err
    assert main([*ask, "clinic", "--asked", "auto", "--region", "US"]) == 2
    assert "may declare" in capsys.readouterr().err


def test_explain_takes_a_whole_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {
        "key": "letters",
        "headers": {"x-gateway-data-class": "internal"},
        "body": {"model": "auto", "messages": [{"role": "user", "content": "请写一封信"}]},
    }
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request))
    assert main(["policy", "explain", "--policies", POLICIES, "--request", str(path), "--json"]) == 0
    text = capsys.readouterr().out
    assert "请写一封信" not in text
    facts = {fact["name"]: fact["values"] for fact in json.loads(text)["facts"]}
    assert facts["data_class"] == ["internal"] and facts["language"] == ["zh"]


def test_a_new_key_is_printed_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "desk-4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["key"].startswith("rg_live_desk-4_") and len(told["key"].rsplit("_", 1)[1]) == 64
    assert told["sha256"] == hashlib.sha256(told["key"].encode()).hexdigest()
    assert main(["keys", "new", "Desk 4"]) == 2
    assert main(["keys", "new", "d" * 201]) == 2
    assert main(["keys", "new", "desk-4", "--tenant", "lab", "--expires", "2999-01-31"]) == 0
    text = capsys.readouterr().out
    assert "the tenant `lab`" in text and ", expires: 2999-01-31}" in text
    assert main(["keys", "new", "desk-4", "--expires", "2020-01-31"]) == 2
    assert main(["keys", "new", "desk-4", "--expires", "tomorrow"]) == 2


def test_the_longest_key_is_found_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "d" * 200, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert shown(f"Bearer {told['key']}").id == "d" * 200


def test_serve_says_all_that_keeps_it_from_starting(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "serve", "--policies", POLICIES, "--state", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, timeout=30)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert any("ward-3" in line and "demo key" in line for line in lines)
    assert any("mistral-eu" in line and "MISTRAL_API_KEY" in line for line in lines)
    assert not (tmp_path / "ledger").exists()


ODD = [
    "[]",
    '"auto"',
    "{",
    "null",
    '{"body": []}',
    '{"body": {}, "headers": []}',
    '{"body": {"x": ' + "[" * 300 + "]" * 300 + "}}",
    '{"key": [], "asked": "auto"}',
    '{"tenant": {"a": 1}, "asked": "auto"}',
    '{"tenant": "clinic", "asked": "auto", "abilities": 5}',
    '{"tenant": "clinic", "asked": "auto", "language": {}, "region": 5}',
]


@pytest.mark.parametrize("question", ODD)
def test_what_is_no_question_can_not_be_asked(question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "request.json"
    path.write_text(question)
    assert main(["policy", "explain", "--policies", POLICIES, "--request", str(path)]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [["serve", "--port", "99999"], ["serve", "--workers", "0"], ["demo", "--ops-port", "-1"], ["simulate", "zai", "--port", "x"]],
)
def test_a_number_that_can_not_be_is_told_before_anything_starts(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert "is not a" in capsys.readouterr().err


def test_every_argument_says_what_it_is() -> None:
    def walk(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    walk(below)
            elif not isinstance(action, argparse._HelpAction):
                assert action.help, (parser.prog, action.dest)

    walk(parser())


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = "import sys, gateway.__main__ as m; m.parser(); print('fastapi' in sys.modules or 'ruamel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
