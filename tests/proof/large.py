"""A policy as large as DESIGN.md promises to prove quickly: 300 rules, 200 deployments, 50 tenants, 50 claims.

It is made of what real ones are: places in thirty countries with labels that end in the coming weeks, tenants with several keys,
rules on every hard fact, and claims of each kind, nearly all of them true.
"""

from pathlib import Path

ENDPOINTS, MODELS, PER_ENDPOINT, TENANTS, RULES, CLAIMS = 50, 20, 4, 50, 300, 50
EU = ["DE", "FR", "NL", "IE", "SE", "FI", "PL", "ES", "IT", "AT", "BE", "PT", "DK", "CZ", "EE"]
FAR = ["US", "CN", "SG", "JP", "IN", "BR", "GB", "CH", "KR", "CA"]
CLASSES = ["public", "internal", "personal", "special"]
CATEGORIES = ["health", "card", "source-code", "iban"]


def write(folder: Path) -> Path:
    """The policy, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("catalogue", catalogue()), ("rules", rules()), ("claims", claims()), ("tenants", tenants())):
        (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")
    return folder


def catalogue() -> list[str]:
    lines = ["gateway: {processed_in: [DE], operated_under: [DE], assurances: {dpa: {evidence: ours}}}"]
    lines.append("stores: {cache: {url: env:REDIS, processed_in: [DE], operated_under: [DE], assurances: {dpa: {evidence: ours}}}}")
    lines.append("endpoints:")
    for n in range(ENDPOINTS):
        country = (EU if n % 3 else FAR)[n % 10]
        provider = ["mistral", "zai", "ours", "azure", "vertex"][n % 5]
        until = f"2026-12-{1 + n % 20:02}" if n % 7 == 0 else "2031-01-01"
        places = f"{{countries: [{country}], source: docs, verified: 2026-11-20, until: {until}}}" if n % 11 else "anywhere"
        lines += [
            f"  e{n}:",
            f"    {{provider: {provider}, dialect: openai, base_url: https://e{n}.example/v1, api_key: env:KEY_{n},",
            f"     processed_in: {places}, operated_under: [{country}],",
            f"     assurances: {{{'dpa: {evidence: x, until: 2031-01-01}' if n % 4 else 'soc2: {}'}}},",
            "     models: {" + ", ".join(f"m{(n + k * 7) % MODELS}: {{price: {{input: 1, output: 2}}}}" for k in range(PER_ENDPOINT)) + "}}",
        ]
    lines.append("models:")
    lines += [f"  m{n}: {{origin: [{['FR', 'CN', 'US'][n % 3]}], context: 100000, abilities: [tools], languages: [en]}}" for n in range(MODELS)]
    groups = {f"team-{n}": [f"m{(n + k * 3) % MODELS}" for k in range(5)] for n in range(10)}
    everything = "auto: [" + ", ".join(f"m{n}" for n in range(MODELS)) + "]"
    lines.append("aliases: {" + ", ".join([everything, *(f"{name}: [{', '.join(of)}]" for name, of in groups.items())]) + "}")
    return lines


def rules() -> list[str]:
    lines = [
        "rules:",
        "  - {id: ours, permit: {provider: ours}}",
        "  - {id: public, when: {data_class: {at_most: public}}, permit: {}}",
        "  - {id: europe, when: {region: EEA}, permit: {processed_in: EEA}}",
        "  - {id: law, when: {data_class: {at_least: personal}, region: EEA}, require: {processed_in: EEA, operated_under: EEA}}",
        "  - {id: contract, when: {data_class: {at_least: special}}, require: [{assurances: [dpa]}, {provider: ours}]}",
        "  - {id: patients, when: {categories: [health]}, require: {provider: ours}}",
        "  - {id: not-china, when: {region: EEA, data_class: {at_least: internal}}, forbid: {processed_in: CN}}",
        "  - {id: anywhere, when: {region: EEA, data_class: {at_least: internal}}, require: [{processed_in: [EEA, US, GB, CH, JP, SG, IN, BR, KR, CA]}, {provider: ours}]}",
    ]
    for n in range(RULES - 8):
        tenant, country = f"t{n % TENANTS}", (EU + FAR)[n % 25]
        klass, category = CLASSES[n % 4], CATEGORIES[n % 4]
        match n % 6:
            case 0:
                lines.append(f"  - {{id: r{n}, when: {{tenant: {tenant}, region: {country}}}, permit: {{processed_in: {country}}}}}")
            case 1:
                lines.append(f"  - {{id: r{n}, when: {{tenant: {tenant}, data_class: {{at_least: {klass}}}}}, require: [{{assurances: [dpa]}}, {{provider: ours}}]}}")
            case 2:
                lines.append(f"  - {{id: r{n}, when: {{tenant: {tenant}, categories: [{category}]}}, forbid: {{operated_under: [{FAR[n % 10]}, CN]}}}}")
            case 3:
                lines.append(f"  - {{id: r{n}, when: {{group: g{n % 8}, region: [EEA, {country}]}}, forbid: [{{origin: CN}}, {{provider: zai}}]}}")
            case 4:
                lines.append(f"  - {{id: r{n}, when: {{asked: team-{n % 10}, data_class: {{at_least: {klass}}}}}, require: {{processed_in: [EEA, US, GB, CH]}}}}")
            case 5:
                lines.append(f"  - {{id: r{n}, when: {{key: k{n % TENANTS}-1, data_class: {{at_most: internal}}}}, permit: {{operated_under: [EEA, {country}]}}}}")
    return lines


def claims() -> list[str]:
    lines = ["claims:"]
    for n in range(CLAIMS):
        tenant = f"t{n % TENANTS}"
        match n % 5:
            case 0:
                lines.append(f"  - {{id: c{n}, for: {{region: {EU[n % 15]}, data_class: {{at_least: personal}}, tenant: {tenant}}}, always: {{processed_in: EEA, operated_under: EEA}}}}")
            case 1:
                lines.append(f"  - {{id: c{n}, for: {{region: [{EU[n % 15]}, {EU[(n + 4) % 15]}], data_class: {{at_least: internal}}}}, never: {{processed_in: CN}}}}")
            case 2:
                lines.append(f"  - {{id: c{n}, for: {{categories: [health], group: g{n % 8}}}, always: {{provider: ours}}}}")
            case 3:
                lines.append(f"  - {{id: c{n}, for: {{asked: auto, tenant: {tenant}, data_class: {{at_most: public}}}}, some: {{}}}}")
            case 4:
                lines.append(f"  - {{id: c{n}, for: {{data_class: special, region: EEA, tenant: [{tenant}, t{(n + 9) % TENANTS}]}}, always: [{{assurances: [dpa]}}, {{provider: ours}}]}}")
    return lines


def tenants() -> list[str]:
    lines = ["tenants:"]
    for n in range(TENANTS):
        within = ["EEA", "[EEA, CH]", f"[{EU[n % 15]}, {FAR[n % 10]}]", "[EEA, US, CN]"][n % 4]
        default = f", default: {EU[n % 15]}" if n % 3 and n % 4 != 2 else ""
        lines += [
            f"  t{n}:",
            f"    group: g{n % 8}",
            f"    facts: {{region: {{within: {within}{default}}}, data_class: {{within: {{at_least: {CLASSES[n % 3]}}}}}, categories: {{within: [{CATEGORIES[n % 4]}, health]}}}}",
            f"    keys: [{{id: k{n}-0, demo: true}}, {{id: k{n}-1, demo: true, facts: {{data_class: {{within: [{CLASSES[max(1, n % 3)]}]}}}}}}]",
        ]
    return lines
