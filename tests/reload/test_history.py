"""What has served is kept with its documents and can be gone back to."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import small_world

from gateway.core.policy import Snapshot
from gateway.reload.documents import read_documents
from gateway.reload.history import KEPT_MAX, History, Unknown, name_of

WORLD = small_world.snapshot()


def snapshot(number: int) -> Snapshot:
    return replace(WORLD, policy=replace(WORLD.policy, hash=f"{number:064x}"[::-1]))


def keep(history: History, number: int) -> str:
    staged = history.stage({"rules.yaml": f"# {number}\n".encode()})
    history.keep(staged, snapshot(number), 1000.0 + number, "the folder", "a document changed")
    return name_of(snapshot(number))


def test_the_one_before_is_the_last_that_differs(tmp_path: Path) -> None:
    history = History(tmp_path)
    names = [keep(history, number) for number in (1, 2, 2)]
    assert [entry.snapshot for entry in history.entries()] == [names[0], names[1], names[1]]
    entry, documents = history.documents(None, names[1])
    assert (entry.snapshot, documents) == (names[0], {"rules.yaml": b"# 1\n"})
    assert history.documents(names[1][:3], None)[1] == {"rules.yaml": b"# 2\n"}


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    keep(history, 1)
    assert (tmp_path / "policies").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "policies" / "history.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_had_staged_goes_with_the_next_change(tmp_path: Path) -> None:
    history = History(tmp_path)
    old, young = history.stage({"rules.yaml": b"old"}), history.stage({"rules.yaml": b"young"})
    os.utime(old, (0, 0))
    another = history.stage({"rules.yaml": b"another"})
    assert not old.exists() and young.exists() and another.exists()


@pytest.mark.parametrize(("name", "why"), [("f", "no snapshot's name"), ("", "no snapshot's name"), ("0", "several")])
def test_names_that_name_none_or_several(tmp_path: Path, name: str, why: str) -> None:
    history = History(tmp_path)
    keep(history, 0x10)
    keep(history, 0x20)
    with pytest.raises(Unknown, match=why):
        history.documents(name, None)


def test_with_nothing_before_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    history = History(tmp_path)
    with pytest.raises(Unknown, match="no snapshot has served"):
        history.documents(None, None)
    name = keep(history, 1)
    with pytest.raises(Unknown, match="only one snapshot"):
        history.documents(None, name)


@pytest.mark.parametrize("lies", [None, "0123456789ab.0123456789ab"])
def test_from_an_edit_that_does_not_serve_the_way_back_is_to_what_does(tmp_path: Path, lies: str | None) -> None:
    history = History(tmp_path)
    keep(history, 1)
    newest = keep(history, 2)
    assert history.documents(None, lies)[0].snapshot == newest


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    history = History(tmp_path)
    name = keep(history, 1)
    with (tmp_path / "policies" / "history.jsonl").open("a") as file:
        file.write('{"at": 1, "snap\n[]\n{"at": 2}\n')
    assert [entry.snapshot for entry in history.entries()] == [name]


def test_the_oldest_documents_go_and_their_lines_stay(tmp_path: Path) -> None:
    history = History(tmp_path)
    names = [keep(history, number) for number in range(1, KEPT_MAX + 2)]
    assert len(history.entries()) == KEPT_MAX + 1
    with pytest.raises(Unknown, match="are gone"):
        history.documents(names[0], None)
    assert read_documents(tmp_path / "policies" / names[1])


def test_what_is_kept_after_such_a_line_is_not_lost_with_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    first = keep(history, 1)
    with (tmp_path / "policies" / "history.jsonl").open("a") as file:
        file.write('{"at": 1002.0, "snap')
    second = keep(history, 3)
    assert [entry.snapshot for entry in history.entries()] == [first, second]


def test_what_can_not_be_staged_leaves_nothing_behind(tmp_path: Path) -> None:
    history = History(tmp_path)
    with pytest.raises(OSError):
        history.stage({"rules.yaml": b"", f"{'x' * 300}.yaml": b""})
    assert list((tmp_path / "policies").iterdir()) == []
