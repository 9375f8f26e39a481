"""A request that goes against a claim, as people and programs can use it: a case to paste, a question to ask, the rules behind it.

Whatever the solver found is put to the engine first: told is only what the engine confirms.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.config.cases import PROMPT_TOKENS
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Needs
from gateway.core.facts import HARD_FACTS, FactError, RequestFacts
from gateway.core.live import ALL_WELL
from gateway.core.masks import bits
from gateway.core.policy import Alternative, Claim, Snapshot, may_hit, may_hold, surely_meets
from gateway.core.terms import Subject
from gateway.core.view import Eligibility, View
from gateway.proof.universe import Sending, facts_of
from gateway.proof.verdict import Counterexample

VALUES_SHOWN: Final = 6  # of a fact that is not known
PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9._/+@-]*")
NOT_PLAIN: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})  # to some readers of YAML


class Disagreement(Exception):
    """The engine does not confirm what the solver has found. Its text says what."""


@dataclass(frozen=True, slots=True)
class Found:
    """A request that goes against a claim at `at` (UTC seconds), and the place that it should not get to, if it is that."""

    sending: Sending
    at: float
    witness: Subject | None

    def goes_against(self, snapshot: Snapshot, claim: Claim) -> bool:
        """Whether the engine says so too, under `snapshot`."""
        view = View(snapshot, self.at)
        facts = facts_of(snapshot, self.sending)
        eligibility = view.eligible(facts)
        if not may_hold(claim.when, facts):
            return False
        if self.witness is None:
            return not any(surely_meets(view.subjects[index], claim.says) for index in bits(eligibility.mask))
        subject = _reached(view, eligibility, self.witness.name, self.witness.kind)
        return subject is not None and _unwanted(subject, claim)


def _reached(view: View, eligibility: Eligibility, name: str, kind: str) -> Subject | None:
    """The place called `name`, if such content goes there or is kept there."""
    if kind == "deployment":
        index = view.indices[name]
        return view.subjects[index] if eligibility.mask >> index & 1 else None
    if eligibility.gateway_rules:
        return None
    if kind == "gateway":
        return view.gateway
    return next((keeper for keeper in view.keepers if keeper.name == name and name in eligibility.keepers), None)


def _unwanted(subject: Subject, claim: Claim) -> bool:
    return may_hit(subject, claim.says) if claim.kind == "never" else not surely_meets(subject, claim.says)


def told(snapshot: Snapshot, claim: Claim, found: Found, at: float | None) -> Counterexample:
    """The counterexample for people. `at` (UTC seconds) where it is not now. Raises Disagreement."""
    witness = found.witness.name if found.witness else "nothing"
    about = f"claim `{claim.id}`, {question(found.sending, snapshot)}, {witness}"
    try:
        if not found.goes_against(snapshot, claim):
            raise Disagreement(about)
    except FactError as error:
        raise Disagreement(f"{about}: {error}") from error
    sending, view = found.sending, View(snapshot, found.at)
    facts = facts_of(snapshot, sending)
    needs = Needs(sending.api, abilities=sending.abilities, prompt_tokens=sending.prompt_tokens)
    decision = decide(view, facts, needs, ALL_WELL, 0)
    rules, label = _rules(decision, found.witness), "" if found.witness is None else described(found.witness, claim.says)
    lines = [f"# {line}" for line in _headline(claim, found, facts, rules, label)]
    note = f"against the claim {claim.id}"
    lines.append(f"- note: {scalar(note)}")
    lines.append(f"  given: {flow(given(sending, snapshot, at))}")
    lines.append(f"  want: {flow(_wanted(decision))}  # what comes today: write what should come")
    name = "" if found.witness is None else found.witness.name
    return Counterexample("\n".join(lines) + "\n", question(sending, snapshot), name, label, rules, at)


def _headline(claim: Claim, found: Found, facts: RequestFacts, rules: tuple[str, ...], label: str) -> list[str]:
    where = f" ({claim.line})" if claim.line else ""
    names = ", ".join(rules) or "none"
    if found.witness is None:
        say = f"no deployment that may serve this request is {_says(claim.says)}; in the way: {names}"
    elif found.witness.kind == "deployment":
        say = f"it may go to {found.witness.name} ({label}), let through by {names}"
    else:
        say = f"the {found.witness.kind} {found.witness.name} ({label}) sees it: no require or forbid keeps it from there"
    return [f"{claim.id}{where}: {claim.kind} {_says(claim.says)}", say, f"facts: {_facts(facts, claim)}"]


def _rules(decision: Decision, witness: Subject | None) -> tuple[str, ...]:
    """The permits that let it through; where nothing is found, what keeps everything out."""
    view = decision.view
    if witness is None:
        return decision.refusing_rules
    if witness.kind != "deployment":
        return ()
    index = view.indices[witness.name]
    applying = set(decision.eligibility.permits)
    return tuple(row.rule.id for row in view.permits if row.rule.id in applying and row.spared >> index & 1)


def described(subject: Subject, says: tuple[Alternative, ...]) -> str:
    """What `subject` is, of what `says` looks at: `processed_in: CN, SG`."""
    found = {}
    for test in (test for tests in says for test in tests):
        has = getattr(subject, test.attribute)
        found[test.attribute] = "nobody vouches for it" if has is None else has if isinstance(has, str) else _listed(has)
    return "; ".join(f"{name}: {value}" for name, value in found.items()) or subject.provider


def _listed(values: object) -> str:
    if not isinstance(values, frozenset):
        return str(values)
    known = sorted(values)
    more = f" and {len(known) - VALUES_SHOWN} more" if len(known) > VALUES_SHOWN else ""
    return ", ".join(known[:VALUES_SHOWN]) + more or "none"


def _facts(facts: RequestFacts, claim: Claim) -> str:
    """The facts that a caller can't choose freely, and those that the claim is about."""
    shown = [*HARD_FACTS, *(test.fact for test in claim.when if test.fact not in HARD_FACTS)]
    return "; ".join(f"{fact}: {_listed(getattr(facts, fact))}" for fact in shown)


