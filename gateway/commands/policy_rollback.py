"""`gateway policy rollback`: puts the documents of an earlier snapshot back into the folder, if they may serve today.

A running gateway sees the folder change and reloads; nobody has to restart it. The folder alone is changed: not what runs.
"""

import argparse
from pathlib import Path

from gateway.commands.shared import Commands, policies, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    rollback = commands.add_parser("rollback", help="put back what served before")
    rollback.add_argument("to", nargs="?", metavar="SNAPSHOT", help="of `history`, or how it begins; without: undo")
    policies(rollback, alone=False)
    rollback.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="the gateway's state folder (state)")
    rollback.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.config.compile import load
    from gateway.proof.gate import judge
    from gateway.reload.admission import in_place
    from gateway.reload.documents import NotOurs, ours, write_documents
    from gateway.reload.history import History, Unknown, name_of

    history = History(options.state)
    try:
        ours(options.policies)
        lies = load(options.policies).snapshot
        entry, documents = history.documents(options.to, None if lies is None else name_of(lies))
        staged = history.stage(documents)
        try:
            judged = judge(staged, None, options.state)
        finally:
            history.drop(staged)
        if judged.snapshot is None:
            say(f"{entry.snapshot} served once and may not today:")
            say("\n".join((*in_place(judged.problems, staged, options.policies), judged.counterexamples)).rstrip())
            return 1
        write_documents(options.policies, documents)
    except (NotOurs, Unknown) as error:
        say(str(error))
        return 2
    except OSError as error:
        say(f"{options.policies} can't be written: {error}")
        return 2
    print(f"{options.policies} is what it was as {entry.snapshot}; a running gateway takes it up by itself")
    return 0
