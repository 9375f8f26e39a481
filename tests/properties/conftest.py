"""The worlds of the core's tests are used here too."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "core"))
