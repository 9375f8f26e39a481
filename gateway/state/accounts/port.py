"""What limits ask of an account. Times are UTC seconds and arguments; amounts are whole numbers in the account's own unit.

Promises: `take` waits for nobody and costs a microsecond. It says YES out of what this worker has leased from the shared store
ahead of need; near the limit it says ASK, and then, and only then, is the store waited for. What is taken is held until it is
settled, and is never counted twice, whatever is lost or repeated on the way.
"""

from enum import Enum
from math import inf
from typing import Protocol

from gateway.core.accounts import Terms
from gateway.state.store.port import WAIT_S


class Said(Enum):
    """What `take` says."""

    YES = "taken, and held until it is settled"
    ASK = "not out of what is leased here: the store may have more, so await `ask`"
    NO = "no: `wait_s` says for how long"


class Lease:
    """What one worker has of one account: the numbers that every request changes.

    Requests are many, and each counts toward several accounts, so whoever takes and settles changes these numbers itself where
    nothing else is to be done, and calls `Account.take` and `settle` elsewhere (holding.py): the calls alone were a quarter of what
    limits cost a request. Promise: where a fast way is open, it does what the call would have done.

        take:    free - amount >= least: less `free`, more `held` and `taken`, and `last`
        settle:  least <= free + held - used <= most, of a bucket, and of a book where also since <= now < until: `free` is that,
                 less `held`, more `used`; slots are settled by the call, as what is idle may be wanted elsewhere at once
    """

    __slots__ = ("free", "held", "last", "least", "most", "since", "taken", "until", "used")

    def __init__(self) -> None:
        self.free: float = 0.0  # leased, and not taken; below 0: more was used than was held
        self.held = 0  # taken, and not settled
        self.taken = 0  # since the last message
        self.last = 1  # how much was taken last
        self.used = 0  # settled of a book, and not in its totals yet
        self.least: float = 0.0  # with less than that left, the account has something to do; infinity: always, as the store is lost
        self.most: float = inf  # and with more than that
        self.since = self.until = 0.0  # UTC seconds: the slice of a book's window that `used` is of


class Account(Protocol):
    """One account as one worker sees it."""

    @property
    def lease(self) -> Lease: ...

    @property
    def terms(self) -> Terms: ...

    @property
    def alone(self) -> bool:
        """Whether this worker goes by itself, since there is no store to ask."""
        ...

    @property
    def untouched(self) -> bool:
        """Whether the store has been asked, and nothing is known to be used of it; quick, and False where it is not sure."""
        ...

    def take(self, amount: int, now: float) -> Said:
        """Hold `amount`."""
        ...

    async def ask(self, amount: int, now: float, wait_s: float = WAIT_S) -> bool:
        """After `take` said ASK: hold `amount` if the store says within `wait_s` that it has it; a lost store means what the terms
        say, and so does one that is too slow."""
        ...

    def settle(self, held: int, used: int, now: float) -> None:
        """What was taken as `held` has ended, having used `used`, which may be more. Slots are settled with `used` 0."""
        ...

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds from `now` until `amount` might be there; infinity: it never fits."""
        ...

    def left(self, now: float) -> int:
        """What is left among all, as far as is known here; never below 0."""
        ...

    def reset_s(self, now: float) -> float:
        """Seconds from `now` until all of it is there again: a full bucket, the next window."""
        ...

    def standing(self, now: float) -> tuple[int, float]:
        """`left` and `reset_s`, for who wants both."""
        ...


class Accounts(Protocol):
    """All accounts of one worker."""

    @property
    def shared(self) -> bool:
        """Whether others may use of them, too."""
        ...

    def open(self, terms: Terms) -> Account:
        """The account of these terms; the same object for the same id, which goes by the newest terms from then on."""
        ...
