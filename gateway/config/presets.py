"""What a dialect brings along, and what providers say of their own addresses. All of it can be set on an endpoint instead."""

from dataclasses import dataclass
from typing import Final

from gateway.config.zones import BUILT_IN


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults of one dialect. `base_url` empty: there is none, since every server has an address of its own."""

    base_url: str
    apis: frozenset[str]
    tools: frozenset[str]
    needs_key: bool  # an enabled endpoint without `api_key` would only ever be told 401
    takes_suffix: bool = False  # of a text with a gap; a vLLM answers 400 to it, a llama.cpp leaves it unread


_FUNCTION = frozenset({"function"})

PRESETS: Final = {
    "llamacpp": Preset("", frozenset({"chat", "completions", "embeddings"}), _FUNCTION, needs_key=False),
    "mistral": Preset("https://api.mistral.ai/v1", frozenset({"chat", "embeddings"}), _FUNCTION, needs_key=True, takes_suffix=True),
    "openai": Preset(
        "https://api.openai.com/v1",
        frozenset({"chat", "completions", "embeddings", "responses"}),
        _FUNCTION,
        needs_key=True,
        takes_suffix=True,
    ),
    "vllm": Preset("", frozenset({"chat", "completions", "embeddings"}), _FUNCTION, needs_key=False),
    "zai": Preset("https://api.z.ai/api/paas/v4", frozenset({"chat"}), _FUNCTION, needs_key=True),
}
"""Dialects by name. Tools that a provider runs itself (a web search) are left out: what they send leaves the promised place."""

DIALECTS: Final = tuple(sorted(PRESETS))


@dataclass(frozen=True, slots=True)
class Promise:
    """What the provider says of where an address computes. A label that says less needs a `source`: a contract may say more."""

    places: frozenset[str]  # countries; empty: no place is promised
    says: str

    def covered_by(self, countries: frozenset[str]) -> bool:
        """Whether `countries` names every place that is promised: what may be computed in five countries is not computed in one."""
        return self.places <= countries


PROMISES: Final = {
    "api.mistral.ai": Promise(
        frozenset(),
        "Mistral says that this address does not commit to a place of inference: write `anywhere`, or use `https://api.eu.mistral.ai/v1`",
    ),
    "api.eu.mistral.ai": Promise(
        BUILT_IN["EU"].countries | BUILT_IN["EFTA"].countries,
        "Mistral promises data centres in EU and EFTA countries, which takes in CH, IS, LI and NO: write `[EU, EFTA]`",
    ),
    "api.us.mistral.ai": Promise(frozenset({"US"}), "Mistral promises data centres in the US: write `[US]`"),
    "open.bigmodel.cn": Promise(frozenset({"CN"}), "Zhipu keeps and processes content in China: write `[CN]`"),
    "api.z.ai": Promise(
        frozenset({"SG"}), "Z.ai's terms say that content is processed generally in Singapore: write `[SG]`, or more countries"
    ),
}
"""By host."""

PLAN_PATHS: Final = ("/api/coding/", "/api/anthropic/")
PLAN_TERMS: Final = (
    "Z.ai's subscription terms license a plan to one natural person, and forbid proxying, sharing and general API access, "
    "on pain of a ban; keep `enabled: false` until somebody has a contract that says otherwise"
)
"""On Z.ai's hosts, these paths take the keys of subscriptions."""
