"""A decision as JSON, cheaply: what many decisions share is written out once and remembered.

What is there suffices to make the decision again (replay.py does): the hashes of policy and access, the instant of the view, the
facts, the needs, the draw, and of live state what could have mattered. It holds no content and nothing that a caller worded.

    policy, access     content hashes of the two documents
    instant            UTC seconds; labels are as of then
    facts              name -> values; `region: ["*"]` is every country that the policy knows
    needs              what the request needs of a deployment; a kind of tool that is nowhere is `other`
    live               blocked: deployment -> {word, detail, until}; latency_ms: deployment -> ms, where a preference weighs it
    draw               the number that spreads equals
    permits            ids of the permits that surely match
    excluded           deployment -> the words of all reasons against it
    routes             deployments, best first
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

import orjson

from gateway.core.decide import Decision
from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts
from gateway.core.fit import tokens_needed
from gateway.core.live import Blocked
from gateway.core.masks import bits
from gateway.core.memo import Memo
from gateway.core.order import Route
from gateway.core.pricing import usd
from gateway.core.rank import output_expected
from gateway.core.settlement import excluded_words
from gateway.core.terms import OTHER
from gateway.core.view import View

SETS: Final = (
    "tenant", "group", "key", "region", "data_class", "categories", "asked", "api", "task", "tag", "language", "ability", "stream",
)  # fmt: skip

_sets: "attrgetter[tuple[frozenset[str], ...]]" = attrgetter(*SETS)


class Shorthand:
    """Writes the decisions of one view."""

    def __init__(self, view: View) -> None:
        policy, access = view.snapshot.policy, view.snapshot.access
        named = {"policy": policy.hash, "access": access.hash, "instant": view.instant}
        self.view = view
        self._head = orjson.dumps(named)[:-1]
        self._everywhere = policy.vocabulary.countries
        self._tools = frozenset[str]().union(*(subject.tools for subject in view.subjects))
        self._weighs_latency = any("latency" in preference.rank for preference in policy.preferences)
        self._windows = sorted({subject.context or 0 for subject in view.subjects})
        limit = policy.limits.usd_per_request
        self._limit = None if limit is None else float(limit)
        self._facts: Memo[tuple[frozenset[str], ...], bytes] = Memo()
        self._needs: Memo[object, bytes] = Memo()
        self._routes: Memo[int, tuple[tuple[Route, ...], bytes]] = Memo()
        self._excluded: Memo[object, tuple[object, bytes]] = Memo()
        self._latencies: Memo[int, bytes] = Memo()
        self._latencies_of: Mapping[str, int] | None = None
        self._blocked: bytes = b"{}"
        self._blocked_of: Mapping[str, Blocked] | None = None

    def decision(self, decision: Decision) -> bytes:
        """`decision` as a JSON object."""
        if not decision.needs.tools <= self._tools:
            decision = self._in_known_words(decision)
        return b'%b,"facts":%b,"needs":%b,"live":{"blocked":%b,"latency_ms":%b},"draw":%d,%b,"routes":%b}' % (
            self._head,
            self._facts_of(decision.facts),
            self._needs_of(decision.needs),
            self._blocked_in(decision),
            self._latencies_in(decision) if self._weighs_latency else b"{}",
            decision.draw,
            self._excluded_by(decision),
            self._routes_of(decision),
        )

    def _in_known_words(self, decision: Decision) -> Decision:
        """A caller may name a kind of tool that is nowhere, in any words: to the decision it is one like any other such kind."""
        known = (decision.needs.tools & self._tools) | {OTHER}
        return replace(decision, needs=replace(decision.needs, tools=known))

    def _facts_of(self, facts: RequestFacts) -> bytes:
        key = _sets(facts)
        found = self._facts.get(key)
        if found is None:
            lists = {name: sorted(values) for name, values in zip(SETS, key, strict=True)}
            if facts.region == self._everywhere:
                lists["region"] = ["*"]
            found = self._facts.keep(key, orjson.dumps(lists)[:-1])
        return b'%b,"prompt_tokens":%d,"inspected":"%b"}' % (found, facts.prompt_tokens, facts.inspected.encode())

    def _needs_of(self, needs: Needs) -> bytes:
        key = (needs.api, needs.abilities, needs.tools, needs.remote_content)
        found = self._needs.get(key)
        if found is None:
            same: dict[str, Any] = {
                "api": needs.api,
                "abilities": sorted(needs.abilities),
                "tools": sorted(needs.tools),
                "remote_content": needs.remote_content,
            }
            found = self._needs.keep(key, orjson.dumps(same)[:-1])
        output = b"null" if needs.output_tokens is None else b"%d" % needs.output_tokens
        return b'%b,"prompt_tokens":%d,"output_tokens":%b}' % (found, needs.prompt_tokens, output)

    def _blocked_in(self, decision: Decision) -> bytes:
        """What is blocked, of all deployments: each has it among its reasons."""
        blocked = decision.live.blocked
        if blocked is not self._blocked_of:
            self._blocked_of = blocked
            self._blocked = orjson.dumps(
                {name: {"word": found.word, "detail": found.detail, "until": found.until} for name, found in blocked.items()}
            )
            self._excluded.clear()  # its keys say nothing of what is blocked
        return self._blocked

    def _latencies_in(self, decision: Decision) -> bytes:
        """The latencies of what was ranked. Others have no part in it."""
        latency_ms = decision.live.latency_ms
        if latency_ms is not self._latencies_of:
            self._latencies_of = latency_ms
            self._latencies.clear()
        found = self._latencies.get(decision.fitting)
        if found is None:
            names = (self.view.deployments[index].id for index in bits(decision.fitting))
            found = orjson.dumps({name: latency_ms[name] for name in names if name in latency_ms})
            self._latencies.keep(decision.fitting, found)
        return found

    def _routes_of(self, decision: Decision) -> bytes:
        # by identity: an order of routes is one tuple for as long as it is remembered. It is held, so that its id stays its own
        routes = decision.routes
        found = self._routes.get(id(routes))
        if found is None:
            found = self._routes.keep(id(routes), (routes, orjson.dumps([route.deployment.id for route in routes])))
        return found[1]

    def _excluded_by(self, decision: Decision) -> bytes:
        """`permits` and `excluded`. Two decisions of one view with the same key have the same reasons, in words, for everything.

        The rules' part follows from the eligibility (held, so that its id stays its own), that of needs from what is needed and
        from which windows suffice, that of limits from the lengths wherever one could be hit, and what is blocked empties the memo.
        """
        needs = decision.needs
        lengths = None if self._surely_cheap(needs) else (needs.prompt_tokens, needs.output_tokens)
        window = bisect_left(self._windows, tokens_needed(needs))
        eligibility = decision.eligibility
        key = (id(eligibility), needs.api, needs.abilities, needs.tools, needs.remote_content, window, lengths)
        found = self._excluded.get(key)
        if found is None:
            permits, excluded = orjson.dumps(eligibility.permits), orjson.dumps(excluded_words(decision))
            found = self._excluded.keep(key, (eligibility, b'"permits":%b,"excluded":%b' % (permits, excluded)))
        return found[1]

    def _surely_cheap(self, needs: Needs) -> bool:
        """Whether no deployment at all could pass the limit of money with a request of this size."""
        limit = self._limit
        return limit is None or usd(*self.view.dearest, needs.prompt_tokens, output_expected(needs)) <= limit
