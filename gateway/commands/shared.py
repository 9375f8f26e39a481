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

__all__ = ["Commands", "loaded_to_ask", "policies", "say"]


class _Folder(argparse.Action):
    """A folder given without its option. (An argument of a type would turn argparse's mark for "not given" into a folder.)"""

    def __call__(self, _parser: object, options: argparse.Namespace, given: object, _option: str | None = None) -> None:
        options.policies = Path(str(given))


def policies(parser: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """`--policies DIR`, or where it stands `alone`, simply `DIR`."""
    parser.add_argument("--policies", type=Path, default=Path("policies"), metavar="DIR", help="folder of policy files (policies)")
    if alone:
        parser.add_argument("policies", nargs="?", action=_Folder, default=argparse.SUPPRESS, metavar="DIR", help="the same")


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
