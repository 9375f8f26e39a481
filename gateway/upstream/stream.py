"""Streams: peek, then commit, then pump.

Before the first content everything is held, and any failure is an outcome, so that another route may serve. Content is text,
reasoning, a refusal or a tool call; a stream that ends without any is judged at its end. Once `relay` has a client, a piece of the
upstream's bytes that is a chunk like the one before, but for its text, is written to the client at once: no parse, no task, and
no copy if the model's name is ours. What is unlike it is parsed and judged (chunks.py), and teaches the pump (template.py).

Promises to the client: usage in one last chunk without choices if it asked, and never otherwise; `data: [DONE]` once, at the end,
and nothing after; no event for a stream that broke, which is the pipeline's to tell in its API's shape. Reading pauses while the
client does not take what it got, and the call is closed at once when it hangs up.

Every write to the client is whole events of the API that the upstream was asked by: one that no upstream speaks gives `relay` a
client whose `write` converts them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Final

from gateway.core.exchange import Ended, Fault, Outcome, Request
from gateway.core.usage import Usage
from gateway.ports import Client
from gateway.upstream import outcomes
from gateway.upstream.answer import judge
from gateway.upstream.call import Failure
from gateway.upstream.calling import Calling, Setting
from gateway.upstream.canonical import Identity, NotCanonical
from gateway.upstream.chunks import Chunks
from gateway.upstream.outcomes import Headers
from gateway.upstream.pump import Forward, Tally, pump
from gateway.upstream.sse import EventTooLarge, Splitter
from gateway.upstream.template import Fits, Template, template

DONE: Final = b"data: [DONE]"
FLEETING: Final = (b'_tokens"', b'"finish_reason":"', b'"tool_calls"', b'"logprobs":{')
"""Marks of events of which each has to be looked at, however like another it is."""

LINGER_S: Final = 1.0
"""For the last bytes of a message whose last event is there: they are on their way, mostly in the same packet."""


class StreamCall(Calling):
    """A call whose answer is server-sent events, or should have been."""

    reads: ClassVar[type[Chunks]] = Chunks

    def __init__(self, setting: Setting, request: Request, dropped: tuple[str, ...]) -> None:
        super().__init__(setting, request, dropped)
        self._splitter = Splitter(setting.bounds.event_bytes_max)
        self._tally = Tally(setting.bounds.stream_bytes_max)
        self._chunks = self.reads(setting, request, self._tally)
        self._whole = False  # a JSON body came instead of events
        self._held: list[bytes] = []  # for the client, once there is one
        self._held_bytes = 0
        self._write: Callable[[bytes], None] | None = None
        self._forward: Forward | None = None
        self._like: Template | None = None  # of the last event that had text, for when there is a client
        self._fits: Fits | None = None  # a quick look at a piece; only while there is a client
        self._end: asyncio.Future[None] | None = None
        self._final: Outcome | None = None
        self._message_over = False

    # --- what the transport brings ---

    def on_data(self, data: bytes) -> None:
        self._tally.room -= len(data)
        if self._tally.room < 0:
            self._guarded(self._on_flood)
            return
        if self._fits is not None and not self._splitter.rest:
            piece = self._fits(data)
            if piece is not None:
                self._chunks.count(1, len(piece))
                self._write(piece)  # type: ignore[misc]
                return
        super().on_data(data)

    def _on_flood(self) -> None:
        self.handle.abort()
        if self._refused:
            self._settle_refused()
        elif self._final is None:
            self._spoilt("stream_too_large")

    def _on_accepted(self, headers: Headers) -> None:
        kind = next((value.lower() for name, value in headers if name == b"content-type"), b"")
        if b"json" in kind:
            self._whole = True
        elif kind and b"event-stream" not in kind and not kind.startswith(b"text/plain"):
            self._spoilt("bad_answer")

    def _on_body(self, data: bytes) -> None:
        if self._final is not None:
            if data.strip():  # nothing comes after the end
                self.handle.abort()
        elif self._whole:
            if self.result is None:
                self._gather(data)
        elif self.result is None or self.result is self:
            self._on_events(data)

    def _on_events(self, data: bytes) -> None:
        if self.result is None:
            self._held_bytes += len(data)
        try:
            events = self._splitter.feed(data)
        except EventTooLarge:
            self._spoilt("event_too_large")
            return
        self._take(events)
        if self._final is not None:
            if self._splitter.rest:
                self.handle.abort()
        elif self._held_bytes > self._bounds.held_bytes_max and self._write is None:
            if self.result is None:
                self._spoilt("held_too_large")
            else:
                self.handle.pause()  # open, and nobody takes it yet

    def _on_complete(self) -> None:
        self._message_over = True
        if self._is_over():
            return
        if self._whole:
            self._on_whole()
            return
        if left := self._splitter.end():
            self._take([left])
        if not self._is_over():
            if self._chunks.ended_well:
                self._take([DONE])  # which it forgot
            else:
                self._spoilt("ended_early" if self._chunks.known else "empty_answer")

    def _is_over(self) -> bool:
        """Whether how it ended is known."""
        return self._final is not None or (self.result is not None and self.result is not self)

    def _on_broken(self, failure: Failure) -> None:
        self._message_over = True
        if self._chunks.ended_well and self._final is None:
            self._take([DONE])  # all was said; only the end of the message is missing
        elif self._final is None:
            self._fail(replace(outcomes.failed(failure), status=self._status))

    def _on_whole(self) -> None:
        """A whole answer in place of a stream, turned into one."""
        chunks, now = self._chunks, self.setting.clock.now()
        shape, raw = chunks.shape, b"".join(self._pieces)
        identity = Identity(shape.ids + self.request.id, int(now), self.setting.model)
        judged = judge(shape, self.setting.origin, raw, identity, self._status, now, self.request.body)
        if isinstance(judged, Outcome):
            self._settle(judged)
            return
        found, seen, chunks.usage = judged
        chunks.identity = Identity(found["id"], found["created"], found["model"])
        chunks.finish = seen.finish
        chunks.count(3, self._size)
        try:
            events = b"".join(shape.as_events(found))
        except NotCanonical:
            self._spoilt("bad_answer")
            return
        self._open()
        self._emit(events + chunks.tail())
        self._conclude(chunks.served())

    # --- events ---

    def _take(self, events: list[bytes]) -> None:
        """Bring events to the client, or hold them; open when content is among them; conclude at the end."""
        chunks = self._chunks
        out: list[bytes] = []
        over: Outcome | None = None
        for at, raw in enumerate(events, 1):
            if self._fits is not None and (piece := self._fits(raw + b"\n\n")) is not None:
                chunks.count(1, len(piece))
                out.append(piece)
                continue
            taken = chunks.take(raw, committed=self.result is not None)
            if isinstance(taken, Outcome):
                over = taken
                if at < len(events):
                    self.handle.abort()  # nothing comes after the end
                break
            if taken:
                out.append(taken)
                self._learn(raw, taken)
            if chunks.speaks:
                self._open()
        if over is not None and over.ended is Ended.SERVED:
            if self.result is None and chunks.says_nothing:
                over = outcomes.spoilt("empty_answer")
            else:
                self._open()
                out.append(chunks.tail())
        if out:
            self._emit(b"".join(out))
        if over is None:
            return
        if over.ended is Ended.SERVED:
            self._conclude(over)
        else:
            self._fail(over)

    def _learn(self, raw: bytes, taken: bytes) -> None:
        """Have the pump know the like of an event, now that what became of it is known."""
        for mark in FLEETING:
            if raw.find(mark) >= 0:  # `in` would take twice as long: bytes may also hold a number
                return
        like = template(raw + b"\n\n", taken, copied=self._chunks.copied)
        if like is not None:
            self._like = like
            if self._write is not None:
                self._pump(like)

    def _pump(self, like: Template) -> None:
        """Have what is like this go on to the client at once."""
        self._fits = like.fits
        self.handle.take_by(pump(like, self._splitter, self._tally, self._forward))  # type: ignore[arg-type]

    def _emit(self, events: bytes) -> None:
        """Write events to the client, or hold them until there is one."""
        if self._write is not None:
            self._write(events)
            return
        self._held.append(events)
        if self.result is not None:
            self._held_bytes += len(events)

    def _open(self) -> None:
        if self.result is None:
            self.first_content = self.setting.clock.now()
            self._settle(self)

    # --- to the client ---

    async def relay(self, client: Client) -> Outcome:
        """Pump the held and the coming events to `client` until the end."""
        if client.gone:
            self.handle.abort()
            return self._ending(Ended.CLIENT_GONE, "")
        self._end = end = self.setting.loop.create_future()
        if self._final is None and self._held_bytes > self._bounds.held_bytes_max:
            self.handle.resume()
        try:
            client.on_writable(self._on_writable)
            client.on_gone(self._on_gone)
            if self._held:
                client.write(b"".join(self._held))
                self._held.clear()
            if self._final is None:
                self._write, self._forward = client.write, client.forward
                if self._like is not None:
                    self._pump(self._like)
                await end
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            client.on_gone(None)
            client.on_writable(None)
        assert self._final is not None
        return self._final

    def used(self) -> Usage | None:
        """Usage so far: the last that was reported, or an estimate from what was passed on."""
        return self._chunks.used() if self._chunks.known else super().used()

    def abort(self) -> None:
        """Close the call's connection now. A stream that has said [DONE] gets a moment to end its message, and be pooled."""
        if self._final is not None and self._final.ended is Ended.SERVED:
            if not self._message_over:
                self.setting.loop.call_later(LINGER_S, self.handle.abort)
            self._let_go()
            return
        opened = self.result is self
        super().abort()
        if opened:
            self._conclude(self._ending(Ended.CUT_SHORT, "aborted"))

    def _on_writable(self, writable: bool) -> None:
        if writable:
            self.handle.resume()
        else:
            self.handle.pause()

    def _on_gone(self) -> None:
        self.handle.abort()
        self._conclude(self._ending(Ended.CLIENT_GONE, ""))

    # --- the end ---

    def _spoilt(self, what: str) -> None:
        self._fail(outcomes.spoilt(what, self._status))

    def _fail(self, outcome: Outcome) -> None:
        """The stream is no good: an outcome to fail over from, or, once content is in hand, cut short."""
        self.handle.abort()
        if self.result is None:
            said = self._chunks.usage
            self._settle(replace(outcome, usage=said if isinstance(said, Usage) else None))
            return
        fault = Fault.UPSTREAM if outcome.fault is Fault.CLIENT else outcome.fault  # the client's part was taken; this broke later
        cut = replace(outcome, ended=Ended.CUT_SHORT, fault=fault, message="", param=None, sent=True)
        self._conclude(replace(cut, usage=self._chunks.used()))

    def _ending(self, ended: Ended, code: str) -> Outcome:
        fault = Fault.CLIENT if ended is Ended.CLIENT_GONE else Fault.NOBODY
        return Outcome(ended, fault, status=self._status, code=code, usage=self._chunks.used())

    def _conclude(self, outcome: Outcome) -> None:
        """Say once how an open stream ended."""
        if self._final is None:
            self._final = outcome
            if self._fits is not None:
                self.handle.take_by(None)
            self._fits = self._write = self._forward = None
            if self._end is not None and not self._end.done():
                self._end.set_result(None)
