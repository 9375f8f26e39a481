"""Rates, budgets and quotas as documents write them: what they come to, which document they belong to, and what does nothing."""

from decimal import Decimal
from pathlib import Path

import pytest
from config_documents import CATALOGUE, load_world
from test_config_compile import deployment, loaded, warnings

from gateway.core.accounts import Book, Bucket, Slots, WhenLost
from gateway.core.budgets import Budget, WhenSpent
from gateway.core.charging import Unit
from gateway.core.limits import of_caller, of_place, of_plans, of_tags
from gateway.core.policy import Group, Snapshot
from gateway.core.pricing import Peak, Quota
from gateway.core.rates import Rate, Rates

GROUP = "    group: health\n"
TAGS = "tags: [letters]\n"
KEY = "{id: ward-4, demo: true,"
CAPACITY = "    capacity: {usd_per_hour: 12.80, concurrency: 48}\n"
MODEL = "glm: {origin: [CN],"


def plan(more: str) -> str:
    return f"    plan: {{name: p, usd_per_month: 18, {more}}}\n"


def test_budgets_come_to_whole_numbers_of_their_unit(tmp_path: Path) -> None:
    more = "{tokens: 5000000, per: 7d, when_store_is_lost: refuse}"
    said = f"    budgets: [{{usd: 12.5, per: month, warn_at: [0.9, 0.8], when_spent: cheaper}}, {more}]\n"
    tenant = loaded(tmp_path, (GROUP, GROUP + said)).access.tenants["clinic"]
    assert tenant.budgets == (
        Budget("tokens", 5_000_000, "rolling", 604_800, when_lost=WhenLost.REFUSE),
        Budget("usd", 12_500_000, "month", 0, (Decimal("0.8"), Decimal("0.9")), WhenSpent.CHEAPER),
    )


def test_every_holder_of_rates_has_them(tmp_path: Path) -> None:
    rates = "rates: {requests: 6/min, tokens: 7/5h, concurrency: 8, when_store_is_lost: admit}"
    wanted = Rates(Rate(6, 60), Rate(7, 18_000), 8, WhenLost.ADMIT)
    found = loaded(
        tmp_path,
        (GROUP, f"{GROUP}    {rates}\n"),
        (KEY, f"{KEY} {rates},"),
        (TAGS, f"{TAGS}groups: {{health: {{{rates}}}}}\n"),
        (MODEL, f"{MODEL} {rates},"),
        (CAPACITY, f"{CAPACITY}    {rates}\n"),
    )
    assert found.access.tenants["clinic"].rates == found.access.keys["ward-4"].rates == wanted
    assert found.access.groups == {"health": Group("health", wanted)}
    own = deployment(found, "frankfurt/glm")
    assert own.endpoint.rates == own.model.rates == wanted


def test_a_plan_says_when_a_request_takes_more(tmp_path: Path) -> None:
    said = "quotas: [{requests: 600, per: 5h}, {requests: 3000, per: 7d}], peak: "
    said += '{hours: "14:00-18:00 UTC+8", days: [mon, fri], times: 1.5}'
    found = deployment(loaded(tmp_path, (CAPACITY, plan(said))), "frankfurt/glm").tariff.plan
    assert found is not None
    assert found.quotas == (Quota(600, 18_000), Quota(3000, 604_800))
    assert found.peak == Peak(840, 1080, 480, Decimal("1.5"), frozenset({0, 4}))


@pytest.mark.parametrize(("hours", "minutes"), [("22:00-06:00 UTC", (1320, 360, 0)), ("00:00-24:00 UTC-3:30", (0, 1440, -210))])
def test_hours_are_of_a_clock(tmp_path: Path, hours: str, minutes: tuple[int, int, int]) -> None:
    said = f'quotas: [{{requests: 6, per: 5h}}], peak: {{hours: "{hours}", times: 2}}'
    found = deployment(loaded(tmp_path, (CAPACITY, plan(said))), "frankfurt/glm").tariff.plan
    assert found is not None
    assert found.peak == Peak(*minutes, Decimal(2))


ACCESS = [
    (GROUP, GROUP + "    budgets: [{usd: 5, per: day}]\n"),
    (GROUP, GROUP + "    rates: {requests: 6/min}\n"),
    (KEY, KEY + " budgets: [{usd: 5, per: day}],"),
    (TAGS, TAGS + "groups: {health: {budgets: [{usd: 5, per: day}]}}\n"),
]
POLICY = [
    (TAGS, TAGS + "tag_budgets: {letters: [{usd: 5, per: day}]}\n"),
    (MODEL, MODEL + " rates: {requests: 6/min},"),
    (CAPACITY, CAPACITY + "    rates: {requests: 6/min}\n"),
]


@pytest.mark.parametrize(("old", "new"), ACCESS + POLICY)
def test_who_asks_and_what_is_asked_are_limited_in_documents_of_their_own(tmp_path: Path, old: str, new: str) -> None:
    before, after = loaded(tmp_path), loaded(tmp_path, (old, new))
    assert (before.access.hash == after.access.hash) is ((old, new) in POLICY)
    assert (before.policy.hash == after.policy.hash) is ((old, new) in ACCESS)


# --- the accounts that they are kept in --------------------------------------------------------------------------------------


