"""The engine keeps every sentence, and every sentence had something to say."""

import pytest
from running import draw, throw
from sentences import SENTENCES, Sentence
from worlds import Engine


@pytest.mark.parametrize("sentence", SENTENCES.found.values(), ids=SENTENCES.found)
def test_sentence(sentence: Sentence) -> None:
    share = throw(sentence, Engine())
    assert share >= sentence.bites_min, f"only {share:.0%} of the cases had anything to bite on"
    draw(sentence, Engine())
