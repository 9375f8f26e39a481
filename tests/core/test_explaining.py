"""What is said of a decision: to the caller, to whoever answers for the policy, and to machines."""

import json
from dataclasses import replace
from typing import Any

import pytest
from worlds import EEA, LATER, NOW, PAST, Engine, decided, keeper, live_state, place, request_facts, rule, world

from gateway.core.accounts import WhenLost
from gateway.core.budgets import Budget, WhenSpent
from gateway.core.decide import Decision
from gateway.core.exchange import Needs
from gateway.core.explain import as_json, as_text, told
from gateway.core.live import ALL_WELL
from gateway.core.policy import Caching, FactTest, Key, Tenant
from gateway.core.rates import Rate, Rates
from gateway.core.refusal import MESSAGE_BYTES_MAX
from gateway.core.view import View
from gateway.core.wording import Wording

SENSITIVE = {"personal", "special"}
EUROPE = [
    rule("permit", {"processed_in": EEA}, "europe", region=EEA),
    rule(
        "require",
        {"processed_in": EEA, "operated_under": EEA, "assurances": {"dpa"}},
        "personal",
        data_class={"personal", "special"},
    ),
    rule("forbid", {"processed_in": {"CN"}}, "no-china", data_class=SENSITIVE),
]
PLACES = [
    place("frankfurt", provider="ours", price="capacity", assurances={"dpa"}),
    place("paris", model="m2", price=(1.65, 8.25), assurances={"dpa"}, stale={"dpa": LATER}),
    place("shanghai", provider="zai", processed_in={"CN"}, operated_under={"CN"}),
    place("wherever", processed_in=None, stale={"operated_under": PAST}),
]
WORLD = world(PLACES, gateway=keeper(assurances={"dpa"}), stores={"cache": keeper(processed_in={"US"})}) | {"rules": EUROPE}
ROUTED = decided(WORLD, data_class={"personal"})
REFUSED = decided(WORLD, region={"CN"}, data_class={"personal", "special"})


def described(decision: Decision, name: str) -> dict[str, Any]:
    told_of: Any = as_json(decision)["deployments"]
    return next(found for found in told_of if found["deployment"] == name)


# --- as JSON ----------------------------------------------------------------------------------------------------------------


def test_every_deployment_is_told_of_and_the_whole_is_json() -> None:
    told_of: Any = json.loads(json.dumps(as_json(ROUTED)))
    assert [found["deployment"] for found in told_of["deployments"]] == ["frankfurt/m1", "paris/m2", "shanghai/m1", "wherever/m1"]
    assert told_of == as_json(ROUTED)
    assert told_of["verdict"] == "routed"
    assert told_of["failover"] == told_of["reachable"] == ["frankfurt/m1", "paris/m2"]


def test_a_route_is_told_with_rank_attempt_price_and_labels() -> None:
    paris = described(ROUTED, "paris/m2")
    assert (paris["route"], paris["attempt"], paris["reasons"]) == (2, 2, [])
    assert paris["estimate"] == {
        "paid": "tokens",
        "usd": "0.00429",
        "terms": "",
        "parts": [
            {"what": "input", "tokens": 100, "usd_per_million": "1.65", "usd": "0.000165"},
            {"what": "cached input", "tokens": 0, "usd_per_million": "1.65", "usd": "0"},
            {"what": "output", "tokens": 500, "usd_per_million": "8.25", "usd": "0.004125"},
        ],
    }
    labels = {label["name"]: label for label in paris["labels"]}
    assert labels["processed_in"]["words"] == "DE"
    assert labels["processed_in"]["source"] == "a source"
    assert labels["assurance"] == {
        "name": "assurance",
        "words": "dpa",
        "state": "holds",
        "source": "a contract",
        "verified": "",
        "age_days": None,
        "until": "1970-01-01T00:25:00Z",
    }
    ours = described(ROUTED, "frankfurt/m1")["estimate"]
    assert ours == {
        "paid": "capacity",
        "usd": "0",
        "terms": "$12.8 an hour whether used or not, 48 requests at once",
        "parts": [],
    }


