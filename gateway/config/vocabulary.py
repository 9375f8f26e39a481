"""Words that this version of the gateway knows by itself. What a policy adds to them is said in its documents."""

from typing import Final

from gateway.core import terms

APIS: Final = terms.APIS
"""The clients' APIs, as facts and labels name them."""

TOOLS: Final = ("code_interpreter", "computer_use", "custom", "file_search", "function", "image_generation", "mcp", "web_search")
"""Kinds of tool that a request may bring along."""

FIM: Final = "fim"
"""The ability to fill a gap in the middle of a text."""

ABILITIES: Final = ("audio", FIM, "json_schema", "reasoning", "tools", "vision")
"""What a model can do, and what a request may need of it."""

ASSURANCES: Final = ("cac-filed", "dpa", "dpf", "hds", "iso27001", "no-training", "scc", "soc2", "tisax", "zero-retention")
"""What providers sign or are certified for; `assurances:` in a policy adds more."""

CATEGORIES: Final = ("card", "client-identifying", "email", "health", "iban", "national-id", "source-code")
"""Kinds of content that lie on no line of sensitivity; `categories:` in a policy adds more."""

DISCLOSABLE: Final = ("attempts", "cache", "dropped", "endpoint", "model", "policy", "rules")
"""What the answers to a key may say besides the decision's id."""

OURS: Final = "ours"
"""The provider that is nobody but us."""

SINKS: Final = ("ledger",)
"""Sinks that this version writes to."""

_ISO_639_1: Final = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et
eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk
kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny
oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti
tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""

LANGUAGES: Final = frozenset(_ISO_639_1.split())
"""ISO 639-1. A list of our own: the registry that we take countries from is 7,900 languages long, and slow to read."""

WORD: Final = r"[a-z0-9][a-z0-9-]*"
"""The form of the words that a policy coins: rule ids, tenants, keys, groups, tags. No underscore: key texts are split at those."""

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""The form of endpoint, provider, store and zone names. No slash: `endpoint/model` is split at the first."""

MODEL: Final = r"[A-Za-z0-9][A-Za-z0-9._:/+@-]*"
"""The form of model names."""

GAP: Final = r"[^{}]*\{prefix\}[^{}]*\{suffix\}[^{}]*|[^{}]*\{suffix\}[^{}]*\{prefix\}[^{}]*"
"""The form of templates for a text with a gap."""

ALIAS: Final = MODEL + r"\*?|\*"
"""The form of aliases: a name, or the beginning of one with `*` at its end."""
