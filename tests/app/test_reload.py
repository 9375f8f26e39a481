"""Reloads of a running gateway: by its folder, a signal and the admin API; and a thousand of them under load."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from descriptors_left import nothing_to_open
from processes import CANARY, KEY, Gateway, Upstream, running, until, write_policies

from gateway.config.compile import load
from gateway.core.policy import Snapshot
from gateway.fleet import Fleet, InForce
from gateway.ledger.decisions import Recorded, decisions
from gateway.ledger.reading import Line, read
from gateway.ledger.replay import Replay
from gateway.pace import Pace
from gateway.worker import Worker, _report, _sync

TOKEN = {"authorization": "Bearer an admin's token"}
ADMIN = ("--admin-token", "env:TEST_ADMIN_TOKEN")


def policy(gateway: Gateway) -> tuple[str, Any]:
    """The etag and the body of what the admin API shows."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin_port, timeout=20)
    connection.request("GET", "/admin/v1/policy", headers=TOKEN)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    assert response.status == 200, body
    return response.headers["etag"], body


def edit(path: Path, old: str, new: str) -> None:
    """As an editor does it: another file in the place of the old one."""
    text = path.read_text()
    assert old in text
    part = path.with_name(".part")
    part.write_text(text.replace(old, new))
    part.replace(path)


def started(gateway: Gateway) -> Gateway:
    """This gateway, once it has looked at its folder for the first time."""
    until("the folder was read", lambda: '"reload_unchanged"' in gateway.log)
    return gateway


