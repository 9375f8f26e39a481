"""The connection fails, or takes its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from gateway.simulators.answer import Answer, Cut, Hold, Pause, Plan, Repeat, Step, Write
from gateway.simulators.dialects.base import Dialect
from gateway.simulators.faults.base import At, Fault, Placed


@dataclass(frozen=True)
class Stall(Placed):
    """Nothing more comes, and the connection stays open until the client leaves."""

    kind: ClassVar[str] = "stall"

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Hold(forever=True),)


@dataclass(frozen=True)
class HoldFault(Placed):
    """Nothing more comes until the simulator is told to release it. For tests: no clock decides when."""

    kind: ClassVar[str] = "hold"

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Hold(), *rest)


@dataclass(frozen=True)
class CutFault(Placed):
    """The connection ends, by default after the first chunk: `rst` resets it, `fin` closes it as if all were said."""

    kind: ClassVar[str] = "cut"
    how: Literal["fin", "rst"] = "rst"
    place: ClassVar[At] = "after_chunks"

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Cut(self.how),)


@dataclass(frozen=True)
class SlowFirstToken(Placed):
    """So many seconds pass before the first token, by default after the head (`at: before_head` holds that too)."""

    kind: ClassVar[str] = "slow_first_token"
    seconds: float = 5.0

    def here(self, rest: Sequence[Step]) -> Sequence[Step]:
        return (Pause(self.seconds), *rest)


@dataclass(frozen=True)
class Slow(Fault):
    """The body dribbles: `bytes` at a time, `seconds` apart. Chunks are still counted as the dialect made them."""

    kind: ClassVar[str] = "slow"
    bytes: int = 1
    seconds: float = 0.0

    def deliver(self, plan: Plan) -> Plan:
        steps: list[Step] = []
        for step in plan.steps:
            if not isinstance(step, Write) or step.part == "head":
                steps.append(step)
                continue
            cuts = range(0, len(step.data), max(1, self.bytes))
            parts = [step.data[i : i + max(1, self.bytes)] for i in cuts] or [b""]
            for part in parts[:-1]:
                steps += [Write(part, "piece"), Pause(self.seconds)]
            steps.append(Write(parts[-1], step.part))
        return replace(plan, steps=tuple(steps))


@dataclass(frozen=True)
class Endless(Fault):
    """A stream whose last content never comes: the same content chunk again and again, `seconds` apart."""

    kind: ClassVar[str] = "endless"
    seconds: float = 0.0

    def deliver(self, plan: Plan) -> Plan:
        bodies = [i for i, step in enumerate(plan.steps) if isinstance(step, Write) and step.part == "body"]
        if not bodies:
            return plan
        middle = bodies[len(bodies) // 2]
        repeated = plan.steps[middle]
        assert isinstance(repeated, Write)
        return replace(plan, steps=(*plan.steps[:middle], Repeat(repeated.data, self.seconds)))


@dataclass(frozen=True)
class Close(Fault):
    """The connection closes after the answer. `say: false` closes without having announced it."""

    kind: ClassVar[str] = "close"
    say: bool = True

    def rewrite(self, answer: Answer, dialect: Dialect, model: str) -> Answer:
        return replace(answer, keep_alive=False) if self.say else answer

    def deliver(self, plan: Plan) -> Plan:
        return replace(plan, keep_alive=False)
