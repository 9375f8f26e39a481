"""`make bench`: what the gateway costs, as ratios to the floor (floor.py), in one run on one machine.

usage: ratios.py [--seconds N] [--rounds N] [--json], or ratios.py --practise COMMAND
Both are on processor 0, load and upstream on processor 1, and are asked in turn: floor, gateway, floor, gateway, … The figure is the
CPU time (user and system) of the workers' process group, which a noisy neighbour disturbs less than wall time; a ratio is the median
over all pairs. What the store beside the gateway takes is told apart. The gateway is the one that `make native` compiled. It serves
50 deployments under 100 rules (world.py), with facts that differ in each request, keys, a ledger on disk and metrics on; then once
more for a tenant with rates and budgets, and for one whose answers are kept. What those cost more, or less, is the median over many
short turns with plain requests: a machine that is shared changes its speed within seconds by more than what is looked for.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import world

HERE = pathlib.Path(__file__).resolve().parent
UPSTREAM_PORT, FLOOR_PORT, GATEWAY_PORT = 9001, 9100, 9180
PLAIN = "plain request, 64 connections"
LIMITED = "the same, with rates and budgets"
HIT = "the same, a hit in the cache"
CELLS = (  # label, connections, kind, prompt characters, per what, the ratio that must not be passed
    ("plain request, 1 connection", 1, "plain", 400, "ok", None),
    (PLAIN, 64, "plain", 400, "ok", 2.0),
    ("streamed chunk, 50 at once", 50, "stream", 400, "chunks", 1.0),
    ("100 kB prompt, 16 connections", 16, "plain", 100_000, "ok", 1.5),
)
MORE = (  # label, key, whether all prompts are one; of the gateway alone, as PLAIN otherwise
    (LIMITED, world.LIMITED_KEY, False),
    (HIT, world.CACHED_KEY, True),
)
STORE = "valkey-server"
PRACTISE_S = 2.0  # a cell
PAIRS = 2  # of floor and gateway, a cell and round
TURNS = 5  # of plain requests and others, a round
LIMITS_FLOORS_MAX = 0.3  # what rates, budgets and breakers may add to a plain request, in floors
READY_S_MAX, WORKER_MB_MAX = 2.0, 60.0


@dataclass
class Running:
    """A server under measurement. `group` is the process group that is charged; None until known."""

    process: subprocess.Popen[bytes]
    port: int
    key: str
    model: str
    headers: str
    began: float

    def members(self, what: str = "gateway.worker") -> Iterator[int]:
        """The processes that are charged: a gateway's workers (or those of `what`), or the floor."""
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                fields = pathlib.Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                command = pathlib.Path(f"/proc/{name}/cmdline").read_text()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid and (self.port == FLOOR_PORT or what in command):
                yield int(name)

    def cpu_s(self, what: str = "gateway.worker") -> float:
        """As the scheduler counts it: `stat` has hundredths of a second, which are a tenth of a turn."""
        spent_ns = 0
        for process in self.members(what):
            for thread in os.listdir(f"/proc/{process}/task"):
                with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
                    spent_ns += int(pathlib.Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0])
        return spent_ns / 1e9

    def memory_mb(self) -> float:
        sizes = []
        for process in self.members():
            lines = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            sizes.append(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024)
        return max(sizes, default=0.0)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start(command: list[str], port: int, key: str, model: str, headers: str, folder: pathlib.Path) -> tuple[Running, float]:
    """Start a server on processor 0 and wait for its first answer; returns it and the seconds that took."""
    began = time.monotonic()
    with (folder / f"{port}.log").open("ab") as log:
        environment = {**os.environ, "BENCH_API_KEY": "not-a-secret"}
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command], start_new_session=True, stdout=log, stderr=log, cwd=HERE.parent.parent, env=environment
        )
    running = Running(process, port, key, model, headers, began)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    known = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    while time.monotonic() - began < 30:
        if process.poll() is not None:
            break
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, known)
            urllib.request.urlopen(request, timeout=5).read()
            if process.poll() is None:
                return running, time.monotonic() - began
        except urllib.error.HTTPError as error:
            running.stop()
            raise SystemExit(f"port {port} answered {error.code}: {error.read().decode()}") from error
        except OSError:
            time.sleep(0.01)
    if process.poll() is None:
        running.stop()
    raise SystemExit(f"nothing of ours answers on port {port}:\n{(folder / f'{port}.log').read_text()[-3000:]}")


