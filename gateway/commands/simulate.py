"""`gateway simulate`: stand in for a provider."""

import argparse
from pathlib import Path

from gateway.commands.shared import Commands, port


def add(commands: Commands) -> None:
    """Say what the command takes."""
    simulate = commands.add_parser("simulate", help="stand in for a provider")
    simulate.add_argument("dialect", choices=("mistral", "zai", "vllm", "openai", "llamacpp"), help="whose API to speak")
    simulate.add_argument("--port", type=port, default=0, help="0 takes a free one")
    simulate.add_argument("--script", type=Path, metavar="FILE", help="faults, as JSON")
    simulate.add_argument("--api-key", help="the key that must be sent")
    simulate.add_argument("--fast", action="store_true", help="answer at once, not in the provider's rhythm")
    simulate.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.simulators import run

    return run(options.dialect, options.port, options.script, api_key=options.api_key, real_pace=not options.fast)
