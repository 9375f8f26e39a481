"""The policies that are shipped load without a problem or a warning, and every case comes as its writer wanted it."""

import os
import resource
import time
from pathlib import Path

import pytest

from gateway.config.cases import Case
from gateway.config.check import decide_case, run_cases
from gateway.config.compile import Loaded, load
from gateway.core.facts import FactError
from gateway.core.policy import Snapshot
from gateway.core.view import View

POLICIES = Path(__file__).parents[2] / "policies"
AT = 1_795_392_000.0  # 2026-11-23
LOADED = load(POLICIES, at=AT)


def snapshot() -> Snapshot:
    assert LOADED.snapshot is not None
    return LOADED.snapshot


def test_they_load_without_a_problem_or_a_warning() -> None:
    assert (LOADED.problems, LOADED.warnings, LOADED.case_problems) == ((), (), ())


def test_they_load_from_wherever_they_are_called() -> None:
    there = load(os.path.relpath(POLICIES), at=AT)
    assert there.snapshot is not None
    assert there.snapshot.hash == snapshot().hash


@pytest.mark.parametrize("case", LOADED.cases, ids=lambda case: f"{case.line} {case.note[:50]}")
def test_each_case_comes_as_wanted(case: Case) -> None:
    (result,) = run_cases(snapshot(), (case,), AT)
    assert result.differences == ()


def _outcomes() -> tuple[set[str], set[str]]:
    """Every reason that some case exercises, and every permit that lets one of its routes through."""
    view, reasons, permits = View(snapshot(), AT), set(), set()
    for case in LOADED.cases:
        try:
            decision = decide_case(View(snapshot(), case.given.at) if case.given.at else view, case.given)
        except FactError:
            continue
        reasons |= {reason.word for found in decision.exclusions.values() for reason in found}
        permits |= set(decision.eligibility.permits)
    return reasons, permits


def test_every_rule_and_every_kind_of_refusal_has_a_case() -> None:
    reasons, permits = _outcomes()
    wanted = {word for case in LOADED.cases for words in case.want.excluded.values() for word in words}
    wanted |= {word for case in LOADED.cases for word in case.want.refused or ()}
    rules = {rule.id for rule in snapshot().policy.rules}
    assert rules <= wanted | permits
    assert reasons >= {rule.id for rule in snapshot().policy.rules if rule.effect != "permit"}
    for kind in ("no permit", "not asked", "disabled", "gateway: china-stays-in-china", "needs: context", "needs: vision"):
        assert kind in wanted
    for kind in ("needs: tool web_search", "needs: responses", "needs: remote_content", "limit: usd_per_request"):
        assert kind in wanted
    assert {case.want.outside for case in LOADED.cases} >= {"region", "data_class", "categories"}


def test_every_tenant_and_every_key_has_a_case_and_every_endpoint_is_a_route_in_one() -> None:
    assert {case.given.tenant for case in LOADED.cases} == set(snapshot().access.tenants)
    routes = {route.split("/")[0] for case in LOADED.cases for route in case.want.routes or ()}
    routes |= {name.split("/")[0] for case in LOADED.cases for name in case.want.excluded}
    assert routes == {deployment.endpoint.id for deployment in snapshot().policy.deployments}


def test_files_are_short_enough_to_read() -> None:
    for path in POLICIES.rglob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 120, path


def test_keys_are_the_demos_and_none_is_real() -> None:
    assert all(key.demo for key in snapshot().access.keys.values())
    assert all("rg_live_" not in path.read_text() for path in POLICIES.rglob("*.yaml"))


def test_loading_is_quick() -> None:
    """Half a second on a slow core; CPU time, since tests share the machine."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    load(POLICIES, at=AT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.5


def _large(folder: Path) -> Loaded:
    label = "{countries: [EU, EFTA], source: docs, verified: 2026-11-20, until: 2031-01-01}"
    endpoints = "".join(
        f"  e{n}:\n    provider: mistral\n    dialect: mistral\n    api_key: env:KEY_{n}\n    base_url: https://h{n}.example/v1\n"
        f"    processed_in: {label}\n    operated_under: [FR]\n    assurances: {{dpa: {{evidence: x}}, no-training: {{}}}}\n"
        f"    models: {{m{n % 20}: {{price: {{input: 1.65, output: 8.25}}}}}}\n"
        for n in range(200)
    )
    models = "".join(f"  m{n}: {{origin: [FR], context: 256000, languages: [en, fr]}}\n" for n in range(20))
    rules = "".join(
        f"  - {{id: r-{n}, when: {{region: [EEA, CH], tenant: [t{n % 50}], data_class: {{at_least: personal}}}}, "
        f"require: {{processed_in: [EEA, CH], operated_under: EEA, assurances: [dpa]}}, because: some law of number {n}}}\n"
        for n in range(300)
    )
    tenants = "".join(
        f"  t{n}:\n    facts: {{region: {{within: EEA, default: DE}}, data_class: {{within: {{at_least: personal}}}}}}\n"
        f"    keys: [{{id: k{n}, demo: true}}]\n"
        for n in range(50)
    )
    gateway = "gateway: {processed_in: [DE], operated_under: [DE], assurances: {dpa: {evidence: ours}}}\n"
    (folder / "catalogue.yaml").write_text(f"{gateway}endpoints:\n{endpoints}models:\n{models}")
    (folder / "rules.yaml").write_text(f"rules:\n{rules}")
    (folder / "tenants.yaml").write_text(f"tenants:\n{tenants}")
    return load(folder, at=AT)


def test_a_large_policy_loads_in_three_seconds(tmp_path: Path) -> None:
    before = time.process_time()
    loaded = _large(tmp_path)
    assert loaded.problems == loaded.warnings == ()
    assert loaded.snapshot is not None
    assert len(loaded.snapshot.policy.deployments) == 200
    assert time.process_time() - before < 3
