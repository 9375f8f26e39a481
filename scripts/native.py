"""`make native`: the data path compiled, as `build/native`, and the command `gateway-native`, which runs it.

usage: native.py [--quick]
mypyc makes C of typed Python, and needs a C compiler and Python's headers. What is compiled is what a request passes; the rest of
the package stands beside it as it is. Nothing of the source changes: whoever runs `gateway` runs that. Compiled code checks types
at run time, too: a value that is not what its annotation says is a TypeError.

It is compiled twice. The first serves the benchmark's requests for some seconds and counts which ways through the code they take;
the second has these close together and the rest (errors, mostly) far away. A worker that is woken for each request finds most of
its code gone from the processor's caches, and there that saves a tenth. `--quick` compiles once, to `build/quick`: what the tests
run on, the same C.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
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
FLAGS = ["-fvisibility=hidden"]  # calls from one module to the next go there straight; Python finds what it needs by other ways
COUNTING = ["-fprofile-generate"]
COUNTED = ["-fprofile-use", "-fprofile-correction", "-Wno-missing-profile"]  # several threads count, some modules serve nothing


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="compile once, to build/quick")
    quick = parser.parse_args().quick
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        raise SystemExit("scripts/native.py: Python's headers are needed to compile (Debian: python3-dev); `gateway` runs without")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise SystemExit(f"scripts/native.py: there is no C compiler `{compiler[0]}` (Debian: gcc); `gateway` runs without")
    name = "quick" if quick else "native"
    target, work = ROOT / "build" / name, ROOT / "build" / f"{name}.new"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(ROOT / "gateway", work / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    os.chdir(work)
    sys.path.insert(0, str(work))
    files = modules()
    extensions = translated(files, "1" if quick else "2")
    if misread := sorted(stale(work / "build")):
        raise SystemExit("scripts/native.py: read as None after a call that may have changed it: " + ", ".join(misread))
    unprofiled = "in a hurry" if quick else no_profile(compiler)
    if unprofiled:
        build(extensions, FLAGS)
    else:
        build(extensions, FLAGS + COUNTING)
        write_command(work / "gateway-counting", work)
        subprocess.run([sys.executable, ROOT / "tests/bench/ratios.py", "--practise", work / "gateway-counting"], check=True)
        build(extensions, FLAGS + COUNTED)
    shutil.rmtree(work / "build")
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    command = Path(sysconfig.get_path("scripts"), f"gateway-{name}")
    write_command(command, target)
    print(f"compiled {len(files)} modules{f' once ({unprofiled})' if unprofiled else ''}: {command} runs them")
    return 0


def translated(files: list[str], optimise: str) -> list[Any]:
    """`files` as C, and how to compile it: setuptools' Extensions."""
    from mypyc.build import mypycify

    settings = f"--config-file={ROOT / 'pyproject.toml'}"
    return mypycify([settings, *files], opt_level=optimise, debug_level="0", multi_file=True)


def build(extensions: list[Any], flags: list[str]) -> None:
    """Compile in place, as many files at once as there are processors, with `flags` besides those that `extensions` have."""
    from setuptools import setup
    from setuptools.command.build_ext import build_ext

    class Together(build_ext):
        def build_extensions(self) -> None:
            alone = self.compiler.compile  # one file after the other

            def together(sources: list[str], **options: Any) -> list[str]:
                options["extra_postargs"] = [*(options.get("extra_postargs") or ()), *flags]
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    return [made for some in pool.map(lambda source: alone([source], **options), sources) for made in some]

            self.compiler.compile = together
            super().build_extensions()

    for extension in extensions:
        extension.extra_link_args = [flag for flag in flags if flag in COUNTING]
    arguments = ["--quiet", "build_ext", "--inplace", "--force"]
    setup(name="gateway-native", packages=[], ext_modules=extensions, cmdclass={"build_ext": Together}, script_args=arguments)


def no_profile(compiler: list[str]) -> str:
    """Why nothing can be counted here; "" where it can."""
    told = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True)
    if "Free Software Foundation" not in told.stdout:
        return "profiles are taken with gcc"
    return "" if (os.cpu_count() or 1) > 1 else "the benchmark needs two processors"


def write_command(command: Path, target: Path) -> None:
    """Write the command that runs what is in `target`."""
    lines = ("import sys", f"sys.path.insert(0, {str(target)!r})", "from gateway.__main__ import main", "sys.exit(main())")
    command.write_text("\n".join((f"#!{sys.executable}", *lines, "")))
    command.chmod(0o755)


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
