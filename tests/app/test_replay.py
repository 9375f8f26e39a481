"""Decisions of a running gateway, explained and made again: by the commands, and by the admin API."""

import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from processes import CANARY, Gateway, running, until
from test_reload import ADMIN, TOKEN, edit, policy, started

from gateway.__main__ import main


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that has served two requests under one policy, and one under another, which allows the same; and has refused one."""
    with running(tmp_path_factory.mktemp("replay"), *ADMIN) as (found, _):
        first = policy(started(found))[1]["snapshot"]
        for _ in range(2):
            assert found.ask().read()
        edit(found.policies / "residency.yaml", "our-own", "renamed")
        until("it is served", lambda: policy(found)[1]["snapshot"] != first)
        assert found.ask().read()
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        assert found.ask(response_format=wanted).status == 403
        until("it is recorded", lambda: len(settled(found)) == 4)
        yield found


def settled(gateway: Gateway) -> list[dict[str, Any]]:
    lines = [line for path in (gateway.state / "ledger").iterdir() for line in path.read_bytes().splitlines()]
    return [record for line in lines if (record := json.loads(line))["kind"] == "settled"]


def command(*words: object) -> tuple[int, str, str]:
    """Exit code, output and complaints of `gateway policy …`."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main(["policy", *map(str, words)])
    return code, out.getvalue(), err.getvalue()


def changed(gateway: Gateway, folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of the policy with one document changed."""
    folder.mkdir()
    for path in gateway.policies.glob("*.yaml"):
        (folder / path.name).write_text(path.read_text())
    edit(folder / name, old, new)
    return folder


def test_every_decision_comes_again_to_the_same_bytes(gateway: Gateway) -> None:
    code, out, _ = command("replay", "--ledger", gateway.state / "ledger", "--json")
    found = json.loads(out)
    assert (code, found["decisions"], found["verified"]) == (0, 4, 4), out
    assert not found["missing"] and not found["differing"]["count"] and not found["damaged"]["count"]


def test_what_nobody_has_kept_is_named(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    for path in (gateway.state / "ledger").iterdir():
        (tmp_path / "ledger" / path.name).write_bytes(path.read_bytes())
    code, out, _ = command("replay", "--ledger", tmp_path / "ledger")
    assert code == 1 and "4 decisions; 0 come again" in out and "nobody has kept policy " in out
    code, out, _ = command("replay", gateway.policies, "--ledger", tmp_path / "ledger", "--json", "--verify")
    assert code == 1 and json.loads(out)["verified"] == 2  # that of today was given


def test_a_line_that_was_changed_is_told(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "policies").symlink_to(gateway.state / "policies")
    for path in (gateway.state / "ledger").iterdir():
        (tmp_path / "ledger" / path.name).write_bytes(path.read_bytes().replace(b'"region":["DE"]', b'"region":["FR"]', 1))
    code, out, _ = command("replay", "--ledger", tmp_path / "ledger", "--json")
    found = json.loads(out)
    assert code == 1 and found["damaged"]["count"] >= 1


@pytest.mark.parametrize(
    ("name", "old", "new", "kind", "count"),
    [
        ("residency.yaml", "permit: {provider: ours}", "permit: {processed_in: FR}", "newly_refused", 3),
        ("catalogue.yaml", "\n    processed_in: [DE]", "\n    processed_in: [FR]", "moved", 3),
        ("catalogue.yaml", "input: 1, output: 2", "input: 3, output: 6", "dearer", 3),
        ("catalogue.yaml", "input: 1, output: 2", "input: 0.5, output: 1", "cheaper", 3),
        ("catalogue.yaml", "abilities: [tools]", "abilities: [tools, json_schema]", "newly_allowed", 1),
        ("tenants.yaml", "{id: desk,", "{id: desk, revoked: true,", "newly_refused", 3),
    ],
)
def test_what_another_policy_would_have_done(
    gateway: Gateway, tmp_path: Path, name: str, old: str, new: str, kind: str, count: int
) -> None:
    folder = changed(gateway, tmp_path / "new", name, old, new)
    code, out, err = command("replay", folder, "--ledger", gateway.state / "ledger", "--json")
    assert code == 1, out + err
    found = json.loads(out)
    kinds = ("newly_allowed", "newly_refused", "moved", "dearer", "cheaper")
    assert {one: found[one]["count"] for one in kinds} == dict.fromkeys(kinds, 0) | {kind: count}
    assert found[kind]["tenants"] == {"office": count} and len(found[kind]["examples"]) == count
    if kind == "dearer":  # 7 in, 2 out, three times
        assert found["cost_usd"] == {"decisions": 3, "before": "0.000033", "after": "0.000099", "difference": "0.000066"}
    code, out, _ = command("replay", folder, "--ledger", gateway.state / "ledger")
    assert code == 1 and kind.replace("_", " ") in out and CANARY not in out


def test_the_same_policy_changes_nothing(gateway: Gateway) -> None:
    code, out, _ = command("replay", gateway.policies, "--ledger", gateway.state / "ledger")
    assert code == 0 and "nothing would come otherwise" in out


def test_a_decision_of_the_past_is_explained(gateway: Gateway) -> None:
    name = settled(gateway)[0]["id"]
    code, out, err = command("explain", "--decision", name, "--ledger", gateway.state / "ledger", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["verdict"] == "routed" and found["recorded"]["id"] == name
    assert found["recorded"]["settled"]["result"] == "served" and "our-own" in out  # the rule as it was called then
    code, out, _ = command("explain", "--decision", name, "--ledger", gateway.state / "ledger")
    assert code == 0 and "sent to here/m (served)" in out
    status, body = gateway.admin("GET", f"/admin/v1/decisions/{name}", **TOKEN)
    assert status == 200 and body == found


@pytest.mark.parametrize("name", ["rg-" + "0" * 32, "%2e%2e", "--json"])
def test_a_decision_that_nobody_made(gateway: Gateway, name: str) -> None:
    status, body = gateway.admin("GET", f"/admin/v1/decisions/{name}", **TOKEN)
    assert (status, body["error"]["code"]) == (404, "unknown_decision")


def test_no_ledger_is_told(tmp_path: Path) -> None:
    for words in (("replay", "--ledger", tmp_path / "none"), ("explain", "--decision", "rg-1", "--ledger", tmp_path / "none")):
        code, _, err = command(*words)
        assert code == 2 and "can't be read" in err


def test_history_and_rollback_from_the_command_line(gateway: Gateway) -> None:
    code, out, _ = command("history", "--state", gateway.state, "--json")
    history = json.loads(out)
    assert code == 0 and [entry["how"] for entry in history] == ["a document changed", "start"]
    first, second = history[1]["snapshot"], history[0]["snapshot"]
    code, out, err = command("rollback", "--state", gateway.state, "--policies", gateway.policies)
    assert code == 0 and first in out, err
    until("the gateway has taken it up", lambda: policy(gateway)[1]["snapshot"] == first)
    assert "our-own" in (gateway.policies / "residency.yaml").read_text()
    code, out, err = command("rollback", second[:6], "--state", gateway.state, "--policies", gateway.policies)
    assert code == 0, err
    until("and back", lambda: policy(gateway)[1]["snapshot"] == second)
    until("all four are kept", lambda: len(json.loads(command("history", "--state", gateway.state, "--json")[1])) == 4)
    code, out, _ = command("history", "--state", gateway.state)
    assert code == 0 and len(out.splitlines()) == 1 + 4
    code, _, err = command("rollback", "zz", "--state", gateway.state, "--policies", gateway.policies)
    assert code == 2 and first in err
