"""What the rest of the gateway asks of the shared store. One implementation stands beside this file; tests pass in fakes.

Promises: nobody waits longer than `WAIT_S` for an answer. A store that does not answer is not asked for a while (`up` is False),
and whoever asks all the same is told `StoreLost` at once. What was asked and not answered may have been done or not, so everything
that is asked is written so that doing it twice is the same as doing it once, or errs on the side that takes away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

WAIT_S: Final = 0.05  # an answer beside us takes 0.2 ms, from the next rack 1 ms; a request has better things to wait for


class StoreLost(Exception):
    """The store did not answer in time, said no, or is not being asked just now. It may have done what it was asked, or not."""


@dataclass(frozen=True, slots=True)
class Script:
    """Lua that runs in the store as one step. Everything that it touches is named in KEYS, and all of KEYS share one hash tag, so
    that it runs in a Cluster."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One run of a script. `keys` have a hash tag in braces: `rg:{tenant/lab}:requests`."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...] = ()


class Store(Protocol):
    """Redis or Valkey: single, behind Sentinels, or a Cluster."""

    @property
    def up(self) -> bool:
        """Whether asking makes sense. False: the last answers failed, and it is being tried again in the background."""
        ...

    async def run(self, asked: Asked, wait_s: float = WAIT_S) -> Any:
        """What the script returns: bytes, int, None or a list of those. Raises StoreLost within `wait_s`."""
        ...

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        """All of `asked` in one pipeline; an answer each, in their order, a StoreLost in place of one that failed alone.

        Raises StoreLost within `wait_s` if none was answered.
        """
        ...

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell whoever listens on `channel` now. Raises StoreLost."""
        ...

    def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        """Have `heard` called for each message on `channel`, from now on and across reconnections; what is published while there
        is no connection is missed, so what matters is kept under a key as well, and `on_back` is when to read it."""
        ...

    def on_back(self, back: Callable[[], None]) -> None:
        """Have `back` called each time the store answers after having been lost, and once when it first answers. It may have
        forgotten everything."""
        ...
