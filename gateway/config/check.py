"""Runs cases against a snapshot: each asks the real decision and nothing else, and says what was wanted and what came."""

from dataclasses import dataclass
from typing import Final

from gateway.config.cases import Case, Given
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Needs
from gateway.core.facts import DECLARABLE, NO, NOTHING_SAID, YES, FactError, RequestFacts, group_of, said_of, settle
from gateway.core.live import ALL_WELL
from gateway.core.policy import Snapshot, resolve
from gateway.core.view import View


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case and what differs: lines for people, `wanted` and `got`; none if it came as wanted."""

    case: Case
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differences

    def as_record(self) -> dict[str, object]:
        """The result as JSON can hold it."""
        return {"note": self.case.note, "line": self.case.line, "passed": self.passed, "differences": list(self.differences)}


def run_cases(snapshot: Snapshot, cases: tuple[Case, ...], at: float) -> list[CaseResult]:
    """Each case as of its own `at`, or as of `at` (UTC seconds)."""
    views: dict[float, View] = {}
    results = []
    for case in cases:
        instant = at if case.given.at is None else case.given.at
        if instant not in views:
            views[instant] = View(snapshot, instant)
        results.append(CaseResult(case, tuple(_differences(views[instant], case))))
    return results


def facts_of(snapshot: Snapshot, given: Given) -> RequestFacts:
    """The facts of a request, as the data plane would settle them. Raises FactError for what may not be declared."""
    policy, access = snapshot.policy, snapshot.access
    tenant = access.tenants[given.tenant]
    if given.key is not None:
        shown = frozenset((given.key,))
    else:
        shown = frozenset(key.id for key in access.keys.values() if key.tenant == tenant.id)
    only = access.keys[next(iter(shown))] if len(shown) == 1 else None  # of several keys, only what their tenant says is known
    settled = {}
    for fact in DECLARABLE:
        own = NOTHING_SAID if only is None else only.facts.get(fact, NOTHING_SAID)
        said = said_of(fact, tenant.facts, policy.vocabulary)
        settled[fact] = settle(fact, said, own, given.declared.get(fact), policy.vocabulary)
    name = resolve(policy, given.asked)
    return RequestFacts(
        tenant=frozenset((tenant.id,)),
        group=group_of(tenant.group),
        key=shown,
        region=settled["region"],
        data_class=settled["data_class"],
        categories=settled["categories"],
        asked=frozenset((name.asked,)) if name else frozenset(),
        api=frozenset((given.api,)),
        task=settled["task"],
        tag=settled["tag"],
        language=given.language or policy.vocabulary.languages,
        ability=given.abilities,
        stream=YES if given.stream else NO,
        prompt_tokens=given.prompt_tokens,
    )


DRAW: Final = 0  # equals in the order of their ids: a case that should not hang on it gives them no equals


def decide_case(view: View, given: Given) -> Decision:
    """The decision on what is given, all being well. Raises FactError."""
    needs = Needs(
        api=given.api,
        abilities=given.abilities,
        tools=given.tools,
        prompt_tokens=given.prompt_tokens,
        output_tokens=given.output_tokens,
        remote_content=given.remote_content,
    )
    return decide(view, facts_of(view.snapshot, given), needs, ALL_WELL, DRAW)


def _differences(view: View, case: Case) -> list[str]:
    want = case.want
    try:
        decision = decide_case(view, case.given)
    except FactError as error:
        if want.outside == error.fact:
            return []
        return [
            f"wanted a decision, got: {error}" if want.outside is None else f"wanted `{want.outside}` to lie outside, got: {error}"
        ]
    routes = tuple(route.deployment.id for route in decision.routes)
    found = []
    if want.outside is not None:
        found.append(f"wanted `{want.outside}` to lie outside what may be declared, got routes: {_list(routes)}")
    if want.routes is not None and want.routes != routes:
        found.append(f"wanted routes: {_list(want.routes)}; got: {_list(routes)}")
    if want.refused is not None and routes:
        found.append(f"wanted a refusal ({_list(sorted(want.refused))}); got routes: {_list(routes)}")
    elif want.refused is not None and want.refused != set(decision.refusing_rules):
        found.append(f"wanted refused: {_list(sorted(want.refused))}; got: {_list(sorted(decision.refusing_rules))}")
    for deployment, reasons in want.excluded.items():
        if deployment in routes:
            found.append(f"wanted {deployment} excluded ({_list(sorted(reasons))}); it is a route")
        else:
            got = {reason.word for reason in decision.exclusions[deployment]}
            if got != reasons:
                found.append(f"wanted {deployment} excluded: {_list(sorted(reasons))}; got: {_list(sorted(got))}")
    return found


def _list(words: tuple[str, ...] | list[str]) -> str:
    return ", ".join(words) or "none"
