"""Typed reading of nodes whose shape has been checked. What does not fit was told by the check, and reads as nothing here."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from gateway.config.documents import Mapping, Node, Scalar, Sequence
from gateway.config.problems import Mark


@dataclass(frozen=True, slots=True)
class At:
    """A word and where it stands."""

    word: str
    mark: Mark


def word(node: Node | None) -> At | None:
    """The one word that stands here."""
    return At(node.text, node.mark) if isinstance(node, Scalar) and not node.is_null else None


def words(node: Node | None) -> tuple[At, ...]:
    """The words that stand here: one, or a list of them."""
    nodes = node.items if isinstance(node, Sequence) else (node,)
    found = (word(item) for item in nodes)
    return tuple(item for item in found if item is not None)


def text(node: Node | None) -> str:
    """The text that stands here, on one line; empty where there is none."""
    found = word(node)
    return "" if found is None else " ".join(found.word.split())


def amount(node: Node | None) -> Decimal | None:
    """The number that stands here."""
    return node.number() if isinstance(node, Scalar) else None


def whole(node: Node | None) -> int | None:
    """The whole number that stands here."""
    number = amount(node)
    return int(number) if number is not None and number == number.to_integral_value() else None


def flag(node: Node | None, otherwise: bool) -> bool:
    """`true` or `false`, or `otherwise` where nothing stands."""
    found = node.flag() if isinstance(node, Scalar) else None
    return otherwise if found is None else found


def day(node: Node | None) -> date | None:
    """The day that stands here."""
    found = node.day() if isinstance(node, Scalar) else None
    return found if found is not None and 1970 <= found.year < 9999 else None


def end_of(found: date | None) -> float | None:
    """When `found` is over, as UTC seconds: a day ends at 24:00 UTC, and what is good until a day is good through it."""
    if found is None:
        return None
    midnight = datetime(found.year, found.month, found.day, tzinfo=UTC)
    return (midnight + timedelta(days=1)).timestamp()


def last_day(instant: float) -> str:
    """The last day before `instant` (an end as `end_of` gives it), for people."""
    return (datetime.fromtimestamp(instant, UTC) - timedelta(seconds=1)).date().isoformat()


def instant(node: Node | None) -> float | None:
    """The instant that stands here: UTC seconds; of a day, its first."""
    found = word(node)
    if found is None:
        return None
    try:
        return utc(found.word)
    except ValueError:
        return None


def utc(text: str) -> float:
    """The instant that `text` (ISO 8601, in UTC) says, as UTC seconds; of a day, its first. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=UTC).timestamp()


def entries(node: Node | None) -> dict[str, tuple[Mark, Node]]:
    """The entries of a map: id → where it stands, and what."""
    if not isinstance(node, Mapping):
        return {}
    return {name: (entry.key.mark, entry.node) for name, entry in node.entries.items()}


def field(node: Node | None, key: str) -> Node | None:
    """What stands under `key` of a map."""
    return node.get(key) if isinstance(node, Mapping) else None
