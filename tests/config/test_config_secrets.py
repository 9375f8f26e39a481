"""Credentials: found where the policy says, missed in one line that names endpoint and variable, and never shown."""

from pathlib import Path

import pytest
from config_documents import CATALOGUE, load_world

from gateway.config.secrets import SECRET_BYTES_MAX, resolve_secrets
from gateway.core.policy import Policy

ALL = {"MISTRAL_API_KEY": "m-secret", "ZAI_API_KEY": "z-secret"}


def policy(folder: Path, catalogue: str | None = None) -> Policy:
    loaded = load_world(folder, {} if catalogue is None else {"catalogue.yaml": catalogue})
    assert loaded.problems == ()
    assert loaded.snapshot is not None
    return loaded.snapshot.policy


def with_zai(folder: Path, **lines: str) -> Policy:
    said = "".join(f"    {line}\n" for line in lines.values())
    return policy(folder, CATALOGUE.replace("    api_key: env:ZAI_API_KEY\n", said))


def test_each_endpoint_gets_its_own(tmp_path: Path) -> None:
    found = resolve_secrets(policy(tmp_path), ALL)
    assert found.endpoints == {"mistral-eu": "m-secret", "zai": "z-secret"}
    assert found.missing == ()


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_one_line_that_names_it(tmp_path: Path, value: str | None) -> None:
    environ = {"MISTRAL_API_KEY": "m-secret"} | ({} if value is None else {"ZAI_API_KEY": value})
    (line,) = resolve_secrets(policy(tmp_path), environ).missing
    assert "the endpoint `zai`" in line
    assert "`ZAI_API_KEY`" in line


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    assert len(resolve_secrets(policy(tmp_path), {}).missing) == 2


def test_what_is_switched_off_needs_none(tmp_path: Path) -> None:
    found = resolve_secrets(with_zai(tmp_path, key="api_key: env:ZAI_API_KEY", off="enabled: false"), {"MISTRAL_API_KEY": "m"})
    assert found.missing == ()
    assert "zai" not in found.endpoints


def test_a_file_is_read_without_the_end_of_its_line(tmp_path: Path) -> None:
    secret = tmp_path / "zai-key"
    secret.write_text("z-secret\n")
    found = resolve_secrets(with_zai(tmp_path, key=f"api_key: file:{secret}"), ALL)
    assert found.endpoints["zai"] == "z-secret"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read"),
        (b"", "empty"),
        (b"a\nb", "one line"),
        (b"a" * (SECRET_BYTES_MAX + 1), "larger"),
        (b"\xff\xfe", "one line"),
    ],
)
def test_a_file_that_holds_no_credential_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    secret = tmp_path / "zai-key"
    if content is not None:
        secret.write_bytes(content)
    (line,) = resolve_secrets(with_zai(tmp_path, key=f"api_key: file:{secret}"), ALL).missing
    assert "the endpoint `zai`" in line
    assert told in line


@pytest.mark.parametrize("value", ["two words", "line\r\nx-injected: 1", "schlüssel"])
def test_what_no_header_can_hold_is_told_and_not_shown(tmp_path: Path, value: str) -> None:
    (line,) = resolve_secrets(policy(tmp_path), {**ALL, "ZAI_API_KEY": value}).missing
    assert value not in line


def test_no_credential_is_in_a_repr(tmp_path: Path) -> None:
    assert "secret" not in repr(resolve_secrets(policy(tmp_path), ALL)).lower().replace("secrets(", "")
