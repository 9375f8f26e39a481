"""Reloads without processes: a fleet that remembers, a real judgement in this process, a folder, a history and a ledger on disk."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from processes import write_policies

from gateway.clock import SystemClock
from gateway.config.secrets import Secrets, resolve_secrets
from gateway.core.policy import Policy, Snapshot
from gateway.fleet import InForce, NotSwitched
from gateway.ledger.changes import ChangeLog
from gateway.ledger.reading import Line, read
from gateway.proof.gate import Judged
from gateway.proof.judging import judged
from gateway.reload.documents import NotOurs, fingerprint, read_documents
from gateway.reload.history import History, Unknown, name_of
from gateway.reload.reloader import Change, Reloader, Stale, Started, etag


@dataclass
class Fleet:
    """Workers that do as they are told, or say why not."""

    in_force: InForce
    trouble: str = ""
    switches: int = 0

    async def switch(self, snapshot: Snapshot, secrets: Mapping[str, str | None], between: Callable[[], None]) -> None:
        if self.trouble:
            raise NotSwitched(self.trouble)
        between()
        self.switches += 1
        self.in_force = InForce(self.switches, snapshot, secrets)


@dataclass
class Stage:
    """A folder, what serves it, and what was said about it."""

    folder: Path
    state: Path
    secrets: dict[str, str | None] = field(default_factory=dict)
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    on_log: Callable[[], None] = lambda: None

    judged: int = 0  # how often
    killed: bool = False  # whether who judges is

    def __post_init__(self) -> None:
        started = Started(fingerprint(self.folder), judged(self.folder, None, self.state))
        snapshot = started.judged.snapshot
        assert snapshot is not None
        self.fleet = Fleet(InForce(0, snapshot, {}))
        self.history = History(self.state)
        self.reloader = Reloader(
            self.folder,
            self.fleet,
            self.history,
            ChangeLog(self.state / "ledger", SystemClock()),
            self._said,
            judge=self._judge,
            resolve=self._resolve,
            look_s=0.01,
            started=started,
        )

    def _judge(self, staged: Path) -> Judged:
        self.judged += 1
        if self.killed:
            return Judged(None, ("the process that proves its claims ended with -9",), unjudged=True)
        return judged(staged, None, self.state)

    def _said(self, event: str, **fields: Any) -> None:
        self.log.append((event, fields))
        self.on_log()

    def _resolve(self, policy: Policy) -> Secrets:
        found = resolve_secrets(policy)
        return Secrets({**found.endpoints, **{k: v for k, v in self.secrets.items() if v}}, found.stores, found.keys, found.missing)

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a document as an editor does: a new file in the place of the old one."""
        path = self.folder / name
        text = path.read_text()
        assert old in text
        part = path.with_suffix(".part")
        part.write_text(text.replace(old, new))
        part.replace(path)

    def reload(self) -> Change:
        return asyncio.run(self.reloader.reload("the folder", "a document changed"))

    def ledger(self) -> list[dict[str, Any]]:
        folder = self.state / "ledger"
        found = list(read(folder)) if folder.exists() else []
        assert all(isinstance(entry, Line) for entry in found)
        return [entry.record for entry in found if isinstance(entry, Line) and entry.record["kind"] == "changed"]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    write_policies(tmp_path / "policies", 9)
    (tmp_path / "policies" / "claims.yaml").write_text("claims:\n  - {id: stays, always: {processed_in: DE}}\n")
    (tmp_path / "policies" / "cases").mkdir()
    (tmp_path / "policies" / "cases" / "office.yaml").write_text(
        "- {note: served here, given: {tenant: office, asked: m}, want: {routes: [here/m]}}\n"
    )
    return Stage(tmp_path / "policies", tmp_path / "state")


def test_a_start_is_kept_in_history_and_changes_nothing(stage: Stage) -> None:
    assert stage.reload().result == "unchanged" and stage.reload().result == "unchanged"
    assert [entry.snapshot for entry in stage.history.entries()] == [name_of(stage.reloader.snapshot)]
    assert stage.fleet.switches == 0 and stage.ledger() == []
    assert not list((stage.state / "policies").glob(".staged-*"))


