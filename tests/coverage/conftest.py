"""Coverage is tested on the small documents of `tests/config`, and on the small world that is everybody's."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "config"))
