"""Messages between the supervisor and one worker, over the socket pair that only the two of them hold.

Down come commands, pickled, because a snapshot is a tree of our own frozen values and its sender is the worker's parent. Up go
reports, as JSON, because a process that reads clients' bytes must not be able to make its supervisor run anything.
"""

import asyncio
import pickle
import struct
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.core.caching import Spot
from gateway.core.live import Checked
from gateway.core.policy import Snapshot
from gateway.pace import PACE, Pace
from gateway.pickled import pickled

_LENGTH: Final = struct.Struct("!I")
AT_ONCE_BYTES_MAX: Final = 65_536  # of a command: 3 ms of an event loop. A snapshot with 10,000 keys is 2 MB, read beside the loop
REPORT_BYTES_MAX: Final = 16_777_216  # metrics of 50 tenants and 200 deployments are below 1 MB


@dataclass(frozen=True, slots=True)
class Start:
    """The first command: all that a worker needs to know. `secrets` are by endpoint id."""

    number: int
    snapshot: Snapshot
    secrets: dict[str, str | None]
    state: str  # folder
    demo: bool
    workers: int = 1  # how many there are on this machine
    sharing: int | None = 1  # and on all that share a store, as `Share`
    cordoned: frozenset[str] = frozenset()  # endpoints
    revoked: frozenset[bytes] = frozenset()  # sha256 of keys' texts
    epoch: int = 0  # of the snapshot: counts the switches from one to another
    stores: dict[str, str] = field(default_factory=dict, repr=False)  # URLs of shared stores by name; they may hold passwords
    cache_spot: Spot | None = None  # which of them the cache is in
    cache_secret: bytes = field(default=b"", repr=False)  # what seals it; also makes the key of what is said of prompts
    checked: dict[str, Checked] = field(default_factory=dict)  # endpoints, as `Health`
    pace: Pace = PACE


@dataclass(frozen=True, slots=True)
class Prepare:
    """Build all that serving under `snapshot` takes, and say so (`prepared`, or `trouble`); go on as before."""

    epoch: int
    snapshot: Snapshot
    secrets: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Commit:
    """From this moment begin requests under what was prepared as `epoch`, and say so (`epoch`)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Forget what was prepared as `epoch`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Cordon:
    """Begin no call at `endpoints`, and at all others as ever; say so (`cordoned`)."""

    endpoints: frozenset[str]


@dataclass(frozen=True, slots=True)
class Health:
    """What asking endpoints how they are has brought against them, by id; of all others nothing is known, or nothing bad."""

    endpoints: dict[str, Checked]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Let nobody in with a key of `digests` (sha256 of keys' texts; all there are); say how many they are (`revoked`)."""

    digests: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Share:
    """Have your even share of what all workers share so, of so many on all machines. None: nobody knows how many there are, so take
    as little as can be."""

    workers: int | None


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop accepting, finish what is under way, exit."""


Command = Start | Prepare | Commit | Abandon | Cordon | Health | Revoke | Share | Drain


def pack(command: Command) -> bytes:
    """A command as it goes over the wire."""
    body = pickled(command)
    return _LENGTH.pack(len(body)) + body


def pack_report(report: dict[str, Any]) -> bytes:
    """A report as it goes over the wire."""
    body = orjson.dumps(report)
    return _LENGTH.pack(len(body)) + body


async def read_command(reader: asyncio.StreamReader) -> Command | None:
    """The next command, or None when the supervisor is gone."""
    body = await _read(reader, None)
    if body is None:
        return None
    command: Command
    if len(body) <= AT_ONCE_BYTES_MAX:
        command = pickle.loads(body)
    else:
        command = await asyncio.get_running_loop().run_in_executor(None, pickle.loads, body)
    return command


async def read_report(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next report, or None when the worker is gone or says what no worker says."""
    body = await _read(reader, REPORT_BYTES_MAX)
    if body is None:
        return None
    try:
        report = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return report if isinstance(report, dict) else None


async def _read(reader: asyncio.StreamReader, bytes_max: int | None) -> bytes | None:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if bytes_max is not None and length > bytes_max:
            return None
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
