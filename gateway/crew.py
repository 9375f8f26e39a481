"""How many workers there are on all machines that share a store, for all that is shared evenly among them: the room of endpoints,
and what each may use of a limit while the store is lost.

Each machine says how many it runs, every BEAT_S, and is told how many all run; one that says nothing for LEASE_S is gone, and one
that ends says so. Promises: nobody waits for it. More workers are believed at once, and shares shrink; fewer only if the store has
answered for LEASE_S without a break, in which whoever lives has spoken: when it is lost, or comes back empty, nobody has a larger
share. The number outlives a restart, in a file. While none was ever heard, nobody knows (None), and each worker takes as little as
it can. A worker that dies is replaced on its machine, and goes on to count.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.refused import in_words
from gateway.state.store.lua import SECONDS
from gateway.state.store.port import Asked, Script, Store, StoreLost
from gateway.whole import write_whole

FILE: Final = "crew"  # in the state folder: how many workers other machines had when they were last heard of
KEY: Final = "rg:{machines}"
BEAT_S: Final = 2.0  # how soon others hear of a machine; a script of 20 µs
LEASE_S: Final = 10  # five beats: a supervisor that is busy for a moment is not gone
SAY_S_MAX: Final = 1.0  # nobody waits for it
WORKERS_MAX: Final = 1_000_000  # a larger number is none of ours

SAY: Final = Script(
    "crew",
    SECONDS
    + """
-- KEYS: machines. ARGV: machine, how many workers (0: it is no more), for how long (s), now. Answers with how many there are.
local now = seconds(ARGV[4])
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%.17g', now + ARGV[3]))
  redis.call('EXPIRE', KEYS[1], 2 * ARGV[3])
end
local sum, all = 0, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local workers, ends = string.match(all[i + 1], '^(%d+) (%S+)$')
  if workers and tonumber(ends) > now then
    sum = sum + tonumber(workers)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return sum
""",
)


class Crew:
    """Those of one machine, and of all. `told` is told how many there are whenever that changes, and `log` too. Inside a loop."""

    def __init__(
        self,
        store: Store,
        machine: str,
        workers: int,
        state: Path,
        told: Callable[[int | None], None],
        log: Callable[..., None],
        *,
        now: Callable[[], float] = time.monotonic,
        store_now: Callable[[], str] = lambda: "",
    ) -> None:
        self._store = store
        self._machine = machine
        self._own = workers
        self._path = state / FILE
        self._told = told
        self._log = log
        self._now = now
        self._store_now = store_now
        self._others = self._written = self._kept()
        self._unsaid = False  # that nobody knows how many there are
        self._unbroken: float | None = None  # since when the store answers
        self._ended = False
        self._news = asyncio.Event()
        store.on_back(self._back)
        told(self.workers)

    @property
    def workers(self) -> int | None:
        """How many there are on all machines, as last known."""
        return None if self._others is None else self._own + self._others

    async def run(self) -> None:
        """Say it, and hear of others. Ends when cancelled."""
        while True:
            self._news.clear()
            await self.beat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), BEAT_S)

    async def beat(self) -> None:
        """Say it once, and go by the answer."""
        if self._ended:
            return
        try:
            found = await self._store.run(self._said(self._own), SAY_S_MAX)
        except StoreLost:
            self._unbroken = None
            if self._others is None and not self._unsaid:
                self._unsaid = True
                so = "each worker sends one request at a time to machines of ours, until the store answers"
                self._log("workers_sharing_unknown", so=so)
            return
        if isinstance(found, int) and self._own <= found <= WORKERS_MAX:
            self._heard(found - self._own)
            if self._written != self._others:
                self._written = self._others  # tried once for each number: a full disk is told once, and not every two seconds
                await asyncio.to_thread(self._keep)

    async def end(self) -> None:
        """Say that there are none here any more: nothing of theirs is under way. If that is lost, it is known after LEASE_S."""
        self._ended = True
        with contextlib.suppress(StoreLost):
            await self._store.run(self._said(0), SAY_S_MAX)

    def _said(self, workers: int) -> Asked:
        return Asked(SAY, (KEY,), (self._machine, workers, LEASE_S, self._store_now()))

    def _back(self) -> None:
        """The store answers again, and may have forgotten everybody: speak at once, and take nobody to be gone for a while."""
        self._unbroken = None
        self._news.set()

    def _heard(self, others: int) -> None:
        now = self._now()
        if self._unbroken is None:
            self._unbroken = now
        before = self._others
        if others == before or (before is not None and others < before and now - self._unbroken < LEASE_S):
            return
        self._others = others
        self._log("workers_sharing", workers=self.workers, before=None if before is None else self._own + before)
        self._told(self.workers)

    # --- over restarts ------------------------------------------------------------------------------------------------------

    def _kept(self) -> int | None:
        """How many others there were when this machine last heard of them."""
        try:
            found = self._path.read_text("ascii", "replace").strip()
        except OSError:
            return None
        return int(found) if found.isdecimal() and int(found) <= WORKERS_MAX else None

    def _keep(self) -> None:
        try:
            write_whole(self._path, b"%d" % (self._others or 0))
        except OSError as error:
            so = "after a restart with a lost store, shares are those of before"
            self._log("workers_sharing_not_kept", why=in_words(error), so=so)
