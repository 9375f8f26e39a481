"""Requests that need more than plain text: one for each need that the catalogue tells apart, and what such a need is called.

Values that every deployment has, or lacks, together are one need: whoever has written down what comes of one has done so of all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.config.vocabulary import ABILITIES, APIS, TOOLS
from gateway.core.exchange import Needs
from gateway.core.facts import RequestFacts
from gateway.core.policy import Policy
from gateway.proof.universe import Sending, classes, tests_by_fact

LONG_ANSWER_TOKENS: Final = 10_000_000  # what somebody may ask for by mistake: beyond any limit that is meant as one


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a request can need, beside what it says. `alike` are the words of reasons of which any stands for it."""

    alike: frozenset[str] = frozenset()
    api: str | None = None
    ability: str | None = None
    tool: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    remote_content: bool = False

    def needs(self, sending: Sending) -> Needs:
        """What `sending` needs together with this."""
        return Needs(
            api=self.api or sending.api,
            abilities=sending.abilities | ({self.ability} if self.ability else frozenset()),
            tools=frozenset((self.tool,)) if self.tool else frozenset(),
            prompt_tokens=sending.prompt_tokens if self.prompt_tokens is None else self.prompt_tokens,
            output_tokens=self.output_tokens,
            remote_content=self.remote_content,
        )


def with_needs(facts: RequestFacts, needs: Needs) -> RequestFacts:
    """The facts of a request once it has these needs: rules may look at some of them."""
    return replace(facts, api=frozenset((needs.api,)), ability=needs.abilities, prompt_tokens=needs.prompt_tokens)


def kinds_of_need(policy: Policy) -> Iterator[Need]:
    """None first; then one of each kind."""
    deployments = policy.deployments
    tests = tests_by_fact(rule.when for rule in policy.rules)
    yield Need()
    for members in classes(APIS, [*(d.apis for d in deployments), *(test.values for test in tests.get("api", ()))]):
        yield Need(_alike(members), api=min(members))
    for members in classes(ABILITIES, [*(d.abilities for d in deployments), *(test.values for test in tests.get("ability", ()))]):
        yield Need(_alike(members), ability=min(members))
    for members in classes(TOOLS, (d.endpoint.tools for d in deployments)):
        yield Need(_alike(frozenset(f"tool {tool}" for tool in members)), tool=min(members))
    yield Need(remote_content=True)
    for window in sorted({d.context for d in deployments if d.context is not None}):
        yield Need(prompt_tokens=window)  # one token too many, as an answer has one at least
    yield Need(output_tokens=LONG_ANSWER_TOKENS)


def _alike(needs: frozenset[str]) -> frozenset[str]:
    return frozenset(f"needs: {need}" for need in needs)