def test_what_the_start_was_judged_by_is_not_judged_again_but_for_a_document_that_has_changed(stage: Stage) -> None:
    assert stage.reload().claims and stage.judged == 0
    assert stage.history.documents(name_of(stage.reloader.snapshot), None)[1] == read_documents(stage.folder)
    stage.reload()
    assert stage.judged == 1  # a credential may be another one, or a label over
    other = Stage(stage.folder, stage.state)
    other.edit("residency.yaml", "our-own", "renamed")
    assert other.reload().result == "applied" and other.judged == 1


def test_a_change_is_served_kept_recorded_and_told(stage: Stage) -> None:
    stage.reload()
    before = name_of(stage.reloader.snapshot)
    stage.edit("residency.yaml", "our-own", "ours-and-nobody-elses")
    change = stage.reload()
    assert change.result == "applied", change.problems
    after = name_of(stage.reloader.snapshot)
    assert after != before and change.snapshot == after and stage.reloader.last_succeeded
    assert [entry.snapshot for entry in stage.history.entries()] == [before, after]
    (line,) = stage.ledger()
    assert (line["result"], line["by"], line["from"], line["to"]) == ("applied", "the folder", before, after)
    assert stage.log[-1][0] == "reloaded"
    assert stage.history.documents(after, None)[1] == read_documents(stage.folder)


BROKEN = [
    ("catalogue.yaml", "provider: ours", "provider: [", "catalogue.yaml:"),
    ("catalogue.yaml", "dialect: vllm", "dialect: vlm", "`vllm`"),
    ("catalogue.yaml", "operated_under: [DE]\n    models", "operated_under: [XQ]\n    models", "XQ"),
    ("catalogue.yaml", "processed_in: [DE]\n    operated", "processed_in: [FR]\n    operated", "the claim `stays`"),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), BROKEN)
def test_what_may_not_serve_is_refused_and_the_old_one_goes_on(stage: Stage, name: str, old: str, new: str, said: str) -> None:
    stage.reload()
    before = stage.reloader.snapshot
    stage.edit(name, old, new)
    change = stage.reload()
    assert change.result == "refused" and stage.reloader.snapshot is before and not stage.reloader.last_succeeded
    assert said in "\n".join(change.problems)
    assert str(stage.folder) in "\n".join(change.problems) or "claim" in said
    assert ".staged-" not in repr(change)
    assert stage.log[-1][0] == "reload_refused" and stage.ledger()[-1]["result"] == "refused"
    assert len(stage.history.entries()) == 1
    stage.edit(name, new, old)
    assert stage.reload().result == "unchanged" and stage.reloader.last_succeeded


def test_a_policy_that_fails_its_own_cases_does_not_replace_one_that_serves(stage: Stage) -> None:
    stage.reload()
    stage.edit("cases/office.yaml", "routes: [here/m]", "refused: [no permit]")
    stage.edit("residency.yaml", "our-own", "renamed")
    change = stage.reload()
    assert change.result == "refused" and "a case fails" in change.problems[0] and "cases/office.yaml:1" in change.problems[0]


def test_a_failing_case_does_not_keep_a_stolen_key_alive(stage: Stage) -> None:
    stage.reload()
    stage.edit("cases/office.yaml", "routes: [here/m]", "refused: [no permit]")
    stage.edit("tenants.yaml", "{id: desk,", "{id: desk, revoked: true,")
    assert stage.reload().result == "applied"
    assert stage.reloader.snapshot.access.keys["desk"].revoked


def test_a_rotated_or_revoked_key_costs_no_proof(stage: Stage) -> None:
    """Judged with a solver that can't be asked: whatever is not found among the kept verdicts fails."""
    stage.reload()

    def nobody() -> Any:
        raise AssertionError("something was proved")

    stage.reloader._judge = lambda staged: judged(staged, None, stage.state, nobody)  # the port's other end
    stage.edit("tenants.yaml", 'sha256: "', f'sha256: "{"0" * 8}')
    text = (stage.folder / "tenants.yaml").read_text()
    digest = text.split('sha256: "')[1].split('"')[0]
    (stage.folder / "tenants.yaml").write_text(text.replace(digest, digest[:64]))
    assert stage.reload().result == "applied"
    stage.edit("tenants.yaml", "{id: desk,", "{id: desk, revoked: true,")
    assert stage.reload().result == "applied"
    stage.edit("tenants.yaml", "within: [internal]", "within: [internal, public]")
    with pytest.raises(AssertionError, match="something was proved"):
        stage.reload()


