"""What documents come to: values, units, defaults, hashes, and warnings."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from config_documents import AT, CATALOGUE, RULES, TENANTS, WORLD, load_world
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.compile import load
from gateway.config.demo_keys import demo_key, digest_of
from gateway.config.zones import BUILT_IN, countries
from gateway.core.bounds import Bounds
from gateway.core.facts import NOTHING_SAID, settle
from gateway.core.policy import Affinity, Deployment, FactTest, LabelTest, Rule, Snapshot
from gateway.core.pricing import Price
from gateway.core.terms import Effect


def seconds(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def loaded(folder: Path, *changes: tuple[str, str]) -> Snapshot:
    files = dict(WORLD)
    for old, new in changes:
        assert any(old in text for text in files.values()), old
        files = {name: text.replace(old, new, 1) for name, text in files.items()}
    found = load_world(folder, files)
    assert found.problems == ()
    assert found.snapshot is not None
    return found.snapshot


def warnings(folder: Path, *changes: tuple[str, str], at: float = AT) -> list[str]:
    loaded(folder, *changes)
    return [str(warning) for warning in load(folder, at=at).warnings]


def deployment(snapshot: Snapshot, name: str) -> Deployment:
    return next(found for found in snapshot.policy.deployments if found.id == name)


def rule(snapshot: Snapshot, name: str) -> Rule:
    return next(found for found in snapshot.policy.rules if found.id == name)


# --- the catalogue ----------------------------------------------------------------------------------------------------------


def test_an_endpoint_has_what_is_written_and_what_its_dialect_brings(tmp_path: Path) -> None:
    snapshot = loaded(tmp_path)
    zai = deployment(snapshot, "zai/glm").endpoint
    assert (zai.scheme, zai.host, zai.port, zai.path) == ("https", "api.z.ai", 443, "/api/paas/v4")
    assert zai.secret == "env:ZAI_API_KEY"
    assert zai.apis == {"chat"}
    own = deployment(snapshot, "frankfurt/glm").endpoint
    assert (own.scheme, own.host, own.port, own.path) == ("http", "10.2.0.7", 8000, "/v1")
    assert [str(network) for network in own.resolves_to] == ["10.2.0.0/16"]
    assert own.secret is None


def test_a_gap_is_filled_where_a_suffix_is_taken_or_the_model_has_a_template_or_a_deployment_says_so(tmp_path: Path) -> None:
    model, glm = "glm: {origin: [CN], context: 200000, abilities: [tools, reasoning]", "models: {glm: {as: zai-org/GLM}}"
    can = (model, model.replace("reasoning", "fim"))
    able = [name for name in ("frankfurt", "mistral-eu") if "fim" in deployment(loaded(
        tmp_path, can, ("models:\n      medium:", "models:\n      glm: {price: {input: 1, output: 1}}\n      medium:")
    ), f"{name}/glm").abilities]  # fmt: skip
    assert able == ["mistral-eu"], "a vLLM answers 400 to a suffix"
    shown = deployment(loaded(tmp_path, (model, f'{model}, fim: "<P>{{prefix}}<S>{{suffix}}<M>"')), "frankfurt/glm")
    assert "fim" in shown.abilities
    assert shown.model.fim == "<P>{prefix}<S>{suffix}<M>"
    said = deployment(loaded(tmp_path, can, (glm, glm.replace("GLM}", "GLM, abilities: [fim]}"))), "frankfurt/glm")
    assert said.abilities == {"fim"}


def test_zones_are_written_out(tmp_path: Path) -> None:
    eu = deployment(loaded(tmp_path), "mistral-eu/medium").processed_in.countries
    assert eu == BUILT_IN["EU"].countries | {"CH", "IS", "LI", "NO"}


def test_a_day_ends_at_midnight_utc(tmp_path: Path) -> None:
    found = deployment(loaded(tmp_path), "mistral-eu/medium")
    assert found.processed_in.until == seconds("2027-05-21")
    assert found.processed_in.verified == "2026-11-20"
    assert found.processed_in.at(seconds("2027-05-21") - 0.001) is not None
    assert found.processed_in.at(seconds("2027-05-21")) is None
    assert [a.until for a in found.assurances] == [seconds("2027-07-01"), None]


def test_anywhere_is_no_place(tmp_path: Path) -> None:
    snapshot = loaded(tmp_path, ("processed_in: [SG, CN]", "processed_in: anywhere"))
    assert deployment(snapshot, "zai/glm").processed_in.countries is None


@pytest.mark.parametrize("text", ["anywhere", "{countries: anywhere, source: nobody says}", "{countries: [anywhere]}"])
def test_anywhere_is_written_in_one_way_or_another(tmp_path: Path, text: str) -> None:
    snapshot = loaded(tmp_path, ("processed_in: [SG, CN]", f"processed_in: {text}"))
    assert deployment(snapshot, "zai/glm").processed_in.countries is None


def test_prices_are_exact_and_zero_is_one(tmp_path: Path) -> None:
    snapshot = loaded(tmp_path, ("{input: 1.40, output: 4.40}", "{input: 0, output: 0.10}"))
    tenth = Decimal("0.10")
    assert deployment(snapshot, "zai/glm").tariff.price == Price(Decimal(0), tenth, Decimal(0), Decimal(0))
    assert deployment(snapshot, "mistral-eu/medium").tariff.price == Price(
        Decimal("1.65"), Decimal("8.25"), Decimal("0.165"), Decimal("1.65")
    )


def test_a_deployment_narrows_its_endpoint(tmp_path: Path) -> None:
    snapshot = loaded(
        tmp_path,
        (
            "{as: mistral-medium-2604,",
            "{processed_in: [FR], assurances: {dpa: {until: 2027-01-31}}, context: 1000, abilities: [tools],",
        ),
    )
    found = deployment(snapshot, "mistral-eu/medium")
    assert found.processed_in.countries == {"FR"}
    assert found.processed_in.until == seconds("2027-05-21"), "no longer than its endpoint's"
    assert [(a.name, a.until, a.evidence) for a in found.assurances] == [("dpa", seconds("2027-02-01"), "a contract")]
    assert (found.context, found.abilities) == (1000, {"tools"})
    assert found.upstream_model == "medium"


def test_what_can_be_asked_is_what_the_model_is_for_where_its_labels_hold(tmp_path: Path) -> None:
    snapshot = loaded(tmp_path)
    assert snapshot.policy.models["glm"].apis == {"chat", "completions", "messages", "responses"}, "all but embeddings"
    assert deployment(snapshot, "mistral-eu/medium").apis == {"chat"}, "of chat and embeddings, which Mistral's labels hold for"
    assert deployment(snapshot, "frankfurt/glm").apis == {"chat", "completions"}
    snapshot = loaded(tmp_path, ("  medium: {origin", "  medium: {apis: [embeddings], origin"))
    found = deployment(snapshot, "mistral-eu/medium")
    assert found.apis == found.as_of(AT).apis == {"embeddings"}


def test_what_is_anywhere_may_be_narrowed_to_a_place(tmp_path: Path) -> None:
    snapshot = loaded(
        tmp_path,
        ("processed_in: [SG, CN]", "processed_in: anywhere"),
        ("glm: {price: {input: 1.40", "glm: {processed_in: [SG], price: {input: 1.40"),
    )
    assert deployment(snapshot, "zai/glm").processed_in.countries == {"SG"}


def test_the_ledger_inherits_what_the_gateway_is(tmp_path: Path) -> None:
    policy = loaded(tmp_path).policy
    (ledger,) = policy.sinks
    assert (ledger.name, ledger.kind, ledger.provider) == ("ledger", "sink", "ours")
    assert ledger.processed_in == policy.gateway.processed_in
    assert ledger.assurances == policy.gateway.assurances


def test_a_plan_is_parsed(tmp_path: Path) -> None:
    snapshot = loaded(
        tmp_path,
        (
            "    capacity: {usd_per_hour: 12.80, concurrency: 48}\n",
            "    plan: {name: pro, usd_per_month: 18, "
            "quotas: [{requests: 600, per: 5h}, {requests: 50, per: 7d}], weight: {glm: 3}}\n",
        ),
    )
    plan = deployment(snapshot, "frankfurt/glm").tariff.plan
    assert plan is not None
    assert [(quota.requests, quota.per_s) for quota in plan.quotas] == [(600, 18_000), (50, 604_800)]
    assert (plan.when_exhausted, plan.weights) == ("refuse", {"glm": Decimal(3)})


def test_limits_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    bounds = loaded(tmp_path, ("{attempts_max: 3}", "{attempts_max: 2, connect_s_max: 1}")).policy.bounds
    assert bounds == Bounds(attempts_max=2, connect_s_max=1.0)
    assert isinstance(bounds.connect_s_max, float)


# --- rules ------------------------------------------------------------------------------------------------------------------


def test_rules_are_compiled_to_sets(tmp_path: Path) -> None:
    found = rule(loaded(tmp_path), "personal")
    eea = BUILT_IN["EEA"].countries
    assert found.effect is Effect.REQUIRE
    assert found.when == (FactTest("data_class", frozenset({"personal", "special"})), FactTest("region", eea))
    assert found.says == ((LabelTest("assurances", frozenset({"dpa"})), LabelTest("processed_in", eea | {"CH"})),)
    assert (found.because, found.line) == ("the law", "rules.yaml:4")


def test_a_permit_on_nothing_permits_everything(tmp_path: Path) -> None:
    assert rule(loaded(tmp_path, ("permit: {provider: ours}", "permit: {}")), "ours").says == ((),)


def test_for_each_writes_a_rule_once_per_value(tmp_path: Path) -> None:
    snapshot = loaded(
        tmp_path,
        (
            "{id: ours, permit: {provider: ours}}",
            "{id: 'in-${z}', for_each: {z: [EEA, CH, UK, US]}, when: {region: '${z}'}, permit: {processed_in: '${z}'}, "
            "because: 'what is of ${z} stays in ${z}'}",
        ),
    )
    ids = [found.id for found in snapshot.policy.rules if found.id.startswith("in-")]
    assert ids == ["in-ch", "in-eea", "in-uk", "in-us"]
    uk = rule(snapshot, "in-uk")
    assert uk.says == ((LabelTest("processed_in", frozenset({"GB"})),),)
    assert uk.because == "what is of UK stays in UK"


def test_alternatives_have_one_order(tmp_path: Path) -> None:
    first = loaded(tmp_path, ("forbid: {operated_under: CN}", "forbid: [{operated_under: CN}, {origin: CN}]"))
    second = loaded(tmp_path, ("forbid: {operated_under: CN}", "forbid: [{origin: CN}, {operated_under: CN}]"))
    assert first.policy.hash == second.policy.hash


def test_claims_are_parsed(tmp_path: Path) -> None:
    (claim,) = loaded(tmp_path).policy.claims
    assert (claim.id, claim.kind) == ("never-cn", "never")
    assert claim.when == (FactTest("region", BUILT_IN["EEA"].countries),)
    assert claim.says == ((LabelTest("processed_in", frozenset({"CN"})),),)


def test_languages_that_nothing_names_are_one(tmp_path: Path) -> None:
    assert loaded(tmp_path).policy.vocabulary.languages == {"en", "fr", "zh", "other"}


def test_data_classes_of_our_own(tmp_path: Path) -> None:
    order = "data_classes: [open, internal, personal, special, secret]\ntasks: [coding]"
    snapshot = loaded(tmp_path, ("tasks: [coding]", order), ("{at_most: internal}, default: public", "{at_most: open}"))
    (test, _) = rule(snapshot, "personal").when
    assert test.values == {"personal", "special", "secret"}


# --- access -----------------------------------------------------------------------------------------------------------------


def test_keys_of_the_demo_follow_from_their_ids(tmp_path: Path) -> None:
    key = loaded(tmp_path).access.keys["notebook"]
    assert key.demo
    assert key.digest == digest_of(demo_key("notebook"))
    assert demo_key("notebook").startswith("rg_demo_notebook_")
    assert len(demo_key("notebook").removeprefix("rg_demo_notebook_")) == 64


def test_a_key_is_good_through_its_last_day(tmp_path: Path) -> None:
    key = loaded(tmp_path).access.keys["ward-3"]
    assert key.expires == seconds("2027-01-02")
    assert (key.tenant, key.disclose, key.revoked, key.demo) == ("clinic", {"rules"}, False, False)


def test_an_empty_default_of_categories_says_that_there_are_none(tmp_path: Path) -> None:
    snapshot = loaded(tmp_path, ("categories: {always: [health]}", "categories: {within: [card, health], default: []}"))
    spec = snapshot.access.tenants["clinic"].facts["categories"]
    assert settle("categories", spec, NOTHING_SAID, None, snapshot.policy.vocabulary) == frozenset()
    declared = frozenset({"card"})
    assert settle("categories", spec, NOTHING_SAID, declared, snapshot.policy.vocabulary) == declared


# --- names by content -------------------------------------------------------------------------------------------------------


def shuffled_lists(text: str, seed: int) -> str:
    """The entries of block lists and maps two levels down, in another order: rules, endpoints, models, tenants."""
    head, *rest = text.split("\n  ")
    entries: list[str] = []
    for line in rest:
        if entries and line.startswith(" "):
            entries[-1] += "\n  " + line
        else:
            entries.append(line)
    random.Random(seed).shuffle(entries)
    return "\n  ".join([head, *[entry.rstrip("\n") for entry in entries]]) + "\n"


def sections_of(*texts: str) -> list[str]:
    found: list[str] = []
    for text in texts:
        for line in text.splitlines():
            if line and not line.startswith(" "):
                found.append(line)
            else:
                found[-1] += "\n" + line
    return [section + "\n" for section in found]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), files=st.integers(1, 6))
def test_the_order_of_lines_and_files_changes_nothing(tmp_path_factory: pytest.TempPathFactory, seed: int, files: int) -> None:
    dice = random.Random(seed)
    sections = [
        section if section.startswith("preferences") else shuffled_lists(section, seed)
        for section in sections_of(CATALOGUE, RULES, TENANTS)
    ]
    dice.shuffle(sections)
    folder = tmp_path_factory.mktemp("shuffled")
    for number in range(files):
        part = "".join(sections[number::files])
        if part:
            (folder / f"{dice.randrange(10**9)}.yaml").write_text(part)
    again = load(folder, at=AT)
    assert again.problems == ()
    assert again.snapshot is not None
    plain = load_world(tmp_path_factory.mktemp("plain")).snapshot
    assert plain is not None
    assert again.snapshot.hash == plain.hash
    assert [rule.id for rule in again.snapshot.policy.rules] == [rule.id for rule in plain.policy.rules]
    assert [d.id for d in again.snapshot.policy.deployments] == [d.id for d in plain.policy.deployments]


def test_a_list_spread_over_files_is_one_list(tmp_path: Path) -> None:
    whole = loaded(tmp_path).hash
    rules = RULES.replace("  - {id: ours, permit: {provider: ours}}\n", "")
    files = {**WORLD, "rules.yaml": rules, "more.yaml": "rules:\n  - {id: ours, permit: {provider: ours}}\n"}
    found = load_world(tmp_path, files)
    assert found.snapshot is not None
    assert found.snapshot.hash == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("input: 1.40", "input: 1.4"),
        ("[SG, CN]", "[CN, SG, SG]"),
        ("processed_in: [DE]\n", "processed_in: DE\n"),
        ("# nothing", "# nothing"),
        ("when: {data_class: {at_least: personal}, region: EEA}", "when: {region: EEA, data_class: {at_least: personal}}"),
    ],
)
def test_what_means_the_same_has_the_same_name(tmp_path: Path, old: str, new: str) -> None:
    assert loaded(tmp_path).hash == loaded(tmp_path, *([] if old.startswith("#") else [(old, new)])).hash


POLICY_CHANGES = [
    ("input: 1.40", "input: 1.41"),
    ("[SG, CN]", "[SG, CN, HK]"),
    ("until: 2027-05-20", "until: 2027-05-21"),
    ("because: the law", "because: a law"),
    ("id: europe,", "id: europa,"),
    ("{attempts_max: 3}", "{attempts_max: 4}"),
    ("10.2.0.0/16", "10.2.0.0/17"),
    ("http://10.2.0.7:8000", "http://10.2.0.7:8001"),
    ("env:ZAI_API_KEY", "env:ZAI_KEY"),
    ("never: {processed_in: CN}", "never: {processed_in: US}"),
    ("usd_per_request: 1", "usd_per_request: 2"),
    ("countries: [EEA, CH]", "countries: [EEA]"),
]
ACCESS_CHANGES = [
    ("default: DE", "default: FR"),
    ("expires: 2027-01-01", "expires: 2027-01-02"),
    ("disclose: [rules]", "disclose: [model]"),
    ("{id: notebook, demo: true}", "{id: notebook, demo: true, revoked: true}"),
    ("0b6c1f0f", "1b6c1f0f"),
    ("at_most: internal", "at_most: public"),
]


@pytest.mark.parametrize(("old", "new"), POLICY_CHANGES)
def test_a_changed_policy_has_another_name_and_access_keeps_its_own(tmp_path: Path, old: str, new: str) -> None:
    before, after = loaded(tmp_path), loaded(tmp_path, (old, new))
    assert before.policy.hash != after.policy.hash
    assert before.access.hash == after.access.hash


@pytest.mark.parametrize(("old", "new"), ACCESS_CHANGES)
def test_a_changed_key_changes_no_policy(tmp_path: Path, old: str, new: str) -> None:
    before, after = loaded(tmp_path), loaded(tmp_path, (old, new))
    assert before.access.hash != after.access.hash
    assert before.policy.hash == after.policy.hash


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("", None),
        ("affinity: {}", Affinity(1_024, 300)),
        ("affinity: {min_tokens: 4096}", Affinity(4_096, 300)),
        ("affinity: {for: 1h}", Affinity(1_024, 3_600)),
        ("affinity: {min_tokens: 64, for: 24h}", Affinity(64, 86_400)),
    ],
)
def test_affinity_is_off_unless_it_is_there(tmp_path: Path, said: str, wanted: Affinity | None) -> None:
    snapshot = loaded(tmp_path, ("limits: {attempts_max: 3}", f"limits: {{attempts_max: 3}}\n{said}"))
    assert snapshot.policy.affinity == wanted
    assert (snapshot.policy.hash != loaded(tmp_path).policy.hash) == bool(said)


def test_the_order_of_preferences_matters(tmp_path: Path) -> None:
    line = "  - {id: zh, when: {language: zh}, prefer: {model: glm}}\n"
    swapped = RULES.replace(line, "").replace("claims:", line + "claims:")
    found = load_world(tmp_path, {"rules.yaml": swapped}).snapshot
    assert found is not None
    assert [preference.id for preference in found.policy.preferences] == ["cheap", "zh"]
    assert found.policy.hash != loaded(tmp_path).policy.hash


def test_comments_and_quotes_mean_nothing(tmp_path: Path) -> None:
    before = loaded(tmp_path).hash
    text = "# a comment\n" + RULES.replace("id: ours", 'id: "ours"').replace("EEA", "'EEA'")
    found = load_world(tmp_path, {"rules.yaml": text}).snapshot
    assert found is not None
    assert found.hash == before


# --- what stands twice ------------------------------------------------------------------------------------------------------

TWICE = [
    ("gateway: {processed_in: [DE], operated_under: [DE]}", "can't be merged"),
    ("limits: {attempts_max: 2}", "can't be merged"),
    ("zones: {gdpr-space: {countries: [EEA], source: x, verified: 2026-11-20}}", "the zone `gdpr-space`"),
    ("models: {glm: {origin: [CN], context: 5}}", "the model `glm`"),
    ("aliases: {auto: [glm]}", "the alias `auto`"),
    ("tenants: {lab: {keys: [{id: k, demo: true}]}}", "the tenant `lab`"),
    ("tasks: [coding]", "the task `coding`"),
    ("rules: [{id: ours, permit: {}}]", "the rule `ours`"),
    ("preferences: [{id: cheap, rank: {cost: 1}}]", "the preference `cheap`"),
    ("claims: [{id: never-cn, some: {}}]", "the claim `never-cn`"),
]


@pytest.mark.parametrize(("text", "told"), TWICE)
def test_what_stands_in_two_files_is_told_with_both_places(tmp_path: Path, text: str, told: str) -> None:
    found = load_world(tmp_path, {"zz.yaml": text + "\n"}).problems
    assert any(told in str(problem) and problem.file.endswith("zz.yaml") for problem in found)
    assert any(".yaml:" in problem.wanted for problem in found)


# --- warnings ---------------------------------------------------------------------------------------------------------------


def test_stale_labels_and_ended_assurances_are_told(tmp_path: Path) -> None:
    told = warnings(tmp_path, at=seconds("2027-08-01"))
    assert any("`processed_in` of the endpoint `mistral-eu`: went stale on 2027-05-20" in warning for warning in told)
    assert any("the assurance `dpa` of the endpoint `mistral-eu`: ended on 2027-06-30" in warning for warning in told)
    assert any("the key `ward-3`: expired on 2027-01-01" in warning for warning in told)


def test_a_require_that_nothing_meets_is_told(tmp_path: Path) -> None:
    (told,) = warnings(tmp_path, ("assurances: [dpa]}", "assurances: [dpf]}"))
    assert "the require `personal`: nothing in the catalogue meets it" in told


def test_a_deployment_that_can_be_asked_nothing_is_told(tmp_path: Path) -> None:
    (told,) = warnings(
        tmp_path,
        ("  glm: {origin", "  glm: {apis: [embeddings], origin"),
        ("dialect: vllm", "dialect: vllm\n    apis: [embeddings]"),
    )
    assert "the deployment `zai/glm`" in told
    assert "`glm` is for `embeddings`, and the labels of `zai` hold for `chat`" in told


def test_an_alias_of_several_models_for_embeddings_is_told(tmp_path: Path) -> None:
    one = "  medium: {origin", "  medium: {apis: [chat, embeddings], origin"
    both = one, ("  glm: {origin", "  glm: {apis: [embeddings, chat], origin")
    told = warnings(tmp_path, *both)
    assert any("the alias `auto` of several models for embeddings" in warning for warning in told), told
    assert warnings(tmp_path, one) == []


def test_an_alternative_that_nothing_meets_is_not(tmp_path: Path) -> None:
    said = "require: [{assurances: [dpf]}, {assurances: [dpa]}]"
    assert warnings(tmp_path, ("require: {processed_in: gdpr-space, assurances: [dpa]}", said)) == []


def test_a_hard_rule_on_the_clients_word_names_who_can_leave_it(tmp_path: Path) -> None:
    rule = "{id: no-china, trust: client, when: {language: zh}, forbid: {operated_under: CN}}"
    (told,) = warnings(tmp_path, ("{id: no-china, when: {categories: [health]}, forbid: {operated_under: CN}}", rule))
    assert "clients of `clinic`, `lab` can leave it" in told


def test_who_can_declare_nothing_cannot_leave(tmp_path: Path) -> None:
    rule = "{id: no-china, trust: client, when: {task: coding}, forbid: {operated_under: CN}}"
    (told,) = warnings(
        tmp_path,
        ("{id: no-china, when: {categories: [health]}, forbid: {operated_under: CN}}", rule),
        ("default: public}\n", "default: public}\n      task: {within: coding}\n"),
    )
    assert "no tenant can choose it now" in told


def test_a_permit_on_the_clients_word_names_who_can_come_under_it(tmp_path: Path) -> None:
    rule = "{id: europe, trust: client, when: {tenant: lab, stream: true}, permit: {processed_in: gdpr-space}}"
    (told,) = warnings(tmp_path, ("{id: europe, when: {region: EEA}, permit: {processed_in: gdpr-space}}", rule))
    assert "clients of `lab` can come under it" in told


def test_a_subscription_that_is_switched_on_is_told_with_its_terms(tmp_path: Path) -> None:
    coding = "    base_url: https://api.z.ai/api/coding/paas/v4\n    processed_in: [SG, CN]"
    (told,) = warnings(tmp_path, ("    processed_in: [SG, CN]", coding))
    assert "one natural person" in told
    assert warnings(tmp_path, ("    processed_in: [SG, CN]", "    enabled: false\n" + coding)) == []


def test_a_contract_may_say_more_than_the_provider_does(tmp_path: Path) -> None:
    (told,) = warnings(tmp_path, ("{countries: [EU, EFTA], source: docs", "{countries: [FR], source: our contract"))
    assert "EU and EFTA" in told


def test_a_provider_that_looks_like_ours_is_told(tmp_path: Path) -> None:
    files = {**WORLD, "catalogue.yaml": CATALOGUE.replace("provider: ours", "provider: our")}
    found = load_world(tmp_path, files)
    assert found.problems == ()
    assert [warning.nearest for warning in found.warnings] == ["ours"]


def test_a_tenant_without_keys_and_an_alias_without_deployments_are_told(tmp_path: Path) -> None:
    told = warnings(
        tmp_path,
        ("    keys:\n      - {id: notebook, demo: true}\n", ""),
        ("auto: [medium, glm]", "auto: [medium, glm], nobody: [unserved]"),
        ("models:\n  medium", "models:\n  unserved: {origin: [US], context: 5}\n  medium"),
    )
    assert len(told) == 2
    assert "the tenant `lab` without keys" in told[1]
    assert "the alias `nobody`" in told[0]


def test_a_ledger_that_will_not_do_later_is_told(tmp_path: Path) -> None:
    sink = "sinks: {ledger: {processed_in: {countries: [DE], until: 2027-01-31}, operated_under: [DE], assurances: {dpa: {}}}}"
    (told,) = warnings(tmp_path, ("tasks: [coding]", f"tasks: [coding]\n{sink}"))
    assert "after 2027-01-31 it does not meet rule `personal`" in told


def test_a_ledger_elsewhere_is_fine_where_no_rule_asks(tmp_path: Path) -> None:
    sink = "sinks: {ledger: {processed_in: [CH], operated_under: [CH], assurances: {dpa: {}}}}"
    assert warnings(tmp_path, ("tasks: [coding]", f"tasks: [coding]\n{sink}")) == []


def test_a_rule_that_can_apply_to_nobody_binds_no_ledger(tmp_path: Path) -> None:
    """The clinic alone has personal data; without it, whatever the ledger is meets what can come."""
    sink = "sinks: {ledger: {processed_in: [US], operated_under: [US]}}"
    lab = "tenants:\n  lab:" + TENANTS.split("\n  lab:")[1]
    files = {**WORLD, "catalogue.yaml": CATALOGUE + sink + "\n", "tenants.yaml": lab, "rules.yaml": RULES}
    assert load_world(tmp_path, files).problems == ()


# --- countries ----------------------------------------------------------------------------------------------------------------


def test_built_in_zones_are_countries_with_source_and_date() -> None:
    assert len(BUILT_IN["EU"].countries) == 27
    assert len(BUILT_IN["EEA"].countries) == 30
    assert BUILT_IN["EFTA"].countries == {"CH", "IS", "LI", "NO"}
    assert BUILT_IN["UK"].countries == {"GB"}
    for zone in BUILT_IN.values():
        assert zone.countries <= countries()
        assert zone.source
        assert zone.verified
        assert "US" not in zone.countries
    assert not BUILT_IN["GDPR-adequacy"].countries & BUILT_IN["EEA"].countries


def test_languages_are_iso_639_1() -> None:
    import pycountry

    from gateway.config.vocabulary import LANGUAGES

    assert {language.alpha_2 for language in pycountry.languages if hasattr(language, "alpha_2")} == LANGUAGES


def test_what_may_be_written_as_a_dialect_is_what_is_spoken() -> None:
    from gateway.config.presets import PRESETS
    from gateway.upstream.dialects import DIALECTS

    assert set(PRESETS) == set(DIALECTS)
