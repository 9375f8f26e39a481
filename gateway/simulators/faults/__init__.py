"""The faults a script can ask for: each a frozen value that rewrites an answer, or the steps by which it is sent.

A fault in a script is its kind, or an object with `kind` and the fields of its class: `"no_done"`,
`{"kind": "stall", "after": 3}`. Several in a list are applied in that order.

Where in an answer: `at` is `before_head`, `after_head`, `mid_body` or `after_chunks`, and `after` counts chunks (the
events of a stream; the body of a plain answer is one). `after` without `at` means `after_chunks`. More chunks than
there are means: after all of them, and before the end of the message. `mid_body` breaks chunk number `after` + 1 in
the middle of its bytes.
"""

from gateway.simulators.faults.base import Fault
from gateway.simulators.faults.connection import Close, CutFault, Endless, HoldFault, Slow, SlowFirstToken, Stall
from gateway.simulators.faults.content import BadVectors, EmptyStream, Finish, MissingUsage, WrongUsage
from gateway.simulators.faults.refusing import Error, Redirect, StreamError, Throttle
from gateway.simulators.faults.wire import (
    GARBAGE,
    Comments,
    ExtraBytes,
    Garbage,
    HugeBody,
    HugeHeaders,
    NoDone,
    WrongLength,
)

FAULTS: dict[str, type[Fault]] = {
    f.kind: f
    for f in (
        Error, Throttle, Redirect, StreamError, Stall, HoldFault, CutFault, SlowFirstToken, Slow, Endless, Close,
        WrongUsage, MissingUsage, EmptyStream, BadVectors, Finish, NoDone, Comments, Garbage, HugeHeaders, HugeBody, WrongLength,
        ExtraBytes,
    )
}  # fmt: skip
"""Every fault, by the word a script uses for it."""

__all__ = ["FAULTS", "GARBAGE", "Fault"]
