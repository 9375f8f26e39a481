"""The small world with limits: requests that are decided there, admitted by a limiter, attempted, and settled."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from small_world import NOW, snapshot

from gateway.core.answer import Problem
from gateway.core.budgets import Budget
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Ended, Needs, Outcome, Request, Tried
from gateway.core.facts import RequestFacts
from gateway.core.live import ALL_WELL, LiveState
from gateway.core.policy import Deployment, Group, Snapshot
from gateway.core.rates import Rates
from gateway.core.settlement import Settlement, settle
from gateway.core.unlimited import Unlimited
from gateway.core.usage import Usage
from gateway.core.view import View
from gateway.ports import Patience
from gateway.state.holding import AccountHold
from gateway.state.limits import AccountLimiter


@dataclass(frozen=True)
class Limited:
    """What one holder has."""

    rates: Rates | None = None
    budgets: tuple[Budget, ...] = ()


NOTHING = Limited()


def world(
    key: Limited = NOTHING,
    tenant: Limited = NOTHING,
    group: Limited = NOTHING,
    tags: Mapping[str, tuple[Budget, ...]] | None = None,
    endpoint: Mapping[str, dict[str, Any]] | None = None,
    model: Mapping[str, Rates] | None = None,
    tariff: Mapping[str, dict[str, Any]] | None = None,
) -> Snapshot:
    """The small world, where every key and every tenant, and the group `health`, has these; `endpoint` and `tariff` by endpoint."""
    found = snapshot()
    access = found.access
    keys = {name: replace(one, rates=key.rates, budgets=key.budgets) for name, one in access.keys.items()}
    tenants = {name: replace(one, rates=tenant.rates, budgets=tenant.budgets) for name, one in access.tenants.items()}
    groups = {} if group is NOTHING else {"health": Group("health", group.rates, group.budgets)}
    deployments = tuple(_limited(one, endpoint or {}, model or {}, tariff or {}) for one in found.policy.deployments)
    policy = replace(found.policy, deployments=deployments, tag_budgets=tags or {})
    return Snapshot(policy, replace(access, keys=keys, tenants=tenants, groups=groups))


def _limited(
    deployment: Deployment,
    endpoint: Mapping[str, dict[str, Any]],
    model: Mapping[str, Rates],
    tariff: Mapping[str, dict[str, Any]],
) -> Deployment:
    return replace(
        deployment,
        endpoint=replace(deployment.endpoint, **endpoint.get(deployment.endpoint.id, {})),
        model=replace(deployment.model, rates=model.get(deployment.model.id)),
        tariff=replace(deployment.tariff, **tariff.get(deployment.endpoint.id, {})),
    )


def asking(prompt: int = 10, output: int | None = 10, tag: str = "other", asked: str = "alpha", began: float = NOW) -> Request:
    """Of the key `ward` of the tenant `clinic`, in the group `health`; personal, of Germany."""
    nothing: frozenset[str] = frozenset()
    facts = RequestFacts(
        tenant=frozenset({"clinic"}),
        group=frozenset({"health"}),
        key=frozenset({"ward"}),
        region=frozenset({"DE"}),
        data_class=frozenset({"personal"}),
        categories=nothing,
        asked=frozenset({asked}),
        api=frozenset({"chat"}),
        task=frozenset({"other"}),
        tag=frozenset({tag}),
        language=frozenset({"en"}),
        ability=nothing,
        stream=frozenset({"false"}),
        prompt_tokens=prompt,
    )
    needs = Needs("chat", prompt_tokens=prompt, output_tokens=output)
    return Request("rg-1", "", "chat", asked, facts, needs, {}, 0, False, False, nothing, began)


class Desk:
    """Decides and limits under one snapshot, one request at a time or many at once."""

    def __init__(self, limiter: AccountLimiter, found: Snapshot) -> None:
        self.limiter = limiter
        self.view = View(found, NOW)

    def decided(self, asked: Request, now: float | None = None, state: LiveState = ALL_WELL) -> Decision:
        """The decision, with what limits take away."""
        return decide(self.view, asked.facts, asked.needs, self.limiter.live(asked, state, now or asked.began), 0)

    def hold(self, asked: Request, now: float | None = None) -> AccountHold | Unlimited:
        """What `asked` would hold, decided at `now`."""
        return self.limiter.hold(asked, self.decided(asked, now), Patience())

    def admitted(self, asked: Request, now: float | None = None) -> AccountHold:
        """A hold that has been admitted without asking anybody."""
        hold = self.hold(asked, now)
        assert isinstance(hold, AccountHold)
        assert hold.admit(now or asked.began) is None
        return hold

    def refused(self, asked: Request, now: float | None = None) -> Problem:
        """Why it was not admitted."""
        problem = self.hold(asked, now).admit(now or asked.began)
        assert isinstance(problem, Problem)
        return problem

    def settled(self, hold: AccountHold, asked: Request, *tried: Tried, now: float = NOW) -> Settlement:
        """The settlement of an exchange that was tried so; the hold has settled by it."""
        found = settle(asked, self.decided(asked, now), tried, 200, "", now, hold.books)
        hold.settle(found, now)
        return found

    def tried(self, name: str, tokens: int = 0, number: int = 1, **outcome: Any) -> Tried:
        """An attempt at deployment `name` that was served, half of `tokens` each way, unless `outcome` says something else."""
        usage = Usage(uncached=tokens - tokens // 2, output=tokens // 2, reported=True) if tokens else None
        ended = Outcome(**{"ended": Ended.SERVED, "usage": usage, **outcome})
        return Tried(self.attempt(name, number), ended, NOW, NOW)

    def attempt(self, name: str, number: int = 1) -> Attempt:
        """An attempt at deployment `name`."""
        return Attempt(number, self.view.deployments[self.view.indices[name]])
