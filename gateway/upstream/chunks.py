"""Events of an upstream's stream, one by one, into what a client may see, and what is learnt on the way.

Every event that comes here is parsed. One that is OpenAI's chunk as it is passes in its own bytes, but for the model's name;
any other is mended and written anew. (Most events of a stream never come here: see template.py.)

Promises: chunks in OpenAI's shape, under the catalogue's name of the model; usage is taken out wherever it stands; what is no chunk
is an outcome and reaches nobody. What a client gets of an event depends on nothing but the events before it.

The name is replaced in the bytes. `"model":"theirs"` can't be text: within a JSON string every quotation mark has a backslash
before it, and the second one here has a letter; nor does a colon follow a string's end but after a key.
"""

from typing import Any, ClassVar

import orjson

from gateway.core.exchange import Outcome, Request
from gateway.core.usage import Usage
from gateway.upstream import outcomes, usage
from gateway.upstream.answer import counted, is_error, says_nothing, served
from gateway.upstream.calling import Setting
from gateway.upstream.canonical import DONE_EVENT, Identity, NotCanonical, event, usage_event
from gateway.upstream.pump import Tally
from gateway.upstream.shape import CHAT, Shape
from gateway.upstream.sse import DONE, fields


class Chunks:
    """Reads the events of one stream."""

    shape: ClassVar[Shape] = CHAT

    def __init__(self, setting: Setting, request: Request, tally: Tally) -> None:
        self.known = False  # the first chunk was seen
        self.speaks = False  # there was content
        self.finish = ""  # the last finish_reason, as OpenAI spells it
        self.usage: Usage | usage.Unusable = usage.Unusable.MISSING
        self.identity = Identity("", 0, setting.model)
        self.copied = False  # whether the last chunk passed in its own bytes
        self._clean = False  # whether chunks that need no mending may pass in their bytes
        self._renames: tuple[bytes, bytes] | None = None  # `"model":"theirs"`, and ours
        self._tally = tally  # what was passed on
        self._setting = setting
        self._request = request
        self._memory: dict[int, Any] = {}  # of what mends chunks
        self._finished: set[int] = set()
        self._overhead_bytes = 0  # of an event without its text

    def take(self, raw: bytes, *, committed: bool) -> bytes | Outcome:
        """What the client gets of one event (b"": nothing), or how the stream ended with it.

        Before the stream is `committed` comments are left out: the gateway sends its own.
        """
        _, data = fields(raw)
        if data is None:
            return raw + b"\n\n" if committed else b""
        if data.strip() == DONE:
            return self.served() if self.known else outcomes.spoilt("empty_answer")
        try:
            chunk = orjson.loads(data)
        except ValueError:
            return outcomes.spoilt("bad_answer")
        if not isinstance(chunk, dict):
            return outcomes.spoilt("bad_answer")
        if is_error(chunk):
            return outcomes.of_error(self._setting.origin, 200, (), chunk, self._setting.clock.now())
        return self._chunk(raw, data, chunk)

    def _chunk(self, raw: bytes, data: bytes, chunk: dict[str, Any]) -> bytes | Outcome:
        if not self.known and chunk.get("choices"):
            self._learn(raw, data, chunk)
        taken_out = self._take_usage(chunk)
        try:
            seen = self.shape.mend_chunk(chunk, self._memory)
            if seen.bad_finish:
                return outcomes.spoilt(seen.bad_finish)
            self.speaks |= seen.speaks
            self._finished.update(seen.finished)
            self.finish = seen.finish or self.finish
            if not chunk["choices"]:  # usage alone, or Azure's word on the prompt
                return b""
            return self._as_it_is(raw) if self._clean and not taken_out and not seen.changed else self._anew(chunk)
        except NotCanonical:
            return outcomes.spoilt("bad_answer")

    def _anew(self, chunk: dict[str, Any]) -> bytes:
        mine = self.identity
        chunk["id"], chunk["object"], chunk["created"], chunk["model"] = mine.id, self.shape.chunk, mine.created, mine.model
        mended, self.copied = event(chunk), False
        self.count(1, len(mended))
        return mended

    def _take_usage(self, chunk: dict[str, Any]) -> bool:
        """Take usage out of a chunk that has any, and remember the last; says whether it did."""
        if chunk.get("usage") is None and "timings" not in chunk:
            return False
        said = self._read_usage(chunk)
        if said is not usage.Unusable.MISSING:
            self.usage = said
        return True

    def _read_usage(self, chunk: dict[str, Any]) -> Usage | usage.Unusable:
        return usage.read(chunk.pop("usage", None), chunk.pop("timings", None))

    def _as_it_is(self, raw: bytes) -> bytes:
        self.copied = True
        if self._renames is not None:
            raw = raw.replace(*self._renames)
        self.count(1, len(raw) + 2)
        return raw + b"\n\n"

    def _learn(self, raw: bytes, data: bytes, chunk: dict[str, Any]) -> None:
        """What the first chunk shows of all: who it is, and whether chunks may pass as they are."""
        self.known = True
        found, created, model = chunk.get("id"), chunk.get("created"), chunk.get("model")
        has_id = isinstance(found, str) and found != ""
        self.identity.id = str(found) if has_id else self.shape.ids + self._request.id
        self.identity.created = created if isinstance(created, int) else int(self._setting.clock.now())
        plain = raw == b"data: " + data and b'"choices":[' in raw
        ours = chunk.get("object") == self.shape.chunk
        self._clean = plain and ours and has_id and created.__class__ is int and isinstance(model, str)
        if self._clean and model != self.identity.model:
            theirs = b'"model":' + orjson.dumps(model)
            self._renames = (theirs, b'"model":' + orjson.dumps(self.identity.model))
            self._clean = theirs in raw
        self._overhead_bytes = len(raw) + 2

    # --- the end ---

    @property
    def ended_well(self) -> bool:
        """Whether every choice has said its finish_reason."""
        return len(self._finished) >= self.shape.choices(self._request.body)

    @property
    def says_nothing(self) -> bool:
        """Whether a stream that ended well is an empty answer, and no good."""
        return says_nothing(self.speaks, self.finish, self.usage) and not self.shape.may_say_nothing(self._request.body)

    def tail(self) -> bytes:
        """The last events of a stream that ended well."""
        said = self._counted()
        if self._request.wants_usage and isinstance(said, Usage):
            return usage_event(self.identity, said, self.shape.chunk) + DONE_EVENT
        return DONE_EVENT

    def served(self) -> Outcome:
        """The outcome of a stream that ended well."""
        return served(self._counted(), self.finish, 200, self._guess)

    def used(self) -> Usage:
        """Usage so far: the last that was reported, or an estimate from what was passed on."""
        said = self._counted()
        return said if isinstance(said, Usage) else self._guess()

    def _counted(self) -> Usage | usage.Unusable:
        return counted(self.usage, self.speaks, self._request.body)

    def _guess(self) -> Usage:
        # the first event and the last usually carry no text
        passed = self._tally
        text_bytes = max(0, passed.bytes - passed.events * self._overhead_bytes)
        return usage.estimate(self._request.needs.prompt_tokens, max(0, passed.events - 2), text_bytes)

    def count(self, events: int, size: int) -> None:
        """Note what is passed on, for an estimate."""
        self._tally.events += events
        self._tally.bytes += size
