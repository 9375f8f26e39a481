"""`gateway demo`: serve a policy with nothing behind it but simulators and one real model."""

import argparse

from gateway.commands.shared import Commands, policies, port


def add(commands: Commands) -> None:
    """Say what the command takes."""
    demo = commands.add_parser("demo", help="serve the policy with simulated providers and one real model; loopback only")
    policies(demo)
    demo.add_argument("--port", type=port, default=8080, help="data port (8080)")
    demo.add_argument("--ops-port", type=port, default=8081, help="health and metrics (8081)")
    demo.add_argument("--admin-port", type=port, default=8082, help="admin API (8082)")
    demo.add_argument("--once", action="store_true", help="send a tour of requests, print where each went, and exit")
    demo.add_argument("--json", action="store_true", help="print the tour's table as JSON")
    demo.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.demo.run import run

    return run(options.policies, options.port, options.ops_port, options.admin_port, once=options.once, as_json=options.json)
