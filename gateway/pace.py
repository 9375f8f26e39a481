"""How often the processes of one gateway look and tell. Whoever has to wait for what comes of it has them do so more often."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two times."""

    report_s: float = 1.0  # that a worker tells the supervisor how it is, and has its ledger reach the disk
    look_s: float = 1.0  # that the supervisor looks at its folder, a `stat` for each document, and at budgets
    respawn_s: float = 0.5  # before a worker that died is replaced; doubled with each death in a row


PACE: Final = Pace()
