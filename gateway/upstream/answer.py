"""Answers that are not streamed: read whole, judged, brought into OpenAI's shape.

Promises: `body` is a chat completion as OpenAI publishes it, under the catalogue's name of the model. An answer that has that shape
already is passed on in the bytes it came in. HTTP 200 with an error, without choices, with a finish_reason that is a failure or
with nothing said is an outcome, and no answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from gateway.core.exchange import Ended, Outcome
from gateway.core.usage import Usage
from gateway.upstream import outcomes, usage
from gateway.upstream.call import Failure
from gateway.upstream.calling import Calling
from gateway.upstream.canonical import Identity, NotCanonical, Seen, written
from gateway.upstream.outcomes import Origin
from gateway.upstream.shape import CHAT, Shape

END_OF_TURN_TOKENS = 1
"""A model that ends its turn at once is billed for one token, and meant it. None, or more than were shown, is a defect upstream."""


def says_nothing(seen_speaks: bool, finish: str, said: Usage | usage.Unusable) -> bool:
    """Whether an answer counts as empty: nothing shown, no reason for it, and not simply the end of the model's turn."""
    if seen_speaks or finish in ("length", "content_filter"):
        return False
    return not (isinstance(said, Usage) and said.output == END_OF_TURN_TOKENS)


def counted(said: Usage | usage.Unusable, seen_speaks: bool, body: Mapping[str, Any]) -> Usage | usage.Unusable:
    """`said` of the answer to a request's `body`, unless it counts nothing where something was shown. An echo is the prompt's."""
    if isinstance(said, Usage) and not said.output and seen_speaks and not body.get("echo"):
        return usage.Unusable.ABSURD
    return said


def is_error(found: dict[str, Any]) -> bool:
    """Whether JSON that came with 200 is an error all the same: OpenAI's shape, the flat one, or Zhipu's `success: false`."""
    return bool(found.get("error")) or found.get("object") == "error" or found.get("success") is False


def judge(
    shape: Shape, origin: Origin, raw: bytes, identity: Identity, status: int, now: float, body: Mapping[str, Any]
) -> tuple[dict[str, Any], Seen, Usage | usage.Unusable] | Outcome:
    """A whole answer to a request's `body`, parsed and mended, with its usage; or the outcome that it really is."""
    try:
        found = orjson.loads(raw)
    except ValueError:
        return outcomes.spoilt("bad_answer", status)
    if not isinstance(found, dict):
        return outcomes.spoilt("bad_answer", status)
    if is_error(found):
        return outcomes.of_error(origin, status, (), found, now)
    try:
        seen = shape.mend_answer(found, identity)
    except NotCanonical:
        return outcomes.spoilt("bad_answer", status)
    said = counted(shape.usage(found), seen.speaks, body)
    known = said if isinstance(said, Usage) else None
    if seen.bad_finish:
        return replace(outcomes.spoilt(seen.bad_finish, status), usage=known)
    if says_nothing(seen.speaks, seen.finish, said) and not shape.may_say_nothing(body):
        return replace(outcomes.spoilt("empty_answer", status), usage=known)
    return found, seen, said


class AnswerCall(Calling):
    """A call whose answer is one JSON body."""

    shape: ClassVar[Shape] = CHAT

    _body: bytes
    _outcome: Outcome

    @property
    def body(self) -> bytes:
        return self._body

    def outcome(self) -> Outcome:
        """Served, with usage: reported, or our estimate, and then `code` says why."""
        return self._outcome

    def _on_body(self, data: bytes) -> None:
        if self.result is None:
            self._gather(data)

    def _on_complete(self) -> None:
        if self.result is not None:
            return
        raw = self._gathered()
        setting, request = self.setting, self.request
        now = setting.clock.now()
        identity = Identity(self.shape.ids + request.id, int(now), setting.model)
        judged = judge(self.shape, setting.origin, raw, identity, self._status, now, request.body)
        if isinstance(judged, Outcome):
            self._settle(judged)
            return
        found, seen, said = judged
        if _wants_canonical_usage(found, said):
            found["usage"] = usage.as_openai(said) if isinstance(said, Usage) else None
            seen.changed = True
        try:
            self._body = written(found) if seen.changed else raw
        except NotCanonical:
            self._settle(outcomes.spoilt("bad_answer", self._status))
            return
        self._outcome = served(said, seen.finish, self._status, lambda: usage.estimate(request.needs.prompt_tokens, 1, len(raw)))
        self.first_content = now
        self._settle(self)

    def _on_broken(self, failure: Failure) -> None:
        self._settle(replace(outcomes.failed(failure), status=self._status))


def _wants_canonical_usage(found: dict[str, Any], said: Usage | usage.Unusable) -> bool:
    """Whether clients would not find in `usage` what was found: cached tokens under another name, no total, or nonsense."""
    shown = found.get("usage")
    if not isinstance(said, Usage):
        return shown is not None
    if not isinstance(shown, dict) or shown.get("total_tokens") != said.input + said.output:
        return True  # in `timings` alone, or without a total, which the API's schema requires
    if not said.cached:
        return False
    details = shown.get("prompt_tokens_details")
    return not isinstance(details, dict) or details.get("cached_tokens") != said.cached


def served(said: Usage | usage.Unusable, finish: str, status: int, guess: Callable[[], Usage]) -> Outcome:
    """The outcome of what reached its end, with the usage reported or, for want of it, our `guess`; then `code` says why."""
    if isinstance(said, Usage):
        return Outcome(Ended.SERVED, status=status, usage=said, finish=finish)
    return Outcome(Ended.SERVED, status=status, code=said.value, usage=guess(), finish=finish)
