"""The queue at an endpoint: bounded, by priority, and fair between tenants whatever each of them sends."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.state.queue import Queue

WHO = st.tuples(st.integers(0, 2), st.sampled_from("abcd"))
STEPS = st.lists(st.one_of(WHO, st.just("next"), st.integers(0, 20)), max_size=80)


@given(STEPS)
def test_it_holds_who_joined_and_was_neither_called_nor_left(steps: list[Any]) -> None:
    queue: Queue[int] = Queue(10)
    waiting: dict[int, tuple[int, str]] = {}
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            if not queue.full:
                queue.join(number, step[1], step[0])
                waiting[number] = step
        elif step == "next":
            if waiting:
                called = queue.next()
                priority, tenant = waiting.pop(called)
                assert all(other <= priority for other, _ in waiting.values())
                assert all(called < other for other, found in waiting.items() if found == (priority, tenant))
        elif waiting:
            who = sorted(waiting)[step % len(waiting)]
            priority, tenant = waiting.pop(who)
            queue.leave(who, tenant, priority)
        assert sorted(queue) == sorted(waiting)
        assert len(queue) == len(waiting) <= queue.length
        assert queue.full == (len(waiting) >= 10)
        assert bool(queue._waiting) == bool(waiting), "empty places are kept"


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=2))
def test_tenants_take_turns(sent: dict[str, int]) -> None:
    """While two tenants both wait, neither is called twice more than the other."""
    queue: Queue[str] = Queue(1_000)
    for tenant, count in sent.items():
        for _ in range(count):
            queue.join(tenant, tenant, 0)
    left, called = dict(sent), dict.fromkeys(sent, 0)
    while queue:
        who = queue.next()
        left[who] -= 1
        called[who] += 1
        waiting = [called[tenant] for tenant in sent if left[tenant]]
        assert not waiting or max(waiting) - min(waiting) <= 1


@given(st.integers(1, 50))
def test_one_who_asks_little_is_not_behind_one_who_asks_much(many: int) -> None:
    queue: Queue[str] = Queue(1_000)
    for _ in range(many):
        queue.join("much", "much", 0)
    queue.join("little", "little", 0)
    assert "little" in [queue.next(), queue.next()]
