"""The clock never steps back."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock


class Machine:
    """A machine whose UTC anybody can set, and whose monotonic clock only runs."""

    def __init__(self) -> None:
        self.utc = 1_800_000_000.0
        self.up = 5.0

    def pass_s(self, seconds: float, step: float) -> None:
        self.up += seconds
        self.utc += seconds + step


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e7, 1e7), st.booleans()), max_size=30))
def test_an_instant_never_comes_again(moves: list[tuple[float, float, bool]]) -> None:
    machine = Machine()
    clock = SystemClock(lambda: machine.utc, lambda: machine.up)
    seen = clock.now()
    for seconds, step, resync in moves:
        machine.pass_s(seconds, step)
        if resync:
            clock.resync()
        assert clock.now() >= seen
        seen = clock.now()


def test_a_machine_set_forwards_is_followed_and_one_set_backwards_is_not() -> None:
    machine = Machine()
    clock = SystemClock(lambda: machine.utc, lambda: machine.up)
    machine.pass_s(10, 3_600)
    clock.resync()
    assert clock.now() == machine.utc
    machine.pass_s(10, -86_400)
    clock.resync()
    assert clock.now() == 1_800_000_000.0 + 20 + 3_600
