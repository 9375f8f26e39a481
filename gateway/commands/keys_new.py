"""`gateway keys new`: a key, shown once."""

import argparse
import json

from gateway.commands.shared import JSON, Commands, say


def add(commands: Commands) -> None:
    """Say what the command takes."""
    new = commands.add_parser("new", help="print a new key, once, and the line for the access document")
    new.add_argument("id", help="small letters, digits and hyphens")
    new.add_argument("--tenant", help="whose key it will be; only named in what is printed")
    new.add_argument("--expires", metavar="DAY", help="the last day (UTC) on which it is good: 2027-01-01")
    new.add_argument("--json", action="store_true", help=JSON)
    new.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    import re
    import secrets
    from datetime import UTC, date, datetime

    from gateway.config.demo_keys import digest_of
    from gateway.config.shapes import WORD_CHARS_MAX

    if len(options.id) > WORD_CHARS_MAX:
        say(f"the id of a key has at most {WORD_CHARS_MAX} characters, and this one has {len(options.id)}")
        return 2
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", options.id):
        say(f"`{options.id}` can't be the id of a key: small letters, digits and hyphens")
        return 2
    try:
        expires = None if options.expires is None else date.fromisoformat(options.expires)
    except ValueError:
        say(f"`{options.expires}` is no day; write it as 2027-01-01")
        return 2
    if expires is not None and expires < datetime.now(UTC).date():
        say(f"`{expires}` is over: such a key would never be good")
        return 2
    key = f"rg_live_{options.id}_{secrets.token_hex(32)}"
    digest = digest_of(key).hex()
    until = "" if expires is None else f", expires: {expires}"
    line = f'{{id: {options.id}, sha256: "{digest}"{until}}}'
    if options.json:
        print(json.dumps({"key": key, "id": options.id, "sha256": digest, "tenant": options.tenant, "yaml": line}))
    else:
        whose = f"the tenant `{options.tenant}`" if options.tenant else "its tenant"
        print(f"{key}\n\nThis is the only time it is shown. Under `keys:` of {whose}:\n\n  - {line}")
    return 0
