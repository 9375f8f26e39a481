"""Each claim of a snapshot, proved for all requests from an instant until its day, or answered with a request that goes against it.

One formula serves all claims: each asks whether a request is in its `for` and something goes against it, and "no" is the proof.
Promise: no counterexample is told that the engine does not confirm.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gateway.config.reading import last_day
from gateway.core.policy import Claim, Snapshot
from gateway.proof.allowed import Allowed, Holder, Version, moments
from gateway.proof.counterexample import Disagreement, Found, told
from gateway.proof.formula import Formula, GaveUp, MakeSolver
from gateway.proof.plain import plain, simplest
from gateway.proof.renewal import ended_at, renewed
from gateway.proof.space import Seen, Space
from gateway.proof.verdict import Counterexample, Status, Verdict

DAY_S: Final = 86_400
DAYS: Final = 30  # for which a claim is proved that names no day
RENEWALS_MAX: Final = 16  # labels looked for one by one; whoever has to renew more renews all that end that day


def horizon(claim: Claim, at: float) -> float:
    """The instant (UTC seconds, exclusive) until which `claim` is to be proved at `at`: 30 days from the end of that day on."""
    return (at // DAY_S + 1 + DAYS) * DAY_S if claim.until is None else claim.until


def prove(snapshot: Snapshot, at: float, make_solver: MakeSolver) -> tuple[Verdict, ...]:
    """A verdict on each claim of `snapshot` as of `at` (UTC seconds), in the order of the claims."""
    if not snapshot.policy.claims:
        return ()
    prover = Prover(snapshot, at, make_solver)
    return tuple(prover.verdict(claim) for claim in snapshot.policy.claims)


@dataclass(frozen=True, slots=True)
class Against:
    """What goes against a claim: a literal, and for `never` and `always` the versions of places of which any is too many."""

    literal: int
    witnesses: tuple[Version, ...] = ()


class Prover:
    """Answers what is asked of one snapshot. `claims` are those to be asked about; all, where they are not given."""

    space_by: type[Space] = Space
    seen_by: type[Seen] = Seen
    allowed_by: type[Allowed] = Allowed
    """The parts of the encoding, so that a test can plant a fault in one."""

    def __init__(self, snapshot: Snapshot, at: float, make_solver: MakeSolver, claims: Iterable[Claim] | None = None) -> None:
        self.snapshot = snapshot
        self.at = at
        self._make_solver = make_solver
        policy = snapshot.policy
        claims = policy.claims if claims is None else tuple(claims)
        last = max((horizon(claim, at) for claim in claims), default=at)
        self.formula = Formula()
        holders: tuple[Holder, ...] = (policy.gateway, *policy.stores, *policy.sinks, *policy.deployments)
        self.moments = self.moments_of(holders, last)
        now = self.formula.one_of(len(self.moments))
        whens = [rule.when for rule in policy.rules] + [claim.when for claim in claims]
        self.space = self.space_by(self.formula, (snapshot,), at, whens)
        self.seen = self.seen_by(self.space, 0)
        self.formula.demand(self.seen.valid)
        self.allowed = self.allowed_by(self.seen, self.formula, self.moments, now)
        self._expire(now)
        self._solver = make_solver(self.formula)

    def moments_of(self, holders: tuple[Holder, ...], last: float) -> tuple[float, ...]:
        """The instants (UTC seconds) at which views differ, `last` exclusive."""
        return moments(holders, self.at, last)

    def _expire(self, now: list[int]) -> None:
        """Nobody asks with a key that has expired."""
        for name, literal in self.space.keys.items():
            expires = None if self.space.empty else self.snapshot.access.keys[name].expires
            for moment, is_now in zip(self.moments, now, strict=True):
                if expires is not None and moment >= expires:
                    self.formula.demand(-literal, -is_now)

    # --- one claim -------------------------------------------------------------------------------------------------------

    def verdict(self, claim: Claim) -> Verdict:
        """How `claim` stands."""
        until = horizon(claim, self.at)
        try:
            return self._verdict(claim, until)
        except GaveUp as error:
            why = f"the solver gave up on it ({error}); {split(claim, self.snapshot)}"
        except Disagreement as error:
            why = f"solver and engine disagree, which is a defect of the gateway's and none of the policy's: {error}"
        return Verdict(claim.id, Status.UNDECIDED, until, because=why)

    def _verdict(self, claim: Claim, until: float) -> Verdict:
        if until <= self.at:
            why = f"the last day for which it is claimed, {last_day(until)}, is over: claim it for longer, or remove it"
            return Verdict(claim.id, Status.EMPTY, until, because=why)
        count = sum(moment < until for moment in self.moments)
        about = self.about(claim)
        against = self.against(claim)
        if self._solver.solve((about, against.literal, self.allowed.during(0, count))) is None:
            if self._solver.solve((about, self.allowed.during(0, count))) is None:
                why = "no request that any key can make is in its `for`: it says nothing"
                return Verdict(claim.id, Status.EMPTY, until, because=why)
            return Verdict(claim.id, Status.PROVED, until)
        moment = self._earliest((about, against.literal), count)
        found = self._counterexample(claim, about, against, moment)
        if moment == 0:
            return Verdict(claim.id, Status.FALSE, until, counterexample=found)
        instant = self.moments[moment]
        return Verdict(claim.id, Status.LAPSES, until, lapses=instant, renew=self._renew(claim, instant), counterexample=found)

    def about(self, claim: Claim) -> int:
        """A literal: the request may be in the `for` of `claim`. What is not known counts, here as in rules."""
        return self.seen.may(claim.when)

    def against(self, claim: Claim) -> Against:
        """What goes against `claim` in one request."""
        if claim.kind == "some":
            return Against(-self.allowed.surely_where(claim.says))
        where = self.allowed.anywhere_but if claim.kind == "always" else self.allowed.maybe_where
        witnesses = tuple(where(claim.says))
        return Against(self.formula.some(version.used for version in witnesses), witnesses)

    def _earliest(self, wanted: tuple[int, ...], count: int) -> int:
        """The first moment in which everything `wanted` can be true; it can be in one of the first `count`."""
        low, high = 0, count - 1  # it is one of these
        while low < high:
            middle = (low + high) // 2
            if self._solver.solve((*wanted, self.allowed.during(low, middle + 1))) is None:
                low = middle + 1
            else:
                high = middle
        return low

    # --- a request that goes against it ----------------------------------------------------------------------------------

    def example(self, claim: Claim, moment: int = 0) -> Found | None:
        """A request in the `for` of `claim` that goes against it in that moment; None if there is none. Raises GaveUp."""
        about, against = self.about(claim), self.against(claim)
        if self._solver.solve((about, against.literal, self.allowed.during(moment, moment + 1))) is None:
            return None
        return self._find(about, against, moment)

    def _find(self, about: int, against: Against, moment: int) -> Found:
        wanted = [about, against.literal, self.allowed.during(moment, moment + 1)]
        model = simplest(self._solver, wanted, self._witnessed(against))
        witness = next((version for version in against.witnesses if model(version.used)), None)
        if witness is not None:
            wanted.append(witness.used)
        model = simplest(self._solver, wanted, [self.allowed.routed, *plain(self.space)])
        sending = self.space.sending(model)
        if witness is not None and witness.index >= 0:  # by an API that it has, so that the example is a request that gets there
            sending = replace(sending, api=self.space.alike(sending.api, witness.subject.apis))
        return Found(sending, self.moments[moment], witness.subject if witness else None)

    def _counterexample(self, claim: Claim, about: int, against: Against, moment: int) -> Counterexample:
        found = self._find(about, against, moment)
        return told(self.snapshot, claim, found, None if moment == 0 else found.at)

    def _witnessed(self, against: Against) -> list[int]:
        """Wishes for the witness: a deployment that chat requests reach; or at least that the request has a route at all."""
        chat = [version.used for version in against.witnesses if version.index >= 0 and "chat" in version.subject.apis]
        return [self.formula.some(chat), self.space.apis.get("chat", -1), self.allowed.routed]

    def _renew(self, claim: Claim, instant: float) -> tuple[str, ...]:
        """The labels that end at `instant` and whose renewal keeps `claim` true then."""
        ending = ended_at(self.snapshot, instant)
        needed: list[str] = []
        for _ in range(RENEWALS_MAX):
            rest = [label for label in ending if label not in needed]
            found = type(self)(renewed(self.snapshot, instant, needed), instant, self._make_solver, (claim,)).example(claim)
            if found is None or not rest:
                break
            alone = [label for label in rest if self._mends(claim, found, instant, [*needed, label])]
            needed += alone[:1] or rest
        return tuple(ending[label] for label in needed)

    def _mends(self, claim: Claim, found: Found, instant: float, labels: list[str]) -> bool:
        """Whether with `labels` renewed this one request no longer goes against `claim`."""
        return not found.goes_against(renewed(self.snapshot, instant, labels), claim)


def split(claim: Claim, snapshot: Snapshot) -> str:
    """How a claim that is too hard could be asked in parts that say the same together."""
    said = {test.fact for test in claim.when}
    if "tenant" not in said and len(snapshot.access.tenants) > 1:
        tenants = ", ".join(snapshot.access.tenants)
        return f"split it into one claim for each tenant, `for: {{tenant: …}}` ({tenants})"
    several = next((test for test in claim.when if len(test.values) > 1), None)
    if several is not None:
        return f"split it into one claim for each value of `{several.fact}` in its `for`"
    if len(claim.says) > 1 and claim.kind == "never":
        return f"split it into one claim for each of its {len(claim.says)} alternatives"
    return "split it into claims with a narrower `for`, which say the same together"
