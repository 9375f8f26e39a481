"""`gateway serve` for whoever waits for what comes of it: as ever, but that it looks and tells ten times as often."""

import sys

from gateway.__main__ import parser
from gateway.commands.serve import run
from gateway.pace import Pace

if __name__ == "__main__":
    sys.exit(run(parser().parse_args(["serve", *sys.argv[1:]]), Pace(report_s=0.1, look_s=0.1, respawn_s=0.05)))
