"""Small worlds in plain dicts and sets, and how the engine's values are made of them.

A world is what tests write down and what the specification in `oracle.py` reads. The engine never sees it: `Engine.snapshot`
compiles it. An `Engine` is everything that decides, as one object, so that a test can be given one with a fault planted in it.
"""

from collections.abc import Generator, Iterable, Mapping
from decimal import Decimal
from typing import Any

from gateway.core.bounds import Bounds
from gateway.core.decide import Decision, decide
from gateway.core.exchange import Attempt, Needs, Outcome
from gateway.core.facts import RequestFacts, Vocabulary
from gateway.core.failover import failover
from gateway.core.live import ALL_WELL, Blocked, LiveState
from gateway.core.policy import (
    Access,
    Assurance,
    Deployment,
    Endpoint,
    FactTest,
    Keeper,
    LabelTest,
    Limits,
    Model,
    Places,
    Policy,
    Preference,
    Rule,
    Snapshot,
    Tls,
    When,
)
from gateway.core.pricing import Capacity, Plan, Price, Tariff
from gateway.core.terms import DATA_CLASSES, Effect
from gateway.core.view import View

World = dict[str, Any]
Facts = dict[str, Any]

NOW = 1_000.0
PAST = 500.0  # a label that ends here is stale
LATER = 1_500.0  # and one that ends here will be
EEA = frozenset({"DE", "FR"})
COUNTRIES = EEA | {"US", "CN"}
CATEGORIES = frozenset({"health", "card"})

PLACE: World = {
    "provider": "mistral",
    "model": "m1",
    "processed_in": {"DE"},
    "operated_under": {"DE"},
    "origin": {"FR"},
    "assurances": {},
    "stale": {},  # label or assurance -> the instant at which it goes stale or ends
    "apis": {"chat"},
    "model_apis": {"chat"},  # what its model is for
    "tools": {"function"},
    "abilities": {"tools"},
    "context": 10_000,
    "remote_content": False,
    "enabled": True,
    "price": (1.0, 2.0),  # USD per million tokens, in and out; "plan" or "capacity": paid for anyway
    "scores": {},
}
FACTS: Facts = {
    "tenant": {"a"},
    "group": {"-"},
    "key": {"k"},
    "region": {"DE"},
    "data_class": {"internal"},
    "categories": set(),
    "asked": {"auto"},
    "api": {"chat"},
    "task": {"other"},
    "tag": {"other"},
    "language": {"en"},
    "ability": set(),
    "stream": {"false"},
    "prompt_tokens": 100,
}


def place(endpoint: str = "e", **labels: Any) -> World:
    """One deployment at `endpoint`, like PLACE but for `labels`."""
    return PLACE | {"endpoint": endpoint} | labels


def identifier(of: World) -> str:
    """A place's deployment id."""
    return f"{of['endpoint']}/{of['model']}"


def keeper(**labels: Any) -> World:
    """The gateway, a store or a sink of ours in Germany, but for `labels`."""
    return {"provider": "ours", "processed_in": {"DE"}, "operated_under": {"DE"}, "assurances": {}, "stale": {}} | labels


def rule(effect: str, says: Any = (), identifier: str = "", **when: Any) -> World:
    """A rule. `says` is one alternative or a list of them; `when` maps facts to sets of values."""
    alternatives = list(says) if isinstance(says, list | tuple) and says else [says or {}]
    return {"id": identifier or effect, "effect": effect, "when": when, "says": alternatives}


PERMIT_ALL = rule("permit", identifier="permit-all")


def world(places: Iterable[World] = (), rules: Iterable[World] = (), **more: Any) -> World:
    """A world that permits everything, but for `rules`."""
    return {
        "places": list(places) or [place()],
        "rules": [PERMIT_ALL, *rules],
        "gateway": keeper(),
        "stores": {},
        "sinks": {},
        "preferences": [],
        "aliases": {"auto": {"m1", "m2"}},
        "limit": None,
    } | more


def request_facts(facts: Mapping[str, Any] | None = None, **changed: Any) -> RequestFacts:
    """FACTS, but for what is `changed`."""
    whole = FACTS | dict(facts or {}) | changed
    fields: dict[str, Any] = {name: value if isinstance(value, int) else frozenset(value) for name, value in whole.items()}
    return RequestFacts(**fields)


def live_state(
    blocked: Iterable[str] = (), latency_ms: Mapping[str, int] | None = None, warm: Mapping[str, int] | None = None
) -> LiveState:
    """Live state in which `blocked` deployments are throttled."""
    throttled = {name: Blocked("throttled", "429", NOW + 5) for name in sorted(blocked)}
    return LiveState(throttled, dict(latency_ms or {}), dict(warm or {}))