def test_an_exclusion_is_told_with_every_reason_and_where_it_stands() -> None:
    shanghai = described(ROUTED, "shanghai/m1")
    assert [reason["word"] for reason in shanghai["reasons"]] == ["no-china", "personal", "no permit"]
    assert shanghai["reasons"][1]["detail"] == (
        "processed_in is CN and operated_under is CN and assurances is none; "
        "wanted is processed_in within EEA and operated_under within EEA and assurances with dpa"
    )
    assert shanghai["reasons"][1]["because"] == "because of personal"
    assert shanghai["reasons"][1]["line"] == "rules.yaml:8"
    assert shanghai["nearest"] == ["`europe`: processed_in is CN; wanted is processed_in within EEA"]
    assert (shanghai["route"], shanghai["tier"], shanghai["attempt"]) == (None, None, None)


def test_labels_that_do_not_hold_say_so() -> None:
    states = {label["name"]: label["state"] for label in described(ROUTED, "wherever/m1")["labels"]}
    assert states == {"processed_in": "anywhere", "operated_under": "stale", "origin": "holds"}


def test_keepers_and_the_gateway_are_told_of() -> None:
    keepers: Any = as_json(ROUTED)["keepers"]
    assert {kept["name"]: (kept["allowed"], kept["rules"]) for kept in keepers} == {
        "gateway": (True, []),
        "cache": (False, ["personal"]),
    }


PUBLIC = FactTest("data_class", frozenset({"public"}))


def cached(*entries: Caching, of: dict[str, Any] = WORLD, **facts: Any) -> Decision:
    """What is decided where these entries have answers kept."""
    engine = Engine()
    found = engine.snapshot(of)
    view = View(replace(found, policy=replace(found.policy, caching=entries)), NOW)
    return engine.decide(view, request_facts(facts), Needs("chat", prompt_tokens=100), ALL_WELL, 0)


def answers_of(decision: Decision) -> tuple[Any, str]:
    """What is said of its answers, to machines and to people."""
    text = as_text(decision)
    part = text.partition("whether its answer is kept, and who is given it\n")[2].partition("\n\n")[0]
    return as_json(decision)["answers"], " ".join(part.split())


def test_whether_the_answer_is_kept_and_why_not() -> None:
    everyone, faq = Caching("all", (), 3600, line="cost.yaml:3"), Caching("faq", (PUBLIC,), 600, "faq", line="cost.yaml:4")
    open_world = WORLD | {"stores": {}}
    told_of, text = answers_of(cached(everyone, faq, of=open_world))
    assert (told_of["entries"], told_of["scope"], told_of["ttl_s"]) == (["all [cost.yaml:3]"], "tenant/a", 3600)
    assert text == "kept for 3,600 s, for all of tenant/a who ask the same: beside the gateway, as all [cost.yaml:3] has it"
    told_of, text = answers_of(cached(faq, of=open_world, data_class={"public"}))
    assert (told_of["scope"], told_of["ttl_s"]) == ("scope/faq", 600)
    told_of, text = answers_of(cached(faq, Caching("vectors", (), 60, apis=frozenset({"embeddings"}))))
    assert told_of["missing"] == [
        "`faq` asks for data_class public; data_class is internal",
        "`vectors` keeps embeddings, and not chat",
    ]
    assert text.startswith("not kept, since no entry of `cache:` surely applies: - `faq` asks for data_class public;")
    told_of, text = answers_of(cached(everyone, data_class={"personal"}))
    assert (told_of["barred"], told_of["store"], told_of["rules"]) == (True, "cache", ["personal"])
    assert text == "not kept, as all [cost.yaml:3] would have it: the labels of the store `cache` do not meet personal"
    assert answers_of(cached()) == (None, "")


