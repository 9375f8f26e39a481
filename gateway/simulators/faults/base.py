"""What a fault is, and where in an answer one can happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from gateway.simulators.answer import Answer, Plan, Step, Write
from gateway.simulators.dialects.base import Dialect

At = Literal["before_head", "after_head", "mid_body", "after_chunks"]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Both methods default to changing nothing."""

    kind: ClassVar[str] = ""

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        """The answer that is given in place of `answer`."""
        return answer

    def deliver(self, plan: Plan) -> Plan:
        """The steps that are carried out in place of `plan`'s."""
        return plan

    def mistakes(self, dialect: Dialect) -> list[str]:
        """What is wrong with the fields, beyond their types, in words for whoever wrote the script."""
        return []


@dataclass(frozen=True)
class Placed(Fault):
    """A fault that happens at a place in the answer."""

    at: At | None = None
    after: int | None = None

    place: ClassVar[At] = "after_head"
    """Where it happens if the script does not say."""

    def mistakes(self, dialect: Dialect) -> list[str]:
        if self.after is not None and self.at in ("before_head", "after_head"):
            return [f"`after` counts chunks, and `{self.at}` is before the first"]
        return []

    def deliver(self, plan: Plan) -> Plan:
        before, rest = split(plan.steps, self.at, self.after, self.place)
        return replace(plan, steps=(*before, *self.here(rest)))

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        """What happens at the place, given the steps that would have followed."""
        raise NotImplementedError


def split(
    steps: Sequence[Step], at: At | None, after: int | None, otherwise: At
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps before a place in an answer, and those from it on. `gateway.simulators.faults` says what places are."""
    place: At = at or ("after_chunks" if after is not None else otherwise)
    if place == "before_head":
        return (), tuple(steps)
    wanted = 0 if place == "after_head" else (after if after is not None else int(place == "after_chunks"))
    seen, past_head = 0, False
    for i, step in enumerate(steps):
        if past_head and seen >= wanted and place != "mid_body":
            return tuple(steps[:i]), tuple(steps[i:])
        if not isinstance(step, Write):
            continue
        if step.part == "end":  # fewer chunks than asked for: before the end of the message
            return tuple(steps[:i]), tuple(steps[i:])
        if step.part == "head":
            past_head = True
            continue
        if step.part == "piece":
            continue
        if place == "mid_body" and seen >= wanted:
            half = len(step.data) // 2
            first, second = Write(step.data[:half], "piece"), Write(step.data[half:], "body")
            return (*steps[:i], first), (second, *steps[i + 1 :])
        seen += 1
    return tuple(steps), ()


def each(answer: Answer, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Answer:
    """`answer` with each of its documents changed."""
    return replace(answer, documents=tuple(change(d) for d in answer.documents))
