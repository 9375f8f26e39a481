"""The command line's commands, one file each: `add` says what a command takes, `run` does it and returns the exit code.

Files of `gateway policy …` begin with `policy_`. Each imports what it needs when it runs, so that `gateway --help` answers at once.
Exit codes: 0, yes; 1, the answer is no; 2, it could not be asked.
"""
