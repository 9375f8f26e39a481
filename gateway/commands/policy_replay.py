"""`gateway policy replay [NEW] --ledger DIR`: what recorded decisions would come to under NEW, and whether they come again."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.commands.shared import JSON, Commands, loaded_to_ask, say
from gateway.refused import in_words

if TYPE_CHECKING:
    from gateway.replaying import Replayed


def add(commands: Commands) -> None:
    """Say what the command takes."""
    replay = commands.add_parser("replay", help="decide again what a ledger holds: under NEW, and as it was")
    replay.add_argument("new", type=Path, nargs="?", metavar="NEW", help="folder of the policy to be; without: only verify")
    replay.add_argument("--ledger", type=Path, default=Path("state/ledger"), metavar="DIR", help="the ledger (state/ledger)")
    replay.add_argument("--verify", action="store_true", help="exit 1 unless every decision comes again, to the byte")
    replay.add_argument("--json", action="store_true", help=JSON)
    replay.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from gateway.ledger.decisions import decisions
    from gateway.replaying import Snapshots, replay

    new = None
    if options.new is not None and (new := loaded_to_ask(options.new)) is None:
        return 2
    snapshots = Snapshots(options.ledger.resolve().parent, () if new is None else (new,))
    try:
        found = replay(decisions(options.ledger), snapshots, new)
    except OSError as error:
        say(f"the ledger in {options.ledger} can't be read: {in_words(error)}")
        return 2
    if options.json:
        print(json.dumps(found.as_record(), indent=2))
    else:
        _print(found, compared=new is not None)
    if options.verify or new is None:
        return int(not found.sound)
    return int(found.changes)


def _print(found: "Replayed", *, compared: bool) -> None:
    from gateway.replaying import KINDS

    print(f"{found.decisions} decisions; {found.verified} come again to the same bytes under the snapshot they were made under")
    for what, count in found.missing.items():
        print(f"  {count} can't be made again: nobody has kept {what}")
    for name in found.differing.some:
        print(f"  {name} comes otherwise: its line was changed, or another version of the gateway decided it")
    for line in found.damaged.some:
        print(f"  {line}")
    if (more := found.differing.more + found.damaged.more) > 0:
        print(f"  and {more} more")
    if not compared:
        return
    for kind in KINDS:
        tally = found.tallies[kind]
        if tally.count:
            tenants = ", ".join(f"{tenant} {count}" for tenant, count in tally.tenants.most_common())
            print(f"{kind.replace('_', ' ')}: {tally.count} ({tenants})")
            for example in tally.examples:
                print(f"  {example['id']}  {example['before']} -> {example['after']}")
    if found.rerouted:
        print(f"to another deployment in the same countries: {found.rerouted}")
    if found.costed:
        difference = found.cost_after - found.cost_before
        print(f"cost of {found.costed} served: {found.cost_before:f} USD then, {found.cost_after:f} USD now ({difference:+f})")
    if not found.changes:
        print("nothing would come otherwise")
