"""Each fault planted in the encoding is found by the sentence that is there to find it.

An agreement that no fault can break says nothing, and one that is looked for in fewer worlds than a fault hides in, not much.
"""

import pytest
from proof_planted import PLANTED, Planted
from proving import SENTENCES, throw


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: f"{fault.text} | {fault.caught_by[:40]}")
def test_fault_is_found(fault: Planted) -> None:
    with pytest.raises(AssertionError, match="seed"):
        throw(SENTENCES[fault.caught_by], fault.prover, SENTENCES[fault.caught_by].worlds)


def test_every_sentence_finds_something() -> None:
    assert {fault.caught_by for fault in PLANTED} == set(SENTENCES)


def test_every_part_of_the_encoding_has_faults_planted_in_it() -> None:
    bases = {"space_by", "seen_by", "allowed_by"}
    parts = {name for fault in PLANTED for name in bases & vars(fault.prover).keys()}
    assert parts == bases
    assert any(not bases & vars(fault.prover).keys() for fault in PLANTED), "none in the prover itself"
