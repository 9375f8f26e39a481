"""What a fact of a request is, from what its tenant, its key and its caller say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import CATEGORIES, COUNTRIES, vocabulary

from gateway.core.facts import FactError, FactSpec, group_of, settle
from gateway.core.terms import DATA_CLASSES, UNGROUPED

ALL = vocabulary()
NOTHING = FactSpec()
HEALTH, CARD = FactSpec(always=frozenset({"health"})), FactSpec(always=frozenset({"card"}))


def places(*words: str) -> frozenset[str]:
    return frozenset(words)


EEA_DE = FactSpec(within=places("DE", "FR"), default=places("DE"))
TABLE = [
    # fact, the tenant's, the key's, what is declared, what comes out
    ("nothing said: all there is", "region", NOTHING, NOTHING, None, COUNTRIES),
    ("nothing said of a class", "data_class", NOTHING, NOTHING, None, frozenset(DATA_CLASSES)),
    ("nothing said of categories: none was found", "categories", NOTHING, NOTHING, None, frozenset()),
    ("default", "region", EEA_DE, NOTHING, None, places("DE")),
    ("declared", "region", EEA_DE, NOTHING, places("FR"), places("FR")),
    ("declared several", "region", EEA_DE, NOTHING, places("DE", "FR"), places("DE", "FR")),
    ("no default: all of within", "region", FactSpec(within=places("DE", "FR")), NOTHING, None, places("DE", "FR")),
    ("a default, and nothing to declare", "region", FactSpec(default=places("DE")), NOTHING, None, places("DE")),
    ("the key's default comes first", "region", EEA_DE, FactSpec(default=places("FR")), None, places("FR")),
    ("a narrower key", "region", FactSpec(within=places("DE", "FR")), FactSpec(within=places("FR")), None, places("FR")),
    ("a narrower key, declared", "region", EEA_DE, FactSpec(within=places("FR")), places("FR"), places("FR")),
    (
        "a key narrower than the default keeps what lies inside",
        "region",
        FactSpec(within=places("DE", "FR"), default=places("DE", "FR")),
        FactSpec(within=places("FR")),
        None,
        places("FR"),
    ),
    ("a key that the default lies outside of", "region", EEA_DE, FactSpec(within=places("FR")), None, places("FR")),
    ("a key never reaches beyond its tenant", "region", EEA_DE, FactSpec(within=places("FR", "CN")), None, places("FR")),
    ("a key that shares nothing with its tenant", "region", EEA_DE, FactSpec(within=places("CN")), None, places("DE")),
    (
        "the same, without a default: unknown",
        "region",
        FactSpec(within=places("DE")),
        FactSpec(within=places("CN")),
        None,
        COUNTRIES,
    ),
    (
        "always is added to what is declared",
        "categories",
        FactSpec(CATEGORIES, always=places("health")),
        NOTHING,
        places("card"),
        CATEGORIES,
    ),
    ("always is added to nothing", "categories", HEALTH, NOTHING, None, places("health")),
    ("the key's always too", "categories", HEALTH, CARD, None, CATEGORIES),
    (
        "categories within, without a default: any may be there",
        "categories",
        FactSpec(within=CATEGORIES),
        NOTHING,
        None,
        CATEGORIES,
    ),
    ("no category is a thing that can be declared", "categories", FactSpec(within=CATEGORIES), NOTHING, frozenset(), frozenset()),
    (
        "categories that are none by default stay so under a narrower key",
        "categories",
        FactSpec(within=CATEGORIES, default=frozenset()),
        FactSpec(within=places("card")),
        None,
        frozenset(),
    ),
]


@pytest.mark.parametrize(("fact", "tenant", "key", "declared", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_settled(fact: str, tenant: FactSpec, key: FactSpec, declared: frozenset[str] | None, wanted: frozenset[str]) -> None:
    assert settle(fact, tenant, key, declared, ALL) == wanted


REFUSED = [
    ("no within: nothing can be declared", "region", NOTHING, NOTHING, places("DE"), 403),
    ("a default is no within", "region", FactSpec(default=places("DE")), NOTHING, places("DE"), 403),
    ("outside", "region", EEA_DE, NOTHING, places("US"), 403),
    ("partly outside", "region", EEA_DE, NOTHING, places("DE", "US"), 403),
    ("outside of the key's, inside of the tenant's", "region", EEA_DE, FactSpec(within=places("FR")), places("DE"), 403),
    ("inside of the key's, outside of the tenant's", "region", EEA_DE, FactSpec(within=places("CN")), places("CN"), 403),
    ("a key's within where the tenant has none", "region", NOTHING, FactSpec(within=places("DE")), places("DE"), 403),
    ("no value at all would be a request to which no rule applies", "region", EEA_DE, NOTHING, frozenset(), 400),
    ("no class at all", "data_class", FactSpec(within=frozenset(DATA_CLASSES)), NOTHING, frozenset(), 400),
]


@pytest.mark.parametrize(("fact", "tenant", "key", "said", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(fact: str, tenant: FactSpec, key: FactSpec, said: frozenset[str], status: int) -> None:
    with pytest.raises(FactError) as caught:
        settle(fact, tenant, key, said, ALL)
    assert caught.value.status == status
    assert fact in str(caught.value)


def test_a_refusal_says_what_may_be_declared() -> None:
    with pytest.raises(FactError, match="this key may declare: DE, FR"):
        settle("region", EEA_DE, NOTHING, places("US"), ALL)


SETS = st.none() | st.frozensets(st.sampled_from(sorted(COUNTRIES)), min_size=1)


@settings(derandomize=True, database=None, max_examples=200)
@given(st.builds(FactSpec, SETS, SETS), st.builds(FactSpec, SETS), SETS)
def test_no_key_reaches_beyond_its_tenant_and_nothing_comes_out_empty(
    tenant: FactSpec, key: FactSpec, declared: frozenset[str] | None
) -> None:
    try:
        found = settle("region", tenant, key, declared, ALL)
    except FactError:
        assert declared is not None
        return
    assert found
    if declared is not None:
        assert found == declared
        assert tenant.within is not None
        assert declared <= tenant.within
    elif tenant.default is not None or tenant.within is not None:
        bounds = (tenant.default or frozenset()) | (tenant.within or frozenset())
        assert found <= bounds or found == COUNTRIES


def test_group() -> None:
    assert group_of("health") == {"health"}
    assert group_of(None) == {UNGROUPED}


def test_words_stand_for_themselves_or_for_a_zone() -> None:
    assert ALL.expand("region", "EEA") == {"DE", "FR"}
    assert ALL.expand("region", "DE") == {"DE"}
    assert ALL.expand("region", "EUROPE") is None
    assert ALL.expand("categories", "EEA") is None
    assert ALL.expand("task", "coding") == {"coding"}
