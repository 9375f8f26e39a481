"""A decision stays far from where a mistake in its memory would put it. Measured in earnest by `decision.py`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "core"))

from decision import big_world, measure, requests
from worlds import Engine


def test_a_decision_costs_microseconds() -> None:
    snapshot, usual = Engine().snapshot(big_world()), requests()
    runs = [measure(snapshot, usual) for _ in range(3)]
    least = {name: min(run[name] for run in runs) for name in runs[0]}
    # five times what is promised: other tests run beside this one, and a lost memory costs twenty times
    assert least["(a) fresh"] < 500
    assert least["(b) known"] < 50
    assert least["classes"] > 50, "the rules tell too few requests apart to measure anything"