def test_facts_say_what_is_known() -> None:
    facts: Any = as_json(REFUSED)["facts"]
    found = {fact["name"]: (fact["words"], fact["known"]) for fact in facts}
    assert found["data_class"] == ("at least personal", False)
    assert found["region"] == ("CN", True)
    assert found["categories"] == ("none", True)


def test_routes_too_far_down_are_told_as_never_tried() -> None:
    many = decided(world([place(f"e{n}") for n in range(3)], attempts_max=2))
    assert described(many, "e2/m1")["attempt"] is None
    assert "allowed, but too far down to be tried: e2/m1" in as_text(many)


def test_what_whole_endpoints_reach_is_told_apart() -> None:
    of = world([place("a", model="m1"), place("a", model="m2"), place("b", model="m1")], attempts_max=2)
    assert as_json(decided(of))["failover"] == ["a/m1", "a/m2"]
    assert as_json(decided(of))["reachable"] == ["a/m1", "a/m2", "b/m1"]
    assert "if whole endpoints fail, also: b/m1" in as_text(decided(of))


# --- as text ----------------------------------------------------------------------------------------------------------------


def test_text_leads_with_what_it_came_to() -> None:
    assert as_text(ROUTED).startswith("ROUTED to frankfurt/m1, with 1 more to fall back on\n")
    assert as_text(REFUSED).startswith("REFUSED\n")


def test_text_of_a_refusal_names_rule_reason_and_what_is_nearest() -> None:
    text = as_text(REFUSED)
    assert "x no permit: no permit surely matches this request and this deployment" in text
    assert "- `europe` asks for region EEA; region is CN" in text
    assert "frankfurt/m1, which would be a route but for\n    - no permit: `europe` asks for region EEA; region is CN" in text
    assert "none. Nothing of it is sent anywhere." in text


@pytest.mark.parametrize("decision", [ROUTED, REFUSED], ids=["routed", "refused"])
def test_lines_are_short_and_clean(decision: Decision) -> None:
    lines = as_text(decision).split("\n")
    assert max(map(len, lines)) <= 108
    assert all(line == line.rstrip() for line in lines)


# --- to the caller ----------------------------------------------------------------------------------------------------------


def test_a_refusal_names_rules_reasons_and_what_to_change() -> None:
    of = world([place("us", operated_under={"US"})], [EUROPE[1]], gateway=keeper(assurances={"dpa"}))
    message = told(decided(of, data_class={"personal"}))
    assert message == (
        "no route is allowed for this request: of 1 deployment for `auto`, rule `personal` (because of personal) rules out 1. "
        "To change that: ask for another model, or ask the owner of the policy for a permit or a place that meets its rules."
    )


def test_a_refusal_says_which_fact_could_be_made_known() -> None:
    assert "declare `x-gateway-data-class` if this key may (it now counts as each of personal, special)" in told(REFUSED)


def test_a_refusal_by_the_gateway_itself_says_so() -> None:
    of = world([place(assurances={"dpa"})], [EUROPE[1]])
    message = told(decided(of, data_class={"personal"}))
    assert message.startswith("such content may not be processed by this gateway at all: rule `personal`")


def test_a_name_that_nothing_serves() -> None:
    assert told(decided(world(), asked={"m2"})) == "no deployment in the catalogue serves `m2`."


def test_too_long_says_both_lengths() -> None:
    message = told(decided(world(), needs=Needs("chat", prompt_tokens=50_000)))
    assert "about 50,000 tokens" in message
    assert "10,000" in message


def test_unavailable_says_that_waiting_helps() -> None:
    message = told(decided(world(), live=live_state(["e/m1"])))
    assert "1 route for `auto` is allowed" in message
    assert "throttled: 1" in message


def test_messages_are_bounded_and_tell_no_place() -> None:
    many = [rule("forbid", {"provider": {"mistral"}}, f"rule-{n}-{'x' * 200}") for n in range(40)]
    secretive = world([place(f"secret-host-{n}") for n in range(40)], many)
    message = told(decided(secretive, region={"DE", "US", "CN"}))
    assert len(message.encode()) <= MESSAGE_BYTES_MAX
    assert "secret-host" not in message
    assert told(ROUTED) == ""


