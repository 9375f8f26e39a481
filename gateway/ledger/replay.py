"""Making a recorded decision again, from its line and the policy that it names.

Promise: under the same policy and access documents the answer is the recorded one, to the byte: the same routes in the same order,
the same exclusions for the same reasons.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from gateway.core.decide import Decision, decide
from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts, Vocabulary
from gateway.core.live import ALL_WELL, Blocked, LiveState
from gateway.core.policy import Snapshot
from gateway.core.view import View
from gateway.ledger.record import SETS, Shorthand

KEPT_MAX: Final = 16  # views: a worker makes one when it starts, and one whenever a label ends or a policy is loaded

T = TypeVar("T")


class Unreadable(Exception):
    """A decision's record that is not what `record.py` writes. Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a decision was made of, but for the policy."""

    instant: float  # UTC seconds: of the view
    facts: RequestFacts
    needs: Needs
    live: LiveState
    draw: int

    def decided(self, view: View, facts: RequestFacts | None = None) -> Decision:
        """The decision in `view`, of other `facts` if they are given."""
        return decide(view, facts or self.facts, self.needs, self.live, self.draw)


def inputs(recorded: dict[str, Any], vocabulary: Vocabulary) -> Inputs:
    """What a record (a line's `decision`, written out) tells. Raises Unreadable."""
    try:
        blocked = {
            _text(name): Blocked(_text(said["word"]), _text(said["detail"]), said["until"])
            for name, said in recorded["live"]["blocked"].items()
        }
        latency_ms = {_text(name): _whole(ms) for name, ms in recorded["live"]["latency_ms"].items()}
        warm = {_text(name): _whole(tokens) for name, tokens in recorded.get("warm", {}).items()}
        return Inputs(
            instant=float(recorded["instant"]),
            facts=facts_from(recorded["facts"], recorded["prompt_tokens"], vocabulary),
            needs=needs_from(recorded["needs"], recorded),
            # what is remembered of ranks hangs on one and the same mapping, so nothing known is always the same one
            live=LiveState(blocked or ALL_WELL.blocked, latency_ms or ALL_WELL.latency_ms, warm or ALL_WELL.warm),
            draw=_whole(recorded["draw"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"its decision can't be read ({type(error).__name__.lower()}: {error})") from error


def again(recorded: dict[str, Any], snapshot: Snapshot) -> Decision:
    """The decision whose record (a line's `decision`) this is, made anew under `snapshot`. Under another one: what would it be?

    Raises Unreadable.
    """
    found = inputs(recorded, snapshot.policy.vocabulary)
    return found.decided(View(snapshot, found.instant))


def facts_from(recorded: dict[str, Any], prompt_tokens: Any, vocabulary: Vocabulary) -> RequestFacts:
    """The facts that a record tells; `*` is every country that `vocabulary` knows."""
    sets = {name: _set(recorded[name]) for name in SETS}
    if sets["region"] == frozenset("*"):
        sets["region"] = vocabulary.countries
    return RequestFacts(**sets, prompt_tokens=_whole(prompt_tokens), inspected=_text(recorded["inspected"]))


def needs_from(recorded: dict[str, Any], decision: dict[str, Any]) -> Needs:
    """The needs that a record tells, with the lengths that stand beside them in its `decision`."""
    output_tokens = decision["output_tokens"]
    return Needs(
        api=_text(recorded["api"]),
        abilities=_set(recorded["abilities"]),
        tools=_set(recorded["tools"]),
        prompt_tokens=_whole(decision["prompt_tokens"]),
        output_tokens=None if output_tokens is None else _whole(output_tokens),
        remote_content=bool(recorded["remote_content"]),
        longest_tokens=_whole(decision.get("longest_tokens", 0)),
    )


class Kept(Generic[T]):
    """What is made of an instant, for the last few of them: making a view takes as long as a hundred decisions."""

    def __init__(self, make: Callable[[float], T]) -> None:
        self._make = make
        self._made: dict[float, T] = {}

    def at(self, instant: float) -> T:
        """What belongs to `instant` (UTC seconds)."""
        found = self._made.get(instant)
        if found is None:
            if len(self._made) >= KEPT_MAX:
                del self._made[next(iter(self._made))]
            found = self._made[instant] = self._make(instant)
        return found


class Replay:
    """Makes decisions of one snapshot again and holds them against their lines."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._vocabulary = snapshot.policy.vocabulary
        self._shorthands: Kept[Shorthand] = Kept(lambda instant: Shorthand(View(snapshot, instant)))

    def same(self, recorded: dict[str, Any], text: bytes) -> bool:
        """Whether `text` is, byte for byte, the decision that comes of its inputs. Raises Unreadable."""
        return self.made(recorded, text)[1]

    def made(self, recorded: dict[str, Any], text: bytes) -> tuple[Decision, bool]:
        """The decision that comes of the inputs `recorded`, and whether `text` is what it is written as. Raises Unreadable."""
        found = inputs(recorded, self._vocabulary)
        shorthand = self._shorthands.at(found.instant)
        decision = found.decided(shorthand.view)
        return decision, shorthand.decision(decision) == text


def missing(recorded: dict[str, Any], snapshot: Snapshot) -> dict[str, str]:
    """Which documents the record names that `snapshot` is not made of: `policy`, `access` -> the recorded hash."""
    ours = {"policy": snapshot.policy.hash, "access": snapshot.access.hash}
    return {name: str(recorded.get(name)) for name, found in ours.items() if recorded.get(name) != found}


def _set(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise TypeError("a list of words is something else")
    return frozenset(map(_text, value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a word is something else")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("a natural number is something else")
    return value
