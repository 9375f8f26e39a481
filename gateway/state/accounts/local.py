"""Accounts of a worker that has no store: it keeps to its even share of everything. Also the fake of the port.

It is what leased accounts do while the store is lost, for ever.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

from gateway.core.accounts import Terms, WhenLost
from gateway.state.accounts.kinds import account_of
from gateway.state.accounts.leased import IDLE_S, Leased

SWEEP_S: Final = 6 * IDLE_S


class LocalAccounts:
    """The port Accounts, asking nobody. `workers`: among how many everything is shared. Needs no loop."""

    incarnation = "local"
    store_now = ""
    shared = False

    def __init__(self, now: Callable[[], float], workers: int = 1) -> None:
        self.now = now
        self.workers = max(1, workers)
        self._known: WeakValueDictionary[str, Leased] = WeakValueDictionary()
        self._alive: dict[str, Leased] = {}  # those that must be, though nobody else has them
        self._swept = now()

    def open(self, terms: Terms) -> Leased:
        """The account of these terms, of which only the share counts."""
        now = self.now()
        if now - self._swept > SWEEP_S:
            self._swept = now
            self._alive = {name: account for name, account in self._alive.items() if not account.forgettable(now)}
        account, new = account_of(replace(terms, when_lost=WhenLost.SHARE), self, self._known.get(terms.id))
        self._known[terms.id] = self._alive[terms.id] = account
        if new:
            account.lose(now)
        return account

    def mark(self, account: Leased) -> None:
        """Nobody is there to be told anything."""

    def urge(self, account: Leased) -> None:
        """Nobody is there to be asked anything."""

    async def close(self) -> None:
        """Nothing is leased from anybody."""
