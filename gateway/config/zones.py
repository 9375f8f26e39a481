"""Countries and built-in zones: who belongs to what, who says so, and since when it was looked up.

Countries are ISO 3166-1 alpha-2. A zone is only ever a set of them; no cloud region's name says which it lies in (`eu-west-2` is
London, `eu-central-2` is Zurich). The US is in no zone here: it enters by the assurance `dpf`, which companies have, not countries.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import pycountry


@dataclass(frozen=True, slots=True)
class Zone:
    """A named set of countries, with its source and the day it was looked up (ISO 8601)."""

    name: str
    countries: frozenset[str]
    source: str
    verified: str


VERIFIED: Final = "2026-11-20"

_EU_CODES: Final = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
_EU: Final = frozenset(_EU_CODES.split())
_EFTA: Final = frozenset({"CH", "IS", "LI", "NO"})

# Third countries with a decision under article 45 GDPR. Canada's reaches commercial organisations only (PIPEDA). That on the UK
# runs until 2031-12-27. The one on the US (2023/1795) reaches certified companies only, so the US is not here.
_ADEQUACY_CODES: Final = "AD AR BR CA CH FO GB GG IL IM JE JP KR NZ UY"
_ADEQUACY: Final = frozenset(_ADEQUACY_CODES.split())

BUILT_IN: Final = {
    zone.name: zone
    for zone in (
        Zone("EU", _EU, "member states of the European Union", VERIFIED),
        Zone("EFTA", _EFTA, "member states of the European Free Trade Association", VERIFIED),
        Zone(
            "EEA",
            _EU | {"IS", "LI", "NO"},
            "agreement on the European Economic Area: the EU, Iceland, Liechtenstein, Norway",
            VERIFIED,
        ),
        Zone(
            "UK", frozenset({"GB"}), "the United Kingdom, whose ISO 3166-1 code is GB; without Jersey, Guernsey and Man", VERIFIED
        ),
        Zone(
            "CN", frozenset({"CN"}), "mainland China; Hong Kong (HK), Macao (MO) and Taiwan (TW) have codes of their own", VERIFIED
        ),
        Zone(
            "GDPR-adequacy",
            _ADEQUACY,
            "decisions of the Commission under article 45 GDPR, the latest (EU) 2026/179 on Brazil; without the EEA and the US",
            VERIFIED,
        ),
    )
}


@cache
def countries() -> frozenset[str]:
    """Every country, ISO 3166-1 alpha-2."""
    return frozenset(country.alpha_2 for country in pycountry.countries)


@cache
def _named() -> dict[str, str]:
    named = {}
    for country in pycountry.countries:
        for attribute in ("alpha_3", "name", "common_name", "official_name"):
            if (name := getattr(country, attribute, None)) is not None:
                named[name.casefold()] = str(country.alpha_2)
    return named


def country_named(word: str) -> str:
    """The code of the country that `word` names in English or as alpha-3, or an empty string."""
    return _named().get(word.casefold(), "")
