"""`python -m gateway.proof.child FOLDER [--at SECONDS] [--state DIR]`: judges a folder and writes a pickled Judged to its output.

Only `gate.judge` calls it. Whatever a library prints goes to the error output: the pipe is for one value.
"""

import argparse
import os
import sys
from pathlib import Path

from gateway.pickled import pickled
from gateway.proof.judging import judged


def main() -> int:
    """Judge, write, end."""
    parser = argparse.ArgumentParser(prog="gateway.proof.child")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--at", type=float)
    parser.add_argument("--state", type=Path)
    options = parser.parse_args()
    with os.fdopen(os.dup(1), "wb") as pipe:
        os.dup2(2, 1)
        pipe.write(pickled(judged(options.folder, options.at, options.state)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
