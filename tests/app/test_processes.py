"""Supervisor and workers as processes: they start, drain, are replaced and go down as designed, and nothing is lost on the way."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from descriptors_left import nothing_to_open
from processes import CANARY, KEY, ROOT, Gateway, alive, running, until, write_policies

from gateway.ledger.reading import Line, read

REQUESTS = {"tenant": "office", "api": "chat", "result": "served"}


def served(gateway: Gateway) -> float:
    return gateway.metric("gateway_requests_total", **REQUESTS) or 0


def test_a_request_is_served_recorded_counted_and_not_quoted(tmp_path: Path) -> None:
    with running(tmp_path, hasty=False) as (gateway, _):
        answer = gateway.ask()
        assert answer.status == 200, answer.read()
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "hello"
        until("the exchange is counted", lambda: served(gateway) == 1)
        assert gateway.metric("gateway_ready") == 1
        assert gateway.metric("gateway_workers") == 1
        assert gateway.metric("gateway_tokens_total", deployment="here/m", kind="input") == 7
        assert gateway.metric("gateway_cost_usd_total", tenant="office", deployment="here/m", basis="reported") == 11e-6
        assert gateway.ops("/healthz")[0] == 200
        (line,) = [json.loads(line) for line in gateway.log.splitlines() if '"serving"' in line]
        assert line["port"] == gateway.port and line["ops_port"] == gateway.ops_port and line["deployments"] == 1
        assert line["policy"]
        metrics = gateway.ops("/metrics")[1]
        assert gateway.end() == 0
        entries = list(read(gateway.state / "ledger"))
        records = [entry.record for entry in entries if isinstance(entry, Line)]
        assert len(records) == len(entries) and [record["kind"] for record in records] == ["begun", "settled"]
        assert records[1]["attempts"][0]["address"].startswith("127.0.0.1:") and records[1]["cost_usd"] == "0.000011"
        kept = b"".join(path.read_bytes() for path in (gateway.state / "ledger").iterdir()).decode()
        for text in (kept, metrics, gateway.log):
            assert CANARY not in text and KEY not in text and KEY.rsplit("_", 1)[1] not in text


def test_a_worker_has_loaded_the_data_path_and_nothing_else(unharmed: Gateway) -> None:
    """Of a real worker that has served: its native modules and its memory. (Pure modules: `test_layers`.)"""
    unharmed.ask().read()
    (worker,) = unharmed.workers()
    loaded = Path(f"/proc/{worker}/maps").read_text()
    assert "httptools" in loaded and "uvloop" in loaded
    assert not [word for word in ("pydantic", "ruamel", "z3", "prometheus") if word in loaded]
    rollup = Path(f"/proc/{worker}/smaps_rollup").read_text()
    pss_kb = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss_kb < 60_000


def test_a_stream_under_way_is_finished_before_the_gateway_stops(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, upstream):
        answer = gateway.ask(stream=True)
        assert b"first" in answer.readline()
        gateway.process.send_signal(signal.SIGTERM)
        until("it drains", lambda: gateway.ops("/readyz") == (503, '{"status":"draining"}'))
        assert gateway.process.poll() is None
        until("nobody new is let in", lambda: _refused(gateway.port))
        upstream.go.set()
        rest = answer.read()
        assert b"last" in rest and rest.rstrip().endswith(b"data: [DONE]")
        assert gateway.process.wait(20) == 0
        records = [entry.record for entry in read(gateway.state / "ledger") if isinstance(entry, Line)]
        assert records[-1]["result"] == "served"


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        answer = gateway.ask(stream=True)
        assert b"first" in answer.readline()
        gateway.process.send_signal(signal.SIGINT)
        until("it drains", lambda: gateway.ops("/readyz")[0] == 503)
        workers = gateway.workers()
        gateway.process.send_signal(signal.SIGINT)
        gateway.process.wait(10)
        until("the workers are gone", lambda: not any(map(alive, workers)))


def test_a_stream_that_outlasts_the_drain_is_not_waited_for(tmp_path: Path) -> None:
    with running(tmp_path, limits="{drain_s_max: 1}") as (gateway, _):
        answer = gateway.ask(stream=True)
        assert b"first" in answer.readline()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0
        records = [entry.record for entry in read(gateway.state / "ledger") if isinstance(entry, Line)]
        assert [record["kind"] for record in records] == ["begun", "settled"]


def test_a_signal_while_it_starts_is_obeyed(tmp_path: Path) -> None:
    upstream_port = 9
    for number in range(4):  # at four moments of the start: each as soon as something more can be seen
        folder = tmp_path / str(number)
        folder.mkdir()
        gateway = Gateway(folder, upstream_port)
        try:
            look = (
                lambda gateway=gateway: (gateway.state / "ledger").exists(),
                lambda gateway=gateway: bool(gateway.workers()),
                lambda gateway=gateway: list((gateway.state / "ledger").iterdir()),
                lambda gateway=gateway: '"serving"' in gateway.log,
            )[number]
            until("it has come so far", look)
            workers = gateway.workers()
            assert gateway.end() in (0, -signal.SIGTERM)
            until("nobody is left", lambda workers=workers: not any(map(alive, workers)))  # type: ignore[misc]
        finally:
            gateway.kill()


def test_a_dead_worker_is_replaced_and_its_counters_stay(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        for _ in range(3):
            gateway.ask().read()
        until("they are counted", lambda: served(gateway) == 3)
        (first,) = gateway.workers()
        os.kill(first, signal.SIGKILL)
        until("its death is noticed", lambda: gateway.metric("gateway_worker_exits_total") == 1)
        assert served(gateway) == 3
        until("another one serves", lambda: gateway.ops("/readyz")[0] == 200)
        assert first not in gateway.workers()
        gateway.ask().read()
        until("both are added up", lambda: served(gateway) == 4)
        assert '"worker_died"' in gateway.log
        assert gateway.end() == 0
        chains = {path.name.rsplit("-", 1)[0] for path in (gateway.state / "ledger").iterdir()}
        assert len(chains) == 2
        assert all(isinstance(entry, Line) for entry in read(gateway.state / "ledger"))


def test_a_ledger_that_can_not_be_written_is_told_and_what_is_asked_meanwhile_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        (worker,) = gateway.workers()
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, before[1]))  # as good as a full disk
        assert gateway.ask().status == 503
        until("it is told", lambda: '"ledger_lost"' in gateway.log)
        assert "file too large" in gateway.log and str(gateway.state / "ledger") in gateway.log
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        assert gateway.ask().status == 200
        until("it is told", lambda: '"ledger_back"' in gateway.log)


def test_as_many_descriptors_as_may_be_are_had_and_too_few_are_told(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # what it starts with is this process'
    try:
        with running(tmp_path, limits=f"{{exchanges_max: {hard // 2 + 1}}}") as (gateway, _):
            (worker,) = gateway.workers()
            assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (hard, hard)
            assert gateway.ask().status == 200
            assert '"few_descriptors"' in gateway.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_few_descriptors_to_do_anything_with_are_one_clear_line(tmp_path: Path) -> None:
    write_policies(tmp_path / "policies", 9)
    serve = f"{sys.executable} -m gateway serve --policies {tmp_path}/policies --state {tmp_path}/state"
    ended = subprocess.run(["sh", "-c", f"ulimit -n 100; exec {serve}"], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "100" in line and "256" in line and "LimitNOFILE" in line


def test_a_worker_that_can_open_nothing_more_says_so_and_is_not_ready(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _), contextlib.ExitStack() as held:
        (worker,) = gateway.workers()
        with nothing_to_open(worker, but=5):
            for _ in range(8):
                held.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            until("it is not ready", lambda: gateway.ops("/readyz") == (503, '{"status":"no worker takes connections"}'))
            until("it is told", lambda: '"descriptors_used_up"' in gateway.log)
            assert '"worker 0"' in gateway.log and "too many open files" in gateway.log and "LimitNOFILE" in gateway.log
        until("it is ready again", lambda: gateway.ops("/readyz")[0] == 200)
        until("it is told", lambda: '"descriptors_back"' in gateway.log)
        assert gateway.ask().status == 200


def test_a_supervisor_that_can_open_nothing_more_says_so(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        with nothing_to_open(gateway.process.pid):
            until("it is told", lambda: '"descriptors_used_up"' in gateway.log)
            assert '"supervisor"' in gateway.log
            assert gateway.ask().status == 200  # workers have their own
        until("it is told", lambda: '"descriptors_back"' in gateway.log)
        assert gateway.ops("/readyz")[0] == 200


def test_a_worker_that_can_not_be_started_is_started_later(tmp_path: Path) -> None:
    with running(tmp_path) as (gateway, _):
        (first,) = gateway.workers()
        with nothing_to_open(gateway.process.pid):
            os.kill(first, signal.SIGKILL)
            until("it is told", lambda: '"worker_not_started"' in gateway.log)
            assert "too many open files" in gateway.log
        until("another one serves", lambda: gateway.ops("/readyz")[0] == 200)
        assert gateway.ask().status == 200


def test_a_dead_supervisor_takes_all_down(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as (gateway, _):
        until("both workers run", lambda: gateway.metric("gateway_workers") == 2)
        workers = gateway.workers()
        assert len(workers) == 2
        gateway.process.kill()
        gateway.process.wait()
        until("its workers are gone", lambda: not any(map(alive, workers)))
        until("the port is free", lambda: _refused(gateway.port))


def test_it_is_ready_within_two_seconds_on_one_core(tmp_path: Path) -> None:
    """Generous by a factor, because other tests share the machine; the benchmark measures it properly."""
    began = time.monotonic()
    with running(tmp_path):
        assert time.monotonic() - began < 10


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway = Gateway(tmp_path, 9, port=taken.getsockname()[1])
        assert gateway.process.wait(20) == 1
    (line,) = gateway.log.splitlines()
    assert str(gateway.port) in line and "in use" in line


def test_an_ops_port_in_use_stops_the_start_with_a_clear_line(unharmed: Gateway, tmp_path: Path) -> None:
    second = Gateway(tmp_path, 9, "--ops-port", str(unharmed.ops_port))
    try:
        assert second.process.wait(20) == 1
    finally:
        second.kill()
    assert f"port {unharmed.ops_port}" in second.log and "Traceback" not in second.log
    assert unharmed.ops("/readyz")[0] == 200


def test_a_state_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    gateway = Gateway(tmp_path, 9)
    try:
        assert gateway.process.wait(20) == 1
    finally:
        gateway.kill()
    assert "state" in gateway.log and "Traceback" not in gateway.log
