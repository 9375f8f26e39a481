"""Formula, engine and specification agree on random worlds."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from proving import SENTENCES, Sentence, throw, worlds
from strategies import drawn
from worlds import World

from gateway.proof.claims import Prover


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_sentence(sentence: Sentence) -> None:
    share = throw(sentence, Prover, sentence.worlds)
    assert share >= sentence.bites_min, f"only {share:.0%} of the worlds had anything to bite on"


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_sentence_on_small_worlds(sentence: Sentence) -> None:
    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn(worlds))
    def cases(world: World) -> None:
        sentence.check(Prover, world)

    cases()
