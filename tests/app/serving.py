"""A real `gateway serve` in a process of its own, before a simulator: for tests that look at processes."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.simulators import Simulator

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "rg_live_desk_" + hashlib.sha256(b"a key for tests").hexdigest()
ADMIN_TOKEN = "an-admin-token-for-tests"
PATIENCE_S = 20.0

POLICY = """
gateway: {{processed_in: [DE], operated_under: [DE]}}
endpoints:
  here:
    provider: ours
    dialect: vllm
    base_url: {base_url}
    resolves_to: [127.0.0.0/8]
    processed_in: [DE]
    operated_under: [DE]
    models: {{small: {{price: {{input: 1, output: 2}}}}}}
models: {{small: {{origin: [FR], context: 8000, languages: [en]}}}}
aliases: {{auto: [small]}}
rules:
  - {{id: ours, permit: {{provider: ours}}}}
  - {{id: not-for-china, when: {{region: CN}}, forbid: {{processed_in: DE}}, because: a test}}
tenants:
  office:
    facts: {{region: {{within: [EEA, CN], default: DE}}, data_class: {{within: {{at_least: public}}, default: internal}}}}
    keys: [{{id: desk, sha256: "{digest}", disclose: [endpoint]}}]
"""


@dataclass
class Gateway:
    """A running `gateway serve`: its ports, its log, and its processes."""

    process: asyncio.subprocess.Process
    ports: dict[str, int]
    state: Path

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split() if "gateway.worker" in Path(f"/proc/{pid}/cmdline").read_text()]

    async def get(self, port: str, path: str, *, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """(status, text) of a request to one of the ports; status 0: nobody listens."""
        return await asyncio.to_thread(self._get, port, path, body, headers or {})

    def _get(self, port: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        known = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[port]}{path}", data, known)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    async def chat(self, **more: Any) -> tuple[int, str]:
        """One chat request."""
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **more}
        return await self.get("data", "/v1/chat/completions", body=body)

    def records(self) -> list[dict[str, Any]]:
        """All lines of the ledger."""
        lines = [line for path in sorted((self.state / "ledger").glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it is so. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not await what():
            await asyncio.sleep(0.02)


def write_policy(folder: Path, base_url: str) -> None:
    folder.mkdir()
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "policy.yaml").write_text(POLICY.format(base_url=base_url, digest=digest))


@contextlib.asynccontextmanager
async def serving(folder: Path, simulator: Simulator, *more: str) -> AsyncIterator[Gateway]:
    """`gateway serve` on free ports, ready."""
    write_policy(folder / "policies", simulator.base_url)
    command = [sys.executable, "-m", "gateway", "serve", "--policies", str(folder / "policies"), "--state", str(folder / "state")]
    command += ["--host", "127.0.0.1", "--port", "0", "--ops-port", "0", "--admin-port", "0", "--admin-token", "env:ADMIN_TOKEN", *more]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, "ADMIN_TOKEN": ADMIN_TOKEN}, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            line = (await process.stderr.readline()).decode()
        found = dict(re.findall(r'"(port|ops_port|admin_port)": (\d+)', line))
        assert len(found) == 3, line
        ports = {"data": int(found["port"]), "ops": int(found["ops_port"]), "admin": int(found["admin_port"])}
        yield Gateway(process, ports, folder / "state")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
