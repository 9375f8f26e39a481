"""`gateway policy history`: every switch from one snapshot to another, the newest first."""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from gateway.commands.shared import JSON, Commands, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    history = commands.add_parser("history", help="what has served, since when, and who had it so")
    history.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="the gateway's state folder (state)")
    history.add_argument("--json", action="store_true", help=JSON)
    history.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.reload.history import History

    try:
        entries = list(reversed(History(options.state).entries()))
    except (OSError, UnicodeDecodeError) as error:
        say(f"the history in {options.state} can't be read: {error}")
        return 2
    if options.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
        return 0
    if not entries:
        say(f"{options.state}: no snapshot has served from here")
        return 1
    print(f"{'since (UTC)':21} {'snapshot':26} who and how")
    for entry in entries:
        since = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{since:21} {entry.snapshot:26} {entry.by}: {entry.how}")
    return 0
