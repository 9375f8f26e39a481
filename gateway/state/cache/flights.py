"""Equal requests of one worker at the same moment: one leads, the others wait for what it gets.

Who finds in the store what is too old for it, but not for others, is in another flight than those who have not looked: nobody waits
who need not.

Promises: there is a leader for as long as anybody waits. One that fails or is cancelled hands on to the next in line; one that got
an answer that can't be given to others lets all go, each by itself.
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from gateway.core.exchange import Recall
from gateway.state.cache.looked import Looked
from gateway.state.cache.sealing import Entry


class Turn(Enum):
    """What one in line is told, if not an answer."""

    LEAD = "it is your turn to get it"
    ALONE = "go by yourself: there is nothing to wait for"


@dataclass(frozen=True, slots=True)
class Landed:
    """What the leader got, and how; of a like request, with that likeness; out of the store, with its seal."""

    entry: Entry
    how: Recall
    likeness: float | None = None
    seal: bytes = b""


Told = Landed | Turn


@dataclass(slots=True)
class Flight:
    """What equal requests of this worker share. `lease` is the token under which its leader holds one in the store, and `looked`
    how that was got; None: none is held."""

    line: deque[asyncio.Future[Told]] = field(default_factory=deque)
    lease: str = ""
    looked: Looked | None = None


class Flights:
    """All that are under way in one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._flights: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def board(self, key: Hashable) -> tuple[Flight, asyncio.Future[Told] | None]:
        """The flight for `key`, and what to wait for; None: it is yours to lead."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight()
            return flight, None
        waiting: asyncio.Future[Told] = self._loop.create_future()
        flight.line.append(waiting)
        return flight, waiting

    def end(self, key: Hashable, told: Landed | Turn) -> None:
        """Tell all in line, and be done. Nothing happens where `key` has no flight."""
        flight = self._flights.pop(key, None)
        for waiting in flight.line if flight is not None else ():
            if not waiting.done():
                waiting.set_result(told)

    def hand_on(self, key: Hashable) -> Flight | None:
        """Give the lead to the next in line; the flight, if nobody was: it is over."""
        flight = self._flights[key]
        while flight.line:
            waiting = flight.line.popleft()
            if not waiting.done():
                waiting.set_result(Turn.LEAD)
                return None
        return self._flights.pop(key)

    @staticmethod
    def leave(flight: Flight, waiting: asyncio.Future[Told]) -> None:
        """Wait no longer."""
        if not waiting.done():
            waiting.cancel()
        if waiting in flight.line:
            flight.line.remove(waiting)
