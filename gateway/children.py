"""How a process of ours starts another one of the same gateway, and what that one is told of its surroundings."""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

INHERITED: Final = frozenset({
    "PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
})  # fmt: skip
HERE: Final = str(Path(__file__).parent.parent)
INSTALLED: Final = HERE in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


def python(module: str) -> list[str]:
    """The command that runs `module`; -P: the folder that we happen to be in is nothing to import from."""
    return [sys.executable, "-P", "-m", module]


def surroundings() -> dict[str, str]:
    """What a child of ours has to know: where Python, its packages, this gateway and CA files are. No credential is among it."""
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if not INSTALLED:  # then Python finds it, and packages that came before the standard library could stand in for parts of it
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (HERE, found.get("PYTHONPATH"))))
    return found
