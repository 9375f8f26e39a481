"""Which accounts a policy's limits are kept in: whose rates, budgets and quotas an exchange counts toward, and what each says.

One spelling of account ids, for whoever keeps count, recovers the books, or explains:

    rate/KIND/NAME/requests, …/tokens, …/concurrency      KIND: key, tenant, group, endpoint, model
    budget/KIND/NAME/usd-month, …/tokens-7d               KIND: key, tenant, group, tag
    quota/CREDENTIAL/5h                                   a digest of where the credential is found, so that no path is told
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from math import ceil
from types import MappingProxyType
from typing import Final

from gateway.core.accounts import Book, Bucket, Slots, Terms
from gateway.core.budgets import MONEY, Budget
from gateway.core.charging import MICRO, WHOLE_TICKET, Unit
from gateway.core.policy import Access, Deployment, Group, Key, Policy, Snapshot, Tenant
from gateway.core.pricing import Peak, Plan
from gateway.core.rates import Rate, Rates

CREDENTIAL_CHARS: Final = 12  # of the digest: enough for the few credentials of one catalogue
SPANS: Final = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day", 604_800: "week"}
UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of one holder. `whose` names the holder, and `says` the limit: the tenant `lab`, 600 requests per minute.

    Of a quota `weights` are what one attempt takes, in thousandths of a request, by deployment; `at_peak` in the peak hours.
    """

    terms: Terms
    unit: Unit
    whose: str
    says: str
    budget: Budget | None = None
    weights: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    at_peak: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    peak: Peak | None = None


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What binds the requests of one key: its own limits, its tenant's, its group's."""

    rates: tuple[Limit, ...] = ()
    budgets: tuple[Limit, ...] = ()


def of_caller(access: Access, key: str) -> CallerLimits:
    """What binds the requests of `key`, the key's own first."""
    found = access.keys[key]
    tenant = access.tenants[found.tenant]
    group = access.groups.get(tenant.group or "")
    rates = [*rates_of("key", found.id, found.rates), *rates_of("tenant", tenant.id, tenant.rates)]
    budgets = [*budgets_of("key", found.id, found.budgets), *budgets_of("tenant", tenant.id, tenant.budgets)]
    if group is not None:
        rates += rates_of("group", group.id, group.rates)
        budgets += budgets_of("group", group.id, group.budgets)
    return CallerLimits(tuple(rates), tuple(budgets))


def budgets_of_holders(access: Access) -> Iterator[Limit]:
    """The budgets of all groups, tenants and keys, one after another, for whoever need not have all of them at once."""
    kinds: tuple[tuple[str, Mapping[str, Group | Tenant | Key]], ...]
    kinds = (("group", access.groups), ("tenant", access.tenants), ("key", access.keys))
    for kind, holders in kinds:
        for holder in holders.values():
            if holder.budgets:
                yield from budgets_of(kind, holder.id, holder.budgets)


def of_tags(policy: Policy) -> Mapping[str, tuple[Limit, ...]]:
    """The budgets of each tag. They count requests that surely bear it: what may be any tag is no tag's expense."""
    return {tag: budgets_of("tag", tag, budgets) for tag, budgets in policy.tag_budgets.items()}


def of_place(deployment: Deployment) -> tuple[Limit, ...]:
    """The rates of a deployment's endpoint and model, which each attempt has to keep to."""
    endpoint, model = deployment.endpoint, deployment.model
    return (*rates_of("endpoint", endpoint.id, endpoint.rates), *rates_of("model", model.id, model.rates))


def of_plans(policy: Policy) -> tuple[Limit, ...]:
    """The quotas of every plan: one account for each credential and window, whichever endpoints show it."""
    shared: dict[str, list[tuple[Deployment, Plan]]] = {}
    for deployment in policy.deployments:
        if (plan := deployment.tariff.plan) is not None:
            shared.setdefault(_credential(deployment), []).append((deployment, plan))
    found = []
    for credential, members in sorted(shared.items()):
        first = members[0][1]  # all of one credential have the same quotas and peak hours
        times = Decimal(1) if first.peak is None else first.peak.times
        weights = {deployment.id: _weight(plan, deployment, Decimal(1)) for deployment, plan in members}
        at_peak = {deployment.id: _weight(plan, deployment, times) for deployment, plan in members}
        endpoints = " and ".join(f"`{name}`" for name in sorted({deployment.endpoint.id for deployment, _ in members}))
        for quota in first.quotas:
            window = span_word(quota.per_s)
            book = Book(quota.requests * WHOLE_TICKET, "rolling", quota.per_s)
            terms = Terms(f"quota/{credential}/{window}", book, first.when_lost)
            whose, says = f"the plan `{first.name}` of {endpoints}", f"{quota.requests:,} requests in any {window}"
            found.append(Limit(terms, Unit.TICKETS, whose, says, None, weights, at_peak, first.peak))
    return tuple(found)


