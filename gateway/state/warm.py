"""Which places read the beginning of a prompt before, so that they need not read it again: for a short while, in memory.

A beginning goes by a hash of the tools and the messages up to one of them, keyed with a secret of ours and the tenant: no text is
kept, and no tenant meets another's. What comes of it only orders routes. Promises: what is remembered is bounded, whatever is
asked, and what is hashed of one request is, too; what others say (warm_shared.py) pushes out nothing that was noted here; without
`affinity` in the policy, none of this runs.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from gateway.core.exchange import Attempt, Outcome, Request
from gateway.core.live import LiveState
from gateway.core.policy import Affinity
from gateway.core.rank import coarse_below

if TYPE_CHECKING:
    from hashlib import _Hash

ENTRIES_MAX: Final = 16_384  # beginnings noted here, and as many that others told of; the longest unused go first. 8 MB each
DIGEST_BYTES: Final = 16  # of the hash, so that whoever sees one can't go on from it: half of SHA-256's state stays unknown
PLACES_MAX: Final = 8  # of one beginning; more of them are no preference any more
NOTED_LAST: Final = 7  # of a request's beginnings, besides the first: an edited or branched conversation goes back few messages
MESSAGES_MAX: Final = 512  # hashed of one request; longer conversations are known by these
PIECE_CHARS: Final = 2_048  # of a prompt that is one text: what it grows by is known to so many characters
HASHED_BYTES_MAX: Final = 1_048_576  # of one request: below a millisecond, and a quarter of a million tokens

Beginning = tuple[bytes, int]
"""The digest that it goes by, and about how many tokens it has."""

Note = tuple[int, float, float]
"""Tokens; until when (UTC seconds) a place is taken to know them; and until when others take it to, as far as they were told."""

AGAIN: Final = 0.25  # of the time that a place is taken to know: others may think of it as so much shorter, and be told the less


class Tell(Protocol):
    """Who tells others what a place has read. False: not this time."""

    def __call__(self, digest: bytes, deployment: str, tokens: int, until: float, /) -> bool: ...


NOTHING: Final[Mapping[str, Note]] = {}


class Notes(OrderedDict[bytes, dict[str, Note]]):
    """What is known of so many beginnings at the most: by digest, places and what they have read."""

    def __init__(self, entries_max: int) -> None:
        super().__init__()
        self._entries_max = entries_max

    def put(self, digest: bytes, deployment: str, note: Note) -> None:
        """Know this, and the longest unused no more if there is too much."""
        places = self.get(digest)
        if places is None:
            if len(self) >= self._entries_max:
                self.popitem(last=False)
            places = self[digest] = {}
        else:
            self.move_to_end(digest)
            places.pop(deployment, None)
            if len(places) >= PLACES_MAX:
                del places[next(iter(places))]
        places[deployment] = note

    def told(self, digest: bytes, deployment: str) -> float:
        """Until when others take `deployment` to know it (UTC seconds)."""
        note = self.get(digest, NOTHING).get(deployment)
        return -inf if note is None else note[2]

    def of(self, digest: bytes, now: float) -> Mapping[str, Note]:
        """By deployment, of those that are taken to know it at `now` (UTC seconds)."""
        if digest not in self:
            return NOTHING
        found = {name: note for name, note in self[digest].items() if now < note[1]}
        if not found:
            del self[digest]
        return found


class WarmPrefixes:
    """What is remembered. Whoever has another `secret` knows all of it by other names. `tell` is set by whoever passes notes on."""

    def __init__(self, secret: bytes, entries_max: int = ENTRIES_MAX) -> None:
        self._secret = secret
        self.noted, self.heard = Notes(entries_max), Notes(entries_max)
        self.tell: Tell | None = None

    def under(self, affinity: Affinity | None) -> "Warm | None":
        """The port Warmth, by these terms. What is remembered outlives a change of them."""
        return None if affinity is None else Warm(self, affinity, self._secret)

    def note(self, digest: bytes, deployment: str, tokens: int, now: float, for_s: float) -> None:
        """`deployment` has read `tokens` of it by `now` (UTC seconds), and is taken to know them for `for_s`."""
        until, told = now + for_s, -inf
        if self.tell is not None:
            told = max(self.noted.told(digest, deployment), self.heard.told(digest, deployment))
            if told < until - AGAIN * for_s and self.tell(digest, deployment, tokens, until):
                told = until
        self.noted.put(digest, deployment, (tokens, until, told))

    def hear(self, digest: bytes, deployment: str, tokens: int, until: float) -> None:
        """Others say that `deployment` has read `tokens` of it, and may be taken to know them `until` (UTC seconds)."""
        self.heard.put(digest, deployment, (tokens, until, until))

    def read_by(self, digest: bytes, now: float) -> Mapping[str, Note]:
        """What is taken to be known of it at `now` (UTC seconds), by deployment; of two notes of one, what lasts longer."""
        noted = self.noted.of(digest, now) if digest in self.noted else NOTHING  # asked of up to MESSAGES_MAX, most of them unknown
        heard = self.heard.of(digest, now) if digest in self.heard else NOTHING
        if not noted or not heard:
            return noted or heard
        return {**heard, **{name: note for name, note in noted.items() if name not in heard or note[1] >= heard[name][1]}}


class Warm:
    """The port Warmth, under one policy."""

    def __init__(self, known: WarmPrefixes, affinity: Affinity, secret: bytes) -> None:
        self._known = known
        self._affinity = affinity
        self._secret = secret

    def trail(self, request: Request) -> "WarmTrail":
        """Hashes the beginnings that are long enough. A short request costs next to nothing; one without a prompt has none."""
        beginnings: Sequence[Beginning] = ()
        if request.needs.prompt_tokens >= self._affinity.min_tokens and (parts := _parts(request.body)):
            beginnings = self._beginnings(request, parts)
        session = self._keyed(request, b"session", request.session.encode()).digest()[:DIGEST_BYTES] if request.session else b""
        return WarmTrail(self._known, self._affinity, request, beginnings, session)

    def _keyed(self, request: Request, what: bytes, text: bytes = b"") -> "_Hash":
        """The secret first: a good key, as half of a digest is all that is used. BLAKE2, with a key, takes twice as long."""
        tenant = ",".join(sorted(request.facts.tenant)).encode()
        return sha256(b"%b%b\0%b\0%b" % (self._secret, what, tenant, text))

    def _beginnings(self, request: Request, parts: Sequence[Any]) -> list[Beginning]:
        hashed = self._keyed(request, b"prompt")
        pieces = _pieces(request.body.get("tools"), parts)
        total = sum(map(len, pieces))
        if len(pieces) <= len(parts):  # not all of them
            total = max(total, request.body_bytes)
        least, prompt = self._affinity.min_tokens, request.needs.prompt_tokens
        found, size = [], 0
        for number, piece in enumerate(pieces):
            hashed.update(piece)
            size += len(piece)
            tokens = prompt * size // total
            if tokens >= least and number:  # number 0 are the tools, which no prompt ends with
                found.append((hashed.copy().digest()[:DIGEST_BYTES], tokens))
        return found


def _parts(body: Mapping[str, Any]) -> Sequence[Any]:
    """What a prompt is read as, part by part: messages, or pieces of one text. Of several prompts, none is the beginning."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return [prompt[at : at + PIECE_CHARS] for at in range(0, len(prompt), PIECE_CHARS)]
    messages: Sequence[Any] = body.get("messages") or ()
    return messages


