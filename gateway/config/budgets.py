"""Budgets: how much a key, a tenant, a group or a tag may spend per day, month or any span of time, in US dollars or tokens."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from gateway.config.documents import Node, Sequence
from gateway.config.known import Known
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At, amount, field, whole, word
from gateway.config.shapes import Amount, Key, ListOf, Record, Whole, Word
from gateway.config.tariffs import SPAN, SPAN_S, WHEN_LOST, lost
from gateway.core.budgets import MONEY, TOKENS, Budget, WhenSpent

MICRO: Final = 1_000_000
WINDOWS: Final = ("day", "month")
ROLLING_S_MAX: Final = 366 * 86_400  # a year and a day; what was spent has to be remembered for so long

BUDGET: Final = Record(
    "a budget",
    (
        Key(MONEY, Amount("US dollars", Decimal("0.01"), Decimal(100_000_000)), "US dollars, at the margin", 200),
        Key(TOKENS, Whole("tokens", 1, 10**15), "tokens of prompts and answers", 5_000_000),
        Key(
            "per",
            Word("`day`, `month`, or a span such as `7d`", pattern=f"{'|'.join(WINDOWS)}|{SPAN.pattern}"),
            "`day` and `month` begin at 00:00 UTC; a span is whatever so long one looks at",
            "month",
            required=True,
        ),
        Key(
            "warn_at",
            ListOf(Amount("a share", Decimal("0.01"), Decimal("0.99"))),
            "shares of it; past each, a metric and a line in the log say so, and nothing else happens",
            [0.8],
        ),
        Key(
            "when_spent",
            Word("what happens then", of=tuple(WhenSpent)),
            "to a request that would cost more than is left: `refuse` (the default), or `cheaper`, which leaves it the routes that "
            "do not, such as your own machines",
            "refuse",
        ),
        WHEN_LOST,
    ),
    one_of=(MONEY, TOKENS),
)

BUDGETS: Final = ListOf(BUDGET)


def compile_budgets(what: str, node: Node | None, problems: Problems) -> tuple[Budget, ...]:
    """What `budgets:` of `what` says, in an order of its own."""
    found: dict[tuple[str, str, int], Budget] = {}
    for item in node.items if isinstance(node, Sequence) else ():
        budget = _budget(item, problems)
        if budget is None:
            continue  # told by its shape
        if budget.window_of in found:
            twice = f"{what} with two budgets of `{budget.unit}` for one window"
            problems.add(item.mark, twice, "the smaller one holds; keep that")
        found.setdefault(budget.window_of, budget)
    return tuple(found[window] for window in sorted(found))


def compile_tag_budgets(
    section: Mapping[str, tuple[Mark, Node]], known: Known, problems: Problems
) -> dict[str, tuple[Budget, ...]]:
    """The budgets of tags, by tag."""
    found = {}
    for tag, (mark, node) in sorted(section.items()):
        if known.has("tag", At(tag, mark), problems):
            found[tag] = compile_budgets(f"the tag {show(tag)}", node, problems)
    return found


def _budget(node: Node, problems: Problems) -> Budget | None:
    usd, tokens, per = amount(field(node, MONEY)), whole(field(node, TOKENS)), word(field(node, "per"))
    if per is None or (usd is None) == (tokens is None):
        return None
    window, per_s = per.word, 0
    if window not in WINDOWS:
        span = SPAN.fullmatch(window)
        if span is None:
            return None
        window, per_s = "rolling", int(span[1]) * SPAN_S[span[2]]
        if per_s > ROLLING_S_MAX:
            problems.add(per.mark, f"`{per.word}`", "a span of at most 366 days")
    spent = word(field(node, "when_spent"))
    if spent is not None and spent.word == WhenSpent.CHEAPER and tokens is not None:
        problems.add(spent.mark, "`cheaper` of a budget of tokens", "tokens are as many everywhere: `refuse`, or a budget of `usd`")
    shares = field(node, "warn_at")
    return Budget(
        unit=MONEY if tokens is None else TOKENS,
        amount=tokens if tokens is not None else int((usd or Decimal(0)) * MICRO),
        window=window,
        per_s=per_s,
        warn_at=_shares(shares.items if isinstance(shares, Sequence) else ()),
        when_spent=WhenSpent(spent.word) if spent is not None and spent.word in tuple(WhenSpent) else WhenSpent.REFUSE,
        when_lost=lost(node),
    )


def _shares(items: Iterable[Node]) -> tuple[Decimal, ...]:
    return tuple(sorted({share for item in items if (share := amount(item)) is not None}))


def warn_of_idle(
    what: str, mark: Mark, budgets: tuple[Budget, ...], whose: str, above: tuple[Budget, ...], warnings: Problems
) -> None:
    """What is spent is spent of both, a holder's budget and that of whoever stands above it: what is wider never decides."""
    for budget in budgets:
        for other in above:
            if budget.window_of == other.window_of and budget.amount > other.amount:
                warnings.add(mark, f"{what} with a budget of `{budget.unit}` above {whose}", f"{whose} holds for it, too")
