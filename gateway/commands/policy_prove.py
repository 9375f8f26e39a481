"""`gateway policy prove`: each claim, proved for all requests, or answered with a request that goes against it."""

import argparse
import json
from pathlib import Path

from gateway.commands.shared import JSON, Commands, loaded_to_ask, policies, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    prove = commands.add_parser("prove", help="prove every claim, or show a request that goes against it")
    policies(prove)
    prove.add_argument("--state", type=Path, metavar="DIR", help="where verdicts are kept between calls (nowhere)")
    prove.add_argument("--json", action="store_true", help=JSON)
    prove.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import time

    from gateway.proof.judging import counterexamples, proved, told
    from gateway.proof.verdict import Status

    snapshot = loaded_to_ask(options.policies)
    if snapshot is None:
        return 2
    verdicts = proved(snapshot, time.time(), options.state)
    if options.json:
        record = {"hash": snapshot.hash, "claims": [verdict.as_record() for verdict in verdicts]}
        print(json.dumps(record, indent=2))
    else:
        claims = {claim.id: claim for claim in snapshot.policy.claims}
        for verdict in verdicts:
            print(told(verdict, claims[verdict.claim]))
        if not verdicts:
            say("there are no claims")
        if found := counterexamples(verdicts):
            print(f"\n{found}", end="")
    if any(verdict.status is Status.FALSE for verdict in verdicts):
        return 1
    return 0 if all(verdict.serves for verdict in verdicts) else 2
