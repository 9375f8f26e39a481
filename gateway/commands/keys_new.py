"""`gateway keys new`: a key, shown once."""

import argparse
import json

from gateway.commands.shared import Commands, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    new = commands.add_parser("new", help="print a new key, once, and the line for the access document")
    new.add_argument("id", help="small letters, digits and hyphens")
    new.add_argument("--json", action="store_true")
    new.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import re
    import secrets

    from gateway.config.demo_keys import digest_of

    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", options.id):
        say(f"`{options.id}` can't be the id of a key: small letters, digits and hyphens")
        return 2
    key = f"rg_live_{options.id}_{secrets.token_hex(32)}"
    digest = digest_of(key).hex()
    line = f'{{id: {options.id}, sha256: "{digest}"}}'
    if options.json:
        print(json.dumps({"key": key, "id": options.id, "sha256": digest, "yaml": line}))
    else:
        print(f"{key}\n\nThis is the only time it is shown. Under `keys:` of its tenant:\n\n  - {line}")
    return 0
