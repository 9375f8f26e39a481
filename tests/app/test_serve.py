"""`gateway serve` as an SRE meets it: ready, asked, drained, killed."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from serving import ADMIN_TOKEN, KEY, ROOT, Gateway, serving, until, write_policy

from gateway.simulators import Simulator


def test_it_serves_records_and_tells(tmp_path: Path) -> None:
    async def run() -> None:
        async with Simulator("vllm", models={"small"}) as simulator, serving(tmp_path, simulator) as gateway:
            assert await gateway.get("ops", "/healthz") == (200, '{"status":"alive"}')
            assert await gateway.get("ops", "/readyz") == (200, '{"status":"ready"}')
            status, text = await gateway.chat()
            assert status == 200 and json.loads(text)["choices"]
            status, text = await gateway.get(
                "data", "/v1/chat/completions", headers={"x-gateway-region": "CN"}, body={"model": "auto", "messages": [{"role": "user", "content": "x"}]}
            )
            assert status == 403 and json.loads(text)["error"]["code"] == "no_route_allowed" and "not-for-china" in text
            assert [record["kind"] for record in gateway.records()] == ["opened", "begun", "settled", "settled"]
            assert KEY not in str(gateway.records())
            await until(lambda: _metric(gateway, 'gateway_requests_total{', "served"))
            assert (await simulator.received(1))[0].body["model"] == "small"

    asyncio.run(run())


async def _metric(gateway: Gateway, name: str, word: str) -> bool:
    status, text = await gateway.get("ops", "/metrics")
    assert status == 200
    return any(line.startswith(name) and word in line for line in text.splitlines())


def test_the_admin_api_explains_and_keeps_others_out(tmp_path: Path) -> None:
    async def run() -> None:
        async with Simulator("vllm", models={"small"}) as simulator, serving(tmp_path, simulator) as gateway:
            admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
            question = {"tenant": "office", "asked": "auto", "region": "CN"}
            status, text = await gateway.get("admin", "/admin/v1/decide", body=question, headers=admin)
            assert status == 200 and "not-for-china" in text
            whole = {"key": "desk", "headers": {}, "body": {"model": "auto", "messages": [{"role": "user", "content": "canary"}]}}
            status, text = await gateway.get("admin", "/admin/v1/decide", body=whole, headers=admin)
            assert status == 200 and "here/small" in text and "canary" not in text
            status, text = await gateway.get("admin", "/admin/v1/endpoints", headers=admin)
            assert status == 200 and json.loads(text)["endpoints"][0]["deployment"] == "here/small"
            for headers, expected in (
                ({}, 401),
                ({**admin, "host": "evil.example"}, 403),
                ({**admin, "origin": "https://evil.example"}, 403),
            ):
                assert (await gateway.get("admin", "/admin/v1/endpoints", headers=headers))[0] == expected
            assert (await gateway.get("admin", "/admin/v1/decide", body={"asked": "auto", "tenant": "nobody"}, headers=admin))[0] == 404
            assert (await gateway.get("admin", "/admin/v1/decide", body={"askd": "auto"}, headers=admin))[0] == 400
            assert len(simulator.journal) == 0
            assert [record["kind"] for record in gateway.records()] == ["opened"]

    asyncio.run(run())


def test_sigterm_lets_a_stream_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    async def run() -> None:
        script = [{"fault": {"kind": "hold", "at": "after_chunks", "after": 3}}]
        async with Simulator("vllm", models={"small"}, script=script) as simulator, serving(tmp_path, simulator) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["data"])
            body = json.dumps({"model": "auto", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            received = await reader.readuntil(b"data: ")
            await simulator.holding(1)
            gateway.process.send_signal(signal.SIGTERM)
            await until(lambda: _refuses(gateway))
            assert gateway.process.returncode is None
            simulator.release()
            received += await reader.read(-1)
            assert b"data: [DONE]" in received and received.endswith(b"0\r\n\r\n")
            writer.close()
            assert await gateway.process.wait() == 0
            assert [record["result"] for record in gateway.records() if record["kind"] == "settled"] == ["served"]

    asyncio.run(run())


async def _refuses(gateway: Gateway) -> bool:
    return (await gateway.get("data", "/v1/models"))[0] == 0


def test_a_dead_worker_is_replaced_and_its_counts_stay(tmp_path: Path) -> None:
    async def run() -> None:
        async with Simulator("vllm", models={"small"}) as simulator, serving(tmp_path, simulator) as gateway:
            assert (await gateway.chat())[0] == 200
            await until(lambda: _metric(gateway, "gateway_requests_total{", " 1.0"))
            (first,) = gateway.workers()
            subprocess.run(["kill", "-9", str(first)], check=True)

            async def replaced() -> bool:
                return gateway.workers() not in ([], [first]) and (await gateway.get("ops", "/readyz"))[0] == 200

            await until(replaced)
            assert (await gateway.chat())[0] == 200
            await until(lambda: _metric(gateway, "gateway_requests_total{", " 2.0"))

    asyncio.run(run())


def test_a_dead_supervisor_takes_its_workers_along(tmp_path: Path) -> None:
    async def run() -> None:
        async with Simulator("vllm", models={"small"}) as simulator, serving(tmp_path, simulator, "--workers", "2") as gateway:

            async def both() -> bool:
                return len(gateway.workers()) == 2

            await until(both)
            workers = gateway.workers()
            gateway.process.kill()
            await gateway.process.wait()

            async def gone() -> bool:
                return not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in workers)

            await until(gone)

    asyncio.run(run())


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    write_policy(tmp_path / "policies", "http://127.0.0.1:9/v1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "gateway", "serve", "--policies", str(tmp_path / "policies"), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--state", str(tmp_path / "state")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.strip() == f"can't listen on 127.0.0.1 port {port}: address already in use; is another gateway running?"
