"""What a caller is told where a decision has no route: one paragraph, for an API's error message.

Promises: configured words only (rules, facts, models), never content and never an endpoint or its places, which a key may not be
meant to know; at most MESSAGE_BYTES_MAX; and it ends in what would change the answer.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from gateway.core.decide import Decision
from gateway.core.facts import DECLARABLE, HARD_FACTS
from gateway.core.live import BUDGET
from gateway.core.masks import bits
from gateway.core.terms import Because, Reason

MESSAGE_BYTES_MAX: Final = 1_000  # an error body stays within one network packet and one line of a log
RULES_MAX: Final = 4  # named in full; more of them teach nobody more
BECAUSE_CHARS_MAX: Final = 120  # of one rule's reason: policies may quote articles of law
FACT_VALUES_MAX: Final = 4  # of an unknown fact

DECLARED_HARD: Final = tuple(fact for fact in DECLARABLE if fact in HARD_FACTS and fact != "categories")
"""Facts that a caller can make known. Nothing is gained by declaring a category: finding one never adds a route."""


def refusal_message(decision: Decision) -> str:
    """Why no rule of the policy, or nothing that the request needs, leaves a route; and what would have to change."""
    name = _asked(decision)
    if not decision.eligibility.asked:
        return _clip(f"no deployment in the catalogue serves {name}.")
    if rules := decision.eligibility.gateway_rules:
        return _clip(
            f"such content may not be processed by this gateway at all: {_rules(decision, rules)}. "
            f"To change that: {_declare(decision)}send it to a gateway where the rule is met."
        )
    asked = bits(decision.eligibility.asked)
    found = [reason for i in asked for reason in decision.exclusions.get(decision.view.deployments[i].id, ())]
    counted = Counter(reason.word for reason in found)
    whole = f"no route is allowed for this request: of {len(asked)} {_plural('deployment', len(asked))} for {name},"
    parts = [f"{_rules(decision, (word,))} rules out {counted[word]}" for word in _words(found, Because.RULE)[:RULES_MAX]]
    if (more := len(_words(found, Because.RULE)) - RULES_MAX) > 0:
        parts.append(f"{more} more {_plural('rule', more)} rule out some too")
    if without := counted[Because.NO_PERMIT]:
        parts.append(f"no permit covers {without}")
    if disabled := counted[Because.DISABLED]:
        parts.append(f"{disabled} {'is' if disabled == 1 else 'are'} switched off")
    parts += [f"{counted[word]} {_lacking(word)}" for word in _words(found, Because.NEEDS)]
    parts += [f"{counted[word]} would cost more than a request may ({word})" for word in _words(found, Because.LIMIT)]
    return _clip(f"{whole} {'; '.join(parts)}. To change that: {_declare(decision)}{_change(decision)}.")


def too_long_message(decision: Decision) -> str:
    """That the request is longer than any window it may go to, with both lengths in tokens."""
    subjects = [decision.view.subjects[index] for index in bits(decision.eligibility.mask)]
    longest = max((subject.context or 0 for subject in subjects), default=0)
    needs = decision.needs
    if needs.longest_tokens:
        return _clip(
            f"the longest text is about {needs.longest_tokens:,} tokens long, and the longest window that it may go to takes "
            f"{longest:,}. Send it in pieces, or ask for a model with a longer window."
        )
    return _clip(
        f"the request is about {needs.prompt_tokens:,} tokens long, and the longest window that it may go to "
        f"takes {longest:,}, answer included. Shorten it, or ask for a model with a longer window."
    )


def unavailable_message(decision: Decision) -> str:
    """That routes are allowed and none can be used now, with the kinds of trouble, and the caller's own budgets by name."""
    words = Counter(blocked.word for blocked in decision.blocking)
    count = sum(words.values())
    trouble = ", ".join(f"{word}: {words[word]}" for word in sorted(words))
    spent = sorted({blocked.detail for blocked in decision.blocking if blocked.word == BUDGET})
    whose = f": {'; '.join(spent)}, or too much of it for this request" if spent else ""
    return _clip(
        f"{count} {_plural('route', count)} for {_asked(decision)} {'is' if count == 1 else 'are'} allowed, and none can be used "
        f"just now ({trouble}){whose}. The request was sent nowhere; try again later."
    )


def _asked(decision: Decision) -> str:
    return ", ".join(f"`{name}`" for name in sorted(decision.facts.asked)) or "this request"


def _rules(decision: Decision, ids: Iterable[str]) -> str:
    because = {row.rule.id: row.rule.because for row in decision.eligibility.against}
    return ", ".join(f"rule `{rule}`" + (f" ({_short(because[rule])})" if because.get(rule) else "") for rule in ids)


def _words(reasons: Iterable[Reason], kind: Because) -> list[str]:
    """The words of one kind, the most frequent first."""
    counted = Counter(reason.word for reason in reasons if reason.kind is kind)
    return sorted(counted, key=lambda word: (-counted[word], word))


def _lacking(word: str) -> str:
    need = word.removeprefix("needs: ")
    return "can't take a prompt of this length" if need == "context" else f"can't do what it needs ({need})"


def _declare(decision: Decision) -> str:
    """Advice for facts of several values: all of them count, whether they are not known or all true."""
    advice = ""
    for fact in DECLARED_HARD:
        values: frozenset[str] = getattr(decision.facts, fact)
        if len(values) > 1:
            some = ", ".join(sorted(values)[:FACT_VALUES_MAX]) + (", …" if len(values) > FACT_VALUES_MAX else "")
            advice += f"declare `x-gateway-{fact.replace('_', '-')}` if this key may (it now counts as each of {some}); "
    return advice


def _change(decision: Decision) -> str:
    if not decision.eligibility.mask:
        return "ask for another model, or ask the owner of the policy for a permit or a place that meets its rules"
    return "ask for another model, or for less: what rules allow does not have what the request needs"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= BECAUSE_CHARS_MAX else text[: BECAUSE_CHARS_MAX - 1].rstrip() + "…"


def _clip(text: str) -> str:
    whole = text.encode()
    if len(whole) <= MESSAGE_BYTES_MAX:
        return text
    return whole[: MESSAGE_BYTES_MAX - len("…".encode())].decode(errors="ignore") + "…"
