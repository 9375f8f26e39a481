"""All requests at once, as variables: who asks, what is declared, and by which name. And what one snapshot makes of them.

A fact is a set of possible values: a variable for each class of values says whether one of it is among them. So what is known,
what is not, and what is several things at once are all one encoding, and nothing has to be assumed of which is worst.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from gateway.config.vocabulary import ABILITIES, APIS
from gateway.core.facts import DECLARABLE, group_of
from gateway.core.policy import FactTest, Key, Snapshot, When, resolve
from gateway.proof.formula import FALSE, TRUE, Formula, Model
from gateway.proof.universe import SEVERAL, Said, Sending, classes, in_range, lengths, names, said, tests_by_fact

T = TypeVar("T")
WHO: Final = frozenset({"tenant", "group", "key"})


def usable_keys(snapshot: Snapshot, at: float) -> list[Key]:
    """The keys with which somebody can ask at `at` (UTC seconds)."""
    return [key for key in snapshot.access.keys.values() if not key.revoked and (key.expires is None or key.expires > at)]


class Space:
    """What is sent: variables that every snapshot looked at shares. `at` in UTC seconds; `whens` are all that anybody tests."""

    def __init__(self, formula: Formula, snapshots: Iterable[Snapshot], at: float, whens: Iterable[When]) -> None:
        self.formula = formula
        self.at = at
        self.snapshots = tuple(snapshots)
        self.tests = tests_by_fact(whens)
        usable = dict.fromkeys(key.id for snapshot in self.snapshots for key in usable_keys(snapshot, at))
        found = self._distinct_names()
        self.empty = not usable or not found  # nobody can ask for anything
        self.keys = self._choice(usable or ("nobody",))
        self.names = self._choice(found or ("nothing",))
        self.apis = self._choice(self._distinct("api", ("chat", *APIS)))
        self.streams = self._choice(self._distinct("stream", ("false", "true")))
        self.lengths = self._choice(lengths(self.tests.get("prompt_tokens", ())))
        self.declared: dict[str, int] = {}  # fact -> whether it is declared
        self.classes: dict[str, list[frozenset[str]]] = {}
        self.among: dict[str, list[int]] = {}  # fact -> for each class, whether a value of it is among what is sent
        self._said: dict[tuple[int, str, str], Said] = {}
        for fact in DECLARABLE:
            if fact in self.tests:
                self._declare(fact)
        for fact, values in (("ability", frozenset(ABILITIES)), ("language", self._universe("language"))):
            if fact in self.tests:
                self.classes[fact] = classes(values, (test.values for test in self.tests[fact]))
                self.among[fact] = [formula.variable() for _ in self.classes[fact]]
        if "language" in self.among:
            formula.demand(*self.among["language"])  # a text is in some language, known or not

    # --- variables -------------------------------------------------------------------------------------------------------

    def _choice(self, of: Iterable[T]) -> dict[T, int]:
        """Each of `of` with a variable; exactly one of them is true."""
        of = list(of)
        return dict(zip(of, self.formula.one_of(len(of)), strict=True))

    def _distinct(self, fact: str, values: Iterable[str]) -> list[str]:
        """The first of `values`, and of the others one of each kind that tests can tell apart."""
        found: dict[tuple[bool, ...], str] = {}
        for value in values:
            found.setdefault(tuple(value in test.values for test in self.tests.get(fact, ())), value)
        return list(found.values())

    def _distinct_names(self) -> list[str]:
        """One name of each kind: what tests say of it, and which deployed models it stands for, in each snapshot."""
        served = [{d.model.id for d in snapshot.policy.deployments} for snapshot in self.snapshots]
        tests = self.tests.get("asked", ())
        found: dict[object, str] = {}
        for name in names(snapshot.policy for snapshot in self.snapshots):
            kind: list[object] = []
            for snapshot, models in zip(self.snapshots, served, strict=True):
                resolved = resolve(snapshot.policy, name)
                if resolved is None:
                    kind.append(None)
                else:
                    kind.append((resolved.models & models, tuple(resolved.asked in test.values for test in tests)))
            found.setdefault(tuple(kind), name)
        return list(found.values())

    def _universe(self, fact: str) -> frozenset[str]:
        return frozenset[str]().union(*(snapshot.policy.vocabulary.universe(fact) for snapshot in self.snapshots))

    def _declare(self, fact: str) -> None:
        formula = self.formula
        sets = [test.values for test in self.tests[fact]]
        values = set(self._universe(fact))
        for number, snapshot in enumerate(self.snapshots):
            for key in usable_keys(snapshot, self.at):
                found = self._said[number, key.id, fact] = self.says(snapshot, key, fact)
                values |= found.undeclared | (found.within or frozenset())
        if len(self.snapshots) > 1:  # what may be said in one and not in the other is not alike
            sets += [found.within for place, found in self._said.items() if place[2] == fact and found.within is not None]
        self.classes[fact] = classes(values, sets)
        sent = self.among[fact] = [formula.variable() for _ in self.classes[fact]]
        declared = self.declared[fact] = formula.variable()
        for one in sent:
            formula.demand(declared, -one)
        if fact != "categories":  # `categories: []` declares that there are none
            formula.demand(-declared, *sent)
        if fact not in SEVERAL:
            formula.at_most_one(sent)

    def says(self, snapshot: Snapshot, key: Key, fact: str) -> Said:
        """What requests with `key` can say of `fact`."""
        return said(snapshot, key, fact)

    def said_by(self, number: int, key: str, fact: str) -> Said:
        """What requests with `key` can say of `fact` under snapshot `number`."""
        return self._said[number, key, fact]

    # --- back ------------------------------------------------------------------------------------------------------------

    def sending(self, model: Model) -> Sending:
        """The request that a model stands for, with one value for each class."""
        key = _true(self.keys, model)
        declared = {fact: self._values(fact, key, model) for fact, literal in self.declared.items() if model(literal)}
        language = self._listed("language", model)
        return Sending(
            key=key,
            asked=_true(self.names, model),
            declared=declared,
            api=_true(self.apis, model),
            language=None if len(language) == len(self.among.get("language", ())) else language,
            abilities=self._listed("ability", model),
            stream=_true(self.streams, model) == "true",
            prompt_tokens=_true(self.lengths, model),
        )

    def _listed(self, fact: str, model: Model) -> frozenset[str]:
        chosen = zip(self.classes.get(fact, ()), self.among.get(fact, ()), strict=True)
        return frozenset(min(members) for members, literal in chosen if model(literal))

    def alike(self, api: str, offered: frozenset[str]) -> str:
        """`api`, or where it is not `offered` one that is and that no test tells apart from it."""
        if api in offered:
            return api
        tests = self.tests.get("api", ())
        same = (one for one in sorted(offered) if all((one in test.values) == (api in test.values) for test in tests))
        return next(same, api)

    def _values(self, fact: str, key: str, model: Model) -> frozenset[str]:
        found = [self._said[n, key, fact] for n in range(len(self.snapshots)) if (n, key, fact) in self._said]
        values = set()
        for members, literal in zip(self.classes[fact], self.among[fact], strict=True):
            if model(literal):
                may_say = [members & one.within for one in found if one.within]
                usual = [members & one.undeclared & one.within for one in found if one.within]
                values.add(min(next(some for some in (*usual, *may_say, members) if some)))
        return frozenset(values)


def _true(choice: dict[T, int], model: Model) -> T:
    return next(value for value, literal in choice.items() if model(literal))


class Seen:
    """What snapshot `number` of a space makes of what is sent: its facts, as literals."""

    def __init__(self, space: Space, number: int) -> None:
        self.space = space
        self.number = number
        self.snapshot = space.snapshots[number]
        self._formula = space.formula
        self._usable = {key.id: key for key in usable_keys(self.snapshot, space.at)}
        self._known: dict[tuple[bool, FactTest], int] = {}
        self._facts = {fact: self._fact(fact) for fact in space.declared}
        self.valid = self._valid()

    def may(self, when: When) -> int:
        """A literal: all tests of `when` may hold."""
        return self._formula.every(self._test(test, sure=False) for test in when)

    def must(self, when: When) -> int:
        """A literal: all tests of `when` surely hold."""
        return self._formula.every(self._test(test, sure=True) for test in when)

    def there(self, when: When) -> int:
        """A literal: all tests of `when` surely hold, and of something that is there: what preferences need."""
        return self._formula.every((self.may(when), self.must(when)))

    def asks_for(self, model: str) -> int:
        """A literal: the name in the request stands for `model`."""
        found = ((name, resolve(self.snapshot.policy, name)) for name in self.space.names)
        return self._of(self.space.names, {name for name, resolved in found if resolved and model in resolved.models})

    def key_is(self, wanted: Callable[[Key], bool]) -> int:
        """A literal: the key that is shown is as wanted."""
        return self._of(self.space.keys, {name for name, key in self._usable.items() if wanted(key)})

    def tenant_is(self, tenant: str) -> int:
        """A literal: `tenant` asks."""
        return self.key_is(lambda key: key.tenant == tenant)

    # --- tests -----------------------------------------------------------------------------------------------------------

    def _test(self, test: FactTest, *, sure: bool) -> int:
        found = self._known.get((sure, test))
        if found is None:
            found = self._known[sure, test] = self._surely(test) if sure else self._maybe(test)
        return found

    def _maybe(self, test: FactTest) -> int:
        if (certain := self._certain(test)) is not None:
            return certain
        bits = zip(self.space.classes[test.fact], self.bits(test.fact), strict=True)
        return self._formula.some(bit for members, bit in bits if members & test.values)

    def _surely(self, test: FactTest) -> int:
        if (certain := self._certain(test)) is not None:
            return certain
        bits = zip(self.space.classes[test.fact], self.bits(test.fact), strict=True)
        return self._formula.every(-bit for members, bit in bits if not members & test.values)

    def _certain(self, test: FactTest) -> int | None:
        """The literal of a test of a fact that is always known; None for others."""
        space = self.space
        if test.fact in WHO:
            return self.key_is(lambda key: self._who(test.fact, key) in test.values)
        if test.fact == "asked":
            found = ((name, resolve(self.snapshot.policy, name)) for name in space.names)
            return self._of(space.names, {name for name, resolved in found if resolved and resolved.asked in test.values})
        if test.fact == "prompt_tokens":
            return self._of(space.lengths, {tokens for tokens in space.lengths if in_range(test, tokens)})
        if test.fact in ("api", "stream"):
            choice = space.apis if test.fact == "api" else space.streams
            return self._of(choice, test.values & choice.keys())
        return None

    def _who(self, fact: str, key: Key) -> str:
        if fact == "key":
            return key.id
        group: str = min(group_of(self.snapshot.access.tenants[key.tenant].group))
        return key.tenant if fact == "tenant" else group

    def _of(self, choice: dict[T, int], wanted: Iterable[T]) -> int:
        wanted = set(wanted)
        return TRUE if len(wanted) == len(choice) else self._formula.some(choice[one] for one in wanted)

    def bits(self, fact: str) -> list[int]:
        """For each class of values, a literal: one of it is among what the fact may be."""
        return self._facts.get(fact) or self.space.among[fact]

    # --- facts -----------------------------------------------------------------------------------------------------------

    def _fact(self, fact: str) -> list[int]:
        """For each class, a literal: a value of it is among what the fact may be."""
        formula, declared = self._formula, self.space.declared[fact]
        found = []
        for members, sent in zip(self.space.classes[fact], self.space.among[fact], strict=True):
            always = self._said(fact, members, "always")
            otherwise = formula.every((-declared, self._said(fact, members, "undeclared")))
            found.append(formula.some((always, sent, otherwise)))
        return found

    def _said(self, fact: str, members: frozenset[str], part: str) -> int:
        """A literal: the key is one whose `part` (a field of Said) of `fact` has one of `members`."""
        return self.key_is(lambda key: bool((getattr(self._says(key, fact), part) or frozenset()) & members))

    def _silent(self, fact: str) -> int:
        """A literal: the key is one whose requests can't declare `fact`."""
        return self.key_is(lambda key: self._says(key, fact).within is None)

    def _says(self, key: Key, fact: str) -> Said:
        return self.space.said_by(self.number, key.id, fact)

    def _valid(self) -> int:
        """A literal: the key is known here, the name too, and nothing is declared that the key may not say."""
        formula, space = self._formula, self.space
        known = {name for name in space.names if resolve(self.snapshot.policy, name) is not None}
        wanted = [self.key_is(lambda key: True), self._of(space.names, known)]
        for fact, declared in space.declared.items():
            wanted.append(-formula.every((declared, self._silent(fact))))
            for members, sent in zip(space.classes[fact], space.among[fact], strict=True):
                wanted.append(formula.some((-sent, self._said(fact, members, "within"))))
        return FALSE if space.empty else formula.every(wanted)
