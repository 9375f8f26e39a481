"""Writes the policies that the benchmark serves: 50 deployments, 100 rules, four facts that differ from request to request.

usage: world.py FOLDER UPSTREAM_PORT
"""

import hashlib
import pathlib
import sys

KEY, LIMITED_KEY, CACHED_KEY = (f"rg_live_{name}_" + hashlib.sha256(b"a key for a benchmark").hexdigest() for name in ("bench", "limited", "cached"))
MODELS = 5
ENDPOINTS = 10
COUNTRIES = ["DE", "FR", "IT", "ES", "NL", "BE", "AT", "FI", "IE", "PT"]
FILLER_RULES = 90


def catalogue(port: int) -> str:
    lines = [
        "gateway: {processed_in: [DE], operated_under: [DE], assurances: {dpa: {evidence: a benchmark}}}",
        "tags: [" + ", ".join(f"tag-{n}" for n in range(16)) + "]",
        "endpoints:",
    ]
    for n in range(ENDPOINTS):
        lines += [
            f"  place-{n}:",
            f"    provider: {'ours' if n % 2 else 'mistral'}",
            "    dialect: openai",
            f"    base_url: http://127.0.0.1:{port}/v1",
            "    api_key: env:BENCH_API_KEY",
            "    resolves_to: [127.0.0.0/8]",
            f"    processed_in: [{COUNTRIES[n]}]",
            f"    operated_under: [{COUNTRIES[n]}]",
            "    assurances: {dpa: {until: 2099-12-31, evidence: a benchmark}}",
            "    models:",
        ]
        lines += [f"      model-{m}: {{price: {{input: {1 + m * 0.1:.2f}, output: {3 + n * 0.1:.2f}}}}}" for m in range(MODELS)]
    lines.append("models:")
    lines += [f"  model-{m}: {{origin: [FR], context: 256000, abilities: [tools], languages: [en]}}" for m in range(MODELS)]
    lines.append("aliases: {auto: [" + ", ".join(f"model-{m}" for m in range(MODELS)) + "]}")
    return "\n".join(lines) + "\n"


def residency() -> str:
    lines = [
        "rules:",
        "  - {id: europe, when: {region: EEA}, permit: {processed_in: EEA}}",
        "  - {id: public, when: {data_class: {at_most: public}}, permit: {}}",
        "  - {id: personal, when: {data_class: {at_least: personal}}, require: {operated_under: EEA, assurances: [dpa]}, because: a benchmark}",
        "  - {id: health, when: {categories: [health]}, require: {provider: ours}}",
    ]
    for n in range(6):
        lines.append(f"  - {{id: not-{n}, when: {{region: {COUNTRIES[n]}, data_class: {{at_least: special}}}}, forbid: {{processed_in: US}}}}")
    for n in range(FILLER_RULES):
        country = COUNTRIES[n % 10]
        effect = ("permit: {processed_in: EEA}", "require: {processed_in: EEA}", "forbid: {operated_under: [US, CN]}")[n % 3]
        test = "" if n % 3 == 0 else ", data_class: {at_least: internal}"
        lines.append(f"  - {{id: rule-{n}, when: {{region: [{country}, {COUNTRIES[(n * 7 + 3) % 10]}]{test}}}, {effect}}}")
    return "\n".join(lines) + "\n"


COST = """preferences:
  - {id: cheapest, rank: {cost: 1, latency: 0.3}}
at_most: {usd_per_request: 1.00}
cache:
  - {id: whatever-it-asks, when: {tenant: cached}, ttl: 1h}
"""
LIMITS = """    rates: {requests: 60000000/min, tokens: 60000000000/min, concurrency: 10000}
    budgets: [{usd: 10000000, per: month}, {tokens: 900000000000, per: day}]
"""


def access() -> str:
    """Three tenants that may say the same: one without limits, one with rates and budgets that it never comes near, and one whose
    answers are kept."""
    lines = ["tenants:"]
    for tenant, key, more in (("bench", KEY, ""), ("limited", LIMITED_KEY, LIMITS), ("cached", CACHED_KEY, "")):
        lines += [
            f"  {tenant}:",
            "    facts:",
            "      region: {within: EEA, default: DE, source: a benchmark}",
            "      data_class: {within: {at_least: public}, default: personal}",
            "      categories: {within: [health, card]}",
            *more.splitlines(),
            f'    keys: [{{id: {tenant}, sha256: "{hashlib.sha256(key.encode()).hexdigest()}"}}]',
        ]
    return "\n".join(lines) + "\n"


def headers() -> str:
    """160 different declarations, as load.py takes them."""
    classes = ["public", "internal", "personal", "special"]
    blocks = []
    for n in range(160):
        lines = {
            "x-gateway-region": COUNTRIES[n % 10],
            "x-gateway-data-class": classes[n % 4],
            "x-gateway-tag": f"tag-{n // 10}",
            "x-gateway-categories": "health" if n % 7 == 0 else "card",
        }
        blocks.append("".join(f"{name}: {value}\\n" for name, value in lines.items()))
    return "||".join(blocks)


def write(folder: pathlib.Path, port: int) -> None:
    """Write the policies into `folder`, for an upstream on 127.0.0.1:`port`."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {"catalogue": catalogue(port), "residency": residency(), "cost": COST, "tenants": access()}
    for name, text in documents.items():
        (folder / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
