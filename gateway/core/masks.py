"""Sets of small numbers as ints: bit i is member i. And-ing two of them costs what adding two numbers does."""

from collections.abc import Iterable


def bits(mask: int) -> list[int]:
    """The members of `mask`, ascending."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def total(members: Iterable[int]) -> int:
    """The mask of `members`."""
    mask = 0
    for member in members:
        mask |= 1 << member
    return mask


def where(flags: Iterable[bool]) -> int:
    """The mask of the positions at which `flags` is true."""
    return total(position for position, flag in enumerate(flags) if flag)
