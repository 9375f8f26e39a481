"""`gateway policy diff OLD NEW`: what becomes newly allowed, newly refused, moved to another country, or dearer."""

import argparse
import json
from pathlib import Path

from gateway.commands.shared import JSON, Commands, loaded_to_ask, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    diff = commands.add_parser("diff", help="what NEW allows, refuses, moves or makes dearer that OLD does not")
    diff.add_argument("old", type=Path, metavar="OLD", help="folder of the policy as it is")
    diff.add_argument("new", type=Path, metavar="NEW", help="folder of the policy as it is to be")
    diff.add_argument("--json", action="store_true", help=JSON)
    diff.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import time

    from gateway.proof.diff import difference
    from gateway.proof.formula import GaveUp
    from gateway.proof.judging import z3_solver

    old, new = loaded_to_ask(options.old), loaded_to_ask(options.new)
    if old is None or new is None:
        return 2
    try:
        found = difference(old, new, time.time(), z3_solver())
    except GaveUp as error:
        say(f"the solver gave up ({error}): compare policies that differ in less")
        return 2
    if options.json:
        changes = [change.as_record() for change in found.changes]
        print(json.dumps({"old": old.hash, "new": new.hash, "changes": changes, "left_off": list(found.left_off)}, indent=2))
        return int(bool(found.changes))
    kind = ""
    for change in found.changes:
        if change.kind != kind:
            kind = change.kind
            print(f"{kind}:")
        print(f"  {change.sentence}")
        print(f"    for example {json.dumps(dict(change.example), ensure_ascii=False)}")
    for tenant in found.left_off:
        print(f"of `{tenant}` more requests are routed otherwise than were compared for moves and prices")
    if not found.changes:
        print("no request is treated otherwise")
    return int(bool(found.changes))
