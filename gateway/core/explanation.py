"""Everything there is to say about a decision, as a frozen tree of plain data. Nothing in it is content, a secret or a vendor's.

It is worked out when somebody asks, from the decision alone (and how many workers share its limits): the same decision gives the
same tree, to the byte.
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.core.caching import Keeping, keeping, spot_of
from gateway.core.course import Course, course
from gateway.core.decide import Decision
from gateway.core.estimate import Estimate, estimate
from gateway.core.facts import FINDINGS, RequestFacts
from gateway.core.failover import reachable
from gateway.core.labelled import Label, day_and_time, labels
from gateway.core.limiting import Limiting, limiting
from gateway.core.masks import bits
from gateway.core.policy import Caching, Rule, When
from gateway.core.rank import output_expected, rank
from gateway.core.side import Side, side
from gateway.core.standing import Standing, ranked_on, standings
from gateway.core.terms import EMBEDDINGS, Because
from gateway.core.view import View
from gateway.core.wording import Wording

NEAR_MAX: Final = 3  # permits told for one deployment that lacks one: the nearest teach, a list of all does not


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: its possible values, and the same in words. `known` False: it counts as each of its values."""

    name: str
    values: tuple[str, ...]
    words: str
    known: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A rule that applies, in words."""

    id: str
    effect: str
    when: str
    says: str
    because: str
    line: str


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason against one deployment, with the rule's own words where a rule is the reason."""

    kind: str
    word: str
    detail: str
    because: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Considered:
    """One deployment: a route (then `route` and `tier` count from 1) or an exclusion with every reason.

    `attempt` is the earliest at which it can be called, None for never. `standing` is what each preference made of a route, and
    `equals` are the other routes of its tier, among which the draw decides. `nearest` are permits that almost cover it. `warm` are
    tokens of the prompt that it read a short while ago.
    """

    deployment: str
    endpoint: str
    provider: str
    model: str
    route: int | None
    tier: int | None
    attempt: int | None
    standing: tuple[Standing, ...]
    equals: tuple[str, ...]
    estimate: Estimate
    labels: tuple[Label, ...]
    reasons: tuple[Obstacle, ...]
    nearest: tuple[str, ...]
    warm: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """The gateway, a store or a sink: whether such content may be processed or kept there, and the rules against it."""

    name: str
    kind: str
    allowed: bool
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """How the answer may be kept, and who is given it: all of `scope` who ask the same, for `ttl_s`.

    `least` are cosines, by the model that makes the answer: who asks something so like it is given it too, as `compared_by` says, a
    model that may be called at `compared_at`. `entries` of the policy apply, `store` is where it is kept ("": beside the gateway).
    `barred`: not at all, since the labels of the store do not meet `rules`. Where no entry applies, `missing` says of each why not.
    """

    barred: bool = False
    entries: tuple[str, ...] = ()
    store: str = ""
    rules: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    scope: str = ""
    ttl_s: int = 0
    compared_by: str = ""
    compared_at: tuple[str, ...] = ()
    least: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, told. `failover` is the order in which routes are tried if each fails by itself; `course` is all that can happen.

    `ranked_on` are the tokens in and out on which prices were compared. `side` is what of our own may touch the content.
    How far `limits` can be overshot depends on how many `workers` share them.
    """

    verdict: str
    policy: str
    instant: str
    valid_until: str
    draw: int
    facts: tuple[Fact, ...]
    prompt_tokens: int
    output_tokens: int
    inspected: str
    needs: tuple[str, ...]
    permits: tuple[Line, ...]
    restrictions: tuple[Line, ...]
    preferences: tuple[str, ...]
    ranked_on: tuple[int, int]
    limits: tuple[Limiting, ...]
    workers: int
    keepers: tuple[Kept, ...]
    side: Side
    answers: Answers | None  # None: no policy has them kept
    deployments: tuple[Considered, ...]
    attempts_max: int
    failover: tuple[str, ...]
    reachable: tuple[str, ...]
    course: Course

    @property
    def routes(self) -> tuple[Considered, ...]:
        """The routes, in order."""
        return tuple(sorted((d for d in self.deployments if d.route is not None), key=lambda d: d.route or 0))

    @property
    def exclusions(self) -> tuple[Considered, ...]:
        """What is no route, in the order of the catalogue."""
        return tuple(d for d in self.deployments if d.route is None)


def explain(decision: Decision, workers: int = 1) -> Explanation:
    """`decision`, told, as of a gateway of so many `workers`."""
    view, eligibility, needs = decision.view, decision.eligibility, decision.needs
    policy = view.snapshot.policy
    wording = Wording(policy.vocabulary)
    attempts_max = policy.bounds.attempts_max
    reach = reachable(decision, attempts_max)
    wants = [needs.api, *sorted(needs.abilities), *(f"tool {tool}" for tool in sorted(needs.tools))]
    if needs.remote_content:
        wants.append("remote_content")
    return Explanation(
        verdict=decision.verdict.value,
        policy=view.snapshot.policy.hash,
        instant=day_and_time(view.instant),
        valid_until=day_and_time(view.valid_until),
        draw=decision.draw,
        facts=_facts(decision.facts, wording),
        prompt_tokens=needs.prompt_tokens,
        output_tokens=output_expected(needs),
        inspected=decision.facts.inspected,
        needs=tuple(wants),
        permits=tuple(_line(row.rule, wording) for row in view.permits if row.rule.id in eligibility.permits),
        restrictions=tuple(_line(row.rule, wording) for row in eligibility.against),
        preferences=tuple(policy.preferences[line].id for line in bits(view.preferences(view.applying(decision.facts)))),
        ranked_on=ranked_on(decision),
        limits=limiting(decision, workers),
        workers=workers,
        keepers=_keepers(decision),
        side=side(decision),
        answers=_answers(decision, wording) if decision.routes else None,
        deployments=_deployments(decision, reach, wording),
        attempts_max=attempts_max,
        failover=tuple(route.deployment.id for route in decision.routes[:attempts_max]),
        reachable=tuple(reach),
        course=course(decision, attempts_max),
    )


def _facts(facts: RequestFacts, wording: Wording) -> tuple[Fact, ...]:
    found = []
    for name, value in facts.as_record().items():
        if isinstance(value, list):
            known = name in FINDINGS or len(value) == 1
            found.append(Fact(name, tuple(value), wording.fact(name, frozenset(value)), known))
    return tuple(found)


def _line(rule: Rule, wording: Wording) -> Line:
    return Line(rule.id, rule.effect.value, _when(rule.when, wording), wording.says(rule), rule.because, rule.line)


def _when(when: When, wording: Wording) -> str:
    return " and ".join(wording.test(test) for test in when) or "always"


def _keepers(decision: Decision) -> tuple[Kept, ...]:
    against: dict[str, list[str]] = {}
    for row in decision.eligibility.against:
        for name in row.keepers:
            against.setdefault(name, []).append(row.rule.id)
    subjects = (decision.view.gateway, *decision.view.keepers)
    return tuple(Kept(s.name, s.kind, s.name not in against, tuple(against.get(s.name, ()))) for s in subjects)


def _answers(decision: Decision, wording: Wording) -> Answers | None:
    view, how = decision.view, keeping(decision, decision.needs.api)
    policy = view.snapshot.policy
    if not policy.caching:
        return None
    if how is None:
        return Answers(missing=tuple(f"`{entry.id}` {_missing(entry, decision, wording)}" for entry in policy.caching))
    applying = (policy.caching[line] for line in bits(view.caching(decision.facts)))
    entries = tuple(f"{entry.id} [{entry.line}]" for entry in applying if decision.needs.api in entry.apis)
    spot = spot_of(policy)
    store = "" if spot is None else spot[0]
    if not isinstance(how, Keeping):
        rules = tuple(row.rule.id for row in decision.eligibility.against if store in row.keepers)
        return Answers(barred=True, entries=entries, store=store, rules=rules)
    kept = Answers(entries=entries, store=store, scope=how.scope, ttl_s=how.ttl_s)
    semantic = how.semantic
    if semantic is None:
        return kept
    places = (call.deployment for call in side(decision).calls if EMBEDDINGS in call.apis)
    there = tuple(name for name in places if view.deployments[view.indices[name]].model.id == semantic.model)
    return replace(kept, compared_by=semantic.model, compared_at=there, least=tuple(sorted(semantic.thresholds.items())))


def _missing(entry: Caching, decision: Decision, wording: Wording) -> str:
    """Why an entry does not have such answers kept."""
    if decision.needs.api not in entry.apis:
        return f"keeps {', '.join(sorted(entry.apis))}, and not {decision.needs.api}"
    short = [test for test in entry.when if not test.must_hold(decision.facts)]
    if not short:
        return "applies, and it is not known which tenant asks"
    found = ", ".join(f"{test.fact} is {_value(test.fact, decision.facts, wording)}" for test in short)
    return f"asks for {' and '.join(wording.test(test) for test in short)}; {found}"


def _deployments(decision: Decision, reach: dict[str, int], wording: Wording) -> tuple[Considered, ...]:
    view, needs = decision.view, decision.needs
    places = {route.index: number for number, route in enumerate(decision.routes, start=1)}
    preferences = view.preferences(view.applying(decision.facts))
    order = rank(view, decision.fitting, decision.fitting, preferences, needs, decision.live)
    tiers = {index: number for number, tier in enumerate(order.tiers, start=1) for index in tier}
    standing = standings(decision)
    rules = {row.rule.id: row.rule for row in (*view.permits, *view.restrictions)}
    found = []
    for index, deployment in enumerate(view.deployments):
        obstacles = []
        for reason in decision.exclusions.get(deployment.id, ()):
            rule = rules.get(reason.word.removeprefix("gateway: ")) if reason.kind in (Because.RULE, Because.GATEWAY) else None
            told = (rule.because, rule.line) if rule is not None else ("", "")
            obstacles.append(Obstacle(reason.kind.value, reason.word, reason.detail, *told))
        unpermitted = any(obstacle.kind == Because.NO_PERMIT for obstacle in obstacles)
        found.append(
            Considered(
                deployment=deployment.id,
                endpoint=deployment.endpoint.id,
                provider=deployment.endpoint.provider,
                model=deployment.model.id,
                route=places.get(index),
                tier=tiers.get(index) if index in places else None,
                attempt=reach.get(deployment.id),
                standing=standing.get(index, ()),
                equals=_equals(view, index, places, tiers) if index in places else (),
                estimate=estimate(deployment, needs.prompt_tokens, output_expected(needs)),
                labels=labels(deployment, view.instant, wording),
                reasons=tuple(obstacles),
                nearest=_nearest(view, index, decision.facts, wording) if unpermitted else (),
                warm=decision.live.warm.get(deployment.id, 0),
            )
        )
    return tuple(found)


def _equals(view: View, index: int, places: dict[int, int], tiers: dict[int, int]) -> tuple[str, ...]:
    return tuple(view.deployments[other].id for other in places if other != index and tiers[other] == tiers[index])


def _nearest(view: View, index: int, facts: RequestFacts, wording: Wording) -> tuple[str, ...]:
    """The permits that fail on one side only: they cover the deployment and not the request, or the other way round."""
    near = []
    for row in view.permits:
        short = [test for test in row.rule.when if not test.must_hold(facts)]
        if row.spared >> index & 1:
            tests = " and ".join(wording.test(test) for test in short)
            found = ", ".join(f"{t.fact} is {_value(t.fact, facts, wording)}" for t in short)
            near.append((len(short), row.rule.id, f"`{row.rule.id}` asks for {tests}; {found}"))
        elif not short:
            near.append((1, row.rule.id, f"`{row.rule.id}`: {wording.verdict(row.rule, view.subjects[index])}"))
    return tuple(text for _, _, text in sorted(near)[:NEAR_MAX])


def _value(fact: str, facts: RequestFacts, wording: Wording) -> str:
    value = getattr(facts, fact)
    return str(value) if isinstance(value, int) else wording.fact(fact, value)
