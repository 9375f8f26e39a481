"""Formula, engine and specification agree on random worlds; and each fault planted in the formula is found."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from proof_planted import PLANTED, Planted
from proving import SENTENCES, Sentence, throw, worlds
from strategies import drawn
from worlds import World

from gateway.proof.claims import Prover

THROWN = 120  # worlds for each sentence; each has several claims or a dozen requests
PLANTED_MAX = 1_500  # most faults are found within thirty


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_sentence(sentence: Sentence) -> None:
    share = throw(sentence, Prover, THROWN)
    assert share >= sentence.bites_min, f"only {share:.0%} of the worlds had anything to bite on"


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_sentence_on_small_worlds(sentence: Sentence) -> None:
    @settings(
        max_examples=25,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn(worlds))
    def cases(world: World) -> None:
        sentence.check(Prover, world)

    cases()


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: f"{fault.text} | {fault.caught_by[:40]}")
def test_fault_is_found(fault: Planted) -> None:
    with pytest.raises(AssertionError, match="seed"):
        throw(SENTENCES[fault.caught_by], fault.prover, PLANTED_MAX)


def test_every_sentence_finds_something() -> None:
    assert {fault.caught_by for fault in PLANTED} == set(SENTENCES)
