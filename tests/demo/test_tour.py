"""The demo, as a stranger runs it: every request of the tour arrives where it must, and a wrong expectation is noticed."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from gateway.demo.run import Seen, _compare
from gateway.demo.tour import TOUR
from gateway.wire.apis import APIS

ROOT = Path(__file__).resolve().parent.parent.parent
PORTS = ["--port", "0", "--ops-port", "0", "--admin-port", "0"]


@pytest.mark.engine
def test_the_tour_goes_where_it_must() -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--once", "--json", *PORTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)
    assert [row["wrong"] for row in rows] == [[] for _ in TOUR]
    assert [[tuple(place) for place in row["arrived"]] for row in rows] == [list(step.arrives) for step in TOUR]
    assert done.stderr == ""


def test_the_comparison_can_fail() -> None:
    step = next(step for step in TOUR if step.arrives and step.status == 200 and not step.stream and not step.calls_tool)
    good = Seen(200, "")
    assert _compare(step, good, list(step.arrives)) == []
    assert _compare(step, good, [])
    assert _compare(step, good, [*step.arrives, ("zai", "glm-5.1")])
    assert _compare(step, Seen(403, "no_route_allowed"), list(step.arrives))
    assert _compare(replace(step, stream=True), good, list(step.arrives))
    assert _compare(replace(step, calls_tool=True), good, list(step.arrives))
    assert _compare(step, replace(good, cache="hit"), list(step.arrives))
    assert _compare(replace(step, cache="hit"), replace(good, cache="miss"), list(step.arrives))
    assert _compare(replace(step, cache="hit"), replace(good, cache="hit"), list(step.arrives)) == []


def test_the_tour_has_a_refusal_a_failover_a_stream_each_tenant_and_each_api() -> None:
    assert {step.key for step in TOUR} >= {"ward-3", "letters", "storefront", "notebook"}
    assert any(len(step.arrives) > 1 for step in TOUR)
    assert any(step.stream for step in TOUR)
    assert any(step.code == "no_route_allowed" for step in TOUR)
    assert any(step.code == "rate_limit_exceeded" for step in TOUR)
    assert any(step.code == "insufficient_quota" for step in TOUR)
    assert {step.stream for step in TOUR if step.cache == "hit" and not step.arrives} == {True, False}
    real = [step for step in TOUR if step.arrives == [("small-own", "smollm2-135m")]]
    assert {(step.api, step.stream) for step in real} == set(product(("chat", "completions"), (True, False)))
    assert {step.api for step in TOUR} == set(APIS)
