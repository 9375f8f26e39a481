"""`processes` lies beside the tests of the processes."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "app"))
