"""Small policies to make mistakes in. `¦` in a text marks where a problem is to stand; it is taken out before loading."""

from pathlib import Path

from gateway.config.compile import Loaded, load

AT = 1_795_392_000.0  # 2026-11-23, noon UTC: what "now" is in these tests

CATALOGUE = """\
gateway: {processed_in: [DE], operated_under: [DE], assurances: {dpa: {}}}
zones:
  gdpr-space: {countries: [EEA, CH], source: a decision, verified: 2026-11-20}
endpoints:
  mistral-eu:
    provider: mistral
    dialect: mistral
    base_url: https://api.eu.mistral.ai/v1
    api_key: env:MISTRAL_API_KEY
    processed_in: {countries: [EU, EFTA], source: docs, verified: 2026-11-20, until: 2027-05-20}
    operated_under: [FR]
    assurances: {dpa: {until: 2027-06-30, evidence: a contract}, no-training: {}}
    models:
      medium: {as: mistral-medium-2604, price: {input: 1.65, cached_input: 0.165, output: 8.25}}
  zai:
    provider: zai
    dialect: zai
    api_key: env:ZAI_API_KEY
    processed_in: [SG, CN]
    operated_under: [CN, SG]
    models:
      glm: {price: {input: 1.40, output: 4.40}}
  frankfurt:
    provider: ours
    dialect: vllm
    base_url: http://10.2.0.7:8000/v1
    resolves_to: [10.2.0.0/16]
    processed_in: [DE]
    operated_under: [DE]
    capacity: {usd_per_hour: 12.80, concurrency: 48}
    models: {glm: {as: zai-org/GLM}}
models:
  medium: {origin: [FR], context: 256000, abilities: [tools, vision], languages: [en, fr], scores: {coding: 92.1}}
  glm: {origin: [CN], context: 200000, abilities: [tools, reasoning], languages: [zh, en], scores: {coding: 85.7}}
aliases: {auto: [medium, glm], "claude-*": [glm]}
tasks: [coding]
tags: [letters]
limits: {attempts_max: 3}
"""

RULES = """\
rules:
  - {id: ours, permit: {provider: ours}}
  - {id: europe, when: {region: EEA}, permit: {processed_in: gdpr-space}}
  - id: personal
    when: {data_class: {at_least: personal}, region: EEA}
    require: {processed_in: gdpr-space, assurances: [dpa]}
    because: the law
  - {id: no-china, when: {categories: [health]}, forbid: {operated_under: CN}}
preferences:
  - {id: zh, when: {language: zh}, prefer: {model: glm}}
  - {id: cheap, rank: {cost: 1, score.coding: 0.5}}
claims:
  - {id: never-cn, for: {region: EEA}, never: {processed_in: CN}}
at_most: {usd_per_request: 1}
"""

TENANTS = """\
tenants:
  clinic:
    group: health
    facts:
      region: {within: EEA, default: DE, source: a contract}
      data_class: {within: {at_least: personal}, default: special}
      categories: {always: [health]}
    keys:
      - id: ward-3
        sha256: "0b6c1f0f9d2c4e8ab1d5a9f3c7e604d28f51b3a6e97c0d4418f2a5b96c3e7d10"
        expires: 2027-01-01
        disclose: [rules]
      - {id: ward-4, demo: true, facts: {region: {within: [DE, AT]}}}
  lab:
    facts:
      data_class: {within: {at_most: internal}, default: public}
    keys:
      - {id: notebook, demo: true}
"""

WORLD = {"catalogue.yaml": CATALOGUE, "rules.yaml": RULES, "tenants.yaml": TENANTS}


def write(folder: Path, files: dict[str, str]) -> Path:
    """`files` in `folder`, without marks."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("¦", ""), encoding="utf-8")
    return folder


def load_world(folder: Path, files: dict[str, str] | None = None) -> Loaded:
    """The small world loaded from `folder`, with `files` instead of its own."""
    return load(write(folder, {**WORLD, **(files or {})}), at=AT)


def mark_in(files: dict[str, str]) -> tuple[str, int, int]:
    """The file, line and column of the first `¦`."""
    for name, text in files.items():
        if "¦" in text:
            before = text[: text.index("¦")]
            return name, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    raise AssertionError("no ¦ in these files")


def changed(old: str, new: str) -> dict[str, str]:
    """The one file of the small world that has `old` in it, with `new` there."""
    for name, text in WORLD.items():
        if old in text:
            return {name: text.replace(old, new, 1)}
    raise AssertionError(f"the small world has no {old!r}")
