"""`gateway serve`: serve a policy for real."""

import argparse
import os
from pathlib import Path

from gateway.commands.shared import Commands, policies, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    serve = commands.add_parser("serve", help="serve a policy")
    policies(serve)
    serve.add_argument("--host", default="0.0.0.0", help="address of the data port (0.0.0.0)")
    serve.add_argument("--port", type=int, default=8080, help="data port (8080)")
    serve.add_argument("--ops-port", type=int, default=8081, help="health and metrics (8081)")
    serve.add_argument("--admin-port", type=int, default=8082, help="admin API, on 127.0.0.1 only (8082)")
    serve.add_argument("--admin-token", metavar="env:NAME|file:PATH", help="opens the admin API to whoever shows this token")
    serve.add_argument("--workers", type=int, default=1, help="processes that serve (1)")
    serve.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="where ledger and verdicts lie (state)")
    serve.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.app import CannotStart, ServeSettings, serve
    from gateway.config.secrets import resolve_secrets
    from gateway.proof.gate import judge
    from gateway.question import answer

    judged = judge(options.policies, None, options.state)
    for warning in judged.warnings:
        say(f"warning: {warning}")
    snapshot = judged.snapshot or judged.refused
    if snapshot is None:
        say("\n".join(judged.problems))
        return 1
    reasons = [*judged.problems, *judged.counterexamples.splitlines()]
    reasons += [
        f"the key `{key.id}` of `{key.tenant}` is a demo key, which everybody knows: put one of `gateway keys new` there"
        for key in snapshot.access.keys.values()
        if key.demo
    ]
    secrets = resolve_secrets(snapshot.policy)
    reasons += secrets.missing
    token, trouble = _token(options.admin_token)
    reasons += trouble
    if reasons:
        say("\n".join(reasons))
        return 1
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
        say(str(error))
        return 1


def _token(source: str | None) -> tuple[str | None, list[str]]:
    if source is None:
        return None, []
    kind, _, place = source.partition(":")
    try:
        token = os.environ.get(place, "") if kind == "env" else Path(place).read_text().strip() if kind == "file" else ""
    except OSError as error:
        return None, [f"the admin token's file `{place}` can't be read ({error.strerror})"]
    return (token, []) if token else (None, ["`--admin-token` must name a set variable (env:NAME) or a file (file:PATH)"])