def _says(says: tuple[Alternative, ...]) -> str:
    def tests(found: Alternative) -> str:
        return ", ".join(f"{test.attribute}: {_listed(test.values) if test.values else test.at_least}" for test in found)

    return " or ".join(f"{{{tests(found)}}}" for found in says)


# --- the same for programs ----------------------------------------------------------------------------------------------


def question(sending: Sending, snapshot: Snapshot) -> dict[str, object]:
    """What `gateway policy explain`, `/admin/v1/decide` and `question.decision` can be asked."""
    found: dict[str, object] = {
        "tenant": snapshot.access.keys[sending.key].tenant,
        "key": sending.key,
        "asked": sending.asked,
        **_declared(sending),
    }
    if sending.api != "chat":
        found["api"] = sending.api
    if sending.language is not None:
        found["language"] = sorted(sending.language)
    if sending.abilities:
        found["abilities"] = sorted(sending.abilities)
    if sending.prompt_tokens != PROMPT_TOKENS:
        found["prompt_tokens"] = sending.prompt_tokens
    return found


def given(sending: Sending, snapshot: Snapshot, at: float | None) -> dict[str, object]:
    """What a case gives. `at` in UTC seconds."""
    found = question(sending, snapshot)
    if sending.stream:
        found["stream"] = True
    if at is not None:
        found["at"] = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found


def _declared(sending: Sending) -> dict[str, object]:
    several = ("region", "categories")
    return {fact: sorted(values) if fact in several else min(values) for fact, values in sending.declared.items()}


def _wanted(decision: Decision) -> dict[str, object]:
    if decision.routes:
        return {"routes": [route.deployment.id for route in decision.routes]}
    return {"refused": sorted(decision.refusing_rules)}


def flow(value: object) -> str:
    """`value` as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: object) -> str:
    """One word or number as YAML, in quotes where some reader would take it for something else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if (PLAIN.fullmatch(text) and text.lower() not in NOT_PLAIN) or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        return text
    return json.dumps(text, ensure_ascii=False)
