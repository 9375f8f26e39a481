"""Our own bugs, told without what they were about: an exception's message may quote content, so its type and place must do."""

import sys
import traceback
from pathlib import Path
from typing import Final

FRAMES_MAX: Final = 8  # innermost first; deeper ones are the server's loop


def where(error: BaseException) -> str:
    """The type of a defect and where it is."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames[-FRAMES_MAX:]))
    return f"{type(error).__name__} at {places}"


def report(error: BaseException) -> None:
    """Say on stderr that there is one, and where."""
    print(f"defect: {where(error)}", file=sys.stderr, flush=True)
