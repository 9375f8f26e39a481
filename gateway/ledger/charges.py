"""What the ledger says was charged to which account, and when: for putting right the books of a worker that has died.

Lines are not verified here: who can write to the ledger's folder can write to the store as well, and a worker that has just died
should be counted in a second. A line that was not written to its end was not settled either, and says nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson

CHARGED: Final = b',"charged":{'


def charges(segments: Iterable[Path], since: float) -> Iterator[tuple[float, Mapping[str, int]]]:
    """Of each exchange that `segments` (of one chain) say was settled after `since`: when, and account → amount.

    Times are UTC seconds. Segments that were last written to before `since` are not opened. Raises OSError.
    """
    for path in segments:
        if path.stat().st_mtime < since:
            continue
        with path.open("rb") as file:
            for line in file:
                if CHARGED not in line:
                    continue
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if record.get("kind") == "settled" and record["ended"] >= since:
                    yield record["ended"], record["charged"]
