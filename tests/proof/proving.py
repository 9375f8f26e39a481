"""What a proof promises, as sentences of a prover: each takes one and a world, fails by assertion, and says whether it bit."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from claimed import asked_at, claimed, false_at, goes_against, requests, snapshot
from oracle import allowed, kept
from strategies import Choose, thrown
from worlds import NOW, World, request_facts

from gateway.core.masks import bits
from gateway.core.view import View
from gateway.proof.claims import Prover
from gateway.proof.formula import Formula, GaveUp, Model
from gateway.proof.solver import Z3
from gateway.proof.space import Space
from gateway.proof.verdict import Status, Verdict

Check = Callable[[type[Prover], World], bool]
REQUESTS = 12  # of each world, compared one by one


@dataclass(frozen=True)
class Sentence:
    """One promise. `bites_min` is the share of worlds, at the least, that must have something to bite on.

    `worlds` are as many as it takes to find the rarest fault that is planted for it, and some more.
    """

    text: str
    check: Check
    bites_min: float
    worlds: int


SENTENCES: dict[str, Sentence] = {}


def say(text: str, bites_min: float, worlds: int) -> Callable[[Check], Check]:
    """Make a sentence of a check."""

    def keep(check: Check) -> Check:
        SENTENCES[text] = Sentence(text, check, bites_min, worlds)
        return check

    return keep


def worlds(choose: Choose) -> World:
    """A world, and which of its requests to look at; and room to remember what they say of its claims."""
    return claimed(choose) | {"seed": choose(range(100)), "false": {}}


@cache
def thrown_once(seed: int) -> World:
    """The same world for all provers that are judged by it: to try every request takes longer than to prove."""
    return thrown(worlds, seed)


def throw(sentence: Sentence, kind: type[Prover], cases: int) -> float:
    """The share of worlds that bit. Raises the failure of the first that fails, with its seed."""
    bites = 0
    for seed in range(cases):
        world = thrown_once(seed)
        try:
            bites += sentence.check(kind, world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{world}") from error
    return bites / cases


# --- one request, fixed ---------------------------------------------------------------------------------------------------------


def fixed(space: Space, sent: World) -> list[int]:
    """The literals that make one request of all."""
    literals = [space.keys[sent["key"]], space.names[sent["asked"]]]
    for fact, declared in space.declared.items():
        values = sent["declared"].get(fact)
        literals.append(declared if values is not None else -declared)
        for members, literal in zip(space.classes[fact], space.among[fact], strict=True):
            literals.append(literal if members & (values or set()) else -literal)
    return literals


@say("where the formula says that a request may go is where engine and specification say so", 0.5, 70)
def same_places(kind: type[Prover], world: World) -> bool:
    made = snapshot(world)
    prover, dice, found = kind(made, NOW, Unasked), random.Random(world["seed"]), False
    solver = Z3(prover.formula)
    for number, now in enumerate(prover.moments):
        view = View(made, now)
        known = [one for one in requests(world, now) if one[0]["asked"] in prover.space.names]
        for sent, facts in dice.sample(known, min(REQUESTS, len(known))):
            model: Model | None = solver.solve([*fixed(prover.space, sent), prover.allowed.during(number, number + 1)])
            assert model is not None, f"{sent} can't be sent"
            deployments = {v.subject.name for v in prover.allowed.deployments if model(v.used)}
            keepers = {v.subject.name for v in prover.allowed.keepers if model(v.used)}
            engine = view.eligible(request_facts(facts))
            assert deployments == allowed(world, facts, now), f"{sent} at {now}: not what the specification says"
            assert deployments == {view.subjects[index].name for index in bits(engine.mask)}, f"{sent} at {now}: not the engine's"
            here = kept(world, facts, now)
            assert keepers == (here if here >= {"gateway", *world["sinks"]} else set()), f"{sent} at {now}: kept elsewhere"
            found |= bool(deployments)
    return found


def false_by(world: World, claim: World, moment: float) -> bool:
    """Whether some request goes against a claim then, remembered."""
    asked = claim["id"], moment
    if asked not in world["false"]:
        world["false"][asked] = false_at(world, claim, moment)
    return bool(world["false"][asked])


@say("a claim is proved if and only if none of all requests goes against it, and lapses when the first does", 0.6, 140)
def same_verdict(kind: type[Prover], world: World) -> bool:
    made = snapshot(world)
    prover = kind(made, NOW, Z3)
    every = Prover(made, NOW, Unasked).moments  # of which a faulty prover may not know
    for claim, compiled in zip(world["claims"], prover.snapshot.policy.claims, strict=True):
        verdict = prover.verdict(compiled)
        first = next((moment for moment in every if false_by(world, claim, moment)), None)
        if first is None:
            wanted = Status.PROVED if asked_at(world, claim, NOW) else Status.EMPTY
        else:
            wanted = Status.FALSE if first == NOW else Status.LAPSES
        assert verdict.status is wanted, f"{claim['id']}: {verdict.status}, wanted {wanted}; {verdict.because}"
        assert verdict.lapses == (first if wanted is Status.LAPSES else None)
    return any(asked_at(world, claim, NOW) for claim in world["claims"])


@say("a counterexample is a request that some key can make, and goes against the claim", 0.3, 110)
def real_counterexamples(kind: type[Prover], world: World) -> bool:
    prover, found = kind(snapshot(world), NOW, Z3), False
    for claim, compiled in zip(world["claims"], prover.snapshot.policy.claims, strict=True):
        verdict = prover.verdict(compiled)
        if verdict.counterexample is None:
            continue
        sent = dict(verdict.counterexample.question)
        now = NOW if verdict.counterexample.at is None else verdict.counterexample.at
        declared = {fact: set([sent[fact]] if isinstance(sent[fact], str) else sent[fact]) for fact in sent if fact in _DECLARED}
        same = [
            facts
            for one, facts in requests(world, now)
            if (one["key"], one["asked"], one["declared"]) == (sent["key"], sent["asked"], declared)
        ]
        assert same, f"{claim['id']}: no key can ask {sent}"
        assert goes_against(world, claim, same[0], now), f"{claim['id']}: {sent} does not go against it"
        found = True
    return found


_DECLARED = frozenset({"region", "data_class", "categories"})


# --- solvers that do not answer -------------------------------------------------------------------------------------------------


@dataclass
class Unasked:
    """Of a prover of which only what it encodes is looked at: one of z3's takes 4 ms to make."""

    formula: Formula

    def solve(self, assuming: Iterable[int]) -> Model | None:
        raise AssertionError("nobody was to be asked")


class GivesUp:
    """Makes solvers that together answer so many questions and give up on the next: for good, or that `once`."""

    def __init__(self, answers: int, *, once: bool = False) -> None:
        self.left = answers
        self.once = once

    def __call__(self, formula: Formula) -> "Counted":
        return Counted(Z3(formula), self)


@dataclass
class Counted:
    """A solver of one formula that asks first whether it still may."""

    solver: Z3
    by: GivesUp

    def solve(self, assuming: Iterable[int]) -> Model | None:
        left, self.by.left = self.by.left, self.by.left - 1
        if left == 0 or (left < 0 and not self.by.once):
            raise GaveUp("it was told to")
        return self.solver.solve(assuming)


def verdicts(of: World, kind: type[Prover] = Prover) -> list[Verdict]:
    """The verdicts on all claims of a world."""
    prover = kind(snapshot(of), NOW, Z3)
    return [prover.verdict(claim) for claim in prover.snapshot.policy.claims]
