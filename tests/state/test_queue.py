"""The queue at an endpoint: bounded, by priority, and fair between tenants whatever each of them sends.

Each sentence is asked of the queue, and of copies of its text with a bug in them, which have to break one.
"""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.state import queue as original
from gateway.state.queue import Queue

WHO = st.tuples(st.integers(0, 2), st.sampled_from("abcd"))
STEPS = st.lists(st.one_of(WHO, st.just("next"), st.integers(0, 20)), max_size=80)


def holds_who_joined_and_was_neither_called_nor_left(kind: type[Queue[Any]], steps: list[Any]) -> None:
    queue = kind(3)
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
        assert queue.full == (len(waiting) >= 3)
        assert bool(queue._waiting) == bool(waiting), "empty places are kept"


def tenants_take_turns(kind: type[Queue[Any]], sent: dict[str, int]) -> None:
    """While two tenants both wait, neither is called twice more than the other."""
    queue = kind(1_000)
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


def one_who_asks_little_is_not_behind_one_who_asks_much(kind: type[Queue[Any]], many: int) -> None:
    queue = kind(1_000)
    for _ in range(many):
        queue.join("much", "much", 0)
    queue.join("little", "little", 0)
    assert "little" in [queue.next(), queue.next()]


SENTENCES: tuple[tuple[Callable[[type[Queue[Any]], Any], None], st.SearchStrategy[Any]], ...] = (
    (holds_who_joined_and_was_neither_called_nor_left, STEPS),
    (tenants_take_turns, st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=2)),
    (one_who_asks_little_is_not_behind_one_who_asks_much, st.integers(1, 50)),
)

BUGS = {
    "one tenant is served to its end": ("            tenants.move_to_end(tenant)  # the others' turn\n", "            pass\n"),
    "the lowest goes first": ("priority = max(self._waiting)", "priority = min(self._waiting)"),
    "who came last goes first": ("who = own.popleft()", "who = own.pop()"),
    "one too many may wait": ("self._count >= self.length", "self._count > self.length"),
    "who left is still counted": ("        self._count -= 1\n", "        self._count -= len(self._waiting[priority]) > 1\n"),
    "an empty tenant keeps its turn": ("if not tenants[tenant]:\n", "if not tenants[tenant] and len(tenants) > 1:\n"),
    "all of a tenant leave with one": (".remove(who)\n", ".clear()\n"),
}


def ask(kind: type[Queue[Any]], examples: int) -> None:
    """Ask every sentence of `kind`. Raises whatever it breaks with."""
    for sentence, strategy in SENTENCES:
        asking(kind, sentence, strategy, examples)()


def asking(
    kind: type[Queue[Any]], sentence: Callable[[type[Queue[Any]], Any], None], strategy: st.SearchStrategy[Any], examples: int
) -> Callable[[], None]:
    @settings(max_examples=examples, database=None, phases=(Phase.explicit, Phase.generate))
    @given(strategy)
    def asked(drawn: Any) -> None:
        sentence(kind, drawn)

    return asked


def test_every_sentence_holds() -> None:
    ask(Queue, 100)


@pytest.mark.source_only
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_noticed(bug: str) -> None:
    text, (right, wrong) = Path(original.__file__).read_text(), BUGS[bug]
    assert text.count(right) == 1
    module = types.ModuleType("planted")
    exec(compile(text.replace(right, wrong), bug, "exec"), module.__dict__)  # noqa: S102
    with pytest.raises((AssertionError, KeyError, ValueError, IndexError, StopIteration)):
        ask(module.Queue, 300)