def test_a_change_that_comes_while_nothing_can_be_opened_is_served_afterwards(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        rules = started(gateway).policies / "residency.yaml"
        with nothing_to_open(gateway.process.pid, but=3):
            edit(rules, "our-own", "renamed")
            until("it is refused", lambda: '"reload_refused"' in gateway.log)
        assert "too many open files" in gateway.log and "no such folder" not in gateway.log
        until("it is served", lambda: '"reloaded"' in gateway.log)


def test_a_changed_folder_is_served_and_a_false_one_is_not(tmp_path: Path) -> None:
    with running(tmp_path, *ADMIN) as (gateway, _):
        rules = started(gateway).policies / "residency.yaml"
        before = policy(gateway)[1]
        assert (before["last_succeeded"], gateway.metric("gateway_reload_success")) == (True, 1)
        edit(rules, "our-own", "our-very-own")
        until("it is served", lambda: policy(gateway)[1]["snapshot"] != before["snapshot"])
        assert gateway.ask().status == 200
        served = policy(gateway)[1]
        claim = "claims:\n  - {id: french, always: {processed_in: FR}}\n"
        (gateway.policies / "claims.yaml").write_text(claim)
        until("it is refused", lambda: gateway.metric("gateway_reload_success") == 0)
        refused = policy(gateway)[1]
        assert refused["snapshot"] == served["snapshot"] and "`french`" in refused["last"]["problems"][0]
        assert "given:" in "\n".join(refused["last"]["problems"])  # the counterexample, as a case
        assert gateway.ask().status == 200 and "reload_refused" in gateway.log
        (gateway.policies / "claims.yaml").unlink()
        until("all is well", lambda: gateway.metric("gateway_reload_success") == 1)
        assert gateway.metric("gateway_reloads_total", result="applied") == 1
        assert gateway.metric("gateway_reloads_total", result="refused") == 1
        policy_hash, access_hash = served["policy"], served["access"]
        assert gateway.metric("gateway_snapshot_info", policy=policy_hash, access=access_hash) == 1
        assert gateway.metric("gateway_snapshot_loaded_timestamp_seconds") == pytest.approx(served["since"])


def test_a_revoked_key_is_refused_from_then_on(tmp_path: Path) -> None:
    with running(tmp_path, *ADMIN) as (gateway, _):
        started(gateway)
        assert gateway.ask().status == 200
        etag, body = policy(gateway)
        documents = body["documents"]
        documents["tenants.yaml"] = documents["tenants.yaml"].replace("{id: desk,", "{id: desk, revoked: true,")
        status, answer = gateway.admin("PUT", "/admin/v1/policy", {"documents": documents}, **TOKEN, if_match=etag)
        assert (status, answer["result"]) == (200, "applied"), answer
        assert gateway.ask().status == 401  # at once, with no waiting: the answer said so
        assert "revoked: true" in (gateway.policies / "tenants.yaml").read_text()
        (line,) = [e.record for e in read(gateway.state / "ledger") if isinstance(e, Line) and e.record["kind"] == "changed"]
        assert line["by"] == "admin policy (env:TEST_ADMIN_TOKEN)" and line["result"] == "applied"


def test_signals_and_changes_of_nothing(unharmed: Gateway) -> None:
    started(unharmed)
    unharmed.process.send_signal(signal.SIGHUP)
    until("it was heard", lambda: unharmed.metric("gateway_reloads_total", result="unchanged") == 2)
    assert unharmed.process.poll() is None and unharmed.ask().status == 200


def test_a_change_by_the_admin_api_and_back_again(tmp_path: Path) -> None:
    with running(tmp_path, *ADMIN, "--admin-token", "read=env:HOME") as (gateway, _):
        started(gateway)
        etag, body = policy(gateway)
        first = body["snapshot"]
        assert body["writable"] is True and body["owner"] is None
        changed = dict(body["documents"], **{"residency.yaml": body["documents"]["residency.yaml"].replace("our-own", "renamed")})
        put = {"documents": changed}
        assert gateway.admin("PUT", "/admin/v1/policy", put, **TOKEN)[0] == 428
        assert gateway.admin("PUT", "/admin/v1/policy", put, **TOKEN, if_match='"another"')[0] == 412
        reader = {"authorization": f"Bearer {Path.home()}"}
        status, answer = gateway.admin("PUT", "/admin/v1/policy", put, **reader, if_match=etag)
        assert (status, answer["error"]["code"]) == (403, "role_not_allowed")
        assert gateway.admin("GET", "/admin/v1/policy", **reader)[0] == 200
        status, answer = gateway.admin("POST", "/admin/v1/policy/check", {"documents": {"a.yaml": "rules: 3"}}, **reader)
        assert status == 422 and answer["problems"] and "a.yaml:1" in answer["problems"][0]
        assert gateway.admin("POST", "/admin/v1/policy/check", put, **TOKEN)[0] == 200
        assert policy(gateway)[1]["snapshot"] == first
        broken = {"documents": dict(changed, **{"residency.yaml": "rules:\n  - {id: x, permit: {provider: nobody}}\n"})}
        status, answer = gateway.admin("PUT", "/admin/v1/policy", broken, **TOKEN, if_match=etag)
        assert (status, answer["error"]["code"]) == (422, "policy_refused") and "nobody" in answer["error"]["message"]
        status, answer = gateway.admin("PUT", "/admin/v1/policy", put, **TOKEN, if_match=etag)
        assert status == 200 and answer["result"] == "applied" and answer["snapshot"] != first
        status, answer = gateway.admin("GET", "/admin/v1/policy/history", **TOKEN)
        assert [entry["how"] for entry in answer["history"]] == ["PUT", "start"]
        status, answer = gateway.admin("POST", "/admin/v1/policy/rollback", {}, **TOKEN, if_match=policy(gateway)[0])
        assert (status, answer["result"], answer["snapshot"]) == (200, "applied", first), answer
        assert policy(gateway)[1]["documents"] == body["documents"]
        status, answer = gateway.admin("POST", "/admin/v1/policy/rollback", {"to": "zz"}, **TOKEN, if_match=policy(gateway)[0])
        assert (status, answer["error"]["code"]) == (404, "unknown_snapshot")
        for name in ("../x.yaml", "x.txt"):
            sent = {"documents": {name: "rules: []"}}
            assert gateway.admin("PUT", "/admin/v1/policy", sent, **TOKEN, if_match=policy(gateway)[0])[0] == 400


def test_a_config_map_is_followed_and_not_written(tmp_path: Path) -> None:
    """As the kubelet does it: the documents are links through `..data`, a link that a rename swaps."""
    upstream = Upstream()
    write_policies(tmp_path / "plain", upstream.port)
    mounted = tmp_path / "policies"
    mounted.mkdir()

    def mount(generation: str, name: str) -> None:
        real = mounted / f"..{generation}"
        real.mkdir()
        for path in (tmp_path / "plain").iterdir():
            (real / path.name).write_text(path.read_text().replace("our-own", name))
            with contextlib.suppress(FileExistsError):
                (mounted / path.name).symlink_to(f"..data/{path.name}")
        (mounted / "..new").symlink_to(real.name)
        (mounted / "..new").rename(mounted / "..data")

    mount("one", "our-own")
    gateway = Gateway(tmp_path, upstream.port, *ADMIN)
    try:
        etag, body = policy(started(gateway.ready()))
        assert body["writable"] is False and "ConfigMap" in body["owner"]
        status, answer = gateway.admin("PUT", "/admin/v1/policy", {"documents": body["documents"]}, **TOKEN, if_match=etag)
        assert (status, answer["error"]["code"]) == (409, "folder_not_ours") and "ConfigMap" in answer["error"]["message"]
        mount("two", "from-the-second")
        until("the swap is served", lambda: policy(gateway)[1]["snapshot"] != body["snapshot"])
        assert gateway.ask().status == 200
    finally:
        gateway.kill()
        upstream.close()


# --- under load ---------------------------------------------------------------------------------------------------------------

SWAPS = 1_000
CALLERS = 6


def written(folder: Path, port: int, name: str) -> Snapshot:
    """A policy whose one deployment is `name`/m, allowed by a rule of that name."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(f"""\
gateway: {{processed_in: [DE], operated_under: [DE]}}
endpoints:
  {name}:
    provider: {name}
    dialect: vllm
    base_url: http://127.0.0.1:{port}/v1
    resolves_to: [127.0.0.0/8]
    processed_in: [DE]
    operated_under: [DE]
    models: {{m: {{price: {{input: 1, output: 2}}}}}}
models: {{m: {{origin: [FR], context: 32000, abilities: [tools], languages: [en]}}}}
rules:
  - {{id: only-{name}, permit: {{provider: {name}}}}}
tenants:
  office:
    facts: {{region: {{within: [DE], default: DE}}, data_class: {{within: [internal], default: internal}}}}
    keys: [{{id: desk, sha256: "{hashlib.sha256(KEY.encode()).hexdigest()}"}}]
""")
    snapshot = load(folder).snapshot
    assert snapshot is not None
    return snapshot


class Callers:
    """Clients that ask one request after the other until told to stop, and count what they get."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = threading.Event()
        self.statuses: list[int] = []
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": CANARY}]})
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        try:
            while not self.stop.is_set():
                connection.request("POST", "/v1/chat/completions", body, headers)
                response = connection.getresponse()
                response.read()
                self.statuses.append(response.status)
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
        finally:
            connection.close()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def two_upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    one, two = Upstream(), Upstream()
    try:
        yield one, two
    finally:
        one.close()
        two.close()


def test_a_thousand_swaps_under_load_lose_no_request_and_mix_no_two_snapshots(tmp_path: Path) -> None:
    """Two workers, two policies that share no deployment, and the ledger as the witness."""
    with two_upstreams() as (one, two):
        snapshots = [written(tmp_path / "one", one.port, "one"), written(tmp_path / "two", two.port, "two")]
        callers = asyncio.run(swapping(tmp_path, snapshots))
    assert callers.failures == [] and set(callers.statuses) == {200}
    found = list(decisions(tmp_path / "state" / "ledger"))
    assert all(isinstance(one, Recorded) for one in found) and len(found) == len(callers.statuses)
    by_hash = {snapshot.policy.hash: (snapshot, Replay(snapshot)) for snapshot in snapshots}
    decided: dict[str, int] = dict.fromkeys(by_hash, 0)
    for recorded in found:
        assert isinstance(recorded, Recorded) and recorded.settled is not None
        snapshot, replay = by_hash[recorded.decision["policy"]]
        decided[snapshot.policy.hash] += 1
        assert replay.same(recorded.decision, recorded.text)
        (sent,) = recorded.settled["attempts"]
        assert sent["route"] == snapshot.policy.deployments[0].id and sent["outcome"] == "served"
    assert min(decided.values()) > 20, decided


async def swapping(folder: Path, snapshots: list[Snapshot]) -> Callers:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    log: list[str] = []
    in_force = InForce(0, snapshots[0], {})
    fleet = Fleet(listener, folder / "state", in_force, lambda event, **_: log.append(event), workers=2, demo=False)
    fleet.start()
    await fleet.ready_once.wait()
    callers = await asyncio.to_thread(Callers, listener.getsockname()[1])
    try:
        for number in range(1, SWAPS + 1):
            wanted = snapshots[number % 2]
            await fleet.switch(wanted, {}, lambda: None)
            # the promise: whoever reports now reports the new one
            assert {report["snapshot"] for report in fleet.reports if report} == {wanted.hash}
    finally:
        await asyncio.to_thread(callers.join)
        await fleet.drain()
    assert log == ["draining"]
    return callers


def test_a_worker_that_does_not_answer_is_replaced_by_one_that_knows_only_the_new_snapshot(tmp_path: Path) -> None:
    async def run() -> None:
        with two_upstreams() as (one, two):
            snapshots = [written(tmp_path / "one", one.port, "one"), written(tmp_path / "two", two.port, "two")]
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            log: list[str] = []
            said = lambda event, **_: log.append(event)  # noqa: E731
            now = InForce(0, snapshots[0], {})
            fleet = Fleet(listener, tmp_path / "state", now, said, workers=2, demo=False, answer_s_max=0.5)
            fleet.start()
            async with asyncio.timeout(30):
                while sum(bool(report.get("ready")) for report in fleet.reports) < 2:  # noqa: ASYNC110 - reports are polled
                    await asyncio.sleep(0.01)
                stuck = fleet.processes[0]
                stuck.popen.send_signal(signal.SIGSTOP)
                await fleet.switch(snapshots[1], {}, lambda: None)
                assert all(process is not stuck for process in fleet.processes.values()) and "worker_replaced" in log
                while {report.get("snapshot") for report in fleet.reports} != {snapshots[1].hash} or len(fleet.processes) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await fleet.drain()

    asyncio.run(run())


async def comes(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110 - what is looked at has no event
        await asyncio.sleep(0.01)


def test_a_worker_that_says_nothing_any_more_is_replaced_and_not_one_whom_we_have_not_heard(tmp_path: Path) -> None:
    async def run() -> None:
        with two_upstreams() as (one, _):
            snapshot = written(tmp_path / "one", one.port, "one")
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            log: list[str] = []
            said = lambda event, **_: log.append(event)  # noqa: E731
            pace = Pace(report_s=0.05, look_s=0.05)
            now = InForce(0, snapshot, {})
            fleet = Fleet(listener, tmp_path / "state", now, said, workers=1, demo=False, silent_s_max=2.0, pace=pace)
            fleet.start()
            async with asyncio.timeout(30):
                await fleet.ready_once.wait()
                first = fleet.processes[0]
                time.sleep(2.5)  # noqa: ASYNC251 - it is we who stand still
                for _ in range(5):
                    heard = first.heard
                    await comes(lambda heard=heard: first.heard != heard)  # type: ignore[misc]
                assert fleet.processes[0] is first and fleet.ready and log == []
                first.popen.send_signal(signal.SIGSTOP)
                await comes(lambda: not fleet.ready)
                assert log[:1] == ["worker_replaced"]
                await comes(lambda: fleet.ready)
                assert fleet.processes[0] is not first
                await fleet.drain()

    asyncio.run(run())


def test_a_worker_that_waits_for_its_disk_goes_on_telling_how_it_is(tmp_path: Path) -> None:
    async def run() -> None:
        stuck, told = threading.Event(), 0

        class Stuck(Worker):
            """One whose disk does not answer."""

            def __init__(self) -> None:
                self.ledger = cast(Any, SimpleNamespace(sync=stuck.wait))
                self.clock = cast(Any, SimpleNamespace(resync=int))
                self.server = cast(Any, SimpleNamespace(ready=True))

            def report(self) -> bytes:
                nonlocal told
                told += 1
                return b""

        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        tasks = [asyncio.create_task(part) for part in (_report(Stuck(), writer, 0.01), _sync(Stuck(), 0.01))]
        async with asyncio.timeout(20):
            await comes(lambda: told >= 10)
        stuck.set()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        writer.close()
        theirs.close()

    asyncio.run(run())


def test_a_worker_that_does_not_end_when_it_is_told_to_is_not_waited_for_without_end(tmp_path: Path) -> None:
    async def run() -> None:
        with two_upstreams() as (one, _):
            snapshot = written(tmp_path / "one", one.port, "one")
            bounds = replace(snapshot.policy.bounds, drain_s_max=0.5)
            snapshot = replace(snapshot, policy=replace(snapshot.policy, bounds=bounds))
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            log: list[str] = []
            said = lambda event, **_: log.append(event)  # noqa: E731
            now = InForce(0, snapshot, {})
            fleet = Fleet(listener, tmp_path / "state", now, said, workers=2, demo=False, answer_s_max=0.5)
            fleet.start()
            async with asyncio.timeout(30):
                while sum(bool(report.get("ready")) for report in fleet.reports) < 2:  # noqa: ASYNC110 - reports are polled
                    await asyncio.sleep(0.01)
                fleet.processes[0].popen.send_signal(signal.SIGSTOP)
                await fleet.drain()
            assert log == ["draining", "worker_killed"] and not fleet.processes

    asyncio.run(run())
