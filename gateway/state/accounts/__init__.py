"""Accounts: how much of something a caller, a place or a plan has left, among all workers and machines. `port.py` says what is
asked of one."""
