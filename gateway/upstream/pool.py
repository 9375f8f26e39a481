"""Idle connections, by address.

Rule 1: a connection is found under the address it was opened for and no other.
Rule 2: the one used last is taken first, so that a lull lets the others age out; each address keeps so many, each for so long.
The pool asks nothing: whether a connection is fit for use is decided before it comes in and, again, when it goes out.
"""

from collections import deque
from collections.abc import Collection, Iterator

from gateway.upstream.address import Address
from gateway.upstream.connection import Connection


class Pool:
    """Times are the event loop's, in seconds. Whoever takes connections out closes those that are not used."""

    def __init__(self) -> None:
        self._idle: dict[Address, deque[Connection]] = {}  # longest idle first

    def take(self, address: Address) -> Connection | None:
        """The connection of `address` that was used last, or None."""
        idle = self._idle.get(address)
        return idle.pop() if idle else None

    def put(self, connection: Connection, now: float, at_most: int) -> list[Connection]:
        """Keep an idle connection; returns those that it displaces, as its address may hold `at_most`: the longest idle."""
        connection.idle_since = now
        idle = self._idle.get(connection.opened_for)
        if idle is None:
            idle = self._idle[connection.opened_for] = deque()
        idle.append(connection)
        return [idle.popleft() for _ in range(len(idle) - at_most)]

    def remove(self, connection: Connection) -> bool:
        """Forget a connection that closed. Returns whether it was here."""
        try:
            self._idle[connection.opened_for].remove(connection)
        except (KeyError, ValueError):
            return False
        return True

    def expire(self, before: float) -> list[Connection]:
        """Take out those that have been idle since `before` or longer."""
        expired = []
        for idle in self._idle.values():
            while idle and idle[0].idle_since <= before:
                expired.append(idle.popleft())
        return expired

    def retire(self, keep: Collection[Address]) -> list[Connection]:
        """Take out all connections of other addresses than `keep`."""
        gone = [address for address in self._idle if address not in keep]
        return [connection for address in gone for connection in self._idle.pop(address)]

    def __iter__(self) -> Iterator[Connection]:
        return (connection for idle in self._idle.values() for connection in idle)

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))
