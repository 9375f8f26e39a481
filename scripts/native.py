"""`make native`: the data path compiled, as `build/native`, and the command `gateway-native`, which runs it.

mypyc makes C of typed Python, and needs a C compiler and Python's headers. What is compiled is what a request passes; the rest of
the package stands beside it as it is. Nothing of the source changes: whoever runs `gateway` runs that. Compiled code checks types
at run time, too: a value that is not what its annotation says is a TypeError.
"""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMPILED = {
    "core": "accounts answer applying bounds budgets caching charging decide exchange facts failover fit labelled limits live "
    "masks memo order policy pricing rank rates reasons settlement terms unlimited usage view",
    "wire": "api apis body chat checks declared desk heads identity plane protocol text wishes",
    "upstream": "address answer asking call calling canonical chunks connection guard head http kept masking outcomes pool pump "
    "response shape spoken sse stream streamed template unread upstreams usage vectors texts/* dialects/*",
    "state": "breaker failovers health holding limits lines live queue shares watching accounts/keeping "
    "accounts/kinds accounts/port",
    "ledger": "audit charges families metrics record segments",
    ".": "clock pipeline",
}
OPTIMISE = "1"  # what 2 would bring has not been measured; it takes about twice as long


def modules() -> list[str]:
    """The files to compile, below ROOT.

    Not those of what is referred to weakly. A compiled object that goes does not tell its weak references, which are then of memory
    that is something else, and on Python 3.11 freed themselves while in use.
    """
    found = []
    for part, names in COMPILED.items():
        for name in names.split():
            files = sorted(Path(ROOT, "gateway", part).glob(f"{name}.py"))
            if not files:
                raise SystemExit(f"scripts/native.py: there is no gateway/{part}/{name}.py to compile")
            if weak := [str(file) for file in files if '"__weakref__"' in file.read_text()]:
                raise SystemExit("scripts/native.py: referred to weakly, and so not to be compiled: " + ", ".join(weak))
            found += [str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"]
    return found


def main() -> int:
    """Compile, then put the command where this Python's are."""
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        raise SystemExit("scripts/native.py: Python's headers are needed to compile (Debian: python3-dev); `gateway` runs without")
    target, work = ROOT / "build" / "native", ROOT / "build" / "native.new"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(ROOT / "gateway", work / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    os.chdir(work)
    sys.path.insert(0, str(work))
    files = modules()
    build(files)
    if misread := sorted(stale(work / "build")):
        raise SystemExit("scripts/native.py: read as None after a call that may have changed it: " + ", ".join(misread))
    shutil.rmtree(work / "build")
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    command = Path(sysconfig.get_path("scripts"), "gateway-native")
    lines = ("import sys", f"sys.path.insert(0, {str(target)!r})", "from gateway.__main__ import main", "sys.exit(main())")
    command.write_text("\n".join((f"#!{sys.executable}", *lines, "")))
    command.chmod(0o755)
    print(f"compiled {len(files)} modules: {command} runs them")
    return 0


def build(files: list[str]) -> None:
    """Compile `files` in place, a few at a time."""
    from mypyc.build import mypycify
    from setuptools import setup
    from setuptools._distutils.ccompiler import CCompiler

    def together(self: Any, sources: list[str], **options: Any) -> list[str]:  # it compiles one after the other by itself
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [made for some in pool.map(lambda source: alone(self, [source], **options), sources) for made in some]

    alone, CCompiler.compile = CCompiler.compile, together
    settings = f"--config-file={ROOT / 'pyproject.toml'}"
    extensions = mypycify([settings, *files], opt_level=OPTIMISE, debug_level="0", multi_file=True)
    setup(name="gateway-native", packages=[], ext_modules=extensions, script_args=["--quiet", "build_ext", "--inplace"])


def stale(folder: Path) -> Iterator[str]:
    """Functions in the C below `folder` that take a field for None because they have looked once, though a call came in between.

    mypy goes on believing what was looked at, and what is compiled would raise a TypeError there. Ask through a method instead.
    """
    for file in folder.rglob("*.c"):
        lines, function = file.read_text(errors="replace").splitlines(), ""
        for at, line in enumerate(lines):
            if found := re.match(r"[\w ]+[ *](CPyDef_\w+)\(", line):
                function = found[1]
            if found := re.search(r'CPy_TypeError\("None", (\w+)\)', line):
                before = [earlier for earlier in lines[max(0, at - 14) : at] if re.search(rf"\b{found[1]} = ", earlier)]
                if before and "->_" in before[-1]:
                    yield function.removeprefix("CPyDef_")


if __name__ == "__main__":
    sys.exit(main())
