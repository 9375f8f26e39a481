"""Sets of words as people say them: thirty countries are `EEA`, `personal` and `special` are `at least personal`."""

from collections.abc import Set
from typing import Final

from gateway.core.facts import Vocabulary
from gateway.core.policy import ASKED_OF_KEEPERS, HOLDINGS, ONE_VALUE, PLACES, Alternative, FactTest, LabelTest, Rule
from gateway.core.terms import Effect, Subject

UNVOUCHED: Final = "anywhere, as nobody vouches for it"
WORDS_MAX: Final = 12  # of one set, written out; a longer one is named by its size


class Wording:
    """Speaks in the zones and classes of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        # a zone of one country says no more than its code; larger ones first, so that EEA is not spelled EU, EFTA
        zones = [(name, members) for name, members in vocabulary.zones.items() if len(members) > 1]
        self._zones = sorted(zones, key=lambda zone: (-len(zone[1]), zone[0]))

    def places(self, countries: Set[str] | None) -> str:
        """Countries, by zones where some lie whole among them."""
        if countries is None:
            return UNVOUCHED
        if countries and countries >= self._vocabulary.countries:
            return "any country"
        found: list[str] = []
        remaining = set(countries)
        for name, members in self._zones:
            if members <= countries and len(members & remaining) > 1:
                found.append(name)
                remaining -= members
        return _listed(found + sorted(remaining))

    def fact(self, fact: str, values: Set[str]) -> str:
        """The possible values of a fact."""
        if fact == "region":
            return self.places(values)
        if fact == "data_class" and len(values) > 1:
            line = self._vocabulary.data_classes
            ranks = sorted(line.index(value) for value in values if value in line)
            if len(ranks) == len(values) == ranks[-1] - ranks[0] + 1:
                if len(ranks) == len(line):
                    return "any class"
                if ranks[-1] == len(line) - 1:
                    return f"at least {line[ranks[0]]}"
                if ranks[0] == 0:
                    return f"at most {line[ranks[-1]]}"
        return _listed(sorted(values))

    def test(self, test: FactTest) -> str:
        """What a test of `when` wants: `region EEA`."""
        if test.at_least is not None or test.at_most is not None:
            ends = [f"at least {test.at_least}"] if test.at_least is not None else []
            ends += [f"at most {test.at_most}"] if test.at_most is not None else []
            return f"{test.fact} {' and '.join(ends)}"
        return f"{test.fact} {self.fact(test.fact, test.values)}"

    def label(self, attribute: str, value: object) -> str:
        """What a place has of `attribute`."""
        if attribute in PLACES:
            return self.places(value if isinstance(value, frozenset) and value else None)
        if isinstance(value, frozenset):
            return _listed(sorted(value))
        return "unknown" if value is None else str(value)

    def wanted(self, test: LabelTest) -> str:
        """What a test of labels names: `processed_in within EEA, CH`."""
        if test.attribute in PLACES:
            return f"{test.attribute} within {self.places(test.values)}"
        if test.attribute in HOLDINGS:
            return f"{test.attribute} with {' and '.join(sorted(test.values))}"
        if test.attribute in ONE_VALUE:
            return f"{test.attribute} {' or '.join(sorted(test.values))}"
        return f"{test.attribute} at least {test.at_least}"

    def alternative(self, tests: Alternative) -> str:
        """What one alternative names, whole."""
        return " and ".join(self.wanted(test) for test in tests) or "anything"

    def says(self, rule: Rule) -> str:
        """What a rule says of places: `processed_in within EEA and assurances with dpa, or provider ours`."""
        return ", or ".join(self.alternative(tests) for tests in rule.says) or "nothing"

    def verdict(self, rule: Rule, subject: Subject) -> str:
        """What `rule` found of `subject`, which it does not spare, and what it wants: only of what falls short."""
        asked = [tuple(t for t in tests if subject.kind == "deployment" or t.attribute in ASKED_OF_KEEPERS) for tests in rule.says]
        if rule.effect is Effect.FORBID:
            hits = [test for tests in asked for test in tests if test.may_hit(subject)]
            unwanted = [self.wanted(test).replace(" within ", " touching ") for test in hits]
            return f"{self._found(hits, subject)}; forbidden is {' or '.join(unwanted)}"
        short = [tuple(test for test in tests if not test.surely_met(subject)) for tests in asked if tests]
        wanted = ", or ".join(self.alternative(tests) for tests in short)
        return f"{self._found([test for tests in short for test in tests], subject)}; wanted is {wanted}"

    def _found(self, tests: list[LabelTest], subject: Subject) -> str:
        attributes = dict.fromkeys(test.attribute for test in tests)
        return " and ".join(f"{name} is {self.label(name, getattr(subject, name))}" for name in attributes)


def _listed(words: list[str]) -> str:
    if len(words) > WORDS_MAX:
        return f"{', '.join(words[:WORDS_MAX])} and {len(words) - WORDS_MAX} more"
    return ", ".join(words) or "none"
