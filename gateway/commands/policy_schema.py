"""`gateway policy schema`: what editors know of policy files."""

import argparse

from gateway.commands.shared import Commands


def add(commands: Commands) -> None:
    """Say what the command takes."""
    schema = commands.add_parser("schema", help="print the JSON Schema of policy files")
    schema.add_argument("--cases", action="store_true", help="of the files in policies/cases")
    schema.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.config.schema import as_text, cases_schema, policy_schema

    print(as_text(cases_schema() if options.cases else policy_schema()), end="")
    return 0
