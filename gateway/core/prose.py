"""An explanation as text: for whoever has to answer for the policy, who is seldom a programmer. Short lines, aligned columns."""

from collections.abc import Iterable
from textwrap import wrap
from typing import Final

from gateway.core.explanation import Estimate, Explanation, Label, Line
from gateway.core.terms import Because

WIDTH: Final = 108  # columns; fits a terminal beside a policy, and a page printed for a file
HASH_CHARS: Final = 12  # of the policy's hash: enough to tell two by; the JSON has the whole
HEADLINES: Final = {
    "routed": "ROUTED",
    "refused": "REFUSED",
    "too long": "TOO LONG",
    "unavailable": "UNAVAILABLE JUST NOW",
}


def prose(told: Explanation, message: str) -> str:
    """The whole of `told`. `message` is what the caller was told, "" where there are routes."""
    until = f", unchanged until {told.valid_until}" if told.valid_until else ""
    lines = [_headline(told), f"  policy {told.policy[:HASH_CHARS]} as of {told.instant}{until}"]
    lines += _indented(message, "  ")
    for title, block in (
        ("facts", _facts(told)),
        ("rules that apply", _rules(told)),
        ("routes, in the order in which they are tried", _routes(told)),
        ("not allowed, or not now" if told.routes else "why each deployment is no route", _exclusions(told)),
        ("where such content may be processed and kept by ourselves", _keepers(told)),
        ("every place that this request could ever reach", _reach(told)),
        ("nearest to being a route", _nearest(told)),
    ):
        if block:
            lines += ["", title, *block]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _headline(told: Explanation) -> str:
    head = HEADLINES.get(told.verdict, told.verdict.upper())
    if not told.routes:
        return head
    first, more = told.routes[0], len(told.routes) - 1
    return f"{head} to {first.deployment}" + (f", with {more} more to fall back on" if more else ", and nowhere else")


def _facts(told: Explanation) -> list[str]:
    rows = [(f.name, f.words if f.known or not f.values else f"{f.words}  (not known: counts as each)") for f in told.facts]
    rows.append(("needs", ", ".join(told.needs)))
    rows.append(("length", f"about {told.prompt_tokens:,} tokens in, {told.output_tokens:,} out; inspected: {told.inspected}"))
    return _aligned(rows)


def _rules(told: Explanation) -> list[str]:
    lines: list[str] = []
    for line in (*told.permits, *told.restrictions):
        lines += _rule(line)
    if not told.permits:
        lines.append("  no permit surely matches, and without a permit there is no route")
    if told.preferences:
        lines.append(f"  ordered by {', then '.join(told.preferences)}")
    return lines


def _rule(line: Line) -> list[str]:
    says = "any place" if line.says == "anything" else line.says
    lines = [f"  {line.effect:8} {line.id}"]
    lines += _indented(f"when {line.when}: {says}", "           ")
    return lines + _because(line.because, line.line, "           ")


def _routes(told: Explanation) -> list[str]:
    lines: list[str] = []
    width = max((len(route.deployment) for route in told.routes), default=0)
    for route in told.routes:
        lines.append(f"  {route.route:>2}  {route.deployment:{width}}  {_cost(route.estimate)}  (rank {route.tier})")
        lines += _labels(route.labels)
    return lines


def _exclusions(told: Explanation) -> list[str]:
    lines: list[str] = []
    for place in told.exclusions:
        lines += ["", f"  {place.deployment}  {_cost(place.estimate)}", *_labels(place.labels)]
        for reason in place.reasons:
            lines += _indented(f"x {reason.word}" + (f": {reason.detail}" if reason.detail else ""), "    ", "      ")
            if reason.kind == Because.RULE:
                lines += _because(reason.because, reason.line, "      ")
            if reason.kind == Because.NO_PERMIT:
                lines += [piece for permit in place.nearest for piece in _indented(f"- {permit}", "      ", "        ")]
    return lines[1:]


def _keepers(told: Explanation) -> list[str]:
    rows = [(k.name, "yes" if k.allowed else f"no: {', '.join(k.rules)}", k.kind) for k in told.keepers]
    return _aligned([(name, f"{answer}  ({kind})" if kind != name else answer) for name, answer, kind in rows])


def _reach(told: Explanation) -> list[str]:
    if not told.routes:
        return ["  none. Nothing of it is sent anywhere."]
    lines = [f"  if each fails by itself, at most {told.attempts_max} are tried: {' -> '.join(told.failover)}"]
    if others := [name for name in told.reachable if name not in told.failover]:
        lines.append(f"  if whole endpoints fail, also: {', '.join(others)}")
    never = [route.deployment for route in told.routes if route.attempt is None]
    if never:
        lines.append(f"  allowed, but too far down to be tried: {', '.join(never)}")
    lines.append("  nowhere else, whatever fails.")
    return [piece for line in lines for piece in _indented(line.strip(), "  ", "    ")]


def _nearest(told: Explanation) -> list[str]:
    """For a refusal: those of the deployments asked for with the fewest reasons against them, and what each would take."""
    if told.verdict != "refused":
        return []
    asked = [place for place in told.exclusions if all(reason.kind != Because.ASKED for reason in place.reasons)]
    fewest = min((len(place.reasons) for place in asked), default=0)
    lines: list[str] = []
    for place in asked:
        if len(place.reasons) == fewest:
            lines.append(f"  {place.deployment}, which would be a route but for")
            for reason in place.reasons:
                hint = "; ".join(place.nearest) if reason.kind == Because.NO_PERMIT and place.nearest else reason.detail
                lines += _indented(f"- {reason.word}: {hint}", "    ", "      ")
    return lines


def _labels(labels: Iterable[Label]) -> list[str]:
    """One a line: what, where, and who says so until when."""
    rows = [(label.name.replace("_", " "), _label(label)) for label in labels]
    return [f"    {line}" for line in _aligned(rows)]


def _label(label: Label) -> str:
    says = []
    if label.state in ("stale", "ended"):
        says.append(f"{label.state} since {label.until[:10]}, so it counts as missing")
    elif label.until:
        says.append(f"until {label.until[:10]}")
    if label.verified:
        says.append(f"verified {label.verified}")
    if label.source:
        says.append(label.source)
    return label.words + (f"  ({', '.join(says)})" if says else "")


def _cost(estimate: Estimate) -> str:
    if not estimate.parts:
        return f"$0 ({estimate.paid})"
    parts = " + ".join(f"{p.tokens:,} {p.what} at ${p.usd_per_million}/M" for p in estimate.parts)
    return f"${estimate.usd} ({parts})"


def _because(because: str, line: str, indent: str) -> list[str]:
    where = f"[{line}]" if line else ""
    return _indented(" ".join(part for part in (f"because: {because}" if because else "", where) if part), indent)


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [piece for name, words in rows for piece in _indented(f"{name:{width}}  {words}", "  ", " " * (width + 4))]


def _indented(text: str, indent: str, hanging: str | None = None) -> list[str]:
    following = indent if hanging is None else hanging
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False)
