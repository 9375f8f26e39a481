"""Decisions, and nothing else: no I/O, no clock, no dice, no vendor. Start at `decide.py`."""
