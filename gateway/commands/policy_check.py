"""`gateway policy check`: every mistake at once, and all cases."""

import argparse
import json

from gateway.commands.shared import Commands, policies, unproved


def add(commands: Commands) -> None:
    """Say what the command takes."""
    check = commands.add_parser("check", help="find every mistake and run all cases")
    policies(check)
    check.add_argument("--json", action="store_true")
    check.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import time

    from gateway.config.check import run_cases
    from gateway.config.compile import load
    from gateway.config.problems import render

    loaded = load(options.policies)
    problems = (*loaded.problems, *loaded.case_problems)
    results = run_cases(loaded.snapshot, loaded.cases, time.time()) if loaded.snapshot is not None else []
    failed = [result for result in results if not result.passed]
    claims = loaded.snapshot.policy.claims if loaded.snapshot is not None else ()
    if options.json:
        print(json.dumps({
            "problems": [problem.as_record() for problem in problems],
            "warnings": [warning.as_record() for warning in loaded.warnings],
            "cases": [result.as_record() for result in results],
            "unproved_claims": [claim.id for claim in claims],
            "hash": loaded.snapshot.hash if loaded.snapshot is not None else None,
        }, indent=2))  # fmt: skip
        return int(bool(problems or failed))
    for text in (render(problems, "problems"), render(loaded.warnings, "warnings")):
        if text:
            print(text)
    for result in failed:
        print(f"{result.case.line}: {result.case.note}", *(f"  {line}" for line in result.differences), sep="\n")
    if loaded.snapshot is not None:
        if claims:
            print(unproved(loaded.snapshot))
        policy, access = loaded.snapshot.policy, loaded.snapshot.access
        counts = f"{len(policy.deployments)} deployments, {len(policy.rules)} rules, {len(access.tenants)} tenants"
        print(f"{counts}, {len(access.keys)} keys; {len(results) - len(failed)} of {len(results)} cases came as wanted")
    return int(bool(problems or failed))