# --- words ------------------------------------------------------------------------------------------------------------------

WORDS = Wording(decided(world()).view.snapshot.policy.vocabulary)


@pytest.mark.parametrize(
    ("countries", "words"),
    [
        (None, "anywhere, as nobody vouches for it"),
        ({"DE", "FR"}, "EEA"),
        ({"DE", "FR", "US"}, "EEA, US"),
        ({"DE"}, "DE"),
        ({"CN"}, "CN"),
        ({"DE", "FR", "US", "CN"}, "any country"),
        (set(), "none"),
    ],
)
def test_places_in_words(countries: set[str] | None, words: str) -> None:
    assert WORDS.places(countries) == words


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"personal", "special"}, "at least personal"),
        ({"public", "internal"}, "at most internal"),
        ({"public", "internal", "personal", "special"}, "any class"),
        ({"internal", "personal"}, "internal, personal"),
        ({"special"}, "special"),
    ],
)
def test_classes_in_words(classes: set[str], words: str) -> None:
    assert WORDS.fact("data_class", classes) == words


# --- limits -----------------------------------------------------------------------------------------------------------------


def limits(decision: Decision, workers: int = 1) -> list[dict[str, Any]]:
    found = as_json(decision, workers)["limits"]
    assert isinstance(found, list)
    return found


def test_limits_are_told_with_what_happens_past_them_and_how_far_they_can_be_overshot() -> None:
    snapshot = ROUTED.view.snapshot
    rates = Rates(requests=Rate(600, 60), when_lost=WhenLost.ADMIT)
    budget = Budget("usd", 5_000_000, "day", when_spent=WhenSpent.CHEAPER)
    key = Key("k", "a", b"", None, False, {}, frozenset(), rates=rates, budgets=(budget,))
    limited = replace(snapshot, access=replace(snapshot.access, keys={"k": key}, tenants={"a": Tenant("a", None, {})}))
    decision = replace(ROUTED, view=View(limited, NOW))
    alone, many = limits(decision), limits(decision, 4)
    assert [one["id"] for one in alone] == ["rate/key/k/requests", "budget/key/k/usd-day", "room/frankfurt"]
    assert many[0]["overshoot"] == {"answering": 19, "lost": None, "says": many[0]["overshoot"]["says"]}
    assert many[1]["overshoot"]["lost"] == 5_000_000
    assert alone[1]["overshoot"]["lost"] == 0
    text = as_text(decision, 4)
    assert "limits that it counts toward, of 4 workers" in text
    assert "the key `k`: 600 requests per minute; more is told 429" in text
    assert "5 USD per day; more goes only where it costs no more than is left" in text


def test_room_is_told_with_the_share_of_each_worker_and_how_much_more_may_come_together() -> None:
    snapshot = ROUTED.view.snapshot
    plain = as_text(ROUTED)
    assert "the endpoint `frankfurt`: room for 48 requests at once (at frankfurt/" in plain
    assert "can be overshot: not at all; another machine has as much again" in plain
    state = replace(snapshot.policy.gateway, name="state", kind="store", url="env:URL")
    shared = replace(ROUTED, view=View(replace(snapshot, policy=replace(snapshot.policy, stores=(state,))), NOW))
    (room,) = limits(shared, 4)
    assert room["says"] == "room for 48 requests at once, 12 for each of 4 workers"
    assert (room["overshoot"]["answering"], room["overshoot"]["lost"]) == (52, 52), "48, then 24, 16 and 12"
    assert "by at most 52 while a machine that has come is not heard of yet (2 s)" in room["overshoot"]["says"]
    (room,) = limits(shared, 96)
    assert room["overshoot"]["says"].startswith("by at most 48, as each worker has one at the least; by at most ")
    (room,) = limits(shared)
    assert room["overshoot"]["says"] == "not at all", "of one worker"
