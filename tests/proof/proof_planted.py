"""Faults of an encoding, each planted in a prover of its own by overriding one part, and the sentence that must find it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.core.policy import Alternative, Deployment, Keeper, Key, LabelTest, Rule, Snapshot
from gateway.core.terms import Effect, Subject
from gateway.proof.allowed import Allowed, Version
from gateway.proof.claims import Against, Prover
from gateway.proof.formula import FALSE, TRUE
from gateway.proof.labels import COUNTRIES, hits, meets
from gateway.proof.space import Seen, Space
from gateway.proof.universe import Said

PLACES = "where the formula says that a request may go is where engine and specification say so"
VERDICTS = "a claim is proved if and only if none of all requests goes against it, and lapses when the first does"
REAL = "a counterexample is a request that some key can make, and goes against the claim"


@dataclass(frozen=True)
class Planted:
    """One fault: the prover that has it, and the sentence that must find it."""

    text: str
    prover: type[Prover]
    caught_by: str


PLANTED: Final[list[Planted]] = []


def plant(text: str, *caught_by: str) -> Callable[[type[Any]], type[Any]]:
    """Make a faulty prover of a faulty part."""

    def keep(part: type[Any]) -> type[Any]:
        kind: type[Prover] = part
        for name, base in (("space_by", Space), ("seen_by", Seen), ("allowed_by", Allowed)):
            if issubclass(part, base):
                kind = type(f"With{part.__name__}", (Prover,), {name: part})
        PLANTED.extend(Planted(text, kind, sentence) for sentence in caught_by)
        return part

    return keep


# --- labels -----------------------------------------------------------------------------------------------------------------------


@plant("any and all are swapped: one of the places is enough", PLACES, VERDICTS)
class AnyPlaceWillDo(Allowed):
    def meets(self, subject: Subject, says: tuple[Alternative, ...]) -> bool:
        def sure(test: LabelTest) -> bool:
            has = getattr(subject, test.attribute)
            return bool(has and has & test.values) if test.attribute in COUNTRIES else meets(subject, ((test,),))

        return any(all(map(sure, tests)) for tests in says)


@plant("any and all are swapped: each alternative has to be met", PLACES, VERDICTS)
class EachAlternative(Allowed):
    def meets(self, subject: Subject, says: tuple[Alternative, ...]) -> bool:
        return all(meets(subject, (tests,)) for tests in says)


@plant("any and all are swapped: a forbid hits if all places lie in it", PLACES, VERDICTS)
class AllPlacesToHit(Allowed):
    def hits(self, subject: Subject, says: tuple[Alternative, ...]) -> bool:
        def may(test: LabelTest) -> bool:
            has = getattr(subject, test.attribute)
            return has is None or has <= test.values if test.attribute in COUNTRIES else hits(subject, ((test,),))

        return any(may(test) for tests in says for test in tests)


def _somewhere(subject: Subject) -> Subject:
    found: dict[str, Any] = {name: frozenset({"anywhere"}) for name in COUNTRIES if getattr(subject, name) is None}
    return replace(subject, **found)


@plant("`anywhere` is taken for a country like others", PLACES, VERDICTS)
class AnywhereIsACountry(Allowed):
    def hits(self, subject: Subject, says: tuple[Alternative, ...]) -> bool:
        return hits(_somewhere(subject), says)


# --- rules ------------------------------------------------------------------------------------------------------------------------


@plant("a permit is asked whether it may match", PLACES, VERDICTS)
class PermitByMay(Allowed):
    def _applies(self, rule: Rule) -> int:
        return self.seen.may(rule.when)


@plant("a require and a forbid are asked whether they must match", PLACES, VERDICTS)
class RestrictionByMust(Allowed):
    def _applies(self, rule: Rule) -> int:
        return self.seen.must(rule.when)


@plant("forbids are forgotten", PLACES, VERDICTS)
class NoForbids(Allowed):
    def _applies(self, rule: Rule) -> int:
        return FALSE if rule.effect is Effect.FORBID else super()._applies(rule)


@plant("what is switched off serves", PLACES)
class DisabledServes(Allowed):
    def serves(self, deployment: Deployment) -> bool:
        return True


@plant("what may not be read here is served all the same", PLACES, VERDICTS)
class NothingRefused(Allowed):
    def needs(self, keeper: Keeper) -> bool:
        return False


@plant("what may not be recorded is sent all the same", PLACES)
class UnrecordedSent(Allowed):
    def needs(self, keeper: Keeper) -> bool:
        return keeper.kind == "gateway"


@plant("the gateway, stores and sinks are not asked by claims", VERDICTS)
class KeepersForgotten(Allowed):
    def anywhere_but(self, says: tuple[Alternative, ...]) -> list[Version]:
        return [version for version in super().anywhere_but(says) if version.index >= 0]

    def maybe_where(self, says: tuple[Alternative, ...]) -> list[Version]:
        return [version for version in super().maybe_where(says) if version.index >= 0]


@plant("a claim of some is content with what may be so", VERDICTS)
class MaybeIsSome(Allowed):
    def surely_where(self, says: tuple[Alternative, ...]) -> int:
        def may(subject: Subject, test: LabelTest) -> bool:
            return (hits if test.attribute in COUNTRIES else meets)(subject, ((test,),))

        def maybe(subject: Subject) -> bool:
            return any(all(may(subject, test) for test in tests) for tests in says)

        return self.formula.some(version.used for version in self.deployments if maybe(version.subject))


# --- requests ---------------------------------------------------------------------------------------------------------------------


@plant("what is not known is left out: each fact has one value", VERDICTS)
class KnownOnly(Seen):
    def _fact(self, fact: str) -> list[int]:
        bits = super()._fact(fact)
        self._formula.at_most_one(bits)
        return bits


@plant("what is always there is forgotten where something is declared", PLACES)
class AlwaysForgotten(Space):
    def says(self, snapshot: Snapshot, key: Key, fact: str) -> Said:
        return replace(super().says(snapshot, key, fact), always=frozenset())


@plant("the default is taken for all that may be", PLACES, VERDICTS)
class DefaultOnly(Space):
    def says(self, snapshot: Snapshot, key: Key, fact: str) -> Said:
        return replace(super().says(snapshot, key, fact), within=None)


@plant("nobody is thought to leave a fact undeclared", PLACES, VERDICTS)
class AllDeclared(Seen):
    def _valid(self) -> int:
        return self._formula.every((super()._valid(), *self.space.declared.values()))


@plant("a key is thought to be as wide as its tenant", VERDICTS, PLACES)
class WideKeys(Space):
    def says(self, snapshot: Snapshot, key: Key, fact: str) -> Said:
        return super().says(snapshot, replace(key, facts={}), fact)


@plant("whatever name is asked for, all models serve it", PLACES, VERDICTS)
class AnyName(Seen):
    def asks_for(self, model: str) -> int:
        return TRUE


# --- time -------------------------------------------------------------------------------------------------------------------------


@plant("time stands still: a label that is good today is good", VERDICTS)
class Today(Prover):
    def moments_of(self, holders: Iterable[Any], last: float) -> tuple[float, ...]:
        return (self.at,)


@plant("an expired key is thought to ask", VERDICTS, REAL)
class ExpiredAsks(Prover):
    def _expire(self, now: list[int]) -> None: ...

    def _renew(self, claim: Any, instant: float) -> tuple[str, ...]:
        return ()  # it is asked as of that instant, at which there may be no such key


# --- claims -----------------------------------------------------------------------------------------------------------------------


@plant("never and always are taken for each other", VERDICTS)
class Swapped(Prover):
    def against(self, claim: Any) -> Against:
        return super().against(replace(claim, kind={"always": "never", "never": "always"}.get(claim.kind, claim.kind)))


@plant("a claim is about requests that surely are in its `for`", VERDICTS)
class SurelyFor(Prover):
    def about(self, claim: Any) -> int:
        return self.seen.must(claim.when)