def all_limits(snapshot: Snapshot) -> Mapping[str, Limit]:
    """Every limit there is, by the id of its account."""
    access, policy = snapshot.access, snapshot.policy
    callers = [of_caller(access, key) for key in access.keys]
    limits = [limit for caller in callers for limit in (*caller.rates, *caller.budgets)]
    limits += [limit for budgets in of_tags(policy).values() for limit in budgets]
    limits += [limit for deployment in policy.deployments for limit in of_place(deployment)]
    limits += of_plans(policy)
    return {limit.terms.id: limit for limit in limits}


def books_of(snapshot: Snapshot) -> tuple[Terms, ...]:
    """The terms of every budget and quota."""
    return tuple(limit.terms for limit in all_limits(snapshot).values() if isinstance(limit.terms.of, Book))


def rates_of(kind: str, name: str, rates: Rates | None) -> tuple[Limit, ...]:
    """The limits that `rates` of one holder make."""
    if rates is None:
        return ()
    whose, where, found = f"the {kind} `{name}`", f"rate/{kind}/{name}", []
    if rates.concurrency is not None:
        slots = Slots(rates.concurrency)
        says = f"{rates.concurrency:,} request{'' if rates.concurrency == 1 else 's'} at once"
        found.append(Limit(Terms(f"{where}/concurrency", slots, rates.when_lost), Unit.REQUESTS, whose, says))
    for unit, rate in ((Unit.REQUESTS, rates.requests), (Unit.TOKENS, rates.tokens)):
        if rate is not None:
            bucket = Bucket(rate.amount, rate.per_s)
            found.append(Limit(Terms(f"{where}/{unit}", bucket, rates.when_lost), unit, whose, spelt(rate, unit.value)))
    return tuple(found)


def budgets_of(kind: str, name: str, budgets: Iterable[Budget]) -> tuple[Limit, ...]:
    """The limits that the `budgets` of one holder make."""
    return tuple(_budget(kind, name, budget) for budget in budgets)


def _budget(kind: str, name: str, budget: Budget) -> Limit:
    window = budget.window if budget.window != "rolling" else span_word(budget.per_s)
    terms = Terms(
        f"budget/{kind}/{name}/{budget.unit}-{window}", Book(budget.amount, budget.window, budget.per_s), budget.when_lost
    )
    per = f"per {window}" if budget.window != "rolling" else f"in any {window}"
    if budget.unit == MONEY:
        return Limit(terms, Unit.MICRO_USD, f"the {kind} `{name}`", f"{Decimal(budget.amount) / MICRO:f} USD {per}", budget)
    return Limit(terms, Unit.TOKENS, f"the {kind} `{name}`", f"{budget.amount:,} tokens {per}", budget)


def _weight(plan: Plan, deployment: Deployment, times: Decimal) -> int:
    weight = plan.weights.get(deployment.model.id, Decimal(1)) * times
    return int((weight * WHOLE_TICKET).to_integral_value(ROUND_CEILING))


def _credential(deployment: Deployment) -> str:
    endpoint = deployment.endpoint
    found = endpoint.secret if endpoint.secret is not None else f"endpoint {endpoint.id}"  # without one, each is its own
    return hashlib.sha256(found.encode()).hexdigest()[:CREDENTIAL_CHARS]


def spelt(rate: Rate, units: str) -> str:
    """A rate for people: `600 requests per minute`."""
    unit = units.removesuffix("s") if rate.amount == 1 else units
    return f"{rate.amount:,} {unit} per {SPANS.get(rate.per_s) or span_word(rate.per_s)}"


HOLDERS: Final = ("key", "tenant", "group", "tag", "endpoint", "model", "plan")
KINDS: Final = ("requests", "tokens", "concurrency", "budget", "quota")


def kind_of(limit: Limit) -> tuple[str, str]:
    """What kind of holder it is that `limit` limits, and what kind of limit it is: one of HOLDERS, one of KINDS."""
    kind, holder, *_, what = limit.terms.id.split("/")
    return ("plan", kind) if kind == "quota" else (holder, "budget" if kind == "budget" else what)


def span_word(seconds: int) -> str:
    """A span as policies write it: `5h`, `7d`."""
    for unit, size in UNITS:
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def span(seconds: float) -> str:
    """A span of time as OpenAI's headers have it: `20ms`, `1s`, `6m0s`."""
    if (milliseconds := ceil(seconds * 1e3)) < 1000:
        return f"{milliseconds}ms"
    whole = ceil(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, whole = divmod(whole, 60)
    return f"{minutes}m{whole}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60}m{whole}s"
