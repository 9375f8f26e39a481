"""The command line: what commands there are. What each does stands in `commands/`."""

import argparse
import sys
from collections.abc import Callable, Sequence

from gateway import __version__
from gateway.commands import (
    demo,
    keys_new,
    policy_check,
    policy_diff,
    policy_explain,
    policy_history,
    policy_prove,
    policy_replay,
    policy_rollback,
    policy_schema,
    policy_test,
    serve,
    simulate,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BrokenPipeError:  # somebody piped us into `head`
        sys.stderr.close()
        return 0


def parser() -> argparse.ArgumentParser:
    """Of all commands."""
    found = argparse.ArgumentParser(prog="gateway", description="Decides where a request may go before where it is best to go.")
    found.add_argument("--version", action="version", version=__version__)
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    serve.add(commands)
    demo.add(commands)
    policy = commands.add_parser("policy", help="check, explain and prove a policy").add_subparsers(
        required=True, metavar="COMMAND"
    )
    asking = (policy_check, policy_prove, policy_test, policy_explain, policy_diff, policy_replay)
    for part in (*asking, policy_history, policy_rollback, policy_schema):
        part.add(policy)
    keys = commands.add_parser("keys", help="make keys").add_subparsers(required=True, metavar="COMMAND")
    keys_new.add(keys)
    simulate.add(commands)
    return found


if __name__ == "__main__":
    sys.exit(main())