class Engine:
    """Everything that decides. A fault is planted by overriding one method."""

    def fact_test(self, effect: str, fact: str, values: Any) -> FactTest:
        """One test of a rule's `when`. A pair of ints is a range."""
        if isinstance(values, tuple):
            return FactTest(fact, at_least=values[0], at_most=values[1])
        return FactTest(fact, frozenset(values))

    def label_test(self, attribute: str, values: Any) -> LabelTest:
        """One test of labels. An int is a number's `at_least`."""
        return LabelTest(attribute, at_least=values) if isinstance(values, int) else LabelTest(attribute, frozenset(values))

    def rule(self, identifier: str, effect: Effect, when: When, says: tuple[tuple[LabelTest, ...], ...]) -> Rule:
        """One rule."""
        return Rule(identifier, effect, when, says, f"because of {identifier}", f"rules.yaml:{len(identifier)}")

    def places(self, countries: Iterable[str] | None, until: float | None) -> Places:
        """One label of places; None is anywhere."""
        return Places(None if countries is None else frozenset(countries), "a source", "2026-01-01", until)

    def assurance(self, name: str, until: float | None) -> Assurance:
        """One assurance."""
        return Assurance(name, until, "a contract")

    def view(self, snapshot: Snapshot, instant: float) -> View:
        """`snapshot` as of `instant`."""
        return View(snapshot, instant)

    def decide(self, view: View, facts: RequestFacts, needs: Needs, live: LiveState, draw: int) -> Decision:
        """The decision."""
        return decide(view, facts, needs, live, draw)

    def failover(self, decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
        """What is tried."""
        return failover(decision, attempts_max)

    # --- from a world to the engine's values ---------------------------------------------------------------------------

    def snapshot(self, of: World) -> Snapshot:
        """The compiled form of a world."""
        models = {name: self._model(name, of) for name in sorted({p["model"] for p in of["places"]})}
        policy = Policy(
            hash="a-policy",
            vocabulary=vocabulary(),
            gateway=self._keeper("gateway", "gateway", of["gateway"]),
            stores=tuple(self._keeper(name, "store", found) for name, found in of["stores"].items()),
            sinks=tuple(self._keeper(name, "sink", found) for name, found in of["sinks"].items()),
            deployments=tuple(self._deployment(found, models) for found in of["places"]),
            models=models,
            aliases={name: frozenset(members) for name, members in of["aliases"].items()},
            rules=tuple(self._rule(found) for found in of["rules"]),
            preferences=tuple(self._preference(found) for found in of["preferences"]),
            limits=Limits(None if of["limit"] is None else Decimal(str(of["limit"]))),
            bounds=Bounds(attempts_max=of.get("attempts_max", 4)),
        )
        return Snapshot(policy, Access("an-access", {}, {}))

    def _rule(self, found: World) -> Rule:
        when = tuple(self.fact_test(found["effect"], fact, values) for fact, values in found["when"].items())
        return self.rule(found["id"], Effect(found["effect"]), when, self._says(found["says"]))

    def _says(self, alternatives: Iterable[World]) -> tuple[tuple[LabelTest, ...], ...]:
        return tuple(tuple(self.label_test(name, values) for name, values in tests.items()) for tests in alternatives)

    def _preference(self, found: World) -> Preference:
        when = tuple(self.fact_test("prefer", fact, values) for fact, values in found["when"].items())
        return Preference(found["id"], when, self._says(found.get("prefer", ())), found.get("rank", {}))

    def _labels(self, found: World) -> dict[str, Any]:
        stale = found["stale"]
        return {
            "processed_in": self.places(found["processed_in"], stale.get("processed_in")),
            "operated_under": self.places(found["operated_under"], stale.get("operated_under")),
            "assurances": tuple(self.assurance(name, stale.get(name)) for name in sorted(found["assurances"])),
        }

    def _keeper(self, name: str, kind: str, found: World) -> Keeper:
        return Keeper(name=name, kind=kind, provider=found["provider"], **self._labels(found))

    def _model(self, name: str, of: World) -> Model:
        found = next(p for p in of["places"] if p["model"] == name)
        origin = self.places(found["origin"], found["stale"].get("origin"))
        abilities, apis = frozenset(found["abilities"]), frozenset(found["model_apis"])
        return Model(name, origin, found["context"], abilities, frozenset(), found["scores"], apis=apis)

    def _deployment(self, found: World, models: Mapping[str, Model]) -> Deployment:
        labels = self._labels(found)
        endpoint = Endpoint(
            id=found["endpoint"],
            provider=found["provider"],
            dialect="openai",
            scheme="https",
            host=f"{found['endpoint']}.example",
            port=443,
            path="/v1",
            secret=None,
            resolves_to=(),
            tls=Tls(),
            apis=frozenset(found["apis"]),
            tools=frozenset(found["tools"]),
            remote_content=found["remote_content"],
            **labels,
        )
        return Deployment(
            id=identifier(found),
            endpoint=endpoint,
            model=models[found["model"]],
            upstream_model=found["model"],
            tariff=tariff(found["price"]),
            context=found["context"],
            abilities=frozenset(found["abilities"]),
            enabled=found["enabled"],
            **labels,
        )


def tariff(price: Any) -> Tariff:
    """(in, out) or (in, out, cached in) in USD per million tokens, or "plan", or "capacity"."""
    if price == "plan":
        return Tariff(plan=Plan("pro", Decimal(18), (), "refuse"))
    if price == "capacity":
        return Tariff(capacity=Capacity(Decimal("12.80"), 48))
    prompt, output, *cached = (Decimal(str(usd)) for usd in price)
    return Tariff(price=Price(prompt, output, cached[0] if cached else prompt, prompt))


def vocabulary() -> Vocabulary:
    """The words of every world."""
    return Vocabulary(
        countries=frozenset(COUNTRIES),
        zones={"EEA": EEA, "CN": frozenset({"CN"})},
        data_classes=DATA_CLASSES,
        categories=CATEGORIES,
        tasks=frozenset({"coding", "other"}),
        tags=frozenset({"other"}),
        languages=frozenset({"en", "zh"}),
    )


def decided(
    of: World,
    facts: Mapping[str, Any] | None = None,
    needs: Needs | None = None,
    live: LiveState = ALL_WELL,
    *,
    draw: int = 0,
    instant: float = NOW,
    engine: Engine | None = None,
    **changed: Any,
) -> Decision:
    """The decision of a fresh view of a world on FACTS, but for what is `changed`."""
    engine = engine or Engine()
    view = engine.view(engine.snapshot(of), instant)
    return engine.decide(view, request_facts(facts, **changed), needs or Needs("chat", prompt_tokens=100), live, draw)


def routes(decision: Decision) -> list[str]:
    """The ids of a decision's routes, in order."""
    return [route.deployment.id for route in decision.routes]
