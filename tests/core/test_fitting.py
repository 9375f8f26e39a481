"""What a request needs, what the policy's limits allow, and what a decision without routes is called."""

from typing import Any

import pytest
from worlds import decided, live_state, place, routes, rule, world

from gateway.core.decide import Verdict
from gateway.core.exchange import Needs

NEEDS = [
    ("an api", {"apis": {"embeddings"}}, Needs("chat"), "needs: chat"),
    ("a window for the longest", {"context": 100}, Needs("chat", prompt_tokens=9, longest_tokens=100), "needs: context"),
    ("an ability", {"abilities": {"tools"}}, Needs("chat", frozenset({"vision"})), "needs: vision"),
    ("a kind of tool", {"tools": {"function"}}, Needs("chat", tools=frozenset({"web_search"})), "needs: tool web_search"),
    ("remote content", {}, Needs("chat", remote_content=True), "needs: remote_content"),
    ("a longer window", {"context": 100}, Needs("chat", prompt_tokens=100), "needs: context"),
    ("a window that is known", {"context": None}, Needs("chat"), "needs: context"),
]


@pytest.mark.parametrize(("labels", "needs", "word"), [row[1:] for row in NEEDS], ids=[row[0] for row in NEEDS])
def test_what_lacks_what_is_needed_is_excluded_with_that_reason(labels: dict[str, Any], needs: Needs, word: str) -> None:
    able = place("able", abilities={"tools", "vision"}, tools={"function", "web_search"}, remote_content=True)
    decision = decided(world([place("lacking", **labels), able]), needs=needs)
    assert routes(decision) == ["able/m1"]
    assert [reason.word for reason in decision.exclusions["lacking/m1"]] == [word]


BOTH = {"chat", "embeddings"}


def test_an_exclusion_says_whether_the_model_or_its_place_is_not_for_an_api() -> None:
    speaker, embedder = {"model": "m1", "model_apis": {"chat"}}, {"model": "m2", "model_apis": {"embeddings"}}
    of = world([place("a", apis=BOTH, **speaker), place("b", apis={"chat"}, **embedder), place("c", apis=BOTH, **embedder)])
    of |= {"places": [*of["places"], place("d", apis={"responses"}, **speaker)]}
    decision = decided(of, needs=Needs("embeddings", prompt_tokens=9))
    assert routes(decision) == ["c/m2"]
    told = {name: [reason.detail for reason in reasons] for name, reasons in decision.exclusions.items()}
    assert told == {
        "a/m1": ["`m1` is for chat, not for `embeddings`"],
        "b/m2": ["its labels hold for chat, not for `embeddings`"],
        "d/m1": ["`m1` is for chat, not for `embeddings`; its labels hold for responses, not for `embeddings`"],
    }


def test_a_vector_is_no_tokens_in_any_estimate() -> None:
    dear = place("dear", apis=BOTH, model_apis=BOTH, price=(1.0, 1e6))
    assert routes(decided(world([dear], limit=0.01), needs=Needs("embeddings", prompt_tokens=9))) == ["dear/m1"]
    assert routes(decided(world([dear], limit=0.01), needs=Needs("chat", prompt_tokens=9))) == []


@pytest.mark.parametrize(("prompt_tokens", "fits"), [(0, "sml"), (99, "sml"), (100, "ml"), (200, "l"), (399, "l"), (400, "")])
def test_a_prompt_and_one_token_of_answer_must_fit_the_window(prompt_tokens: int, fits: str) -> None:
    of = world([place("s", context=100), place("m", context=200), place("l", context=400)])
    found = routes(decided(of, needs=Needs("chat", prompt_tokens=prompt_tokens)))
    assert found == [f"{name}/m1" for name in fits]


def test_the_limit_is_on_the_estimate() -> None:
    cheap, dear, owned = (place(n, price=p) for n, p in (("cheap", (1.0, 1.0)), ("dear", (100.0, 100.0)), ("owned", "capacity")))
    of = world([cheap, dear, owned], limit=0.01)
    decision = decided(of, needs=Needs("chat", prompt_tokens=100, output_tokens=100))
    assert routes(decision) == ["cheap/m1", "owned/m1"]
    assert [reason.word for reason in decision.exclusions["dear/m1"]] == ["limit: usd_per_request"]
    assert routes(decided(of, needs=Needs("chat", prompt_tokens=5_000, output_tokens=5_000))) == ["cheap/m1", "owned/m1"], "just so"
    assert routes(decided(of, needs=Needs("chat", prompt_tokens=5_001, output_tokens=5_000))) == ["owned/m1"]


def test_reasons_of_every_kind_are_told_together() -> None:
    poor = place("e", processed_in={"US"}, abilities=set(), context=10, price=(1e6, 1e6), enabled=False)
    of = world([poor], [rule("require", {"processed_in": {"DE"}}, "germany")], limit=0.01) | {"stores": {}}
    decision = decided(of, asked={"m2"}, needs=Needs("chat", frozenset({"vision"}), prompt_tokens=100), live=live_state(["e/m1"]))
    assert [reason.word for reason in decision.exclusions["e/m1"]] == [
        "germany",
        "not asked",
        "disabled",
        "needs: vision",
        "needs: context",
        "limit: usd_per_request",
        "live: throttled",
    ]


SHORT, BLIND = place("short", context=10, abilities={"vision"}), place("blind", abilities=set())
VERDICTS = [
    ("routed", [place()], {}, Verdict.ROUTED),
    ("no permit", [place()], {"rules": []}, Verdict.REFUSED),
    ("too long for all", [SHORT], {}, Verdict.TOO_LONG),
    ("too long for one, and the other lacks an ability", [SHORT, BLIND], {"needs": frozenset({"vision"})}, Verdict.TOO_LONG),
    ("lacking, and long", [place("e", context=10, abilities=set())], {"needs": frozenset({"vision"})}, Verdict.REFUSED),
    ("a window that is not known: no shorter prompt would mend it", [place(context=None)], {}, Verdict.REFUSED),
    ("too long where it may go", [SHORT, place("f", provider="zai")], {"no_zai": True}, Verdict.TOO_LONG),
    ("over the limit", [place(price=(1e6, 1e6))], {"limit": 0.01}, Verdict.REFUSED),
    ("one text of several too long", [SHORT], {"longest": 20}, Verdict.TOO_LONG),
    ("throttled", [place()], {"blocked": ["e/m1"]}, Verdict.UNAVAILABLE),
    ("one throttled, one too short", [place(), SHORT], {"blocked": ["e/m1"]}, Verdict.UNAVAILABLE),
]  # fmt: skip


@pytest.mark.parametrize(("places", "more", "verdict"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_verdict(places: list[Any], more: dict[str, Any], verdict: Verdict) -> None:
    of = world(places, [rule("forbid", {"provider": {"zai"}})] if "no_zai" in more else [], limit=more.get("limit"))
    of |= {"rules": more["rules"]} if "rules" in more else {}
    needs = Needs("chat", more.get("needs", frozenset()), prompt_tokens=100, longest_tokens=more.get("longest", 0))
    decision = decided(of, needs=needs, live=live_state(more.get("blocked", ())))
    assert decision.verdict is verdict


def test_what_blocks_is_only_what_rules_allow() -> None:
    of = world([place("a"), place("b", provider="zai")], [rule("forbid", {"provider": {"zai"}})])
    decision = decided(of, live=live_state(["a/m1", "b/m1"]))
    assert len(decision.blocking) == 1
    assert decision.refusing_rules == ("live: throttled", "forbid")
