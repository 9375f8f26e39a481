"""What workers and machines tell each other of places that shut: a hint, through the shared store.

Promises: a hint opens a breaker at most half, so that whoever hears of trouble sends one request to see for itself, and it never
closes one; a lost store takes nothing from what each worker learns by itself; nobody waits for any of it. It says a place of the
catalogue, its address, a word of ours and a time; nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway import defects
from gateway.ports import Clock
from gateway.state.live import LocalLive
from gateway.state.store.port import Asked, Script, Store, StoreLost

CHANNEL: Final = "rg:hints"
KEY: Final = "rg:{hints}"  # place -> the last hint; for whoever starts, or was away
KEPT_MS: Final = 3_600_000  # after the last one: as long as the longest time that a place is shut for
TOLD_MAX: Final = 32  # under way at once: a store that is slow must not gather tasks

KEEP: Final = Script("hint", "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('PEXPIRE', KEYS[1], ARGV[3])")
READ: Final = Script("hints", "return redis.call('HVALS', KEYS[1])")


class Hints:
    """Those of one worker. `who` tells it from all others; `defect` is told of our own bugs."""

    def __init__(self, store: Store, live: LocalLive, clock: Clock, who: str, defect: Callable[[BaseException], None]) -> None:
        self._store = store
        self._live = live
        self._clock = clock
        self._who = who
        self._defect = defect
        self._tasks: set[asyncio.Task[None]] = set()
        live.tell = self._tell
        store.listen(CHANNEL, self._heard)
        store.on_back(self._back)

    def close(self) -> None:
        """Tell nobody anything more."""
        self._live.tell = None
        for task in self._tasks:
            task.cancel()

    # --- telling ----------------------------------------------------------------------------------------------------------

    def _tell(self, place: str, at: str, word: str, until: float) -> None:
        if self._store.up and len(self._tasks) < TOLD_MAX:
            hint = orjson.dumps({"from": self._who, "place": place, "at": at, "word": word, "until": until})
            self._start(self._send(place, hint))

    async def _send(self, place: str, hint: bytes) -> None:
        await self._store.publish(CHANNEL, hint)
        await self._store.run(Asked(KEEP, (KEY,), (place, hint, KEPT_MS)))

    # --- hearing ----------------------------------------------------------------------------------------------------------

    def _back(self) -> None:
        self._start(self._read())

    async def _read(self) -> None:
        for hint in await self._store.run(Asked(READ, (KEY,))) or ():
            self._heard(hint)

    def _heard(self, hint: bytes) -> None:
        """Whatever it says: what is not a hint of ours is passed over."""
        try:
            said = orjson.loads(hint)
        except orjson.JSONDecodeError:
            return
        if not isinstance(said, dict) or said.get("from") == self._who:
            return
        place, at, until = said.get("place"), said.get("at"), said.get("until")
        if isinstance(place, str) and isinstance(at, str) and isinstance(until, int | float):
            self._live.hint(place, at, float(until), self._clock.now())

    def _start(self, telling: Any) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if (error := defects.of(task, StoreLost)) is not None:
            self._defect(error)
