"""Whether what was judged may serve here: what `serve` asks at its start, and a reload each time."""

from collections.abc import Iterable

from gateway.config.secrets import Secrets
from gateway.core.policy import Snapshot
from gateway.proof.gate import Judged


def reasons(judged: Judged, secrets: Secrets) -> list[str]:
    """Everything that keeps it from serving, for the person who can mend it; nothing for what may serve."""
    found = [*judged.problems, *judged.counterexamples.splitlines()]
    snapshot = judged.snapshot or judged.refused
    if snapshot is not None:
        found += [
            f"the key `{key.id}` of `{key.tenant}` is a demo key, which everybody knows: put one of `gateway keys new` there"
            for key in snapshot.access.keys.values()
            if key.demo
        ]
    return [*found, *secrets.missing]


def reload_reasons(judged: Judged, secrets: Secrets, in_force: Snapshot) -> list[str]:
    """`reasons`, and for a change of the policy its failed cases: what serves well is not replaced by what fails its own tests.

    They hold up neither a start (a label that ended overnight would keep the gateway down) nor a change of tenants and keys (a
    stolen one has to go whatever else is wrong).
    """
    found = reasons(judged, secrets)
    if judged.snapshot is not None and judged.snapshot.policy.hash != in_force.policy.hash:
        found += [f"a case fails: {line}" for line in judged.failed_cases]
    return found


def in_place(lines: Iterable[str], staged: object, folder: object) -> tuple[str, ...]:
    """Lines that name files in the `staged` copy, naming those of `folder` instead."""
    return tuple(line.replace(str(staged), str(folder)) for line in lines)
