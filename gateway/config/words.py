"""The nearest known word to one that nothing defines, and lists of words for people."""

import difflib
from collections.abc import Iterable
from typing import Final

from gateway.config.problems import show

LIKENESS_MIN: Final = 0.6  # difflib's own default; below it a suggestion is more often silly than right
LISTED_MAX: Final = 12  # words in a message; longer lists are for the schema


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or an empty string."""
    candidates = sorted(known)
    folded = _fold(word)
    for candidate in candidates:
        if _fold(candidate) == folded:
            return candidate
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=LIKENESS_MIN)
    if close:
        return close[0]
    by_fold = {_fold(candidate): candidate for candidate in reversed(candidates)}
    close = difflib.get_close_matches(folded, list(by_fold), n=1, cutoff=LIKENESS_MIN)
    return by_fold[close[0]] if close else ""


def _fold(word: str) -> str:
    return word.casefold().replace("_", "-")


def listed(words: Iterable[str]) -> str:
    """Some of `words`, sorted, in one line: `chat`, `embeddings` and 3 more."""
    known = sorted(words)
    if not known:
        return "none"
    shown = ", ".join(show(word) for word in known[:LISTED_MAX])
    return f"{shown} and {len(known) - LISTED_MAX} more" if len(known) > LISTED_MAX else shown