def wait_for(port: int) -> None:
    """Wait until somebody listens on `port`."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing listens on port {port}") from None
            time.sleep(0.01)


def load(
    running: Running, connections: int, kind: str, chars: int, seconds: float, key: str = "", *, same: bool = False
) -> dict[str, float]:
    """Run load.py on processor 1 and add what it cost. `key` if not the usual one; `same`: all prompts are one."""
    before, store_before = running.cpu_s(), running.cpu_s(STORE)
    arguments = [running.port, "/v1/chat/completions", connections, seconds, kind, running.model, key or running.key, chars]
    environment = {**os.environ, "LOAD_HEADERS": running.headers, "LOAD_SAME": "1" if same else ""}
    command = ["taskset", "-c", "1", sys.executable, str(HERE / "load.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout)
    if result["errors"] or not result["ok"]:
        raise SystemExit(f"errors under load on port {running.port}, {connections} connections, {kind}, {chars} characters: {result}")
    result["cpu_us"] = (running.cpu_s() - before) * 1e6
    result["store_us"] = (running.cpu_s(STORE) - store_before) * 1e6
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="a cell (4)")
    parser.add_argument("--rounds", type=int, default=3, help="floor and gateway are started, so often (3)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--practise", metavar="COMMAND", help="measure nothing: have the gateway COMMAND serve some of each cell")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two processors are needed: one for the gateway, one for load and upstream")
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = pathlib.Path(name)
        world.write(folder / "policies", UPSTREAM_PORT)
        upstream = subprocess.Popen(["taskset", "-c", "1", sys.executable, str(HERE / "upstream.py"), str(UPSTREAM_PORT), "100", "10"])
        try:
            wait_for(UPSTREAM_PORT)
            if options.practise:
                return practise(folder, options.practise)
            return report(measure(folder, options.seconds, options.rounds), as_json=options.json)
        finally:
            upstream.terminate()
            upstream.wait()


def serving(command: str, folder: pathlib.Path) -> list[str]:
    """How the gateway `command` is started; all that is its own is in `folder`."""
    ports = ["--port", str(GATEWAY_PORT), "--ops-port", "9181"]
    return [command, "serve", "--policies", str(folder / "policies"), *ports, "--state", str(folder / "state")]


def practise(folder: pathlib.Path, command: str) -> int:
    """Have the gateway `command` serve some requests of each cell, so that whoever compiles it can see which ways they take."""
    running, _ = start(serving(command, folder), GATEWAY_PORT, world.KEY, "auto", world.headers(), folder)
    try:
        for _, connections, kind, chars, _, _ in CELLS:
            load(running, connections, kind, chars, PRACTISE_S)
        for _, key, same in MORE:
            load(running, 64, "plain", 400, PRACTISE_S, key, same=same)
    finally:
        running.stop()
    return 0


def measure(folder: pathlib.Path, seconds: float, rounds: int) -> dict[str, Any]:
    """All rounds of all cells. CPU in µs, memory in MB, ready in seconds."""
    floor = [sys.executable, "-m", "uvicorn", "--port", str(FLOOR_PORT), "--no-access-log", "--log-level", "warning"]
    floor += ["--loop", "uvloop", "--http", "httptools", "--app-dir", str(HERE), "floor:app"]
    gateway = serving(str(pathlib.Path(sys.executable).with_name("gateway-native")), folder)
    cells: dict[str, dict[str, list[float]]] = {
        cell[0]: {"floor": [], "gateway": [], "beside": [], "store": [], "p50": [], "p99": []} for cell in (*CELLS, *MORE)
    }
    ready, memory = [], []
    for _ in range(rounds):
        bare, _ = start(floor, FLOOR_PORT, "k", "m", "", folder)
        try:
            running, ready_s = start(gateway, GATEWAY_PORT, world.KEY, "auto", world.headers(), folder)
            try:
                measure_cells(cells, bare, running, seconds)
                measure_more(cells, running, seconds)
                ready.append(ready_s)
                memory.append(running.memory_mb())
            finally:
                running.stop()
        finally:
            bare.stop()
    return {"cells": cells, "ready_s": ready, "worker_mb": memory}


def measure_cells(cells: dict[str, dict[str, list[float]]], bare: Running, running: Running, seconds: float) -> None:
    """Floor and gateway in turn: whoever is not asked sleeps."""
    for each in (bare, running):
        load(each, 8, "plain", 400, 1.0)  # warm up
    for label, connections, kind, chars, per, _ in CELLS:
        for _ in range(PAIRS):
            result = load(bare, connections, kind, chars, seconds)
            cells[label]["floor"].append(result["cpu_us"] / result[per])
            result = load(running, connections, kind, chars, seconds)
            cells[label]["gateway"].append(result["cpu_us"] / result[per])
            cells[label]["store"].append(result["store_us"] / result[per])
            cells[label]["p50"].append(result["p50_ms"])
            cells[label]["p99"].append(result["p99_ms"])


def measure_more(cells: dict[str, dict[str, list[float]]], running: Running, seconds: float) -> None:
    """Plain requests of the gateway's, and others, in many short turns."""
    for label, of, same in MORE:
        load(running, 8, "plain", 400, 1.0, of, same=same)
        for _ in range(TURNS):
            beside = load(running, 64, "plain", 400, seconds / TURNS)
            result = load(running, 64, "plain", 400, seconds / TURNS, of, same=same)
            cells[label]["beside"].append(beside["cpu_us"] / beside["ok"])
            cells[label]["floor"].append(cells[PLAIN]["floor"][-1])
            cells[label]["gateway"].append(result["cpu_us"] / result["ok"])
            cells[label]["store"].append(result["store_us"] / result["ok"])
            cells[label]["p50"].append(result["p50_ms"])
            cells[label]["p99"].append(result["p99_ms"])


