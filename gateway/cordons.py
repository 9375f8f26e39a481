"""Endpoints that get no requests because somebody said so: for work on a machine, or an outage that no breaker sees.

Promises: when `change` returns, no worker begins a call there, and what is under way goes on to its end; what was said outlives
every process, for it stands in a file before it is done; and in the ledger stands who said it.
"""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from gateway.ledger.changes import ChangeLog
from gateway.whole import write_whole

FILE: Final = "cordoned.json"


class Unreadable(Exception):
    """What is wrong with the file, and what would mend it."""


class Fleet(Protocol):
    """What is asked of the workers' keeper."""

    @property
    def cordoned(self) -> frozenset[str]: ...

    async def cordon(self, endpoints: frozenset[str]) -> None: ...


class Cordons:
    """All of one gateway."""

    def __init__(self, fleet: Fleet, state: Path, changes: ChangeLog) -> None:
        self._fleet = fleet
        self._state = state
        self._changes = changes
        self._changing = asyncio.Lock()

    async def change(self, endpoint: str, by: str, *, cordoned: bool) -> None:
        """Have `endpoint` cordoned or not. `by` is who asked. Raises OSError if that can't be kept; then nothing changes."""
        async with self._changing:
            before = self._fleet.cordoned
            after = before | {endpoint} if cordoned else before - {endpoint}
            if after == before:
                return
            await asyncio.to_thread(self._keep, before, after, by, "cordon" if cordoned else "uncordon", f"endpoint {endpoint}")
            await self._fleet.cordon(after)

    def _keep(self, before: frozenset[str], after: frozenset[str], by: str, how: str, what: str) -> None:
        write_cordoned(self._state, after)
        try:
            self._changes.changed(by, how, "applied", "", "", what)
        except OSError:
            write_cordoned(self._state, before)
            raise


def read_cordoned(state: Path) -> frozenset[str]:
    """The ids of the endpoints that are cordoned. Raises Unreadable: whoever cordoned one relies on it."""
    path = state / FILE
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        raise Unreadable(f"can't read which endpoints are cordoned from {path}: {error}; mend the file, or remove it") from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise Unreadable(f"{path} is not a list of endpoints; mend the file, or remove it and none is cordoned")
    return frozenset(found)


def write_cordoned(state: Path, endpoints: Iterable[str]) -> None:
    """Keep which are, whole or not at all. Raises OSError."""
    write_whole(state / FILE, json.dumps(sorted(endpoints)).encode())
