"""A policy with a claim of each way to stand, and whether its claims are proved or read: for tests of what is kept."""

from pathlib import Path

from gateway.core.policy import Snapshot
from gateway.proof.formula import MakeSolver
from gateway.proof.judging import proved
from gateway.proof.solver import Z3
from gateway.proof.verdict import Status

ENDING = {"processed_in: [FR],": "processed_in: {countries: [FR], source: docs, verified: 2026-11-01, until: 2026-12-10},"}
CLAIMS = """\
  - {id: asks-nothing, for: {tenant: clinic, region: CN}, some: {}}
  - {id: false, for: {data_class: {at_least: personal}}, never: {processed_in: FR}}
  - {id: lapses, for: {tenant: lab, asked: medium}, some: {processed_in: EEA}}
  - {id: true, for: {categories: [health]}, always: {provider: ours}}
"""
STATUSES = {Status.EMPTY, Status.FALSE, Status.LAPSES, Status.PROVED}


class Asked:
    """Where the solver comes from, and how often it was asked for."""

    def __init__(self, makes: MakeSolver = Z3) -> None:
        self.makes = makes
        self.times = 0

    def __call__(self) -> MakeSolver:
        self.times += 1
        return self.makes


def once_more(of: Snapshot, at: float, state: Path) -> bool:
    """Whether the claims of `of` are proved again, and not read."""
    asked = Asked()
    proved(of, at, state, asked)
    return asked.times == 1
