"""What is remembered to save work. It never changes an answer, and it is bounded."""

from typing import ClassVar, Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MEMO_MAX: Final = 4096  # entries; a policy distinguishes far fewer cases, and a flood of odd ones must not eat the memory


class Memo(dict[K, V]):
    """A dict that starts afresh when it is full: cheaper on each hit than any order of age, and as good where misses are rare."""

    __slots__ = ()
    entries_max: ClassVar[int] = MEMO_MAX

    def keep(self, key: K, value: V) -> V:
        """Remember `value`, and return it."""
        if len(self) >= self.entries_max:
            self.clear()
        self[key] = value
        return value
