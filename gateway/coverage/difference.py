"""How a decision differs from the wanted one, as a diff: `-` what was wanted, `+` what came, for each thing that differs."""

from collections.abc import Iterable, Iterator

from gateway.config.cases import Case
from gateway.config.check import decide_case
from gateway.core.decide import Decision
from gateway.core.facts import FactError
from gateway.core.view import View


def difference(view: View, case: Case) -> tuple[str, ...]:
    """The lines of the diff; none if the case comes as wanted. `view` is of the instant at which the case is asked."""
    try:
        decision = decide_case(view, case.given)
    except FactError as error:
        if case.want.outside == error.fact:
            return ()
        return (*_wanted(case), f"+ outside: {error.fact} ({error})")
    return tuple(_differing(case, decision))


def _wanted(case: Case) -> Iterator[str]:
    """All that a case wants, a line each."""
    want = case.want
    if want.routes is not None:
        yield f"- routes: {_listed(want.routes)}"
    if want.refused is not None:
        yield f"- refused: {_listed(sorted(want.refused))}"
    if want.outside is not None:
        yield f"- outside: {want.outside}"
    for deployment, reasons in want.excluded.items():
        yield f"- excluded {deployment}: {_listed(sorted(reasons))}"


def _differing(case: Case, decision: Decision) -> Iterator[str]:
    want, routes = case.want, tuple(route.deployment.id for route in decision.routes)
    refused = frozenset() if routes else frozenset(decision.refusing_rules)
    came = f"+ routes: {_listed(routes)}" if routes else f"+ refused: {_listed(sorted(refused))}"
    if want.routes is not None and want.routes != routes:
        yield f"- routes: {_listed(want.routes)}"
        yield came
    if want.refused is not None and (routes or want.refused != refused):
        yield f"- refused: {_listed(sorted(want.refused))}"
        yield came
    if want.outside is not None:
        yield f"- outside: {want.outside}"
        yield came
    for deployment, reasons in want.excluded.items():
        got = frozenset(reason.word for reason in decision.exclusions.get(deployment, ()))
        if got != reasons or deployment in routes:
            yield f"- excluded {deployment}: {_listed(sorted(reasons))}"
            yield f"+ excluded {deployment}: " + ("no, it is a route" if deployment in routes else _listed(sorted(got)))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