def test_a_demo_key_is_refused(stage: Stage) -> None:
    stage.reload()
    text = (stage.folder / "tenants.yaml").read_text()
    digest = text.split('sha256: "')[1].split('"')[0]
    (stage.folder / "tenants.yaml").write_text(text.replace(f'sha256: "{digest}"', "demo: true"))
    change = stage.reload()
    assert change.result == "refused" and "demo key" in change.problems[0]


def test_another_credential_is_another_thing_to_switch_to(stage: Stage) -> None:
    stage.reload()
    stage.secrets["here"] = "rotated"
    assert stage.reload().result == "applied" and stage.fleet.in_force.secrets == {"here": "rotated"}
    assert stage.reload().result == "unchanged"


def test_a_worker_that_can_not_prepare_stops_a_change(stage: Stage) -> None:
    stage.reload()
    stage.fleet.trouble = "a worker could not prepare it"
    stage.edit("residency.yaml", "our-own", "renamed")
    change = stage.reload()
    assert (change.result, change.problems) == ("refused", ("a worker could not prepare it",))
    assert len(stage.history.entries()) == 1


def test_a_folder_that_vanishes_is_told(stage: Stage) -> None:
    stage.reload()
    stage.folder.rename(stage.folder.with_name("elsewhere"))
    change = stage.reload()
    assert change.result == "refused" and "no such folder" in change.problems[0]


def test_put_writes_and_serves_and_two_admins_do_not_overwrite_each_other(stage: Stage) -> None:
    stage.reload()
    documents = dict(read_documents(stage.folder))
    seen = etag(documents)
    documents["residency.yaml"] = documents["residency.yaml"].replace(b"our-own", b"renamed")
    change = asyncio.run(stage.reloader.put(documents, seen, "admin policy (env:X)"))
    assert change.result == "applied" and read_documents(stage.folder) == documents
    assert stage.ledger()[-1]["by"] == "admin policy (env:X)"
    with pytest.raises(Stale):
        asyncio.run(stage.reloader.put(documents, seen, "another admin"))


def test_a_put_that_is_refused_writes_nothing(stage: Stage) -> None:
    stage.reload()
    before = dict(read_documents(stage.folder))
    broken = before | {"catalogue.yaml": b"endpoints: {"}
    change = asyncio.run(stage.reloader.put(broken, etag(before), "admin"))
    assert change.result == "refused" and read_documents(stage.folder) == before


def test_a_put_of_the_same_meaning_is_written(stage: Stage) -> None:
    stage.reload()
    before = dict(read_documents(stage.folder))
    commented = before | {"residency.yaml": b"# why\n" + before["residency.yaml"]}
    assert asyncio.run(stage.reloader.put(commented, etag(before), "admin")).result == "unchanged"
    assert read_documents(stage.folder) == commented and stage.fleet.switches == 0


def test_a_mounted_folder_is_not_written(stage: Stage) -> None:
    stage.reload()
    (stage.folder / "..data").symlink_to("nowhere")
    before = read_documents(stage.folder)
    with pytest.raises(NotOurs):
        asyncio.run(stage.reloader.put({"a.yaml": b"rules: []"}, etag(before), "admin"))


def test_rolling_back_serves_and_writes_what_was_there(stage: Stage) -> None:
    stage.reload()
    with pytest.raises(Unknown):
        asyncio.run(stage.reloader.roll_back(None, etag(read_documents(stage.folder)), "admin"))
    first, before = name_of(stage.reloader.snapshot), read_documents(stage.folder)
    stage.edit("residency.yaml", "our-own", "renamed")
    assert stage.reload().result == "applied"
    entry, change = asyncio.run(stage.reloader.roll_back(None, etag(read_documents(stage.folder)), "admin"))
    assert (entry.snapshot, change.result) == (first, "applied") and name_of(stage.reloader.snapshot) == first
    assert read_documents(stage.folder) == before
    assert stage.history.entries()[-1].how == f"rollback to {first}"


def test_rolling_back_from_a_refused_edit_puts_back_what_serves(stage: Stage) -> None:
    stage.reload()
    before = read_documents(stage.folder)
    stage.edit("residency.yaml", "permit:", "premit:")
    assert stage.reload().result == "refused"
    _, change = asyncio.run(stage.reloader.roll_back(None, etag(read_documents(stage.folder)), "admin"))
    assert change.result == "unchanged" and stage.reloader.last_succeeded and read_documents(stage.folder) == before


