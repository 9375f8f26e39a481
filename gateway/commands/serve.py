"""`gateway serve`: serve a policy for real."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.commands.shared import Commands, policies, port, say, workers
from gateway.pace import PACE, Pace

if TYPE_CHECKING:
    from gateway.control.tokens import Tokens


def add(commands: Commands) -> None:
    """Say what the command takes."""
    serve = commands.add_parser("serve", help="serve a policy")
    policies(serve)
    serve.add_argument("--host", default="0.0.0.0", help="address of the data port (0.0.0.0)")
    serve.add_argument("--port", type=port, default=8080, help="data port (8080)")
    serve.add_argument("--ops-port", type=port, default=8081, help="health and metrics (8081)")
    serve.add_argument("--admin-port", type=port, default=8082, help="admin API, on 127.0.0.1 only (8082)")
    serve.add_argument(
        "--admin-token",
        action="append",
        default=[],
        metavar="[ROLE=]env:NAME|file:PATH",
        help="opens the admin API to whoever shows this token; ROLE: `policy` (may change it; the default) or `read`; repeatable",
    )
    serve.add_argument("--workers", type=workers, default=1, help="processes that serve (1)")
    serve.add_argument("--state", type=Path, default=Path("state"), metavar="DIR", help="where ledger and verdicts lie (state)")
    serve.set_defaults(command=run)


def run(options: argparse.Namespace, pace: Pace = PACE) -> int:
    """Serve until told to stop."""
    from functools import partial

    from gateway.app import CannotStart, ServeSettings, serve
    from gateway.config.secrets import cache_key, resolve_secrets
    from gateway.proof.gate import judge
    from gateway.question import answer
    from gateway.reload.admission import reasons
    from gateway.reload.documents import fingerprint
    from gateway.reload.reloader import Started

    seen = fingerprint(options.policies)
    judged = judge(options.policies, None, options.state)
    for warning in judged.warnings:
        say(f"warning: {warning}")
    snapshot = judged.snapshot or judged.refused
    if snapshot is None:
        say("\n".join(judged.problems))
        return 1
    secrets = resolve_secrets(snapshot.policy)
    why_not = reasons(judged, secrets)
    tokens, trouble = _tokens(options.admin_token)
    why_not += trouble
    if why_not:
        say("\n".join(why_not))
        return 1
    settings = ServeSettings(
        snapshot=snapshot,
        secrets=secrets.endpoints,
        stores=secrets.stores,
        cache_key=cache_key(snapshot.policy, secrets),
        state=options.state,
        host=options.host,
        port=options.port,
        ops_port=options.ops_port,
        admin_port=options.admin_port,
        admin_tokens=tokens,
        workers=options.workers,
        decide=partial(answer, workers=options.workers),
        folder=options.policies,
        started=Started(seen, judged),
        pace=pace,
    )
    try:
        return serve(settings)
    except CannotStart as error:
        say(str(error))
        return 1


def _tokens(sources: list[str]) -> "tuple[Tokens, list[str]]":
    """The tokens, and a line for each that is not one."""
    from gateway.control.tokens import POLICY, ROLES, tokens_of

    found, troubles = [], []
    for given in sources:
        role, equals, source = given.rpartition("=")
        role = role if equals else POLICY
        kind, _, place = source.partition(":")
        try:
            token = os.environ.get(place, "") if kind == "env" else Path(place).read_text() if kind == "file" else ""
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            troubles.append(f"the admin token's file `{place}` can't be read ({why})")
            continue
        token = token.strip()
        if not token or role not in ROLES:
            what = "a set variable (env:NAME) or a file (file:PATH), after `read=`, `policy=` or neither"
            troubles.append(f"`--admin-token {given}` must name {what}")
            continue
        found.append((role, source, token))
    return tokens_of(found), troubles
