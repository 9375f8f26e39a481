"""An explanation as text: for whoever has to answer for the policy, who is seldom a programmer. Short lines, aligned columns."""

from textwrap import wrap
from typing import Final

from gateway.core.course import Step
from gateway.core.estimate import Estimate
from gateway.core.explanation import Considered, Explanation, Line
from gateway.core.labelled import Label
from gateway.core.standing import WARMTH, Standing
from gateway.core.terms import Because

WIDTH: Final = 108  # columns; fits a terminal beside a policy, and a page printed for a file
HASH_CHARS: Final = 12  # of the policy's hash: enough to tell two by; the JSON has the whole
STEPS_SHOWN: Final = 24  # of failover's courses; the JSON has more
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
        (_limits_title(told), _limits(told)),
        ("where such content may be processed and kept by ourselves", _keepers(told)),
        ("whether its answer is kept, and who is given it", _answers(told)),
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
        tokens_in, tokens_out = told.ranked_on
        basis = f", prices compared on {tokens_in:,} tokens in and {tokens_out:,} out"
        lines += _indented(f"ordered by {', then '.join(told.preferences)}{basis}", "  ", "    ")
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
        lines.append(f"  {route.route:>2}  {route.deployment:{width}}  ${route.estimate.usd}  (rank {route.tier})")
        if route.warm:
            lines.append(f"      about {route.warm:,} tokens of the prompt were read there a short while ago")
        lines += [piece for line in _standing(route, told.draw) for piece in _indented(line, "      ", "        ")]
        lines += _labels(route)
    return lines


def _standing(route: Considered, draw: int) -> list[str]:
    """Why a route stands where it stands, a line for each preference that applies."""
    lines = [
        f"by {one.preference}: {_key(one)}" + (f"; so ahead of {', '.join(one.ahead_of)}" if one.ahead_of else "")
        for one in route.standing
    ]
    if route.equals:
        lines.append(f"equal to {', '.join(route.equals)}: they share the load, here by the draw {draw}")
    return lines


def _key(standing: Standing) -> str:
    if standing.preference == WARMTH:
        return f"{standing.key:,.0f} tokens to read, less is better"
    if not standing.parts:
        return "not preferred" if standing.key else "preferred"
    units = {"cost": "$", "latency": ""}
    parts = [
        f"{part.weight:g} x {part.share:g} ({part.name} {units.get(part.name, '') + part.value if part.value else 'not known'}"
        f"{' ms' if part.name == 'latency' and part.value else ''})"
        for part in standing.parts
    ]
    return f"{standing.key:g} = {' + '.join(parts)}, less is better"


def _exclusions(told: Explanation) -> list[str]:
    lines: list[str] = []
    for place in told.exclusions:
        lines += ["", f"  {place.deployment}  ${place.estimate.usd}", *_labels(place)]
        for reason in place.reasons:
            lines += _indented(f"x {reason.word}" + (f": {reason.detail}" if reason.detail else ""), "    ", "      ")
            if reason.kind == Because.RULE:
                lines += _because(reason.because, reason.line, "      ")
            if reason.kind == Because.NO_PERMIT:
                lines += [piece for permit in place.nearest for piece in _indented(f"- {permit}", "      ", "        ")]
    return lines[1:]


def _limits_title(told: Explanation) -> str:
    return f"limits that it counts toward, of {told.workers} worker{'' if told.workers == 1 else 's'}"


def _limits(told: Explanation) -> list[str]:
    lines: list[str] = []
    for limit in told.limits:
        where = f" (at {', '.join(limit.routes)})" if limit.routes else ""
        lines += _indented(f"{limit.whose}: {limit.says}{where}; {limit.then}", "  ", "    ")
        lines += _indented(f"can be overshot: {limit.overshoot.says}", "    ", "      ")
    return lines


def _keepers(told: Explanation) -> list[str]:
    rows = [(k.name, "yes" if k.allowed else f"no: {', '.join(k.rules)}", k.kind) for k in told.keepers]
    lines = _aligned([(name, f"{answer}  ({kind})" if kind != name else answer) for name, answer, kind in rows])
    if not told.side.here:
        return [*lines, "  it may not be processed here at all, so nothing of ours may use it and no side call is made"]
    calls = ", ".join(f"{call.deployment} ({', '.join(call.apis)})" for call in told.side.calls)
    return lines + _indented(f"side calls on its content may go to: {calls or 'nowhere'}", "  ", "    ")


