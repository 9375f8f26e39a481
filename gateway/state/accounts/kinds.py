"""Which account keeps which terms."""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.accounts import Book, Bucket, Slots, Terms
from gateway.state.accounts.book import LeasedBook
from gateway.state.accounts.bucket import LeasedBucket
from gateway.state.accounts.leased import Keeper, Leased
from gateway.state.accounts.slots import LeasedSlots

KINDS: Final[Mapping[type, Callable[[Terms, Keeper], Leased]]] = {Bucket: LeasedBucket, Slots: LeasedSlots, Book: LeasedBook}


def account_of(terms: Terms, keeper: Keeper, known: Leased | None) -> tuple[Leased, bool]:
    """The account of `terms`, and whether it is a new one. `known` goes by them from now on, if it is of their kind and window."""
    if known is not None and _alike(known.terms, terms):
        known.adopt(terms)
        return known, False
    return KINDS[type(terms.of)](terms, keeper), True


def _alike(one: Terms, other: Terms) -> bool:
    if isinstance(one.of, Book) and isinstance(other.of, Book):
        return (one.of.window, one.of.per_s) == (other.of.window, other.of.per_s)
    return type(one.of) is type(other.of)
