"""What several commands share: how the folder is named, how people are told, how a policy is loaded to be asked."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    from gateway.core.policy import Snapshot
else:
    Commands = Any

__all__ = ["JSON", "Commands", "loaded_to_ask", "policies", "port", "say", "workers"]

JSON = "print it as JSON, for machines"


class _Folder(argparse.Action):
    """A folder given without its option. (An argument of a type would turn argparse's mark for "not given" into a folder.)"""

    def __call__(self, _parser: object, options: argparse.Namespace, given: object, _option: str | None = None) -> None:
        options.policies = Path(str(given))


def policies(parser: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """`--policies DIR`, or where it stands `alone`, simply `DIR`."""
    parser.add_argument("--policies", type=Path, default=Path("policies"), metavar="DIR", help="folder of policy files (policies)")
    if alone:
        same = "the same as --policies DIR"
        parser.add_argument("policies", nargs="?", action=_Folder, default=argparse.SUPPRESS, metavar="DIR", help=same)


def port(text: str) -> int:
    """A TCP port; 0: any that is free. Raises argparse's error."""
    return _whole(text, 0, 65_535, "a port")


def workers(text: str) -> int:
    """A number of processes. Raises argparse's error."""
    return _whole(text, 1, WORKERS_MAX, "a number of workers")


WORKERS_MAX = 256  # more than any machine has cores for; a typing error starts no thousand processes


def _whole(text: str, least: int, most: int, what: str) -> int:
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
    if not least <= found <= most:
        raise argparse.ArgumentTypeError(f"`{text}` is not {what}: {least} to {most}")
    return found


def say(text: str) -> None:
    """Tell whoever runs the command, beside its output."""
    print(text, file=sys.stderr)


def loaded_to_ask(folder: Path) -> "Snapshot | None":
    """The snapshot of `folder`; None, after saying all that is wrong, where there is none."""
    from gateway.config.compile import load
    from gateway.config.problems import render

    loaded = load(folder)
    if loaded.snapshot is None:
        say(render(loaded.problems, f"{folder} can't be asked"))
    return loaded.snapshot
