"""What rules and claims say of labels, judged a second time and in other words than `core/policy.py` does.

The proof would prove little if it asked the engine. So tables here, methods there; a property test compares the two, and both with
the specification of ten lines.
"""

from typing import Final

from gateway.core.policy import Alternative, LabelTest
from gateway.core.terms import Subject

WORDS: Final = ("endpoint", "provider", "dialect", "model")  # one word each
COUNTRIES: Final = ("processed_in", "operated_under", "origin")
LISTS: Final = ("assurances", "apis", "tools", "abilities")
OF_KEEPERS: Final = ("provider", "processed_in", "operated_under", "assurances")  # what binds the gateway, stores and sinks


def meets(subject: Subject, says: tuple[Alternative, ...]) -> bool:
    """Whether `subject` surely is as one of the alternatives wants it: nobody vouching for a label is not sure."""
    asked = _asked(subject, says)
    return any(all(_sure(subject, test) for test in tests) for tests in asked)


def hits(subject: Subject, says: tuple[Alternative, ...]) -> bool:
    """Whether `subject` may be what any test of any alternative names: nobody vouching for a label may be anything."""
    return any(_possible(subject, test) for tests in says for test in tests if _binds(subject, test))


def _asked(subject: Subject, says: tuple[Alternative, ...]) -> list[tuple[LabelTest, ...]]:
    """The alternatives as they are asked of `subject`. Of a keeper, those that ask it something, if any does."""
    asked = [tuple(test for test in tests if _binds(subject, test)) for tests in says]
    return asked if subject.kind == "deployment" else [tests for tests in asked if tests] or [()]


def _binds(subject: Subject, test: LabelTest) -> bool:
    return subject.kind == "deployment" or test.attribute in OF_KEEPERS


def _sure(subject: Subject, test: LabelTest) -> bool:
    has = getattr(subject, test.attribute)
    if has is None:
        return False
    if test.attribute in WORDS:
        return has in test.values
    if test.attribute in COUNTRIES:
        return len(has) > 0 and all(country in test.values for country in has)
    if test.attribute in LISTS:
        return all(wanted in has for wanted in test.values)
    return test.at_least is not None and has >= test.at_least


def _possible(subject: Subject, test: LabelTest) -> bool:
    has = getattr(subject, test.attribute)
    if test.attribute in WORDS:
        return has in test.values
    return not has or any(value in test.values for value in has)
