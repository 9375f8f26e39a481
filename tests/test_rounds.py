"""What workers tell a part at a time."""

from typing import Any

from gateway.rounds import Rounds


def part(*rows: tuple[str, int], first: bool = False, last: bool = False) -> dict[str, Any]:
    return {"rows": [{"id": name, "left": left} for name, left in rows], "first": first, "last": last}


def known(rows: Any) -> dict[str, int]:
    return {row["id"]: row["left"] for row in rows}


def test_a_round_of_one_part_is_all_there_is() -> None:
    rounds = Rounds()
    assert known(rounds.take(part(("a", 1), ("b", 2), first=True, last=True))) == {"a": 1, "b": 2}
    assert known(rounds.take(part(("b", 3), first=True, last=True))) == {"b": 3}
    assert known(rounds.take(part(first=True, last=True))) == {}


def test_what_a_round_has_not_come_to_is_as_it_was_and_what_it_did_not_tell_of_is_gone() -> None:
    rounds = Rounds()
    assert known(rounds.take(part(("a", 1), first=True))) == {"a": 1}
    assert known(rounds.take(part(("b", 1), ("c", 1), last=True))) == {"a": 1, "b": 1, "c": 1}
    assert known(rounds.take(part(("a", 2), first=True))) == {"a": 2, "b": 1, "c": 1}
    assert known(rounds.take(part())) == {"a": 2, "b": 1, "c": 1}
    assert known(rounds.take(part(("c", 3), last=True))) == {"a": 2, "c": 3}
