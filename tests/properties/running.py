"""How a sentence is run: a set number of cases, the same ones each time, and a count of those that had something to bite on."""

import os

from hypothesis import HealthCheck, Phase, given, settings
from sentences import Sentence
from worlds import Engine, World

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "120"))
"""For each sentence. `PROPERTY_EXAMPLES=20000` for a night's run, which then also draws new cases each time."""

REPEATABLE = "PROPERTY_EXAMPLES" not in os.environ


def run(sentence: Sentence, engine: Engine, examples: int = EXAMPLES, *, shrink: bool = True) -> float:
    """The share of cases that bit. Raises the failure of the first case that fails, as small as it gets."""
    counts = {"cases": 0, "bites": 0}

    @settings(
        max_examples=examples,
        derandomize=REPEATABLE,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(sentence.cases)
    def cases(case: World) -> None:
        counts["cases"] += 1
        counts["bites"] += sentence.check(engine, case)

    cases()
    return counts["bites"] / counts["cases"]
