"""`health` as a catalogue writes it: what it comes to, and that it says nothing of where content may go."""

from dataclasses import replace
from pathlib import Path

import pytest
from config_documents import CATALOGUE
from test_config_compile import deployment, loaded

from gateway.core.policy import HealthCheck

CAPACITY = "    capacity: {usd_per_hour: 12.80, concurrency: 48}\n"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("{}", HealthCheck("/health", 5, 3, None)),
        ("{load: /metrics}", HealthCheck("/health", 5, 3, "/metrics")),
        ("{path: /v1/healthz.txt, every_s: 30, failures: 1}", HealthCheck("/v1/healthz.txt", 30, 1, None)),
    ],
)
def test_what_is_not_said_is_as_usual(tmp_path: Path, said: str, wanted: HealthCheck) -> None:
    assert CAPACITY in CATALOGUE
    found = deployment(loaded(tmp_path, (CAPACITY, f"{CAPACITY}    health: {said}\n")), "frankfurt/glm")
    assert found.endpoint.health == wanted


def test_who_says_nothing_is_not_asked_and_saying_it_moves_no_label(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    without = deployment(loaded(tmp_path / "without"), "frankfurt/glm")
    assert without.endpoint.health is None
    asked = deployment(loaded(tmp_path / "with", (CAPACITY, f"{CAPACITY}    health: {{}}\n")), "frankfurt/glm")
    assert asked.as_of(0) == without.as_of(0)
    assert replace(asked.endpoint, health=None, line="") == replace(without.endpoint, line="")