def _answers(told: Explanation) -> list[str]:
    found = told.answers
    if found is None:
        return []
    if found.missing:
        lines = ["  not kept, since no entry of `cache:` surely applies:"]
        return lines + [piece for why in found.missing for piece in _indented(f"- {why}", "    ", "      ")]
    by = f"as {', '.join(found.entries)} would have it"
    if found.barred:
        rules = ", ".join(found.rules)
        return _indented(f"not kept, {by}: the labels of the store `{found.store}` do not meet {rules}", "  ", "    ")
    where = f"in the store `{found.store}`" if found.store else "beside the gateway"
    by = f"as {', '.join(found.entries)} has it"
    lines = _indented(f"kept for {found.ttl_s:,} s, for all of {found.scope} who ask the same: {where}, {by}", "  ", "    ")
    if found.compared_by:
        least = ", ".join(f"{cosine} of {model}" for model, cosine in found.least)
        where = f"{found.compared_by} may be called at {', '.join(found.compared_at)}"
        if not found.compared_at:
            where = f"but {found.compared_by} may be called nowhere, so it is not compared"
        lines += _indented(f"it may be given by likeness as well, from a cosine of {least}; {where}", "  ", "    ")
    return lines


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
    return [piece for line in lines for piece in _indented(line.strip(), "  ", "    ")] + _course(told)


def _course(told: Explanation) -> list[str]:
    """What would happen if each route failed in turn: the steps of every course, in a table."""
    steps = told.course.steps[:STEPS_SHOWN]
    lines = ["", "what happens when one is throttled, exhausted or fails (served or rejected is the end)"]
    names = {step.step: step.deployment for step in told.course.steps}
    width = max(len(step.deployment) for step in steps)
    for step in steps:
        lines += _indented(f"{step.step:>2}  {step.deployment:{width}}  {_then(step, names)}", "  ", " " * (width + 8))
    left = len(told.course.steps) - len(steps)
    if left or not told.course.complete:
        lines.append(f"  and {left or 'some'} more{'' if told.course.complete else ' at the least'}; `--json` lists them")
    return lines


def _then(step: Step, names: dict[int, str]) -> str:
    def to(following: int | None) -> str:
        return f"{following} ({names[following]})" if following is not None else "no more is tried"

    if step.after_alone == step.after_endpoint:
        return f"attempt {step.attempt}, then {to(step.after_alone)}"
    return f"attempt {step.attempt}, then {to(step.after_alone)}; if its whole endpoint is out, {to(step.after_endpoint)}"


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


def _labels(place: Considered) -> list[str]:
    """The price, then each label: what, where, and who says so, since when and until when."""
    rows = [("price", _price(place.estimate)), *((label.name.replace("_", " "), _label(label)) for label in place.labels)]
    return [f"    {line}" for line in _aligned(rows)]


def _label(label: Label) -> str:
    says = []
    if label.state in ("stale", "ended"):
        says.append(f"{label.state} since {label.until[:10]}, so it counts as missing")
    elif label.until:
        says.append(f"until {label.until[:10]}")
    if label.verified:
        says.append(f"verified {label.verified}{_age(label.age_days)}")
    if label.source:
        says.append(label.source)
    return label.words + (f"  ({', '.join(says)})" if says else "")


def _age(days: int | None) -> str:
    if days is None:
        return ""
    plural = "" if abs(days) == 1 else "s"
    return f", {-days} day{plural} later" if days < 0 else f", {days} day{plural} old"


def _price(estimate: Estimate) -> str:
    if not estimate.parts:
        return f"nothing more: {estimate.paid}" + (f" ({estimate.terms})" if estimate.terms else "")
    paid = [f"{p.tokens:,} {p.what} at ${p.usd_per_million}/M" for p in estimate.parts if p.tokens]
    free = [f"{p.what} would be ${p.usd_per_million}/M" for p in estimate.parts if not p.tokens]
    return "; ".join([" + ".join(paid) or "no tokens", *free])


def _because(because: str, line: str, indent: str) -> list[str]:
    where = f"[{line}]" if line else ""
    return _indented(" ".join(part for part in (f"because: {because}" if because else "", where) if part), indent)


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [piece for name, words in rows for piece in _indented(f"{name:{width}}  {words}", "  ", " " * (width + 4))]


def _indented(text: str, indent: str, hanging: str | None = None) -> list[str]:
    following = indent if hanging is None else hanging
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False)
