"""A policy of four places and three tenants, small enough to be all there is, for tests that say what is told of it.

place     where  under  provider  assurances  models        USD in/out
own       DE     DE     ours      dpa         glm           paid for by the hour
paris     FR     FR     mistral   dpa         medium, glm   2 / 6
virginia  US     US     openai    -           medium        1 / 3
beijing   CN     CN     zai       -           glm           0.5 / 1

`clinic` sends personal data of Europeans, `office` what is at most internal of Germans and Americans, and `lab` public data of
nobody knows whom. Nothing ends, and `at` is no day of which anything here knows, unless a test writes one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.config.compile import Loaded, load
from gateway.core.policy import Snapshot
from gateway.proof.claims import prove
from gateway.proof.solver import Z3
from gateway.proof.verdict import Verdict

AT: Final = 1_795_392_000.0  # 2026-11-23, a midnight UTC
DAY_S: Final = 86_400

CATALOGUE: Final = """\
gateway: {processed_in: [DE], operated_under: [DE], assurances: {dpa: {}}}
endpoints:
  own:
    {provider: ours, dialect: vllm, base_url: "http://10.2.0.7:8000/v1", resolves_to: [10.2.0.0/16], processed_in: [DE],
     operated_under: [DE], assurances: {dpa: {}}, capacity: {usd_per_hour: 10, concurrency: 8}, models: {glm: {}}}
  paris:
    {provider: mistral, dialect: openai, base_url: "https://paris.example/v1", api_key: env:PARIS, processed_in: [FR],
     operated_under: [FR], assurances: {dpa: {}},
     models: {medium: {price: {input: 2, output: 6}}, glm: {price: {input: 2, output: 6}}}}
  virginia:
    {provider: openai, dialect: openai, base_url: "https://virginia.example/v1", api_key: env:VIRGINIA, processed_in: [US],
     operated_under: [US], models: {medium: {price: {input: 1, output: 3}}}}
  beijing:
    {provider: zai, dialect: openai, base_url: "https://beijing.example/v1", api_key: env:BEIJING, processed_in: [CN],
     operated_under: [CN], models: {glm: {price: {input: 0.5, output: 1}}}}
models:
  medium: {origin: [FR], context: 256000, abilities: [tools, vision], languages: [en, fr], scores: {coding: 92.1}}
  glm: {origin: [CN], context: 200000, abilities: [tools], languages: [zh, en], scores: {coding: 85.7}}
aliases: {auto: [medium, glm]}
tasks: [coding]
"""

RULES: Final = """\
rules:
  - {id: ours, permit: {provider: ours}}
  - {id: europe, when: {region: EEA}, permit: {processed_in: EEA}}
  - {id: public, when: {data_class: {at_most: public}}, permit: {}}
  - {id: america, when: {region: [EEA, US], data_class: {at_most: internal}}, permit: {processed_in: US}}
  - {id: law, when: {data_class: {at_least: personal}}, require: {operated_under: EEA, assurances: [dpa]}}
  - {id: patients, when: {categories: [health]}, require: {provider: ours}}
  - {id: abroad, when: {data_class: {at_least: internal}}, require: {processed_in: [EEA, US]}}
preferences:
  - {id: cheapest, rank: {cost: 1}}
"""

TENANTS: Final = """\
tenants:
  clinic:
    facts:
      region: {within: EEA, default: DE}
      data_class: {within: {at_least: personal}, default: personal}
      categories: {within: [health], default: []}
    keys:
      - {id: ward, demo: true}
  office:
    facts:
      region: {within: [DE, US], default: DE}
      data_class: {within: {at_most: internal}, default: internal}
      categories: {default: []}
    keys:
      - {id: desk, demo: true}
  lab:
    facts:
      data_class: {within: {at_most: public}, default: public}
      categories: {default: []}
    keys:
      - {id: notebook, demo: true}
"""

FILES: Final = {"catalogue.yaml": CATALOGUE, "rules.yaml": RULES, "tenants.yaml": TENANTS}


def written(folder: Path, changes: Mapping[str, str] | None = None, *, claims: str = "", cases: str = "", rules: str = "") -> Path:
    """The policy in `folder`: each text of `changes` is replaced by another; `claims`, `cases` and `rules` come on top."""
    files = dict(FILES)
    for old, new in (changes or {}).items():
        (name,) = (name for name, text in files.items() if old in text)
        files[name] = files[name].replace(old, new, 1)
    files["rules.yaml"] = files["rules.yaml"].replace("rules:\n", f"rules:\n{rules}", 1)
    if claims:
        files["claims.yaml"] = f"claims:\n{claims}"
    if cases:
        files["cases/these.yaml"] = cases
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def loaded(folder: Path, changes: Mapping[str, str] | None = None, *, claims: str = "", cases: str = "", rules: str = "") -> Loaded:
    """The same, loaded as of AT, without a mistake."""
    found = load(written(folder, changes, claims=claims, cases=cases, rules=rules), at=AT)
    assert not found.problems and not found.case_problems, [str(one) for one in (*found.problems, *found.case_problems)]
    return found


def snapshot(folder: Path, changes: Mapping[str, str] | None = None, *, claims: str = "", rules: str = "") -> Snapshot:
    """The same, compiled."""
    found = loaded(folder, changes, claims=claims, rules=rules).snapshot
    assert found is not None
    return found


def verdict(of: Snapshot, at: float = AT) -> Verdict:
    """The verdict on the one claim of a snapshot."""
    (found,) = prove(of, at, Z3)
    return found
