"""Our own bugs, told without what they were about: an exception's message may quote content, so its type and place must do."""

import asyncio
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

AGAIN_S: Final = 1.0  # before what a defect has ended is begun anew; doubled with each time, up to AGAIN_S_MAX
AGAIN_S_MAX: Final = 60.0
FRAMES_MAX: Final = 8  # innermost first; deeper ones are the server's loop


def where(error: BaseException) -> str:
    """The type of a defect and where it is."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames[-FRAMES_MAX:]))
    return f"{type(error).__name__} at {places}"


def report(error: BaseException) -> None:
    """Say on stderr that there is one, and where; of several that ended together, each."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            report(one)
        return
    print(f"defect: {where(error)}", file=sys.stderr, flush=True)


def of(task: "asyncio.Task[Any]", *expected: type[BaseException]) -> BaseException | None:
    """What ended a task that nobody waited for, if it is a defect: not its end, nor a cancellation, nor anything `expected`."""
    if task.cancelled():
        return None
    error = task.exception()
    return None if isinstance(error, expected) else error


async def kept_up(part: Callable[[], Coroutine[Any, Any, None]], again_s: float = AGAIN_S) -> None:
    """Run `part`, which is to run as long as we do, and begin it anew whenever a defect has ended it: after one odd report nobody
    would look at places, budgets or policies until the next restart. Ends as `part` does, or when cancelled."""
    while True:
        try:
            return await part()
        except Exception as error:  # noqa: BLE001 - whatever it is
            report(error)
        await asyncio.sleep(again_s)
        again_s = min(2 * again_s, AGAIN_S_MAX)