def everything(folder: Path) -> Snapshot:
    rates = "rates: {requests: 6/min, tokens: 70/h, concurrency: 8}"
    budgets = "budgets: [{usd: 5, per: day}, {tokens: 9, per: 7d}]"
    quota = plan("quotas: [{requests: 600, per: 5h}], weight: {glm: 1.5}")
    return loaded(
        folder,
        (GROUP, f"{GROUP}    {rates}\n    {budgets}\n"),
        (KEY, f"{KEY} {rates}, {budgets},"),
        (TAGS, f"{TAGS}groups: {{health: {{{rates}, {budgets}}}}}\ntag_budgets: {{letters: [{{usd: 5, per: month}}]}}\n"),
        (MODEL, f"{MODEL} rates: {{requests: 6/min}},"),
        (CAPACITY, f"{quota}    rates: {{concurrency: 6}}\n"),
    )


def test_accounts_are_named_by_kind_holder_and_what(tmp_path: Path) -> None:
    found = everything(tmp_path)
    caller = of_caller(found.access, "ward-4")
    assert [limit.terms.id for limit in (*caller.rates, *caller.budgets)] == [
        *(
            f"rate/{holder}/{what}"
            for holder in ("key/ward-4", "tenant/clinic", "group/health")
            for what in ("concurrency", "requests", "tokens")
        ),
        *(
            f"budget/{holder}/{what}"
            for holder in ("key/ward-4", "tenant/clinic", "group/health")
            for what in ("tokens-7d", "usd-day")
        ),
    ]
    assert [limit.terms.of for limit in caller.rates[:3]] == [Slots(8), Bucket(6, 60), Bucket(70, 3600)]
    assert [limit.terms.of for limit in caller.budgets[:2]] == [Book(9, "rolling", 604_800), Book(5_000_000, "day")]
    assert [limit.says for limit in (*caller.rates[:3], *caller.budgets[:2])] == [
        "8 requests at once", "6 requests per minute", "70 tokens per hour", "9 tokens in any 7d", "5 USD per day",
    ]  # fmt: skip
    (tagged,) = of_tags(found.policy)["letters"]
    assert (tagged.terms.id, tagged.unit) == ("budget/tag/letters/usd-month", Unit.MICRO_USD)
    own = deployment(found, "frankfurt/glm")
    assert [limit.terms.id for limit in of_place(own)] == ["rate/endpoint/frankfurt/concurrency", "rate/model/glm/requests"]
    (quota,) = of_plans(found.policy)
    assert quota.terms.id.startswith("quota/")
    assert quota.terms.id.endswith("/5h")
    assert (quota.terms.of, dict(quota.weights)) == (Book(600_000, "rolling", 18_000), {"frankfurt/glm": 1500})


def test_a_key_without_limits_counts_toward_nothing(tmp_path: Path) -> None:
    found = of_caller(loaded(tmp_path).access, "notebook")
    assert (found.rates, found.budgets) == ((), ())


# --- what is written and does nothing ----------------------------------------------------------------------------------------

KEY_WITH = KEY + " budgets: [{usd: 6, per: day}], rates: {requests: 7/min, concurrency: 9},"
TENANT_WITH = GROUP + "    budgets: [{usd: 5, per: day}, {usd: 50, per: month}]\n    rates: {requests: 6/min, concurrency: 8}\n"


def test_a_limit_above_the_one_that_holds_as_well_is_told(tmp_path: Path) -> None:
    told = warnings(tmp_path, (GROUP, TENANT_WITH), (KEY, KEY_WITH))
    assert len(told) == 3
    assert all("the key `ward-4`" in line and "above its tenant's" in line for line in told)
    assert warnings(tmp_path, (GROUP, TENANT_WITH), (KEY, KEY_WITH.replace("6", "5").replace("7", "6").replace("9", "8"))) == []


def test_so_is_a_tenants_above_its_groups(tmp_path: Path) -> None:
    group = TAGS + "groups: {health: {budgets: [{usd: 40, per: month}]}}\n"
    (told,) = warnings(tmp_path, (GROUP, TENANT_WITH), (TAGS, group))
    assert "the tenant `clinic` with a budget of `usd` above its group's" in told


def test_a_concurrency_that_the_machines_never_let_decide_is_told(tmp_path: Path) -> None:
    (told,) = warnings(tmp_path, (CAPACITY, CAPACITY + "    rates: {concurrency: 49}\n"))
    assert "never decides" in told
    assert warnings(tmp_path, (CAPACITY, CAPACITY + "    rates: {concurrency: 48}\n")) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("weight: {glm: 2}", "`weight` of a plan without `quotas`"),
        ('peak: {hours: "14:00-18:00 UTC", times: 2}', "`peak` of a plan without `quotas`"),
        ("when_store_is_lost: admit", "`when_store_is_lost` of a plan without `quotas`"),
        ("quotas: [{requests: 6, per: 5h}], weight: {medium: 2}", "this endpoint does not serve it"),
        ("quotas: [{requests: 6, per: 5h}, {requests: 5, per: 7d}]", "a quota of 6 that never decides"),
        ("quotas: [{requests: 6, per: 5h}, {requests: 204, per: 7d}]", "a quota of 204 that never decides"),
    ],
)
def test_what_a_plan_says_in_vain_is_told(tmp_path: Path, said: str, told: str) -> None:
    (warning,) = warnings(tmp_path, (CAPACITY, plan(said)))
    assert told in warning


def test_endpoints_that_show_one_credential_have_one_quota(tmp_path: Path) -> None:
    own, models = plan("quotas: [{requests: 6, per: 5h}]"), "    models:\n      glm: {price"
    text = CATALOGUE.replace(CAPACITY, own + "    api_key: env:ZAI_API_KEY\n")
    for others, problems in ((own, 0), (own.replace("6", "7"), 1), ("", 0)):
        found = load_world(tmp_path, {"catalogue.yaml": text.replace(models, others + models)})
        assert len(found.problems) == problems
        assert all("quotas are a credential's" in str(problem) for problem in found.problems)
