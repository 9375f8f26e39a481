"""The place of one request in the cache: from looking for an answer to filling it, and letting go.

Equal requests of a worker stand in line behind one (flights.py), and that one waits for another worker's, if that holds a lease on
getting the answer. Waiting is bounded; whoever has waited too long goes by itself. Whoever leads and leaves without an answer, for
whatever reason, hands on.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from os import urandom
from typing import TYPE_CHECKING, Final

from gateway.core.caching import Keeping
from gateway.core.exchange import Attempt, Kept, Outcome, Recall, Recalled, Request, Unlike
from gateway.core.likeness import all_else, numbers
from gateway.core.terms import OTHER
from gateway.ports import Client, Patience
from gateway.state.cache.apart import apart
from gateway.state.cache.collecting import Collecting
from gateway.state.cache.digest import digested
from gateway.state.cache.flights import Flight, Landed, Told, Turn
from gateway.state.cache.form import Form
from gateway.state.cache.likes import Like, embedding_in, numbers_digest
from gateway.state.cache.looked import Found
from gateway.state.cache.sealing import Entry, Sealer
from gateway.state.store.port import StoreLost

if TYPE_CHECKING:
    from gateway.state.cache.cache import SharedCache

RELOOKS: Final = 2  # in a lease, while another worker gets it: for when it died, or what it said was not heard
FOREVER: Final = float("inf")
NEWER: Final = "newer"  # in the key of a flight: it is for what is newer than what is in the store
TOKEN_BYTES: Final = 8


class SharedPlace:
    """One request's."""

    def __init__(
        self, cache: "SharedCache", form: Form, request: Request, keeping: Keeping, patience: Patience, digest: bytes
    ) -> None:
        self._cache = cache
        self._form = form
        self._request = request
        self._keeping = keeping
        self._patience = patience
        self._digest = digest
        self._key: tuple[str | bytes, ...] = keeping.scope, keeping.allowed, request.api, digest  # of the flight
        self._old = b""  # the seal of what is in the store and too old for this request
        self._give_up = FOREVER  # loop time
        self._flight: Flight | None = None  # that it leads, or stands in line of
        self._waiting: asyncio.Future[Told] | None = None
        self._sealer: Sealer | None = None  # of the last look-up
        self._name = b""
        self._token = ""  # of the last look-up: a lease may be held under it
        self._like: Like | None = None  # what its message is like, where that was asked
        self._collecting: Collecting | None = None
        self._filling = False
        self._left = False

    @property
    def _leads(self) -> bool:
        return self._flight is not None and self._waiting is None

    # --- looking ------------------------------------------------------------------------------------------------------

    async def find(self, patience_s: float | None) -> Recalled | None:
        """What was kept, or why there is nothing; None when `patience_s` passed first."""
        now = self._cache.loop.time()
        until = FOREVER if patience_s is None else now + patience_s
        if self._request.wish.only:
            return await self._look()
        if self._flight is None:
            self._give_up = now + self._cache.bounds.cache_wait_s_max
            self._flight, self._waiting = self._cache.flights.board(self._key)
        while True:
            found = await (self._lead(until) if self._waiting is None else self._wait_in_line(self._waiting, until))
            if found is not None or self._cache.loop.time() >= until:
                return found

    async def _wait_in_line(self, waiting: asyncio.Future[Told], until: float) -> Recalled | None:
        assert self._flight is not None
        await asyncio.wait((waiting,), timeout=min(until, self._give_up) - self._cache.loop.time())
        if not waiting.done():
            if self._cache.loop.time() < self._give_up:
                return None
            self._cache.flights.leave(self._flight, waiting)
            self._flight = self._waiting = None
            return Recalled(Recall.MISS)
        self._waiting = None
        told = waiting.result()
        if told is Turn.LEAD:
            return None
        self._flight = None
        if not isinstance(told, Landed):
            return Recalled(Recall.MISS)
        return self._await_newer(told) if self._too_old(told.entry) else self._given(told)

    async def _lead(self, until: float) -> Recalled | None:
        flight = self._flight
        assert flight is not None
        if flight.looked is not None:  # by whoever led before, and whose lease it is now ours to give back
            self._sealer, self._name, self._token = flight.looked.sealer, flight.looked.name, flight.lease
            return Recalled(Recall.MISS)
        self._token = urandom(TOKEN_BYTES).hex()
        found = await self._look()
        if found is not None:
            return found
        if self._cache.loop.time() >= self._give_up:
            return Recalled(Recall.MISS)
        if self._flight is not flight:
            return None
        event = self._cache.awaited(self._keeping.scope, self._name)
        now = self._cache.loop.time()
        wait_s = min(self._cache.lease_s / RELOOKS, until - now, self._give_up - now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await event.wait()
            event.clear()
        return None

    async def _look(self) -> Recalled | None:
        """What the store has; None: another worker is getting it, or it is too old, and this is now in the flight for newer."""
        keeping, cache = self._keeping, self._cache
        try:
            looked = await cache.look(keeping, self._request.api, self._digest, self._token, self._patience, self._old)
        except StoreLost:
            return Recalled(Recall.LOST)
        self._sealer, self._name = looked.sealer, looked.name
        match looked.found:
            case Found.HELD:
                return None
            case Found.SPOILT:
                return Recalled(Recall.SPOILT)
            case Found.NOTHING:
                if self._flight is not None and self._token:
                    self._flight.lease, self._flight.looked = self._token, looked
                    cache.hold_lease(keeping.scope, looked.name, self._token)
                return Recalled(Recall.MISS)
            case Found.ENTRY:
                assert looked.entry is not None
                landed = Landed(looked.entry, Recall.HIT, seal=looked.seal)
                if self._too_old(looked.entry):
                    self._end(landed)  # others may well take it
                    return self._await_newer(landed)
                given = self._given(landed)
                if given.kept is not None:
                    self._end(landed)
                return given

    def _await_newer(self, landed: Landed) -> Recalled | None:
        """Go on in the flight for what is newer than `landed`, which is too old."""
        if not landed.seal or self._request.wish.only:
            return Recalled(Recall.MISS)
        if not self._old:
            self._key = (*self._key, NEWER)
        self._old = landed.seal
        self._flight, self._waiting = self._cache.flights.board(self._key)
        return None

    def _too_old(self, entry: Entry) -> bool:
        """Whether it is older than this request wishes, or than it is allowed; what was made since it came is not."""
        request, now = self._request, self._cache.clock.now()
        age_s = now - entry.made
        # whoever shares it may have let it be kept for longer than this request lets it
        if entry.ends <= now or age_s >= self._keeping.ttl_s:
            return True
        wished = request.wish.age_s_max
        return wished is not None and age_s > wished and entry.made < request.began

    def _given(self, landed: Landed) -> Recalled:
        """An entry as this request is given it."""
        entry, request = landed.entry, self._request
        body = entry.body
        if request.stream:
            try:
                body = self._form.events(body, entry.usage if request.wants_usage else None)
            except (ValueError, KeyError, TypeError):
                return Recalled(Recall.SPOILT)
        return Recalled(landed.how, Kept(entry.deployment, entry.made_by, entry.made, entry.usage, body), likeness=landed.likeness)

    async def near(self, text: str, said: bytes, said_by: str, least: Mapping[str, float]) -> Recalled | Unlike:
        """What was kept for a like request, or why there is nothing; see the port."""
        semantic, embedding = self._keeping.semantic, embedding_in(said)
        if semantic is None or embedding is None:
            return Unlike.FAILED
        cache, scope = self._cache, self._keeping.scope
        by = f"{semantic.model} {embedding.dimensions} {said_by}"
        try:
            sealer, _ = await self._named(self._patience)
            rest = digested(all_else(self._request.body))
            partition = sealer.partition(self._keeping.allowed, self._request.api, rest, by)
            like = self._like = Like(partition, numbers_digest(numbers(text)), embedding)
            for cosine, name in await cache.look_near(scope, sealer, like, least, self._patience):
                entry = await cache.entry(scope, sealer, name, self._patience)
                if entry is None or cosine < least.get(entry.deployment, FOREVER):
                    continue
                landed = Landed(entry, Recall.NEAR, cosine)
                given = None if self._too_old(entry) else self._given(landed)
                if given is not None and given.kept is not None:
                    self._hand_out(landed)
                    return given
        except StoreLost:
            return Unlike.LOST
        return Unlike.FAR

    def _hand_out(self, landed: Landed) -> None:
        """Give to all in line what is given here: it is theirs to see whether it is like enough for them."""
        if self._leads:
            self._end(landed)
            if self._token:
                self._cache.spawn(self._release())

    # --- filling ------------------------------------------------------------------------------------------------------

    def collecting(self, client: Client) -> Client:
        """A client that passes everything on, and has it remembered here."""
        self._collecting = Collecting(client, self._cache.bounds.cache_entry_bytes_max)
        return self._collecting

    def keep(self, attempt: Attempt, outcome: Outcome, body: bytes | None) -> None:
        """Keep an answer, or what was collected. What that takes is done while nobody waits."""
        self._filling = True
        deployment = attempt.deployment
        self._cache.spawn(self._fill(deployment.id, deployment.model.id, outcome, body))

    async def _fill(self, deployment: str, model: str, outcome: Outcome, body: bytes | None) -> None:
        told: Told = Turn.ALONE
        kept = False
        try:
            entry = await self._entry(deployment, outcome, body)
            if entry is None:
                self._cache.count("unfit")
                return
            told = Landed(entry, Recall.JOINED)
            self._end(told)  # whoever waits here does not wait for the store
            sealer, name = await self._named()
            kept = True
            semantic = self._keeping.semantic
            likes_max = 0 if semantic is None else semantic.vectors_max
            about = self._about(model)
            await self._cache.put(self._keeping.scope, sealer, name, entry, about, self._token, self._like, likes_max)
        except StoreLost:
            self._cache.count("lost")
        finally:
            self._end(told)
            if not kept and self._token:
                await self._release()

    async def _entry(self, deployment: str, outcome: Outcome, body: bytes | None) -> Entry | None:
        bytes_max = self._cache.bounds.cache_entry_bytes_max
        answer = await self._answer(outcome, body, bytes_max)
        if answer is None or len(answer) > bytes_max:
            return None
        now = self._cache.clock.now()
        return Entry(deployment, self._request.id, now, now + self._keeping.ttl_s, outcome.usage, answer)

    async def _answer(self, outcome: Outcome, body: bytes | None, bytes_max: int) -> bytes | None:
        """The answer in the form that is kept, if it is any that may be; one that is longer than `bytes_max` is not looked at."""
        form, request, collected = self._form, self._request, self._collecting
        if body is not None:
            return None if len(body) > bytes_max else await apart(len(body), form.answer, request, outcome, body)
        events = None if collected is None else collected.whole()
        return None if events is None else await apart(len(events), form.answer_of, request, outcome, events)

    def _about(self, model: str) -> str:
        """What the store may know of an entry: configured words, for purging."""
        tag = self._request.facts.tag
        return f"{model} {next(iter(tag)) if len(tag) == 1 and OTHER not in tag else ''}"

    # --- letting go ---------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The exchange is over: whoever waits for it goes on. Another time does nothing."""
        if self._left:
            return
        self._left = True
        self._cache.await_no_more(self._keeping.scope, self._name)
        if self._flight is None:
            return
        waiting = self._waiting
        if waiting is not None and not (waiting.done() and not waiting.cancelled() and waiting.result() is Turn.LEAD):
            self._cache.flights.leave(self._flight, waiting)
        elif not self._filling:
            over = self._cache.flights.hand_on(self._key)
            if self._token and (over or self._flight.looked is None):  # a look-up that was cut off may have got a lease
                self._cache.spawn(self._release())

    def _end(self, told: Landed | Turn) -> None:
        """Tell all in line, if it is ours to tell."""
        if self._leads:
            self._flight = None
            self._cache.flights.end(self._key, told)

    async def _release(self) -> None:
        """Give back what may be held in the store."""
        with contextlib.suppress(StoreLost):  # then it ends by itself
            await self._cache.release(self._keeping.scope, (await self._named())[1], self._token)

    async def _named(self, patience: Patience | None = None) -> tuple[Sealer, bytes]:
        """Under which name the answer is kept. Raises StoreLost."""
        if self._sealer is None:
            self._sealer = await self._cache.sealer(self._keeping.scope, patience)
            self._name = self._sealer.name(self._keeping.allowed, self._request.api, self._digest)
        return self._sealer, self._name
