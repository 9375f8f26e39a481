"""`gateway policy check`: every mistake at once, all cases, all claims, and what is well written and surely not meant."""

import argparse
import json

from gateway.commands.shared import JSON, Commands, policies, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    check = commands.add_parser("check", help="find every mistake, run all cases, prove all claims")
    policies(check)
    check.add_argument("--json", action="store_true", help=JSON)
    check.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import time

    from gateway.config.check import run_cases
    from gateway.config.compile import load
    from gateway.config.problems import render
    from gateway.config.secrets import resolve_secrets
    from gateway.proof.formula import GaveUp
    from gateway.proof.judging import counterexamples, linted, proved, told
    from gateway.state.store.url import bad_urls

    now = time.time()
    loaded = load(options.policies, at=now)
    snapshot = loaded.snapshot
    problems = (*loaded.problems, *loaded.case_problems)
    results = run_cases(snapshot, loaded.cases, now) if snapshot is not None else []
    failed = [result for result in results if not result.passed]
    verdicts = proved(snapshot, now) if snapshot is not None else ()
    warnings = loaded.warnings
    try:
        warnings += linted(loaded, options.policies, now) if snapshot is not None else ()
    except GaveUp as error:  # what is wrong is told all the same: this was advice
        say(f"the solver gave up on the advice ({error}): what else could be better is not told")
    # only where the secret is at hand: who checks a policy, as CI does, need not have it
    stores = bad_urls(resolve_secrets(snapshot.policy).stores) if snapshot is not None else []
    bad = bool(problems or failed or stores) or not all(verdict.serves for verdict in verdicts)
    if options.json:
        print(json.dumps({
            "problems": [problem.as_record() for problem in problems],
            "warnings": [warning.as_record() for warning in warnings],
            "stores": stores,
            "cases": [result.as_record() for result in results],
            "claims": [verdict.as_record() for verdict in verdicts],
            "hash": snapshot.hash if snapshot is not None else None,
        }, indent=2))  # fmt: skip
        return int(bad)
    for text in (render(problems, "problems"), render(warnings, "warnings"), "\n".join(stores)):
        if text:
            print(text)
    for result in failed:
        print(f"{result.case.line}: {result.case.note}", *(f"  {line}" for line in result.differences), sep="\n")
    if snapshot is not None:
        claims = {claim.id: claim for claim in snapshot.policy.claims}
        for verdict in verdicts:
            print(told(verdict, claims[verdict.claim]))
        if found := counterexamples(verdicts):
            print(found, end="")
        policy, access = snapshot.policy, snapshot.access
        counts = f"{len(policy.deployments)} deployments, {len(policy.rules)} rules, {len(access.tenants)} tenants"
        print(f"{counts}, {len(access.keys)} keys; {len(results) - len(failed)} of {len(results)} cases came as wanted")
    return int(bad)
