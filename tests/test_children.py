"""Children of ours are of the same gateway as we are, and our values reach them whole."""

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path

import pytest
from small_world import snapshot

import gateway
from gateway.channel import Commit, Start, pack
from gateway.children import python, surroundings
from gateway.pickled import pickled


def test_what_lies_in_the_folder_that_we_are_in_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__init__.py").write_text("raise SystemExit('an impostor')")
    done = subprocess.run([*python("gateway"), "--help"], cwd=tmp_path, env=surroundings(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    where = [sys.executable, "-P", "-c", "import gateway; print(gateway.__file__)"]
    told = subprocess.run(where, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, check=True)
    assert told.stdout.strip() == gateway.__file__


def test_a_command_arrives_as_it_was(tmp_path: Path) -> None:
    start = Start(3, snapshot(), {"one": "s3cret", "two": None}, str(tmp_path), True, revoked=frozenset({b"digest"}))
    assert pickle.loads(pickled(start)) == start
    assert pickle.loads(pack(Commit(7))[4:]) == Commit(7)


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    more: tuple["Frozen", ...] = ()
    size: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.more))


def test_what_is_frozen_is_made_anew_and_a_class_is_itself() -> None:
    inner = Frozen("inner")
    found = pickle.loads(pickled({"kind": Frozen, "of": [Frozen("outer", (inner, inner))]}))
    (outer,) = found["of"]
    assert (found["kind"], outer, outer.size) == (Frozen, Frozen("outer", (inner, inner)), 2)
    assert outer.more[0] is outer.more[1]
    with pytest.raises(FrozenInstanceError):
        outer.name = "another"
