"""A decision as JSON, cheaply: what many decisions share is written out once and remembered.

What is there suffices to make the decision again (replay.py does): the hashes of policy and access, the instant of the view, the
facts, the needs, the draw, and of live state what could have mattered. It holds no content and nothing that a caller worded.

    policy, access     content hashes of the two documents
    instant            UTC seconds; labels are as of then
    facts              name -> values; `region: ["*"]` is every country that the policy knows
    needs              what the request needs of a deployment; a kind of tool that is nowhere is `other`
    live               blocked: deployment -> {word, detail, until}; latency_ms: deployment -> ms, where a preference weighs it
    permits            ids of the permits that surely match
    excluded           deployment -> the words of all reasons against it
    routes             deployments, best first
    prompt_tokens      the estimate, a fact and a need
    output_tokens      what the caller asked for at most, or null
    draw               the number that spreads equals
    longest_tokens     the estimate of the longest text, where each of several is read by itself; only there then
    warm               deployment -> tokens of the prompt that it read a short while ago; only there if one did

All but the last five are shared with other decisions: they come in parts, a JSON object each, which `written_out` puts together.
A ledger's segment holds each part once (audit.py), which makes its lines a tenth as long.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

import orjson

from gateway.core.decide import Decision
from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts
from gateway.core.fit import tokens_needed
from gateway.core.live import LiveState
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
        self._head = orjson.dumps(named)
        self._everywhere = policy.vocabulary.countries
        self._tools = frozenset[str]().union(*(subject.tools for subject in view.subjects))
        self._weighs_latency = any("latency" in preference.rank for preference in policy.preferences)
        self._windows = sorted({subject.context or 0 for subject in view.subjects})
        limit = policy.limits.usd_per_request
        self._limit = None if limit is None else float(limit)
        self._facts: Memo[object, bytes] = Memo()
        self._needs: Memo[object, bytes] = Memo()
        self._routes: Memo[int, tuple[tuple[Route, ...], bytes]] = Memo()
        self._reasons: Memo[object, tuple[object, bytes]] = Memo()
        self._lives: Memo[int, bytes] = Memo()
        self._live: LiveState | None = None

    def key(self, decision: Decision) -> Hashable:
        """Two decisions with the same key have the same parts, as long as both are there: it holds identities of what they hold."""
        live, facts = decision.live, decision.facts
        return (
            id(decision.routes),
            id(decision.eligibility),
            id(live.blocked),
            id(live.latency_ms) if self._weighs_latency else 0,
            _sets(facts),
            facts.inspected,
            self._shared_needs(decision.needs),
        )

    def parts(self, decision: Decision) -> tuple[bytes, ...]:
        """What `decision` shares with others: JSON objects, of one member or more."""
        if not decision.needs.tools <= self._tools:
            decision = self._in_known_words(decision)
        return (
            self._head,
            self._facts_of(decision.facts),
            self._needs_of(decision.needs),
            self._live_in(decision),
            self._reasons_of(decision),
            self._routes_of(decision),
        )

    def decision(self, decision: Decision) -> bytes:
        """`decision` as one JSON object."""
        return written_out(self.parts(decision), own(decision))

    def _in_known_words(self, decision: Decision) -> Decision:
        """A caller may name a kind of tool that is nowhere, in any words: to the decision it is one like any other such kind."""
        known = (decision.needs.tools & self._tools) | {OTHER}
        return replace(decision, needs=replace(decision.needs, tools=known))

    def _shared_needs(self, needs: Needs) -> tuple[Hashable, ...]:
        """All of `needs` that reasons and records look at, but for the very numbers: which windows suffice, and the lengths only
        where the limit of money could be hit."""
        lengths = None if self._surely_cheap(needs) else (needs.prompt_tokens, needs.output_tokens)
        window = bisect_left(self._windows, tokens_needed(needs))
        return (needs.api, needs.abilities, needs.tools, needs.remote_content, window, lengths)

    def _facts_of(self, facts: RequestFacts) -> bytes:
        sets = _sets(facts)
        key = (sets, facts.inspected)
        found = self._facts.get(key)
        if found is None:
            said: dict[str, Any] = {name: sorted(values) for name, values in zip(SETS, sets, strict=True)}
            if facts.region == self._everywhere:
                said["region"] = ["*"]
            found = self._facts.keep(key, orjson.dumps({"facts": {**said, "inspected": facts.inspected}}))
        return found

    def _needs_of(self, needs: Needs) -> bytes:
        key = (needs.api, needs.abilities, needs.tools, needs.remote_content)
        found = self._needs.get(key)
        if found is None:
            said: dict[str, Any] = {
                "api": needs.api,
                "abilities": sorted(needs.abilities),
                "tools": sorted(needs.tools),
                "remote_content": needs.remote_content,
            }
            found = self._needs.keep(key, orjson.dumps({"needs": said}))
        return found

    def _live_in(self, decision: Decision) -> bytes:
        """What is blocked, of all deployments (each has it among its reasons), and the latencies of what was ranked."""
        live, before = decision.live, self._live
        if live is not before:
            self._live = live
            self._lives.clear()
            if before is None or before.blocked is not live.blocked:
                self._reasons.clear()  # its keys say nothing of what is blocked
        ranked = decision.fitting if self._weighs_latency else 0
        found = self._lives.get(ranked)
        if found is None:
            blocked = {name: {"word": why.word, "detail": why.detail, "until": why.until} for name, why in live.blocked.items()}
            names = (self.view.deployments[index].id for index in bits(ranked))
            latency_ms = {name: live.latency_ms[name] for name in names if name in live.latency_ms}
            found = self._lives.keep(ranked, orjson.dumps({"live": {"blocked": blocked, "latency_ms": latency_ms}}))
        return found

    def _routes_of(self, decision: Decision) -> bytes:
        # by identity: an order of routes is one tuple for as long as it is remembered. It is held, so that its id stays its own
        routes = decision.routes
        found = self._routes.get(id(routes))
        if found is None:
            named = orjson.dumps({"routes": [route.deployment.id for route in routes]})
            found = self._routes.keep(id(routes), (routes, named))
        return found[1]

    def _reasons_of(self, decision: Decision) -> bytes:
        """`permits` and `excluded`. Two decisions of one view with the same key have the same reasons, in words, for everything.

        The rules' part follows from the eligibility (held, so that its id stays its own), that of needs from what is needed and
        from which windows suffice, that of limits from the lengths wherever one could be hit, and what is blocked empties the memo.
        """
        eligibility = decision.eligibility
        key = (id(eligibility), self._shared_needs(decision.needs))
        found = self._reasons.get(key)
        if found is None:
            reasons = orjson.dumps({"permits": eligibility.permits, "excluded": excluded_words(decision)})
            found = self._reasons.keep(key, (eligibility, reasons))
        return found[1]

    def _surely_cheap(self, needs: Needs) -> bool:
        """Whether no deployment at all could pass the limit of money with a request of this size."""
        limit = self._limit
        return limit is None or usd(*self.view.dearest, needs.prompt_tokens, output_expected(needs)) <= limit


def own(decision: Decision) -> bytes:
    """The members of `decision` that are its own, and no other's: its numbers."""
    needs, warm = decision.needs, decision.live.warm
    output, longest = needs.output_tokens, needs.longest_tokens
    return b'"prompt_tokens":%d,"output_tokens":%b,"draw":%d%b%b' % (
        needs.prompt_tokens,
        b"null" if output is None else b"%d" % output,
        decision.draw,
        b',"longest_tokens":%d' % longest if longest else b"",
        b',"warm":' + orjson.dumps(dict(sorted(warm.items()))) if warm else b"",
    )


def written_out(parts: Iterable[bytes], own: bytes) -> bytes:
    """A decision as one JSON object, of the `parts` that it shares with others and the members that are its `own`."""
    return b"{%b,%b}" % (b",".join(part[1:-1] for part in parts), own)
