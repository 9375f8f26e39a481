"""`gateway policy explain`: one decision, in full."""

import argparse
import json
from pathlib import Path
from typing import Final

from gateway.commands.shared import Commands, loaded_to_ask, policies, say

FACTS: Final = ("region", "data_class", "categories", "task", "tag", "language", "abilities", "tools")
SEVERAL: Final = frozenset({"region", "categories", "language", "abilities", "tools"})


def add(commands: Commands) -> None:
    """Say what the command takes."""
    explain = commands.add_parser("explain", help="explain one decision: `--tenant clinic --asked auto --region DE`")
    policies(explain)
    explain.add_argument("--tenant")
    explain.add_argument("--key", help="the id of a key; needed where a tenant has several")
    explain.add_argument("--asked", help="the model or alias that the request names")
    for fact in FACTS:
        explain.add_argument(f"--{fact.replace('_', '-')}", nargs="+" if fact in SEVERAL else None, metavar="WORD")
    explain.add_argument("--prompt-tokens", type=int, metavar="N")
    explain.add_argument("--output-tokens", type=int, metavar="N")
    explain.add_argument("--request", type=Path, metavar="FILE", help="a whole request: JSON with `key`, `headers` and `body`")
    explain.add_argument("--json", action="store_true")
    explain.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.core.answer import Problem
    from gateway.core.explain import as_json, as_text
    from gateway.question import decision

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
    print(json.dumps(as_json(found), indent=2) if options.json else as_text(found))
    return 0 if found.routes else 1
