"""Large answers in the cache: threads compress, seal and open them, small ones none; and whoever leaves meanwhile leaves nothing.

The threads are those of a pool that a test can hold, so nothing here depends on how long anything takes.
"""

import asyncio
import base64
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from inprocess import run
from small_world import NOW, snapshot
from store_servers import Server, eventually, opened, single
from test_cache_units import SECRET, SERVED, Clock, decision

from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping
from gateway.core.exchange import Attempt, Needs, Recall, Request
from gateway.ports import Patience
from gateway.state.cache.apart import LARGE_BYTES
from gateway.state.cache.cache import SharedCache
from gateway.state.cache.form import Form
from gateway.state.cache.place import SharedPlace
from gateway.upstream.kept import ChatForm
from gateway.upstream.vectors import EmbeddingsForm

ATTEMPT = Attempt(1, snapshot().policy.deployments[0])
LARGE = base64.b64encode(random.Random(1).randbytes(LARGE_BYTES))  # which compresses to three quarters
SMALL = LARGE[:1_000]


class Threads(ThreadPoolExecutor):
    """A loop's threads. What is to be done is noted; what is called `held` begins once it is let go."""

    def __init__(self) -> None:
        super().__init__(2)
        self.asked: list[str] = []
        self.held = ""
        self.go = threading.Event()

    def submit(self, act: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        self.asked.append(act.__name__)
        return super().submit(self._act, act, *given, **named)

    def _act(self, act: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if act.__name__ == self.held:
            self.go.wait()
        return act(*given, **named)


@dataclass
class Kept:
    """A cache on a real store."""

    cache: SharedCache
    threads: Threads
    counted: list[str] = field(default_factory=list)
    defects: list[BaseException] = field(default_factory=list)

    def place(self, api: str = "embeddings", *, stream: bool = False) -> SharedPlace:
        needs, body = Needs(api, prompt_tokens=9), {"model": "alpha", "input": "hello"}
        request = Request("rg-1", "", api, "alpha", decision(()).facts, needs, body, 9, stream, False, frozenset(), NOW)
        found = self.cache.place(request, Keeping("tenant/lab", 60, ""), Patience())
        assert found is not None
        return found


@asynccontextmanager
async def keeping(server: Server) -> AsyncIterator[Kept]:
    loop, threads = asyncio.get_running_loop(), Threads()
    loop.set_default_executor(threads)
    async with opened(server.url) as store:
        forms: dict[str, Form] = {"embeddings": EmbeddingsForm(), "chat": ChatForm()}
        counted, defects = list[str](), list[BaseException]()
        cache = SharedCache(store, SECRET, forms, Bounds(), Clock(), loop, counted.append, defects.append)
        try:
            yield Kept(cache, threads, counted, defects)
        finally:
            threads.go.set()
            await cache.close()
    assert not defects, defects


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


async def filled(kept: Kept, body: bytes) -> None:
    """Look, find nothing, and have `body` kept."""
    place = kept.place()
    found = await place.find(None)
    assert found is not None and found.how is Recall.MISS
    place.keep(ATTEMPT, SERVED, body)
    place.leave()


async def given(kept: Kept) -> bytes | None:
    """What is there."""
    place = kept.place()
    found = await place.find(None)
    place.leave()
    return None if found is None or found.kept is None else found.kept.body


@pytest.mark.parametrize(("body", "threads"), [(SMALL, []), (LARGE, ["answer", "seal", "open"])])
def test_threads_do_what_is_large(server: Server, body: bytes, threads: list[str]) -> None:
    async def main() -> None:
        async with keeping(server) as kept:
            await filled(kept, body)
            await kept.cache.idle()
            assert await given(kept) == body
            assert kept.threads.asked == threads
            assert kept.counted == ["kept"]

    run(main)


def test_a_long_stream_is_put_together_by_a_thread(server: Server) -> None:
    async def main() -> None:
        async with keeping(server) as kept:
            place = kept.place("chat", stream=True)
            await place.find(None)
            client = place.collecting(Unheard())
            word: Any = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            whole = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "alpha", "choices": [word]}
            event = b"data: " + orjson.dumps(whole) + b"\n\n"
            for _ in range(LARGE_BYTES // len(event) + 1):
                client.write(event)
            whole["choices"] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
            client.write(b"data: " + orjson.dumps(whole) + b"\n\ndata: [DONE]\n\n")
            place.keep(ATTEMPT, SERVED, None)
            place.leave()
            await kept.cache.idle()
            assert kept.threads.asked == ["answer_of"], "what is kept is a fiftieth of it"
            assert kept.counted == ["kept"]

    run(main)


def test_what_is_too_long_to_be_kept_is_not_looked_at(server: Server) -> None:
    async def main() -> None:
        async with keeping(server) as kept:
            await filled(kept, LARGE * 4)
            await kept.cache.idle()
            assert kept.threads.asked == []
            assert kept.counted == ["unfit"]

    run(main)


def test_who_stands_in_line_while_it_is_read_is_given_it(server: Server) -> None:
    async def main() -> None:
        async with keeping(server) as kept:
            kept.threads.held = "answer"
            await filled(kept, LARGE)
            await eventually(lambda: kept.threads.asked == ["answer"])
            equal, hasty = kept.place(), kept.place()
            waiting, leaving = (asyncio.ensure_future(place.find(None)) for place in (equal, hasty))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait((leaving,))
            hasty.leave()
            kept.threads.go.set()
            found = await waiting
            equal.leave()
            assert found is not None and found.kept is not None
            assert (found.how, found.kept.body) == (Recall.JOINED, LARGE)
            await kept.cache.idle()
            assert len(kept.cache.flights) == 0

    run(main)


@pytest.mark.parametrize("at", ["answer", "seal", "open"])
def test_a_worker_that_stops_meanwhile_leaves_nothing_behind(server: Server, at: str) -> None:
    async def main() -> None:
        async with keeping(server) as kept:
            kept.threads.held = at
            await filled(kept, LARGE)
            if at == "open":
                await kept.cache.idle()
                place = kept.place()
                opening = asyncio.ensure_future(place.find(None))
                await eventually(lambda: at in kept.threads.asked)
                opening.cancel()
                await asyncio.wait((opening,))
                place.leave()
            await eventually(lambda: at in kept.threads.asked)
            await kept.cache.close()
            await kept.cache.idle()
            assert len(kept.cache.flights) == 0
            assert kept.cache._leases == {}
            kept.threads.go.set()
            assert kept.counted == (["kept"] if at == "open" else [])

    run(main)


class Unheard:
    """A client that hears nothing."""

    gone = False

    def on_gone(self, callback: Any) -> None: ...

    def on_writable(self, callback: Any) -> None: ...

    def begin_stream(self, headers: Any) -> None: ...

    def write(self, events: bytes) -> None: ...

    def forward(self, chunk: bytes, begin: int) -> None: ...

    def end_stream(self, problem: Any) -> None: ...
