"""Calls for text completions: what differs from chat, in answers and in streams."""

from typing import Any, Final

from gateway.core.exchange import Outcome, Request
from gateway.core.usage import Usage
from gateway.upstream import usage
from gateway.upstream.answer import AnswerCall
from gateway.upstream.calling import Setting
from gateway.upstream.chunks import Chunks
from gateway.upstream.pump import Tally
from gateway.upstream.shape import wanted
from gateway.upstream.stream import StreamCall
from gateway.upstream.texts.shape import COMPLETION

NULL: Final = b"data: null"  # how a stream of llama.cpp begins while a prompt still waits for its turn


class TextChunks(Chunks):
    """Reads the events of one stream."""

    shape = COMPLETION

    def __init__(self, setting: Setting, request: Request, tally: Tally) -> None:
        super().__init__(setting, request, tally)
        self._each = wanted(request.body)  # choices of one prompt
        self._own: dict[int, Usage] = {}  # of each choice, where choices say their own

    def take(self, raw: bytes, *, committed: bool) -> bytes | Outcome:
        return b"" if raw == NULL else super().take(raw, committed=committed)

    def _read_usage(self, chunk: dict[str, Any]) -> Usage | usage.Unusable:
        """llama.cpp says usage with the last chunk of each choice, of that alone; the prompt counts once for all of its choices."""
        own = "timings" in chunk
        said = super()._read_usage(chunk)
        choices = chunk.get("choices")
        if not own or not isinstance(said, Usage) or not choices:
            return said
        choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
        if choice.get("finish_reason") is None:
            return usage.Unusable.MISSING
        self._own[choice.get("index", 0)] = said
        prompts = [each for index, each in self._own.items() if index % self._each == 0]
        return Usage(
            uncached=sum(each.uncached for each in prompts),
            cached=sum(each.cached for each in prompts),
            output=sum(each.output for each in self._own.values()),
            reported=True,
        )

    def used(self) -> Usage:
        """Usage so far; what some choices have said of themselves is not all, so as long as not all have, it is estimated."""
        if self._own and len(self._own) < self.shape.choices(self._request.body):
            return self._guess()
        return super().used()


class TextStreamCall(StreamCall):
    """A call whose answer is a stream of completions."""

    reads = TextChunks


class TextAnswerCall(AnswerCall):
    """A call whose answer is one body of completions."""

    shape = COMPLETION
