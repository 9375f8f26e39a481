"""The gate before serving: a folder of policies is loaded, its cases run and its claims proved in a child that then exits.

So neither YAML nor the solver stays in the memory of whoever asks, and a solver that runs away is ended with its process.
`gateway serve` asks at its start, a reload each time. Promise: `snapshot` is there if and only if it may serve.
"""

import pickle
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.children import python, surroundings
from gateway.core.policy import Snapshot
from gateway.proof.verdict import Verdict
from gateway.refused import in_words

TIME_S_MAX: Final = 60.0  # of a child: a large policy takes 5 s, and who waits for a reload should not wait for ever
VERDICTS: Final = "verdicts"  # the folder in the state folder
STDERR_LINES: Final = 5  # of a child that died: the last lines say why


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging a folder came to; picklable. Each line of `problems`, `warnings` and `failed_cases` is for people."""

    snapshot: Snapshot | None  # what may serve; None if there is any problem
    problems: tuple[str, ...] = ()  # all that keeps it from serving: mistakes in documents, claims that are false or undecided
    warnings: tuple[str, ...] = ()  # lint, claims that will lapse (with the day and the label to renew) or ask nothing
    verdicts: tuple[Verdict, ...] = ()  # one for each claim, by id; empty if it did not load
    counterexamples: str = ""  # of false claims: the text to print, with runnable cases as YAML; empty if there are none
    failed_cases: tuple[str, ...] = ()  # cases that did not come as wanted, and slips in cases: they keep nothing from serving
    cases: int = 0  # how many were run
    refused: Snapshot | None = None  # what compiled and may not serve, for whoever wants to say more about it; never serve it
    unjudged: bool = False  # nobody could judge it, or whoever did was killed: `problems` say nothing of the folder


def judge(folder: Path, at: float | None = None, state: Path | None = None, *, time_s_max: float = TIME_S_MAX) -> Judged:
    """Load `folder`, run its cases and prove its claims, as of `at` (UTC seconds; now by default), in a child process.

    Blocks for as long as the child takes: from 0.2 s to a few seconds, at most `time_s_max`; call it from a thread
    (`asyncio.to_thread`) where a loop runs. `state` is where verdicts are kept (in `state/verdicts`); without it nothing is
    kept, and every claim is proved each time. Never raises for what is in the files, nor for a child that dies: it is all in
    `problems`.
    """
    command = [*python("gateway.proof.child"), str(folder)]
    command += ["--at", repr(at)] if at is not None else []
    command += ["--state", str(state)] if state is not None else []
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_s_max, env=surroundings())
    except subprocess.TimeoutExpired:
        return Judged(None, (f"{folder}: proving its claims took more than {time_s_max:.0f} s; split the claims, or ask fewer",))
    except OSError as error:
        why = f"{folder}: no process to prove its claims in can be started ({in_words(error)})"
        return Judged(None, (why,), unjudged=True)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        why = f"{folder}: the process that proves its claims ended with {done.returncode}"
        return Judged(None, (why, *words), unjudged=done.returncode < 0)
    found = pickle.loads(done.stdout)  # our own child's, and nobody else has held that pipe
    assert isinstance(found, Judged)
    return found
