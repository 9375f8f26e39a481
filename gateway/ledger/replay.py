"""Making a recorded decision again, from its line and the policy that it names.

Promise: under the same policy and access documents the answer is the recorded one, to the byte: the same routes in the same order,
the same exclusions for the same reasons.
"""

from typing import Any

from gateway.core.decide import Decision, decide
from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts, Vocabulary
from gateway.core.live import Blocked, LiveState
from gateway.core.policy import Snapshot
from gateway.core.view import View
from gateway.ledger.record import SETS


def again(recorded: dict[str, Any], snapshot: Snapshot) -> Decision:
    """The decision whose record (a line's `decision`) this is, made anew under `snapshot`. Under another one: what would it be?"""
    view = View(snapshot, recorded["instant"])
    facts = facts_from(recorded["facts"], snapshot.policy.vocabulary)
    live = LiveState(
        blocked={name: Blocked(said["word"], said["detail"], said["until"]) for name, said in recorded["live"]["blocked"].items()},
        latency_ms=recorded["live"]["latency_ms"],
    )
    return decide(view, facts, needs_from(recorded["needs"]), live, recorded["draw"])


def facts_from(recorded: dict[str, Any], vocabulary: Vocabulary) -> RequestFacts:
    """The facts that a record tells; `*` is every country that `vocabulary` knows."""
    sets = {name: frozenset(recorded[name]) for name in SETS}
    if sets["region"] == frozenset("*"):
        sets["region"] = vocabulary.countries
    return RequestFacts(**sets, prompt_tokens=recorded["prompt_tokens"], inspected=recorded["inspected"])


def needs_from(recorded: dict[str, Any]) -> Needs:
    """The needs that a record tells."""
    return Needs(
        api=recorded["api"],
        abilities=frozenset(recorded["abilities"]),
        tools=frozenset(recorded["tools"]),
        prompt_tokens=recorded["prompt_tokens"],
        output_tokens=recorded["output_tokens"],
        remote_content=recorded["remote_content"],
    )