def test_trying_changes_nothing(stage: Stage) -> None:
    stage.reload()
    before = dict(read_documents(stage.folder))
    problems, _ = asyncio.run(stage.reloader.check(before))
    assert problems == []
    problems, found = asyncio.run(stage.reloader.check(before | {"residency.yaml": b"rules: 3"}))
    assert problems and found.snapshot is None and ".staged" not in problems[0]
    assert stage.fleet.switches == 0 and read_documents(stage.folder) == before
    assert not list((stage.state / "policies").glob(".staged-*"))


def test_the_folder_is_watched(stage: Stage) -> None:
    async def run() -> None:
        seen = asyncio.Event()
        stage.on_log = seen.set
        watching = asyncio.create_task(stage.reloader.watch())
        try:
            async with asyncio.timeout(20):
                await seen.wait()
                seen.clear()
                stage.edit("residency.yaml", "our-own", "renamed")
                await seen.wait()
        finally:
            watching.cancel()

    asyncio.run(run())
    assert [entry.how for entry in stage.history.entries()] == ["start", "a document changed"]


class Hindrance:
    """What is not wrong with the folder, and keeps a change from being served, or kept."""

    def __init__(self, stage: Stage, what: str) -> None:
        self._stage, self._what = stage, what
        self._history = stage.state / "policies"
        self._aside = self._history.with_name("aside")

    def comes(self) -> None:
        match self._what:
            case "worker":
                self._stage.fleet.trouble = "a worker could not prepare it"
            case "disk":
                self._history.rename(self._aside)
                self._history.write_text("nothing can be made in a file")
            case "history":
                (self._history / "history.jsonl").rename(self._aside)
                (self._history / "history.jsonl").mkdir()
            case "child":
                self._stage.killed = True

    def goes(self) -> None:
        match self._what:
            case "worker":
                self._stage.fleet.trouble = ""
            case "disk":
                self._history.unlink()
                self._aside.rename(self._history)
            case "history":
                (self._history / "history.jsonl").rmdir()
                self._aside.rename(self._history / "history.jsonl")
            case "child":
                self._stage.killed = False


@pytest.mark.parametrize("what", ["worker", "disk", "history", "child"])
def test_what_was_held_up_by_something_else_is_tried_again_though_no_document_changes(stage: Stage, what: str) -> None:
    hindrance = Hindrance(stage, what)

    async def run() -> None:
        heard = asyncio.Event()
        stage.on_log = heard.set

        async def told(times: int, *events: str) -> None:
            while sum(event in events for event, _ in stage.log) < times:
                heard.clear()
                await heard.wait()

        watching = asyncio.create_task(stage.reloader.watch())
        try:
            async with asyncio.timeout(20):
                await told(1, "reload_unchanged")
                hindrance.comes()
                stage.edit("residency.yaml", "our-own", "renamed")
                await told(2, "reload_refused", "history_failed")
                hindrance.goes()
                while len(stage.history.entries()) < 2:
                    heard.clear()
                    await heard.wait()
                tries = len(stage.log)
                stage.edit("residency.yaml", "renamed", "named-anew")
                while stage.fleet.switches < 2:
                    heard.clear()
                    await heard.wait()
                assert not [fields for _, fields in stage.log[tries:] if fields.get("how") == "tried again"][1:]
        finally:
            watching.cancel()

    asyncio.run(run())
    assert stage.reloader.last_succeeded
    assert {entry.snapshot for entry in stage.history.entries()} >= {name_of(stage.reloader.snapshot)}


def test_a_full_disk_holds_up_no_revocation(stage: Stage, tmp_path: Path) -> None:
    stage.reload()
    lines = stage.state / "policies" / "history.jsonl"
    lines.unlink()
    lines.mkdir()  # nothing can be appended to a folder
    stage.edit("tenants.yaml", "{id: desk,", "{id: desk, revoked: true,")
    assert stage.reload().result == "applied"
    assert "history_failed" in [event for event, _ in stage.log]
    assert json.dumps(stage.reloader.standing()) and os.path.isdir(lines)
