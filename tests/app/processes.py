"""A real gateway for tests: supervisor and workers as processes, real sockets, and an upstream whose streams a test holds back.

Nothing sleeps to let things happen: `until` polls for what can be seen from outside, up to a deadline.
"""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 20.0  # a machine that is busy with other tests is slow, and not wrong
KEY: Final = "rg_live_desk_" + "5ec2e7" * 10 + "cafe"
CANARY: Final = "the canary sings at 4711"

T = TypeVar("T")


def until(what: str, look: Callable[[], T]) -> T:
    """What `look` finds, once that is true. Errors of connections mean: not yet."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := look():
                return found
        time.sleep(0.01)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Upstream:
    """An engine that answers at once; its streams bring one word, and go on when `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if body.get("stream"):
                    upstream._stream(self)
                else:
                    upstream._answer(self, body["model"])

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, to: BaseHTTPRequestHandler, model: str) -> None:
        message = {"role": "assistant", "content": "hello"}
        answer = {
            "id": "1", "object": "chat.completion", "created": 1, "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        }  # fmt: skip
        body = json.dumps(answer).encode()
        to.send_response(200)
        to.send_header("content-type", "application/json")
        to.send_header("content-length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    def _stream(self, to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("content-type", "text/event-stream")
        to.send_header("transfer-encoding", "chunked")
        to.end_headers()
        with contextlib.suppress(OSError):
            self._event(to, {"content": "first"}, None)
            self.go.wait(PATIENCE_S)
            self._event(to, {"content": "last"}, None)
            self._event(to, {}, "stop")
            self._chunk(to, b"data: [DONE]\n\n")
            to.wfile.write(b"0\r\n\r\n")

    def _event(self, to: BaseHTTPRequestHandler, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        self._chunk(to, b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, to: BaseHTTPRequestHandler, data: bytes) -> None:
        to.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        to.wfile.flush()

    def close(self) -> None:
        """Stop answering."""
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


def write_policies(folder: Path, upstream_port: int, limits: str = "{attempts_max: 4}", caching: str = "[]") -> None:
    """One endpoint of our own at `upstream_port`, one tenant, one key."""
    folder.mkdir()
    (folder / "catalogue.yaml").write_text(f"""\
gateway: {{processed_in: [DE], operated_under: [DE]}}
limits: {limits}
cache: {caching}
endpoints:
  here:
    provider: ours
    dialect: vllm
    base_url: http://127.0.0.1:{upstream_port}/v1
    resolves_to: [127.0.0.0/8]
    processed_in: [DE]
    operated_under: [DE]
    models: {{m: {{price: {{input: 1, output: 2}}}}}}
models: {{m: {{origin: [FR], context: 32000, abilities: [tools], languages: [en]}}}}
""")
    (folder / "residency.yaml").write_text("rules:\n  - {id: our-own, permit: {provider: ours}}\n")
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "tenants.yaml").write_text(f"""\
tenants:
  office:
    facts: {{region: {{within: [DE], default: DE}}, data_class: {{within: [internal], default: internal}}}}
    keys: [{{id: desk, sha256: "{digest}", disclose: [cache]}}]
""")


class Gateway:
    """`gateway serve` as a process of its own; `hasty`, unless it is to be at the pace that people meet."""

    def __init__(
        self, folder: Path, upstream_port: int, *more: str, port: int | None = None, limits: str = "{attempts_max: 4}",
        caching: str = "[]", hasty: bool = True,
    ) -> None:
        self.policies, self.state = folder / "policies", folder / "state"
        if not self.policies.exists():
            write_policies(self.policies, upstream_port, limits, caching)
        self.port, self.ops_port, self.admin_port = port or free_port(), free_port(), free_port()
        self._log_path = folder / "log"
        serve = [str(Path(__file__).with_name("hasty.py"))] if hasty else ["-m", "gateway", "serve"]
        command = [sys.executable, *serve, "--policies", str(self.policies), "--state", str(self.state)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--ops-port", str(self.ops_port), *more]
        command += ["--admin-port", str(self.admin_port)]
        with self._log_path.open("ab") as log:
            environment = {**os.environ, "TEST_ADMIN_TOKEN": "an admin's token"}
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log_path.read_text()

    def ready(self) -> "Gateway":
        """This gateway, once it says that it is ready."""
        try:
            until("ready", lambda: self.process.poll() is not None or self.ops("/readyz")[0] == 200)
        except AssertionError:
            raise AssertionError(self.log) from None
        assert self.process.poll() is None, f"it has ended with {self.process.returncode}, having said: {self.log}"
        return self

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(word) for word in children.read_text().split()]
        return [process for process in found if b"gateway.worker" in Path(f"/proc/{process}/cmdline").read_bytes()]

    def ops(self, path: str) -> tuple[int, str]:
        """Status and body of a path of the ops port."""
        return get(self.ops_port, path)

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample, or None if it is not shown."""
        _, text = self.ops("/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def ask(self, *, stream: bool = False, **more: Any) -> http.client.HTTPResponse:
        """One request, on a connection of its own; `more` is put into its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        body = {"model": "m", "messages": [{"role": "user", "content": CANARY}], "stream": stream, **more}
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return connection.getresponse()

    def admin(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a call to the admin API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE_S)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, json.dumps(body), {"content-type": "application/json", **given})
        response = connection.getresponse()
        found = response.status, json.loads(response.read() or b"null")
        connection.close()
        return found

    def end(self) -> int:
        """Ask it to stop and wait; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Clean up, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def running(
    folder: Path, *more: str, limits: str = "{attempts_max: 4}", caching: str = "[]", hasty: bool = True
) -> Iterator[tuple[Gateway, Upstream]]:
    """A gateway that is ready, and its upstream."""
    upstream = Upstream()
    gateway = Gateway(folder, upstream.port, *more, limits=limits, caching=caching, hasty=hasty)
    try:
        yield gateway.ready(), upstream
    finally:
        gateway.kill()
        upstream.close()
