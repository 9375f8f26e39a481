"""Every planted fault is found by the sentence that is there to find it: a property that no fault can break says nothing."""

import pytest
from planted import PLANTED, Planted
from running import throw
from sentences import SENTENCES

CASES_MAX = 1_500  # most faults are found within thirty


@pytest.mark.source_only
@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: f"{fault.text} | {fault.caught_by}")
def test_fault_is_found(fault: Planted) -> None:
    with pytest.raises(AssertionError, match="seed"):
        throw(SENTENCES.found[fault.caught_by], fault.engine, CASES_MAX)


def test_every_sentence_finds_something() -> None:
    assert {fault.caught_by for fault in PLANTED} == set(SENTENCES.found)
