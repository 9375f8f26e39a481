"""What proving a claim comes to: four ways, as frozen values that can be kept as JSON and sent between processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a claim stands."""

    PROVED = "proved"  # for every request, until its day
    LAPSES = "lapses"  # true now, and false before its day unless somebody renews a label: a warning
    EMPTY = "asks nothing"  # no request can be in its `for`, or its day is over: true, and worth nothing: a warning
    FALSE = "false"  # some request goes against it
    UNDECIDED = "undecided"  # the solver gave up, or solver and engine disagree

    @property
    def serves(self) -> bool:
        """Whether a policy with such a claim may serve."""
        return self in (Status.PROVED, Status.LAPSES, Status.EMPTY)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """One request that goes against a claim. `case` is YAML for `policies/cases`, `question` what `policy explain` can be asked.

    `witness` is the deployment, store, sink or gateway that the claim does not want; empty for a `some`, where nothing is found.
    `rules` are the ids that let it through (permits), or for a `some` those that keep everything out.
    """

    case: str
    question: Mapping[str, Any]
    witness: str = ""
    label: str = ""  # what the witness is, in a few words: "processed in CN"
    rules: tuple[str, ...] = ()
    at: float | None = None  # UTC seconds, where it is not now


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and how it stands. `until` (UTC seconds, exclusive) is the day to which it was proved."""

    claim: str  # id
    status: Status
    until: float
    because: str = ""  # of undecided and empty: why, and what would mend it
    lapses: float | None = None  # UTC seconds: from then on it is false
    renew: tuple[str, ...] = ()  # the labels whose renewal keeps it true: "`processed_in` of mistral-eu (catalogue.yaml:27)"
    counterexample: Counterexample | None = None

    @property
    def serves(self) -> bool:
        """Whether a policy with this verdict may serve."""
        return self.status.serves

    def as_record(self) -> dict[str, object]:
        """The verdict as JSON can hold it."""
        found = self.counterexample
        return {
            "claim": self.claim,
            "status": self.status.value,
            "until": self.until,
            "because": self.because,
            "lapses": self.lapses,
            "renew": list(self.renew),
            "counterexample": None if found is None else {
                "case": found.case,
                "question": dict(found.question),
                "witness": found.witness,
                "label": found.label,
                "rules": list(found.rules),
                "at": found.at,
            },
        }  # fmt: skip


def verdict_of(record: Mapping[str, Any]) -> Verdict:
    """The verdict that `as_record` made. Raises KeyError, TypeError or ValueError for anything else."""
    found = record["counterexample"]
    return Verdict(
        claim=_text(record["claim"]),
        status=Status(record["status"]),
        until=float(record["until"]),
        because=_text(record["because"]),
        lapses=None if record["lapses"] is None else float(record["lapses"]),
        renew=tuple(_text(line) for line in record["renew"]),
        counterexample=None if found is None else Counterexample(
            case=_text(found["case"]),
            question=dict(found["question"]),
            witness=_text(found["witness"]),
            label=_text(found["label"]),
            rules=tuple(_text(rule) for rule in found["rules"]),
            at=None if found["at"] is None else float(found["at"]),
        ),
    )  # fmt: skip


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wanted text, found {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class Proof:
    """The verdicts on all claims of one snapshot, made `at` (UTC seconds) by `prover` (the solver's name and version)."""

    at: float
    prover: str
    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def serves(self) -> bool:
        """Whether no claim keeps the policy from serving."""
        return all(verdict.serves for verdict in self.verdicts)
