"""What was done to the gateway itself, and by whom: the supervisor's own chain in the ledger's folder.

    prev, kind: "changed", at, by, how, result, from, to, why

`by` is who asked (a role and where its token comes from, a signal, the folder), never a token. `from` and `to` are snapshots;
they are empty where none is changed (`how`: cordon, uncordon, purge, revoke), and `why` says what it is about.
"""

from pathlib import Path
from threading import Lock

import orjson

from gateway.ledger.segments import Chain
from gateway.ports import Clock


class ChangeLog:
    """The chain is begun with the first change, so that a gateway that never changes leaves no file."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._chain: Chain | None = None
        self._writing = Lock()  # the disk is waited for in threads, and a chain has one line after another

    def changed(self, by: str, how: str, result: str, before: str, after: str, why: str = "") -> None:
        """Keep one change, on the disk when this returns. Blocks for as long as the disk takes. Raises OSError."""
        with self._writing:
            if self._chain is None:
                self._chain = Chain(self._folder, "supervisor", self._clock.now)
            said = {"by": by, "how": how, "result": result, "from": before, "to": after, "why": why}
            line = {"kind": "changed", "at": self._clock.now(), **said}
            self._chain.append(orjson.dumps(line))
            self._chain.sync()

    def close(self) -> None:
        """Sync and close. Raises OSError."""
        if self._chain is not None:
            self._chain.close()
