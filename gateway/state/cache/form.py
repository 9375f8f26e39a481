"""What the cache has to know of an API: what of an answer is kept, and how it is given again. The upstream's side implements it."""

from typing import Protocol

from gateway.core.exchange import Outcome, Request
from gateway.core.usage import Usage


class Form(Protocol):
    """One API. Answers are kept in one shape, whether they were streamed or not, and given in either."""

    def answer(self, request: Request, outcome: Outcome, body: bytes) -> bytes | None:
        """The answer to keep of one that came whole; None: it is none that another request may be given."""
        ...

    def answer_of(self, request: Request, outcome: Outcome, events: bytes) -> bytes | None:
        """The same of one that was streamed, as the client was written it."""
        ...

    def events(self, answer: bytes, usage: Usage | None) -> bytes:
        """An answer as a stream brings it, up to its end; with `usage`, if that is wanted."""
        ...
