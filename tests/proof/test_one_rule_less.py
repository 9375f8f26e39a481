"""The shipped policy with one rule taken out: the claim that rested on it is answered with a request, which really goes there."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from inprocess import InProcess, in_process, run

from gateway.__main__ import main
from gateway.app import redirected
from gateway.clock import SystemClock
from gateway.config.compile import load
from gateway.config.demo_keys import demo_key
from gateway.core.policy import Snapshot
from gateway.question import decision
from gateway.state.watching import Watched
from gateway.upstream.upstreams import Upstreams
from gateway.worker import addresses_of

SHIPPED = Path(__file__).resolve().parents[2] / "policies"
RULE, CLAIM = "patients-on-our-machines", "patients-only-with-us"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
CARELESS = "  - {id: careless, permit: {}}\n"


def without(folder: Path, rule: str) -> Path:
    """The shipped policy in `folder`, less one rule."""
    shutil.copytree(SHIPPED, folder)
    path = folder / "residency.yaml"
    head, *items = path.read_text().split("\n  - ")
    kept = [item for item in items if f"id: {rule}\n" not in item and not item.startswith(f"{{id: {rule},")]
    assert len(kept) == len(items) - 1
    path.write_text("\n  - ".join([head, *kept]) + "\n")
    return folder


def compiled(folder: Path) -> Snapshot:
    found = load(folder).snapshot
    assert found is not None
    return found


def proved(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code of `gateway policy prove`, and what it says of each claim."""
    code = main(["policy", "prove", "--policies", str(folder), "--json"])
    return code, {claim["claim"]: claim for claim in json.loads(capsys.readouterr().out)["claims"]}


def test_the_shipped_policy_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    code, claims = proved(SHIPPED, capsys)
    assert code == 0 and {claim["status"] for claim in claims.values()} == {"proved"}


def test_prove_prints_a_request_its_deployment_and_its_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = without(tmp_path / "policies", RULE)
    assert main(["policy", "prove", "--policies", str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"the claim `{CLAIM}` (claims.yaml:11) is false; a request may reach mistral-eu/glm-5.2 (provider: mistral)" in out
    assert "# it may go to mistral-eu/glm-5.2 (provider: mistral), let through by europe-for-europeans" in out
    assert "given: {tenant: clinic, key: ward-3, asked: auto}" in out
    assert out.count("is proved for all requests") == len(compiled(SHIPPED).policy.claims) - 1


def test_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, claims = proved(without(tmp_path / "policies", RULE), capsys)
    assert code == 1 and [name for name, claim in claims.items() if claim["status"] == "false"] == [CLAIM]
    against = claims[CLAIM]["counterexample"]
    assert (against["witness"], against["rules"]) == ("mistral-eu/glm-5.2", ["europe-for-europeans"])
    assert against["question"] == {"tenant": "clinic", "key": "ward-3", "asked": "auto"}


def test_check_says_no_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = without(tmp_path / "policies", RULE)
    shutil.rmtree(folder / "cases")  # which know of that rule: the claim alone has to be reason enough
    assert main(["policy", "check", "--policies", str(folder)]) == 1
    assert f"the claim `{CLAIM}` (claims.yaml:11) is false" in capsys.readouterr().out


def test_a_careless_permit_opens_only_what_no_require_closes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "policies")
    path = folder / "residency.yaml"
    path.write_text(path.read_text().replace("rules:\n", f"rules:\n{CARELESS}", 1))
    code, claims = proved(folder, capsys)
    assert code == 1 and [name for name, claim in claims.items() if claim["status"] != "proved"] == ["nothing-of-europe-in-china"]
    against = claims["nothing-of-europe-in-china"]["counterexample"]  # its operator is French, and where it computes nobody says
    assert (against["witness"], against["label"]) == ("mistral-global/mistral-medium-3.5", "processed_in: nobody vouches for it")
    assert against["rules"] == ["careless"]


# --- and is it really sent there? ---------------------------------------------------------------------------------------------


def under(gateway: InProcess, snapshot: Snapshot) -> None:
    """Let `gateway` begin requests under `snapshot`, as a worker does after a reload. Its endpoints are at the simulators."""
    known = {deployment.endpoint.id for deployment in snapshot.policy.deployments}
    moved = redirected(snapshot, {name: found.base_url for name, found in gateway.simulators.items() if name in known})
    clock, world = SystemClock(), gateway.plane.world
    loop = asyncio.get_running_loop()
    upstreams = Upstreams(gateway.transport, addresses_of(moved, {}), dict.fromkeys(known), world.bounds, clock, loop)
    gateway.plane.demo = True  # the shipped keys are those of the demo
    gateway.live.adopt(world.bounds, moved.policy.deployments, ())
    gateway.plane.adopt(gateway.plane.prepare(moved), replace(world, upstream=Watched(upstreams, gateway.live, clock)))


def test_the_counterexample_is_really_sent_to_the_deployment_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = without(tmp_path / "policies", RULE)
    _, claims = proved(folder, capsys)
    against = claims[CLAIM]["counterexample"]
    snapshot, shipped = compiled(folder), compiled(SHIPPED)
    routes = [route.deployment.id for route in decision(snapshot, against["question"]).routes]
    better, witness = routes[: routes.index(against["witness"])], against["witness"]
    assert better == ["frankfurt/glm-5.1"]
    down = {"frankfurt": [{"fault": {"kind": "error", "status": 503}}]}  # claims hold over failover, and so do their opposites

    async def asking() -> None:
        key = demo_key(against["question"]["key"])
        async with (
            in_process({"frankfurt": "vllm", "mistral-eu": "mistral"}, down) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client,
        ):
            mistral = gateway.simulators["mistral-eu"]
            under(gateway, snapshot)
            await client.chat.completions.create(model=against["question"]["asked"], messages=HELLO)
            (sent,) = await mistral.received(1)
            assert sent.body["model"] == {d.id: d.upstream_model for d in snapshot.policy.deployments}[witness]
            under(gateway, shipped)
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model=against["question"]["asked"], messages=HELLO)
            assert len(mistral.journal) == 1, "with the rule in place it is not sent there"
            first, second = gateway.ledger.settlements
            assert [tried.attempt.deployment.id for tried in first.tried] == [*better, witness]
            assert {tried.attempt.deployment.id for tried in second.tried} <= set(better)

    run(asking)
