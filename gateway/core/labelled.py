"""Labels as an explanation tells them: what holds, who says so, how old that word is, and until when it stands.

Ages and states are as of an instant that is given; no clock is asked.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from gateway.core.policy import Assurance, Deployment, Places
from gateway.core.wording import UNVOUCHED, Wording


@dataclass(frozen=True, slots=True)
class Label:
    """One label as of the decision. `state`: holds, stale (past `until`), ended (an assurance), or anywhere."""

    name: str
    words: str
    state: str
    source: str
    verified: str  # the day, ISO 8601; "" where nobody wrote it down
    age_days: int | None  # from `verified` to the decision; negative: verified later than it
    until: str  # ISO 8601, "" where it does not end


def labels(deployment: Deployment, instant: float, wording: Wording) -> tuple[Label, ...]:
    """Every label of `deployment` as of `instant` (UTC seconds)."""
    places = (
        _places("processed_in", deployment.processed_in, instant, wording),
        _places("operated_under", deployment.operated_under, instant, wording),
        _places("origin", deployment.model.origin, instant, wording),
    )
    return (*places, *(_assurance(assurance, instant) for assurance in deployment.assurances))


def day_and_time(instant: float) -> str:
    """ISO 8601 in UTC, to the second; "" for never."""
    if instant == float("inf"):
        return ""
    return datetime.fromtimestamp(instant, UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def age_days(day: str, instant: float) -> int | None:
    """Whole days from `day` (ISO 8601) to the day of `instant`; None where `day` says nothing."""
    try:
        return (datetime.fromtimestamp(instant, UTC).date() - date.fromisoformat(day)).days
    except ValueError:
        return None


def _places(name: str, places: Places, instant: float, wording: Wording) -> Label:
    until = "" if places.until is None else day_and_time(places.until)
    state = "anywhere" if places.countries is None else "holds" if places.at(instant) is not None else "stale"
    words = wording.places(places.countries) if places.countries is not None else UNVOUCHED
    return Label(name, words, state, places.source, places.verified, age_days(places.verified, instant), until)


def _assurance(assurance: Assurance, instant: float) -> Label:
    ended = assurance.until is not None and instant >= assurance.until
    until = "" if assurance.until is None else day_and_time(assurance.until)
    return Label("assurance", assurance.name, "ended" if ended else "holds", assurance.evidence, "", None, until)