def _pieces(tools: Any, parts: Sequence[Any]) -> list[bytes]:
    """The tools, then part after part, as far as they are hashed. JSON values in a row can be read in one way only."""
    pieces: list[bytes] = []
    size = 0
    try:
        for value in (tools, *islice(parts, MESSAGES_MAX)):
            piece = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            size += len(piece)
            if size > HASHED_BYTES_MAX:
                break
            pieces.append(piece)
    except TypeError:  # what can be read and not written: the dialect will say so
        pass
    return pieces


class WarmTrail:
    """The beginnings of one request, shortest first, and its session ("": none)."""

    __slots__ = ("_affinity", "_beginnings", "_known", "_request", "_session")

    def __init__(
        self, known: WarmPrefixes, affinity: Affinity, request: Request, beginnings: Sequence[Beginning], session: bytes
    ) -> None:
        self._known = known
        self._affinity = affinity
        self._request = request
        self._beginnings = beginnings
        self._session = session

    def live(self, state: LiveState) -> LiveState:
        """`state`, with how much each place has read of this request: of each the most, and no more than there is."""
        warm: dict[str, int] = {}
        now, prompt = self._request.began, self._request.needs.prompt_tokens
        for digest, tokens in reversed(self._beginnings):
            for name in self._known.read_by(digest, now):
                warm.setdefault(name, tokens)
        if self._session:
            for name, (tokens, _, _) in self._known.read_by(self._session, now).items():
                warm[name] = max(warm.get(name, 0), min(tokens, prompt))
        counted = {name: coarse_below(tokens) for name, tokens in warm.items() if tokens >= self._affinity.min_tokens}
        return LiveState(state.blocked, state.latency_ms, counted) if counted else state

    def read(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The place of `attempt` has read the prompt by `now` (UTC seconds)."""
        known, name, for_s = self._known, attempt.deployment.id, self._affinity.for_s
        beginnings = self._beginnings
        for digest, tokens in (*beginnings[:1], *beginnings[1:][-NOTED_LAST:]):
            known.note(digest, name, tokens, now, for_s)
        if self._session:
            used = outcome.usage
            prompt = used.input if used is not None and used.reported else self._request.needs.prompt_tokens
            if prompt >= self._affinity.min_tokens:
                known.note(self._session, name, prompt, now, for_s)
