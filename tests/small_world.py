"""A policy small enough to keep in one's head, compiled by hand, for tests of everything around the core.

endpoint  where  models        USD in/out       tenants: `clinic` is European and sends personal data, `lab` sends public data of
one       DE     alpha beta    1 / 2            any region, `shop` is Chinese. So clinic goes to one, two, three, in the order of
two       FR     alpha beta    3 / 6            price; lab goes to far first, which is the cheapest; shop to far only.
three     DE     alpha         5 / 10
far       CN     alpha         0.1 / 0.2
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.core.bounds import Bounds
from gateway.core.facts import FactSpec, Vocabulary
from gateway.core.policy import (
    Access,
    Deployment,
    Endpoint,
    FactTest,
    Keeper,
    Key,
    LabelTest,
    Limits,
    Model,
    Places,
    Policy,
    Preference,
    Rule,
    Snapshot,
    Tenant,
    Tls,
)
from gateway.core.pricing import Price, Tariff
from gateway.core.terms import DATA_CLASSES, OTHER, Effect

NOW: Final = 1_800_000_000.0
EEA: Final = frozenset({"DE", "FR"})
CHINA: Final = frozenset({"CN"})
COUNTRIES: Final = EEA | CHINA | {"US"}
PERSONAL: Final = frozenset({"personal", "special"})
PUBLIC: Final = frozenset({"public"})
TELL_ALL: Final = frozenset({"endpoint", "model", "policy", "attempts", "cache", "dropped", "rules"})
SECRET: Final = "5ec2e7" * 10 + "cafe"  # of every key here: it must never be seen in anything the gateway says


def key_text(name: str, kind: str = "live") -> str:
    """What a client of key `name` sends as its API key."""
    return f"rg_{kind}_{name}_{SECRET}"


def _key(name: str, tenant: str, kind: str = "live", **more: object) -> Key:
    digest = hashlib.sha256(key_text(name, kind).encode()).digest()
    plain: dict[str, object] = {"expires": None, "revoked": False, "facts": {}, "disclose": frozenset(), "demo": kind == "demo"}
    return Key(id=name, tenant=tenant, digest=digest, **{**plain, **more})  # type: ignore[arg-type]


def access() -> Access:
    clinic = {
        "region": FactSpec(within=EEA, default=frozenset({"DE"})),
        "data_class": FactSpec(within=PERSONAL, default=frozenset({"personal"})),
        "categories": FactSpec(within=frozenset({"health", "card"}), default=frozenset()),
    }
    tenants = (
        Tenant("clinic", "health", clinic),
        Tenant("lab", None, {"data_class": FactSpec(within=PUBLIC, default=PUBLIC)}),
        Tenant(
            "shop", None, {"region": FactSpec(within=CHINA, default=CHINA), "data_class": FactSpec(default=frozenset({"internal"}))}
        ),
    )
    keys = (
        _key("ward", "clinic"),
        _key("audit", "clinic", disclose=TELL_ALL),
        _key("french", "clinic", facts={"region": FactSpec(within=frozenset({"FR"}))}),
        _key("with_under_score", "clinic"),
        _key("old", "clinic", expires=NOW - 1),
        _key("expiring", "clinic", expires=NOW + 60),
        _key("lost", "clinic", revoked=True),
        _key("tour", "clinic", "demo"),
        _key("notebook", "lab"),
        _key("store", "shop"),
    )
    return Access("access", {tenant.id: tenant for tenant in tenants}, {key.id: key for key in keys})


@dataclass(frozen=True)
class Place:
    """Where an endpoint of this world really is: what a test that opens connections sets."""

    port: int = 9
    dialect: str = "openai"
    path: str = "/v1"


def snapshot(places: Mapping[str, Place] | None = None, bounds: Bounds | None = None) -> Snapshot:
    """The world above. `places` by endpoint id; those not there can't be connected to."""
    origin = Places(frozenset({"FR"}))
    models = {
        name: Model(name, origin, context, frozenset({"tools", "json_schema", "vision", "fim"}), frozenset({"en", "de", "zh"}), {})
        for name, context in (("alpha", 100_000), ("beta", 100_000))
    }
    found = []
    rows = (
        ("one", "DE", ("1", "2"), 2),
        ("two", "FR", ("3", "6"), 2),
        ("three", "DE", ("5", "10"), 1),
        ("far", "CN", ("0.1", "0.2"), 1),
    )
    for name, country, (price_in, price_out), count in rows:
        place = (places or {}).get(name, Place())
        labels = Places(frozenset({country}))
        endpoint = Endpoint(
            id=name,
            provider=f"provider-{name}",
            dialect=place.dialect,
            scheme="http",
            host="127.0.0.1",
            port=place.port,
            path=place.path,
            secret=None,
            resolves_to=(),
            tls=Tls(),
            processed_in=labels,
            operated_under=labels,
            assurances=(),
            apis=frozenset({"chat"} if place.dialect == "zai" else {"chat", "completions"}),
            tools=frozenset({"function"}),
        )
        price = Price(Decimal(price_in), Decimal(price_out), Decimal(price_in), Decimal(price_in))
        for model in list(models.values())[:count]:
            found.append(
                Deployment(
                    id=f"{name}/{model.id}",
                    endpoint=endpoint,
                    model=model,
                    upstream_model=f"{model.id}-there",
                    tariff=Tariff(price=price),
                    processed_in=labels,
                    operated_under=labels,
                    assurances=(),
                    context=model.context,
                    abilities=model.abilities,
                )
            )
    rules = (
        Rule("chinese-at-home", Effect.PERMIT, (FactTest("region", CHINA),), ((LabelTest("processed_in", CHINA),),)),
        Rule("europeans-at-home", Effect.PERMIT, (FactTest("region", EEA),), ((LabelTest("processed_in", EEA),),)),
        Rule("personal-in-europe", Effect.REQUIRE, (FactTest("data_class", PERSONAL),), ((LabelTest("processed_in", EEA),),)),
        Rule("public-anywhere", Effect.PERMIT, (FactTest("data_class", PUBLIC),), ((),)),
    )
    home = Places(frozenset({"DE"}))
    vocabulary = Vocabulary(
        countries=COUNTRIES,
        zones={"EEA": EEA},
        data_classes=DATA_CLASSES,
        categories=frozenset({"health", "card", OTHER}),
        tasks=frozenset({"coding", OTHER}),
        tags=frozenset({"letters", "batch", OTHER}),
        languages=frozenset({"en", "de", "zh", OTHER}),
    )
    policy = Policy(
        hash="policy",
        vocabulary=vocabulary,
        gateway=Keeper("gateway", "gateway", "ours", home, home, ()),
        stores=(),
        sinks=(),
        deployments=tuple(sorted(found, key=lambda deployment: deployment.id)),
        models=models,
        aliases={"auto": frozenset(models), "gpt-4o": frozenset({"alpha"}), "claude-*": frozenset({"alpha"})},
        rules=rules,
        preferences=(Preference("cheapest", (), rank={"cost": 1.0}),),
        limits=Limits(),
        bounds=bounds or Bounds(),
    )
    return Snapshot(policy, access())
