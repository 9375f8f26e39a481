"""The port Store without a server: messages arrive at once, and what scripts answer is for each test to say."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.state.store.port import WAIT_S, Asked, StoreLost


class FakeStore:
    """Passes on what is published. `lost`: answers nobody; not `up`: need not be asked."""

    def __init__(self) -> None:
        self.up, self.lost = True, False
        self.published: list[bytes] = []
        self.heard: dict[str, list[Callable[[bytes], None]]] = {}
        self.backs: list[Callable[[], None]] = []

    def answer(self, asked: Asked) -> Any:
        """What a script comes to."""
        raise NotImplementedError(asked.script.name)

    async def run(self, asked: Asked, wait_s: float = WAIT_S) -> Any:
        if self.lost:
            raise StoreLost("down")
        return self.answer(asked)

    async def run_all(self, asked: Sequence[Asked], wait_s: float = WAIT_S) -> list[Any]:
        return [await self.run(one, wait_s) for one in asked]

    async def publish(self, channel: str, message: bytes) -> None:
        if self.lost:
            raise StoreLost("down")
        self.published.append(message)
        for heard in self.heard.get(channel, ()):
            heard(message)

    def listen(self, channel: str, heard: Callable[[bytes], None]) -> None:
        self.heard.setdefault(channel, []).append(heard)

    def on_back(self, back: Callable[[], None]) -> None:
        self.backs.append(back)
        back()