def report(measured: dict[str, Any], *, as_json: bool) -> int:
    """Print the ratios; 1 if one passes what it may be."""
    cells: dict[str, dict[str, list[float]]] = measured["cells"]
    rows, missed = [], 0
    for label, most in (*((cell[0], cell[5]) for cell in CELLS), (LIMITED, None), (HIT, None)):
        found = cells[label]
        ratio = statistics.median(ours / floor for ours, floor in zip(found["gateway"], found["floor"], strict=True))
        over = most is not None and ratio > most
        missed += over
        rows.append({
            "what": label, "floor_us": round(statistics.median(found["floor"]), 1), "gateway_us": round(statistics.median(found["gateway"]), 1),
            "store_us": round(statistics.median(found["store"]), 1), "ratio": round(ratio, 2), "at_most": most, "p50_ms": round(statistics.median(found["p50"]), 1), "p99_ms": round(statistics.median(found["p99"]), 1),
        })  # fmt: skip
    floors = zip(cells[LIMITED]["gateway"], cells[LIMITED]["beside"], cells[LIMITED]["floor"], strict=True)
    added = statistics.median((limited - plain) / floor for limited, plain, floor in floors)
    hit = statistics.median(kept / plain for kept, plain in zip(cells[HIT]["gateway"], cells[HIT]["beside"], strict=True))
    missed += (added > LIMITS_FLOORS_MAX) + (hit >= 1.0)
    ready_s, worker_mb = statistics.median(measured["ready_s"]), max(measured["worker_mb"])
    missed += (ready_s > READY_S_MAX) + (worker_mb > WORKER_MB_MAX)
    if as_json:
        told = {"cells": rows, "limits_floors": round(added, 2), "hit_of_plain": round(hit, 2), "ready_s": ready_s, "worker_mb": worker_mb}
        print(json.dumps(told))
        return int(missed > 0)
    print(f"{'CPU per':32}{'floor µs':>10}{'gateway µs':>12}{'store µs':>10}{'ratio':>8}{'at most':>9}{'p50 ms':>9}{'p99 ms':>9}")
    for row in rows:
        goal = f"{row['at_most']:.1f}" if row["at_most"] else "-"
        print(f"{row['what']:32}{row['floor_us']:>10}{row['gateway_us']:>12}{row['store_us']:>10}{row['ratio']:>8}{goal:>9}{row['p50_ms']:>9}{row['p99_ms']:>9}")
    print(f"rates and budgets add {added:.2f} floors (at most {LIMITS_FLOORS_MAX}); a hit costs {hit:.2f} of a relayed request (less than 1)")
    print(f"ready after {ready_s:.2f} s (at most {READY_S_MAX:.0f}); {worker_mb:.0f} MB a worker after load (at most {WORKER_MB_MAX:.0f})")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
