"""The command line. Each command imports what it needs when it is called, so that `gateway --help` answers at once.

Exit codes: 0, yes; 1, the answer is no; 2, it could not be asked.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gateway import __version__

FACTS: Final = ("region", "data_class", "categories", "task", "tag", "language", "abilities", "tools")
SEVERAL: Final = frozenset({"region", "categories", "language", "abilities", "tools"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BrokenPipeError:  # somebody piped us into `head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="Decides where a request may go before where it is best to go.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve a policy")
    _policies(serve)
    serve.add_argument("--host", default="0.0.0.0", help="address of the data port (0.0.0.0)")
    serve.add_argument("--port", type=int, default=8080, help="data port (8080)")
    serve.add_argument("--ops-port", type=int, default=8081, help="health and metrics (8081)")
    serve.add_argument("--admin-port", type=int, default=8082, help="admin API, on 127.0.0.1 only (8082)")
    serve.add_argument("--admin-token", metavar="env:NAME|file:PATH", help="opens the admin API to whoever shows this token")
    serve.add_argument("--workers", type=int, default=1, help="processes that serve (1)")
    serve.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="where the ledger lies (state)")
    serve.add_argument("--allow-unproved", action="store_true", help="serve a policy whose claims are not proved")
    serve.set_defaults(command=_serve)

    demo = commands.add_parser("demo", help="serve the policy with simulated providers and one real model; loopback only")
    _policies(demo)
    demo.add_argument("--port", type=int, default=8080, help="data port (8080)")
    demo.add_argument("--ops-port", type=int, default=8081, help="health and metrics (8081)")
    demo.add_argument("--admin-port", type=int, default=8082, help="admin API (8082)")
    demo.add_argument("--once", action="store_true", help="send a tour of requests, print where each went, and exit")
    demo.add_argument("--json", action="store_true", help="print the tour's table as JSON")
    demo.set_defaults(command=_demo)

    policy = commands.add_parser("policy", help="check and explain a policy").add_subparsers(required=True, metavar="COMMAND")
    check = policy.add_parser("check", help="find every mistake and run all cases")
    _policies(check)
    check.add_argument("--json", action="store_true")
    check.set_defaults(command=_check)
    explain = policy.add_parser("explain", help="explain one decision: `--tenant clinic --asked auto --region DE`")
    _policies(explain)
    explain.add_argument("--tenant")
    explain.add_argument("--key", help="the id of a key; needed where a tenant has several")
    explain.add_argument("--asked", help="the model or alias that the request names")
    for fact in FACTS:
        explain.add_argument(f"--{fact.replace('_', '-')}", nargs="+" if fact in SEVERAL else None, metavar="WORD")
    explain.add_argument("--prompt-tokens", type=int, metavar="N")
    explain.add_argument("--output-tokens", type=int, metavar="N")
    explain.add_argument("--request", type=Path, metavar="FILE", help="a whole request: JSON with `key`, `headers` and `body`")
    explain.add_argument("--json", action="store_true")
    explain.set_defaults(command=_explain)
    schema = policy.add_parser("schema", help="print the JSON Schema of policy files")
    schema.add_argument("--cases", action="store_true", help="of the files in policies/cases")
    schema.set_defaults(command=_schema)

    keys = commands.add_parser("keys", help="make keys").add_subparsers(required=True, metavar="COMMAND")
    new = keys.add_parser("new", help="print a new key, once, and the line for the access document")
    new.add_argument("id", help="small letters, digits and hyphens")
    new.add_argument("--json", action="store_true")
    new.set_defaults(command=_new_key)

    simulate = commands.add_parser("simulate", help="stand in for a provider")
    simulate.add_argument("dialect", choices=("mistral", "zai", "vllm", "openai", "llamacpp"))
    simulate.add_argument("--port", type=int, default=0, help="0 takes a free one")
    simulate.add_argument("--script", type=Path, metavar="FILE", help="faults, as JSON")
    simulate.add_argument("--api-key", help="the key that must be sent")
    simulate.add_argument("--fast", action="store_true", help="answer at once, not in the provider's rhythm")
    simulate.set_defaults(command=_simulate)
    return parser


def _policies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policies", type=Path, default=Path("policies"), metavar="DIR", help="folder of policy files (policies)")


def _serve(options: argparse.Namespace) -> int:
    from gateway.app import CannotStart, ServeSettings, serve
    from gateway.config.compile import load
    from gateway.config.problems import render
    from gateway.config.secrets import resolve_secrets
    from gateway.question import answer

    loaded = load(options.policies)
    for warning in loaded.warnings:
        _say(f"warning: {warning}")
    snapshot = loaded.snapshot
    if snapshot is None:
        _say(render(loaded.problems, f"{options.policies} can't be served"))
        return 1
    reasons = [
        f"the key `{key.id}` of `{key.tenant}` is a demo key, which everybody knows: put one of `gateway keys new` there"
        for key in snapshot.access.keys.values()
        if key.demo
    ]
    if snapshot.policy.claims and not options.allow_unproved:
        reasons.append(f"{_unproved(snapshot)} Remove them, or serve with `--allow-unproved`")
    secrets = resolve_secrets(snapshot.policy)
    reasons += secrets.missing
    token, trouble = _token(options.admin_token)
    reasons += trouble
    if reasons:
        _say("\n".join(reasons))
        return 1
    if snapshot.policy.claims:
        _say(f"warning: {_unproved(snapshot)}")
    settings = ServeSettings(
        snapshot=snapshot,
        secrets=secrets.endpoints,
        state=options.state,
        host=options.host,
        port=options.port,
        ops_port=options.ops_port,
        admin_port=options.admin_port,
        admin_token=token,
        workers=options.workers,
        decide=lambda question: answer(snapshot, question),
    )
    try:
        return serve(settings)
    except CannotStart as error:
        _say(str(error))
        return 1


def _unproved(snapshot: Any) -> str:
    return f"the claims {', '.join(claim.id for claim in snapshot.policy.claims)} are not proved: this version can't prove claims."


def _token(source: str | None) -> tuple[str | None, list[str]]:
    if source is None:
        return None, []
    kind, _, place = source.partition(":")
    try:
        token = os.environ.get(place, "") if kind == "env" else Path(place).read_text().strip() if kind == "file" else ""
    except OSError as error:
        return None, [f"the admin token's file `{place}` can't be read ({error.strerror})"]
    return (token, []) if token else (None, ["`--admin-token` must name a set variable (env:NAME) or a file (file:PATH)"])


def _demo(options: argparse.Namespace) -> int:
    from gateway.demo.run import run

    return run(options.policies, options.port, options.ops_port, options.admin_port, once=options.once, as_json=options.json)


def _check(options: argparse.Namespace) -> int:
    import time

    from gateway.config.check import run_cases
    from gateway.config.compile import load
    from gateway.config.problems import render

    loaded = load(options.policies)
    problems = (*loaded.problems, *loaded.case_problems)
    results = run_cases(loaded.snapshot, loaded.cases, time.time()) if loaded.snapshot is not None else []
    failed = [result for result in results if not result.passed]
    unproved = loaded.snapshot is not None and loaded.snapshot.policy.claims
    if options.json:
        print(json.dumps({
            "problems": [problem.as_record() for problem in problems],
            "warnings": [warning.as_record() for warning in loaded.warnings],
            "cases": [result.as_record() for result in results],
            "unproved_claims": [claim.id for claim in unproved or ()],
            "hash": loaded.snapshot.hash if loaded.snapshot is not None else None,
        }, indent=2))  # fmt: skip
        return int(bool(problems or failed))
    for text in (render(problems, "problems"), render(loaded.warnings, "warnings")):
        if text:
            print(text)
    for result in failed:
        print(f"{result.case.line}: {result.case.note}", *(f"  {line}" for line in result.differences), sep="\n")
    if unproved:
        print(_unproved(loaded.snapshot))
    if loaded.snapshot is not None:
        policy, access = loaded.snapshot.policy, loaded.snapshot.access
        counts = f"{len(policy.deployments)} deployments, {len(policy.rules)} rules, {len(access.tenants)} tenants"
        print(f"{counts}, {len(access.keys)} keys; {len(results) - len(failed)} of {len(results)} cases came as wanted")
    return int(bool(problems or failed))


def _explain(options: argparse.Namespace) -> int:
    from gateway.config.compile import load
    from gateway.config.problems import render
    from gateway.core.answer import Problem
    from gateway.core.explain import as_json, as_text
    from gateway.question import decision

    loaded = load(options.policies)
    if loaded.snapshot is None:
        _say(render(loaded.problems, f"{options.policies} can't be asked"))
        return 2
    if options.request is not None:
        try:
            question = json.loads(options.request.read_text())
        except (OSError, ValueError) as error:
            _say(f"{options.request}: {error}")
            return 2
    else:
        words = ("tenant", "key", "asked", *FACTS, "prompt_tokens", "output_tokens")
        question = {word: value for word in words if (value := getattr(options, word)) is not None}
    try:
        found = decision(loaded.snapshot, question)
    except Problem as problem:
        _say(problem.message)
        return 2
    print(json.dumps(as_json(found), indent=2) if options.json else as_text(found))
    return 0 if found.routes else 1


def _schema(options: argparse.Namespace) -> int:
    from gateway.config.schema import as_text, cases_schema, policy_schema

    print(as_text(cases_schema() if options.cases else policy_schema()), end="")
    return 0


def _new_key(options: argparse.Namespace) -> int:
    import re
    import secrets

    from gateway.config.demo_keys import digest_of

    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", options.id):
        _say(f"`{options.id}` can't be the id of a key: small letters, digits and hyphens")
        return 2
    key = f"rg_live_{options.id}_{secrets.token_hex(32)}"
    digest = digest_of(key).hex()
    line = f'{{id: {options.id}, sha256: "{digest}"}}'
    if options.json:
        print(json.dumps({"key": key, "id": options.id, "sha256": digest, "yaml": line}))
    else:
        print(f"{key}\n\nThis is the only time it is shown. Under `keys:` of its tenant:\n\n  - {line}")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from gateway.simulators import run

    return run(options.dialect, options.port, options.script, api_key=options.api_key, real_pace=not options.fast)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
