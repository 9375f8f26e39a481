"""How a sentence is run: on cases that Hypothesis draws, which it makes small when one fails, and on many more that dice throw.

The dice are there for numbers: a case costs them a twentieth of what it costs Hypothesis, and rare faults need many.
"""

import os

from hypothesis import HealthCheck, Phase, given, settings
from sentences import Sentence
from strategies import drawn, thrown
from worlds import Engine, World

DRAWN = int(os.environ.get("PROPERTY_EXAMPLES", "40"))
"""Cases of Hypothesis for each sentence. `PROPERTY_EXAMPLES=5000` for a night's run, which then also draws new ones each time."""

THROWN = 10 * DRAWN
REPEATABLE = "PROPERTY_EXAMPLES" not in os.environ


def draw(sentence: Sentence, engine: Engine) -> None:
    """Raise the failure of the smallest case that Hypothesis finds."""

    @settings(
        max_examples=DRAWN,
        derandomize=REPEATABLE,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn(sentence.cases))
    def cases(case: World) -> None:
        sentence.check(engine, case)

    cases()


def throw(sentence: Sentence, engine: Engine, cases: int = THROWN) -> float:
    """The share of cases that bit. Raises the failure of the first that fails, with its seed."""
    bites = 0
    for seed in range(cases):
        case = thrown(sentence.cases, seed)
        try:
            bites += sentence.check(engine, case)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{case}") from error
    return bites / cases
