"""The quick look at an answer that needs no mending finds what the long one finds."""

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.canonical import Identity, NotCanonical, Seen, mend_answer

IDENTITY = Identity("chatcmpl-ours", 9, "ours")
ODD: st.SearchStrategy[Any] = st.sampled_from([None, "", 0, 1, True, [], {}, "x"])


def usually(*usual: Any) -> st.SearchStrategy[Any]:
    """Mostly what is usual, so that many answers are usual all through."""
    return st.one_of(*[st.sampled_from(usual)] * 6, ODD)


MESSAGES = st.fixed_dictionaries(
    {"role": usually("assistant"), "content": usually("text")},
    optional={"tool_calls": st.sampled_from([None, []]), "reasoning": ODD, "refusal": st.none(), "reasoning_content": ODD},
)
CHOICES = st.fixed_dictionaries(
    {"message": MESSAGES, "index": usually(0), "finish_reason": usually("stop", "length", "model_length", "error", "sensitive")}
)
ANSWERS = st.fixed_dictionaries(
    {
        "id": usually("theirs"),
        "object": usually("chat.completion"),
        "created": usually(1),
        "model": usually("ours", "theirs"),
        "choices": st.lists(CHOICES, min_size=1, max_size=2),
    }
)


def mended(answer: dict[str, Any]) -> tuple[Seen, dict[str, Any]] | None:
    """What becomes of it; None: it is no answer."""
    try:
        return mend_answer(answer, IDENTITY), answer
    except NotCanonical:
        return None


@given(ANSWERS)
def test_the_usual_answer_is_mended_as_any_other(answer: dict[str, Any]) -> None:
    """A field of the message that nobody knows makes it unusual, and changes nothing."""
    other = deepcopy(answer)
    for choice in other["choices"]:
        choice["message"]["unheard_of"] = 1
    quick, long = mended(answer), mended(other)
    if long is not None:
        for choice in long[1]["choices"]:
            del choice["message"]["unheard_of"]
    assert quick == long


def test_a_usual_answer_under_our_name_is_untouched() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "text"}, "finish_reason": "stop"}
    answer = {"id": "theirs", "object": "chat.completion", "created": 1, "model": "ours", "choices": [choice]}
    assert mended(answer) == (Seen(speaks=True, finish="stop"), deepcopy(answer))
    assert mended({**answer, "model": "theirs"}) == (Seen(changed=True, speaks=True, finish="stop"), deepcopy(answer))
