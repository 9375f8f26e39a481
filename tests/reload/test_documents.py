"""A folder's documents: read as of one moment, told apart from what they were, written whole."""

import os
import resource
from pathlib import Path

import pytest
from descriptors_left import nothing_to_open

from gateway.reload.documents import NotOurs, Unreadable, fingerprint, name_trouble, ours, read_documents, write_documents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write = tmp_path / "policies"
    (write / "cases").mkdir(parents=True)
    (write / "rules.yaml").write_text("rules: []\n")
    (write / "cases" / "one.yaml").write_text("cases: []\n")
    (write / "README.md").write_text("not a document")
    (write / ".hidden.yaml").write_text("an editor's swap file")
    return write


def test_documents_are_yaml_here_and_in_cases(folder: Path) -> None:
    assert read_documents(folder) == {"rules.yaml": b"rules: []\n", "cases/one.yaml": b"cases: []\n"}


@pytest.mark.parametrize("change", ["edit", "replace", "add", "remove", "case"])
def test_every_change_of_a_document_shows(folder: Path, change: str) -> None:
    before = fingerprint(folder)
    match change:
        case "edit":
            (folder / "rules.yaml").write_text("rules: [ ]\n")
        case "replace":  # the same bytes and the same second: an editor's rename
            (folder / "new").write_text("rules: []\n")
            (folder / "new").replace(folder / "rules.yaml")
        case "add":
            (folder / "more.yaml").write_text("rules: []\n")
        case "remove":
            (folder / "rules.yaml").unlink()
        case "case":
            (folder / "cases" / "one.yaml").write_text("cases: [1]\n")
    assert fingerprint(folder) != before


def test_what_is_no_document_does_not_show(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "README.md").write_text("another text")
    (folder / ".hidden.yaml").unlink()
    assert fingerprint(folder) == before


def mounted(tmp_path: Path, generation: str, text: str) -> Path:
    """A folder as Kubernetes mounts one: documents are links through `..data`, which is swapped by a rename."""
    folder = tmp_path / "mounted"
    real = folder / f"..{generation}"
    real.mkdir(parents=True)
    (real / "rules.yaml").write_text(text)
    (folder / "..new").symlink_to(real.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "rules.yaml").is_symlink():
        (folder / "rules.yaml").symlink_to("..data/rules.yaml")
    return folder


def test_a_swapped_config_map_shows_and_is_not_ours_to_write(tmp_path: Path) -> None:
    folder = mounted(tmp_path, "one", "rules: []\n")
    before = fingerprint(folder)
    mounted(tmp_path, "two", "rules: []\n")
    assert fingerprint(folder) != before and read_documents(folder) == {"rules.yaml": b"rules: []\n"}
    with pytest.raises(NotOurs, match="mounted by Kubernetes"):
        write_documents(folder, {"rules.yaml": b"rules: [1]\n"})
    assert read_documents(folder) == {"rules.yaml": b"rules: []\n"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_not_ours_to_write(folder: Path) -> None:
    folder.chmod(0o555)
    with pytest.raises(NotOurs, match="belongs to"):
        ours(folder)


def test_a_link_to_nothing_and_an_empty_folder_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "gone.yaml").symlink_to(folder / "nowhere")
    with pytest.raises(Unreadable, match=r"gone\.yaml.*no such file"):
        read_documents(folder)
    with pytest.raises(Unreadable, match="no document"):
        read_documents(tmp_path / "nowhere")


def test_a_folder_that_can_not_be_looked_into_is_not_taken_to_be_empty(folder: Path) -> None:
    seen = fingerprint(folder)
    with nothing_to_open():
        assert fingerprint(folder) != seen
        with pytest.raises(Unreadable, match="too many open files"):
            read_documents(folder)
        with pytest.raises(OSError, match="Too many open files"):
            write_documents(folder, {})
    assert fingerprint(folder) == seen


def test_writing_leaves_these_documents_and_no_others(folder: Path) -> None:
    (folder / "rules.yaml").chmod(0o640)
    wanted = {"rules.yaml": b"rules: [1]\n", "more.yaml": b"tenants: {}\n"}
    write_documents(folder, wanted)
    assert read_documents(folder) == wanted
    assert (folder / "README.md").exists() and (folder / ".hidden.yaml").exists()
    assert (folder / "rules.yaml").stat().st_mode & 0o777 == 0o640
    assert not list(folder.glob("**/*.part"))


@pytest.mark.parametrize("name", ["a.yaml", "cases/a.yaml", "über.yaml"])
def test_names_of_documents(name: str) -> None:
    assert name_trouble(name) is None


@pytest.mark.parametrize(
    "name",
    ["a.yml", "../a.yaml", "/etc/a.yaml", "cases/b/a.yaml", "other/a.yaml", ".a.yaml", "cases/.a.yaml", "a\n.yaml", "", "cases/"],
)
def test_names_that_lead_elsewhere(name: str) -> None:
    assert name_trouble(name)


def test_a_disk_that_has_no_room_for_one_document_changes_none(folder: Path) -> None:
    before = read_documents(folder)
    names = sorted(os.listdir(folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as good as a disk that is full by then
    try:
        with pytest.raises(OSError):
            write_documents(folder, {"rules.yaml": b"rules: [1]\n", "tenants.yaml": b"#" * 101, "cases/one.yaml": b"cases: [1]\n"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_documents(folder) == before
    assert sorted(os.listdir(folder)) == names
