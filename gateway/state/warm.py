"""Which places read the beginning of a prompt before, so that they need not read it again: of one worker, a short while, in memory.

A beginning goes by a hash of the tools and the messages up to one of them, keyed with a secret of this process and the tenant: no
text is kept, and no tenant meets another's. What comes of it only orders routes. Promises: what is remembered is bounded, whatever
is asked, and what is hashed of one request is, too; without `affinity` in the policy, none of this runs.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.core.exchange import Attempt, Outcome, Request
from gateway.core.live import LiveState
from gateway.core.policy import Affinity
from gateway.core.rank import coarse_below

if TYPE_CHECKING:
    from hashlib import _Hash

ENTRIES_MAX: Final = 16_384  # beginnings remembered, the longest unused go first: with few places each, below 8 MB
PLACES_MAX: Final = 8  # of one beginning; more of them are no preference any more
NOTED_LAST: Final = 7  # of a request's beginnings, besides the first: an edited or branched conversation goes back few messages
MESSAGES_MAX: Final = 512  # hashed of one request; longer conversations are known by these
PIECE_CHARS: Final = 2_048  # of a prompt that is one text: what it grows by is known to so many characters
HASHED_BYTES_MAX: Final = 1_048_576  # of one request: below a millisecond, and a quarter of a million tokens

Beginning = tuple[bytes, int]
"""The digest that it goes by, and about how many tokens it has."""


class WarmPrefixes:
    """What is remembered. `secret` is this process's own: what is seen of one says nothing of another."""

    def __init__(self, secret: bytes, entries_max: int = ENTRIES_MAX) -> None:
        self._secret = secret
        self._entries_max = entries_max
        self._places: OrderedDict[bytes, dict[str, tuple[int, float]]] = OrderedDict()  # deployment -> tokens, until (UTC seconds)

    def __len__(self) -> int:
        return len(self._places)

    def under(self, affinity: Affinity | None) -> "Warm | None":
        """The port Warmth, by these terms. What is remembered outlives a change of them."""
        return None if affinity is None else Warm(self, affinity, self._secret)

    def note(self, digest: bytes, deployment: str, tokens: int, until: float) -> None:
        """`deployment` has read `tokens` of it, and is taken to know them `until` (UTC seconds)."""
        places = self._places.get(digest)
        if places is None:
            if len(self._places) >= self._entries_max:
                self._places.popitem(last=False)
            places = self._places[digest] = {}
        else:
            self._places.move_to_end(digest)
            places.pop(deployment, None)
            if len(places) >= PLACES_MAX:
                del places[next(iter(places))]
        places[deployment] = (tokens, until)

    def read_by(self, digest: bytes, now: float) -> Mapping[str, int]:
        """Tokens by deployment, of those that are taken to know them at `now` (UTC seconds)."""
        places = self._places.get(digest)
        if places is None:
            return {}
        found = {name: tokens for name, (tokens, until) in places.items() if now < until}
        if not found:
            del self._places[digest]
        return found


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
        session = self._keyed(request, b"session", request.session.encode()).digest() if request.session else b""
        return WarmTrail(self._known, self._affinity, request, beginnings, session)

    def _keyed(self, request: Request, what: bytes, text: bytes = b"") -> "_Hash":
        """The secret first: a good key where no digest leaves the process. BLAKE2, with one of its own, takes twice as long."""
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
                found.append((hashed.copy().digest(), tokens))
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
            for name, tokens in self._known.read_by(self._session, now).items():
                warm[name] = max(warm.get(name, 0), min(tokens, prompt))
        counted = {name: coarse_below(tokens) for name, tokens in warm.items() if tokens >= self._affinity.min_tokens}
        return LiveState(state.blocked, state.latency_ms, counted) if counted else state

    def read(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The place of `attempt` has read the prompt by `now` (UTC seconds)."""
        known, name, until = self._known, attempt.deployment.id, now + self._affinity.for_s
        beginnings = self._beginnings
        for digest, tokens in (*beginnings[:1], *beginnings[1:][-NOTED_LAST:]):
            known.note(digest, name, tokens, until)
        if self._session:
            used = outcome.usage
            prompt = used.input if used is not None and used.reported else self._request.needs.prompt_tokens
            if prompt >= self._affinity.min_tokens:
                known.note(self._session, name, prompt, until)
