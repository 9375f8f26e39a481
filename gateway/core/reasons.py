"""Why a deployment is no route: every reason, in words for people.

Promise: an empty answer means that the deployment is a route. Each reason is found again from the rule, label, need or limit
itself, and not from the masks that decided.
"""

from gateway.core.exchange import Needs
from gateway.core.fit import over_limit, unfit
from gateway.core.live import LiveState
from gateway.core.terms import Because, Reason
from gateway.core.view import Eligibility, View
from gateway.core.wording import Wording


def reasons(view: View, index: int, eligibility: Eligibility, needs: Needs, live: LiveState) -> tuple[Reason, ...]:
    """Every reason against deployment `index`, in the order in which they are told; none if it is a route."""
    found = [*_by_policy(view, index, eligibility), *unfit(view, index, needs)]
    if (limit := over_limit(view, index, needs)) is not None:
        found.append(limit)
    if (blocked := live.blocked.get(view.deployments[index].id)) is not None:
        found.append(Reason(Because.LIVE, f"live: {blocked.word}", blocked.detail))
    return tuple(found)


def _by_policy(view: View, index: int, eligibility: Eligibility) -> list[Reason]:
    subject, bit = view.subjects[index], 1 << index
    wording = Wording(view.snapshot.policy.vocabulary)
    against = [row.rule for row in eligibility.against if not row.spared & bit]
    found = [Reason(Because.RULE, rule.id, wording.verdict(rule, subject)) for rule in against]
    for rule_id in eligibility.gateway_rules:
        found.append(Reason(Because.GATEWAY, f"gateway: {rule_id}", "this gateway may not process or record such content"))
    if not eligibility.permitted & bit:
        found.append(Reason(Because.NO_PERMIT, Because.NO_PERMIT, "no permit surely matches this request and this deployment"))
    if not eligibility.asked & bit:
        found.append(Reason(Because.ASKED, Because.ASKED, f"the name in the request does not stand for `{subject.model}`"))
    if not eligibility.enabled & bit:
        found.append(Reason(Because.DISABLED, Because.DISABLED, "`enabled: false` in the catalogue"))
    return found
