"""`gateway policy explain`: one decision, in full."""

import argparse
import json
from pathlib import Path
from typing import Any, Final

from gateway.commands.shared import JSON, Commands, loaded_to_ask, policies, say, workers
from gateway.refused import in_words

FACTS: Final = {
    "api": "the API that is asked: chat (the default), completions, embeddings, …",
    "region": "declared, as by x-gateway-region: countries and zones",
    "data_class": "declared, as by x-gateway-data-class",
    "categories": "declared, as by x-gateway-categories",
    "task": "declared, as by x-gateway-task",
    "tag": "declared, as by x-gateway-tag",
    "language": "what the text may be in: de, zh, …",
    "abilities": "what the model must have: tools, vision, …",
    "tools": "kinds of tool that are offered to the model: function, …",
}
SEVERAL: Final = frozenset({"region", "categories", "language", "abilities", "tools"})


def add(commands: Commands) -> None:
    """Say what the command takes."""
    explain = commands.add_parser("explain", help="explain one decision: `--tenant clinic --asked auto --region DE`")
    policies(explain)
    explain.add_argument("--tenant", help="who asks; or name a --key")
    explain.add_argument("--key", help="the id of a key; needed where a tenant has several")
    explain.add_argument("--asked", help="the model or alias that the request names")
    for fact in FACTS:
        count = "+" if fact in SEVERAL else None
        explain.add_argument(f"--{fact.replace('_', '-')}", nargs=count, metavar="WORD", help=FACTS[fact])
    explain.add_argument("--prompt-tokens", type=int, metavar="N", help="about how long the prompt is")
    explain.add_argument("--output-tokens", type=int, metavar="N", help="the longest answer that is asked for")
    explain.add_argument("--request", type=Path, metavar="FILE", help="a whole request: JSON with `key`, `headers` and `body`")
    explain.add_argument("--decision", metavar="ID", help="a decision of the past: the x-gateway-decision of an answer")
    explain.add_argument("--ledger", type=Path, default=Path("state/ledger"), metavar="DIR", help="where it stands (state/ledger)")
    explain.add_argument("--workers", type=workers, default=1, metavar="N", help="how many share the limits, on all machines (1)")
    explain.add_argument("--json", action="store_true", help=JSON)
    explain.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.core.answer import Problem
    from gateway.core.explain import as_json, as_text
    from gateway.question import decision

    if options.decision is not None:
        return _recorded(options)
    snapshot = loaded_to_ask(options.policies)
    if snapshot is None:
        return 2
    if options.request is not None:
        try:
            question = json.loads(options.request.read_text())
        except (OSError, ValueError) as error:
            say(f"{options.request}: {error}")
            return 2
    else:
        words = ("tenant", "key", "asked", *FACTS, "prompt_tokens", "output_tokens")
        question = {word: value for word in words if (value := getattr(options, word)) is not None}
    try:
        found = decision(snapshot, question)
    except Problem as problem:
        say(problem.message)
        return 2
    print(json.dumps(as_json(found, options.workers), indent=2) if options.json else as_text(found, options.workers))
    return 0 if found.routes else 1


def _recorded(options: argparse.Namespace) -> int:
    """Explain a decision of the past, under the snapshot that it was made under."""
    from gateway.config.compile import load
    from gateway.core.explain import as_json, as_text
    from gateway.ledger.decisions import Damaged, find
    from gateway.ledger.replay import Unreadable, again
    from gateway.replaying import Snapshots

    try:
        found = find(options.ledger, options.decision)
    except OSError as error:
        say(f"the ledger in {options.ledger} can't be read: {in_words(error)}")
        return 2
    if found is None:
        say(f"no decision goes by the id `{options.decision}` in {options.ledger}")
        return 2
    if isinstance(found, Damaged):
        say(f"{found.path}:{found.number}: {found.why}")
        return 2
    today = load(options.policies).snapshot
    snapshot = Snapshots(options.ledger.resolve().parent, () if today is None else (today,)).of(found.decision)
    if snapshot is None:
        policy, access = str(found.decision.get("policy"))[:12], str(found.decision.get("access"))[:12]
        say(f"`{found.id}` was decided under policy {policy} and access {access}, which nobody has kept: name their folder")
        return 2
    try:
        decision = again(found.decision, snapshot)
    except Unreadable as error:
        say(f"{found.path}:{found.number}: {error}")
        return 2
    if options.json:
        place = {"id": found.id, "file": str(found.path), "line": found.number, "began": found.began, "settled": found.settled}
        print(json.dumps({**as_json(decision, options.workers), "recorded": place}, indent=2))
    else:
        print(as_text(decision, options.workers))
        print(f"\nrecorded as {found.id} in {found.path}:{found.number}; {_came(found.settled)}")
    return 0 if decision.routes else 1


def _came(settled: dict[str, Any] | None) -> str:
    """What came of a decision, for people."""
    if settled is None:
        return "how it ended is not recorded"
    tried = ", ".join(f"{attempt['route']} ({attempt['outcome']})" for attempt in settled["attempts"]) or "nowhere"
    return f"sent to {tried}; ended as {settled['result']} at {settled['cost_usd']} USD ({settled['cost_basis']})"
