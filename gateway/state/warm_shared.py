"""What workers and machines tell each other of the prompts that places have read, through the shared store: the next turn of a
conversation finds its place whichever worker it comes to.

Promises: nobody waits for any of it, and a lost store takes nothing from what each worker has noted itself; what is told and what
is taken in is bounded, whatever comes; who reads the store learns no prompt, and without our secret can't tell whether a guess is
right. A message says places of the catalogue, their addresses, digests, tokens and seconds; nothing is kept in the store.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway import defects
from gateway.core.policy import Policy
from gateway.ports import Clock
from gateway.state.store.port import Store, StoreLost
from gateway.state.warm import DIGEST_BYTES, WarmPrefixes

CHANNEL: Final = "rg:warm"
LABEL: Final = b"residency-gateway warm prefixes 1"  # what the secret of digests is derived by
BEAT_S: Final = 0.2  # what is noted meanwhile is told in one message: the next turn of a conversation takes longer to be written
NOTES_MAX: Final = 256  # told in a beat, and read of one message: 150 requests a second that nobody has heard of. More are not told
TAKEN_MAX: Final = 2_048  # taken in during a beat, of all others together: 1% of a worker's time. More are passed over
BYTES_MAX: Final = 65_536  # of a message; a longer one is not of ours, and not read
TOKENS_MAX: Final = 10_000_000  # longer than any prompt


class NoNote(Exception):
    """A message of a shape that no worker sends."""


class WarmShared:
    """Those of one worker, which `known` has. `who`, 16 hex digits, tells it from all others; `defect` is told of our own bugs, and
    once of messages that are none."""

    def __init__(
        self, store: Store, known: WarmPrefixes, clock: Clock, who: str, defect: Callable[[BaseException], None]
    ) -> None:
        self._store = store
        self._known = known
        self._clock = clock
        self._who = who.encode() + b" "
        self._defect = defect
        self._at: Mapping[str, str] = {}  # deployment id -> its address
        self._for_s = 0.0  # no place is taken to know anything for longer
        self._listening = False
        self._odd = False
        self._notes: list[tuple[bytes, str, int, float]] = []  # to be told with the next beat
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        self._taken = 0  # since `_since`
        self._since = 0.0

    def adopt(self, policy: Policy) -> None:
        """Tell and hear of the places of `policy`; of nothing, and at no cost, if it has no `affinity`."""
        affinity = policy.affinity
        if affinity is None:
            self._at, self._known.tell = {}, None
            return
        self._at = {deployment.id: deployment.endpoint.at for deployment in policy.deployments}
        self._for_s = float(affinity.for_s)
        self._known.tell = self._tell
        if not self._listening:
            self._listening = True
            self._store.listen(CHANNEL, self._heard)

    def close(self) -> None:
        """Tell nobody anything more, and hear nothing."""
        self._at, self._known.tell = {}, None
        if self._timer is not None:
            self._timer.cancel()
        if self._telling is not None:
            self._telling.cancel()

    # --- telling ------------------------------------------------------------------------------------------------------------

    def _tell(self, digest: bytes, deployment: str, tokens: int, until: float) -> bool:
        if len(self._notes) >= NOTES_MAX or not self._store.up:
            return False
        self._notes.append((digest, deployment, tokens, until))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        return True

    def _beat(self) -> None:
        self._timer = None
        notes, self._notes = self._notes, []
        if self._telling is not None or not self._store.up:
            return  # these are never told: they would be old, and others do without
        now = self._clock.now()
        told: dict[str, dict[str, Any]] = {}
        for digest, deployment, tokens, until in notes:
            if (at := self._at.get(deployment)) is not None:
                place = told.setdefault(deployment, {"place": deployment, "at": at, "read": []})
                place["read"].append((digest.hex(), tokens, round(until - now, 1)))
        message = self._who + orjson.dumps(list(told.values()))
        if told and len(message) <= BYTES_MAX:
            self._telling = asyncio.get_running_loop().create_task(self._store.publish(CHANNEL, message))
            self._telling.add_done_callback(self._told)

    def _told(self, task: "asyncio.Task[None]") -> None:
        self._telling = None
        if (error := defects.of(task, StoreLost)) is not None:
            self._defect(error)

    # --- hearing ------------------------------------------------------------------------------------------------------------

    def _heard(self, message: bytes) -> None:
        """Whatever it says: what is not a note of ours is passed over."""
        if not self._at or message.startswith(self._who):
            return
        now = self._clock.now()
        if not 0 <= now - self._since < BEAT_S:
            self._taken, self._since = 0, now
        if self._taken >= TAKEN_MAX:
            return
        try:
            notes = _read(message)
        except NoNote as error:
            self._taken += NOTES_MAX
            if not self._odd:  # who writes such a thing may do so all day
                self._odd = True
                self._defect(error)
            return
        self._taken += len(notes)
        for place, at, digest, tokens, for_s in notes:
            if self._at.get(place) == at and for_s > 0:
                self._known.hear(digest, place, tokens, now + min(for_s, self._for_s))


Note = tuple[str, str, bytes, int, float]
"""A place, its address, a digest, how many tokens, and for how many seconds more they are taken to be known there."""


def _read(message: bytes) -> list[Note]:
    """What a message says. Raises NoNote unless all of it is what a worker would say."""
    if len(message) > BYTES_MAX:
        raise NoNote
    try:
        places = orjson.loads(message.partition(b" ")[2])
        notes = [
            (place["place"], place["at"], bytes.fromhex(digest), tokens, for_s)
            for place in places
            for digest, tokens, for_s in place["read"]
        ]
    except (ValueError, TypeError, KeyError):
        raise NoNote from None
    if len(notes) > NOTES_MAX or not all(map(_is_note, notes)):
        raise NoNote
    return notes


def _is_note(note: tuple[Any, ...]) -> bool:
    place, at, digest, tokens, for_s = note
    is_place = isinstance(place, str) and isinstance(at, str) and len(digest) == DIGEST_BYTES
    return is_place and isinstance(tokens, int) and 0 < tokens <= TOKENS_MAX and isinstance(for_s, int | float)
