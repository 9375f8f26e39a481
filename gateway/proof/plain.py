"""Of all requests that are an example of something, one that people understand at a glance."""

from collections.abc import Iterable

from gateway.proof.formula import Model, Solver
from gateway.proof.space import Space


def plain(space: Space) -> list[int]:
    """Wishes for such a request, the most wanted first: nothing unusual, and little declared."""
    wishes = [next(iter(choice.values())) for choice in (space.apis, space.streams, space.lengths)]
    wishes += [-declared for declared in space.declared.values()]
    wishes += [space.formula.every(space.among.get("language", ()))]
    return wishes + [-literal for fact, literals in space.among.items() if fact != "language" for literal in literals]


def simplest(solver: Solver, wanted: Iterable[int], wishes: Iterable[int]) -> Model:
    """A way to make everything `wanted` true, with each wish that can be granted beside those before it. Raises GaveUp.

    Asked only where there is a way.
    """
    wanted = list(wanted)
    model = solver.solve(wanted)
    assert model is not None, "asked for an example where there is none"
    granted: list[int] = []
    for wish in wishes:
        if not model(wish):
            better = solver.solve((*wanted, *granted, wish))
            if better is None:
                continue
            model = better
        granted.append(wish)
    return model
