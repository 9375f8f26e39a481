"""`gateway policy test`: all cases, with a diff for each that fails, and what of the policy they cover."""

import argparse
import json
import re

from gateway.commands.shared import JSON, Commands, policies, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    test = commands.add_parser("test", help="run all cases, and say what of the policy they cover")
    policies(test)
    fewer = "exit 1 where fewer of the rules, or of the refusals, are covered"
    test.add_argument("--fail-under", type=percent, default=0.0, metavar="PERCENT", help=fewer)
    test.add_argument("--at", type=instant, metavar="TIME", help="when cases without a time are asked, such as 2027-05-20 (now)")
    test.add_argument("--json", action="store_true", help=JSON)
    test.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import time

    from gateway.config.compile import load
    from gateway.config.problems import render
    from gateway.coverage.report import as_text, report

    folder = options.policies
    at = time.time() if options.at is None else options.at
    loaded = load(folder, at=at)
    if loaded.snapshot is None:
        say(render(loaded.problems, f"{folder} can't be asked"))
        return 2
    found = report(loaded.snapshot, loaded.cases, at)
    if options.json:
        problems = [problem.as_record() for problem in loaded.case_problems]
        print(json.dumps({"hash": loaded.snapshot.hash, "problems": problems, **found.as_record()}, indent=2))
    else:
        if loaded.case_problems:  # a slip in a case: it can't be run, so nobody knows whether it would pass
            print(render(loaded.case_problems, "problems"))
        print(as_text(found, {rule.id: rule.line for rule in loaded.snapshot.policy.rules}))
        if found.percent < options.fail_under:
            say(f"wanted {options.fail_under:g} % of rules and of refusals")
    return int(bool(loaded.case_problems or found.failed) or found.percent < options.fail_under)


def percent(text: str) -> float:
    """A share, from 0 to 100. Raises ValueError."""
    found = float(text)
    if not 0 <= found <= 100:
        raise ValueError(text)
    return found


def instant(text: str) -> float:
    """A day (its first second) or an instant in UTC, written as cases write them, as UTC seconds. Raises ValueError."""
    from gateway.config.reading import utc
    from gateway.config.shapes import INSTANT

    if not re.fullmatch(INSTANT, text):
        raise ValueError(text)
    return utc(text)
