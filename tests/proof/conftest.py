"""Proofs are tested on the worlds of `tests/core`, with the dice and the specification of `tests/properties`."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "core"), str(TESTS / "properties"), str(TESTS / "config")]
