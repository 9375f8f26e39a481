"""Every mistake that a policy can hold is told once, at its line and column, with the nearest word; and nothing else is told."""

from pathlib import Path

import pytest
from config_documents import WORLD, changed, load_world, mark_in

GROUP = "    group: health\n"
CAPACITY = "    capacity: {usd_per_hour: 12.80, concurrency: 48}\n"


def plan_with(more: str) -> tuple[str, str]:
    """The capacity of an endpoint turned into a plan that says `more`."""
    return CAPACITY, f"    plan: {{name: p, usd_per_month: 18, {more}}}\n"


def health_with(more: str) -> tuple[str, str]:
    """An endpoint of ours that is asked how it is, so."""
    return CAPACITY, f"{CAPACITY}    health: {more}\n"


MISTAKES: list[tuple[str, str, str, str, str]] = [
    # what it is, old text, new text with ¦ where the problem is to stand, part of what is told, nearest word
    ("unknown section", "tasks: [coding]", "¦task: [coding]", "no such key", "tasks"),
    ("unknown key", "    provider: zai\n", "    provider: zai\n    ¦procesed_in: [SG]\n", "no such key", "processed_in"),
    ("unknown key in a rule", "because: the law", "¦becuase: the law", "no such key", "because"),
    ("unknown key in a tenant", "    group: health\n", "    ¦grupo: health\n", "no such key", "group"),
    ("duplicate key", "operated_under: [FR]\n", "operated_under: [FR]\n    ¦operated_under: [DE]\n", "second time", ""),
    ("a list for a map", 'aliases: {auto: [medium, glm], "claude-*": [glm]}', "aliases: ¦[auto]", "a list", ""),
    ("a map for a list", "tags: [letters]", "tags: ¦{letters: 1}", "a map", ""),
    ("a word for a map", "limits: {attempts_max: 3}", "limits: ¦many", "`many`", ""),
    ("nothing for a map", "limits: {attempts_max: 3}", "¦limits:", "nothing", ""),
    ("a gap without its end", "glm: {origin: [CN],", 'glm: {fim: ¦"<P>{prefix}<M>", origin: [CN],', "`{suffix}`", ""),
    ("affinity to next to nothing", "limits: {attempts_max: 3}", "affinity: {min_tokens: ¦5}", "64", ""),
    ("affinity without a unit", "limits: {attempts_max: 3}", "affinity: {for: ¦five}", "5min", ""),
    ("affinity for ever", "limits: {attempts_max: 3}", "affinity: {for: ¦2d}", "at most a day", ""),
    ("a country by its name", "processed_in: [SG, CN]", "processed_in: [SG, ¦China]", "neither a country", "CN"),
    ("a country in small letters", "processed_in: [SG, CN]", "processed_in: [¦sg, CN]", "neither a country", "SG"),
    ("a country by three letters", "processed_in: [SG, CN]", "processed_in: [¦SGP, CN]", "neither a country", "SG"),
    ("a cloud region", "processed_in: [SG, CN]", "processed_in: [¦eu-west-2, CN]", "neither a country", ""),
    (
        "a zone that is not defined",
        "permit: {processed_in: gdpr-space}",
        "permit: {processed_in: ¦gdpr-spcae}",
        "nor a zone",
        "gdpr-space",
    ),
    ("anywhere among places", "processed_in: [SG, CN]", "processed_in: [¦anywhere, CN]", "stands alone", ""),
    ("anywhere in a rule", "forbid: {operated_under: CN}", "forbid: {operated_under: ¦anywhere}", "stands alone", ""),
    ("a health check elsewhere", *health_with("{path: ¦'http://10.9.9.9/health'}"), "a path from the root", ""),
    ("a health check that climbs", *health_with("{path: ¦/v1/../health}"), "a path from the root", ""),
    ("a health check on another host", *health_with("{path: ¦//10.9.9.9/health}"), "a path from the root", ""),
    ("a health check with a query", *health_with("{load: ¦'/metrics?key=hunter2'}"), "a path from the root", ""),
    ("a health check without a pause", *health_with("{every_s: ¦0}"), "seconds: a whole number from 1", ""),
    ("a health check that never fails", *health_with("{failures: ¦0}"), "checks: a whole number from 1", ""),
    ("a health check by another name", *health_with("{¦interval: 5}"), "no such key", ""),
    ("no health check", *health_with("¦true"), "`health`: a map of", ""),
    ("no processed_in", "    processed_in: [SG, CN]\n", "", "without `processed_in`", ""),
    ("no origin", "{origin: [FR], context: 256000,", "¦{context: 256000,", "without `origin`", ""),
    ("no context", "{origin: [FR], context: 256000,", "¦{origin: [FR],", "without `context`", ""),
    ("no price", "glm: {price: {input: 1.40, output: 4.40}}", "¦glm: {}", "without a price", ""),
    ("half a price", "{price: {input: 1.40, output: 4.40}}", "{price: ¦{input: 1.40}}", "without `output`", ""),
    ("a negative price", "input: 1.40", "input: ¦-1.40", "US dollars per million", ""),
    ("a price in quotes", "input: 1.40", "input: ¦'1.40'", "US dollars per million", ""),
    ("a price with a comma", "input: 1.40", "input: ¦1_40", "US dollars per million", ""),
    ("an infinite price", "input: 1.40", "input: ¦.inf", "US dollars per million", ""),
    ("a model nobody described", "glm: {as: zai-org/GLM}", "¦gml: {as: zai-org/GLM}", "not a model", "glm"),
    ("an unknown dialect", "dialect: vllm", "dialect: ¦vlm", "a dialect", "vllm"),
    ("a literal secret", "env:ZAI_API_KEY", "¦sk-0123456789abcdef", "does not belong", ""),
    ("a variable that can't be", "env:ZAI_API_KEY", "¦env:ZAI-API-KEY", "does not belong", ""),
    (
        "no secret at all",
        "  zai:\n    provider: zai\n    dialect: zai\n    api_key: env:ZAI_API_KEY\n",
        "  ¦zai:\n    provider: zai\n    dialect: zai\n",
        "without `api_key`",
        "",
    ),
    (
        "plain http",
        "    base_url: http://10.2.0.7:8000/v1\n    resolves_to: [10.2.0.0/16]\n",
        "    base_url: ¦http://10.2.0.7:8000/v1\n",
        "without `resolves_to`",
        "",
    ),
    (
        "no address",
        "  frankfurt:\n    provider: ours\n    dialect: vllm\n    base_url: http://10.2.0.7:8000/v1\n",
        "  ¦frankfurt:\n    provider: ours\n    dialect: vllm\n",
        "without `base_url`",
        "",
    ),
    ("no scheme", "http://10.2.0.7:8000/v1", "¦10.2.0.7:8000/v1", "wanted a URL", ""),
    ("another scheme", "http://10.2.0.7:8000/v1", "¦ftp://10.2.0.7/v1", "wanted a URL", ""),
    ("a port that can't be", "http://10.2.0.7:8000/v1", "¦http://10.2.0.7:80000/v1", "not a URL", ""),
    ("a password in a URL", "http://10.2.0.7:8000/v1", "¦http://me:hunter2@10.2.0.7/v1", "without a user", ""),
    ("a query in a URL", "http://10.2.0.7:8000/v1", "¦http://10.2.0.7/v1?key=hunter2", "without `?`", ""),
    ("no network", "10.2.0.0/16", "¦10.2.0.0/99", "not a network", ""),
    ("host bits", "10.2.0.0/16", "¦10.2.0.7/16", "bits after the prefix", ""),
    (
        "a place that Mistral does not promise",
        "    base_url: https://api.eu.mistral.ai/v1\n    api_key: env:MISTRAL_API_KEY\n    processed_in: {countries: [EU, EFTA], "
        "source: docs, verified: 2026-11-20, until: 2027-05-20}\n",
        "    api_key: env:MISTRAL_API_KEY\n    processed_in: ¦[EU, EFTA]\n",
        "https://api.eu.mistral.ai/v1",
        "",
    ),
    (
        "less than Mistral promises",
        "{countries: [EU, EFTA], source: docs, verified: 2026-11-20, until: 2027-05-20}",
        "¦[FR]",
        "EU and EFTA",
        "",
    ),
    ("a day that does not exist", "until: 2027-05-20", "until: ¦2027-02-30", "a day, such as", ""),
    ("a day as people write it", "until: 2027-05-20", "until: ¦20.05.2027", "a day, such as", ""),
    (
        "stale before it was verified",
        "verified: 2026-11-20, until: 2027-05-20",
        "verified: 2026-11-20, until: ¦2026-05-20",
        "after `verified`",
        "",
    ),
    ("an unknown assurance", "no-training: {}", "¦no-trainig: {}", "not an assurance", "no-training"),
    ("an unknown ability", "abilities: [tools, vision]", "abilities: [tools, ¦visoin]", "an ability", "vision"),
    ("an unknown language", "languages: [en, fr]", "languages: [en, ¦french]", "not a language", ""),
    ("a deployment that widens places", "glm: {as: zai-org/GLM}", "glm: {processed_in: ¦[DE, FR]}", "not widen", ""),
    ("a deployment that widens to anywhere", "glm: {as: zai-org/GLM}", "glm: {operated_under: ¦anywhere}", "not widen", ""),
    ("a deployment that widens assurances", "glm: {as: zai-org/GLM}", "glm: {assurances: {¦dpa: {}}}", "not widen", ""),
    (
        "a deployment that outlives its endpoint's label",
        "{as: mistral-medium-2604,",
        "{processed_in: {countries: [FR], until: ¦2028-01-01},",
        "good until 2027-05-20",
        "",
    ),
    ("a deployment with a longer window", "glm: {as: zai-org/GLM}", "glm: {context: ¦300000}", "at most the window", ""),
    ("a deployment that can do more", "glm: {as: zai-org/GLM}", "glm: {abilities: [¦vision]}", "at most what its model can", ""),
    (
        "price after a plan without a price",
        "    capacity: {usd_per_hour: 12.80, concurrency: 48}\n    models: {glm:",
        "    plan: {name: p, usd_per_month: 18, when_exhausted: price}\n    models: {¦glm:",
        "so it needs one",
        "",
    ),
    (
        "plan and capacity",
        "  frankfurt:\n    provider: ours\n",
        "  ¦frankfurt:\n    plan: {name: p, usd_per_month: 18}\n    provider: ours\n",
        "in one way",
        "",
    ),
    ("an alias of an alias", '"claude-*": [glm]', '"claude-*": [¦auto]', "do not nest", ""),
    ("an alias of nothing", "auto: [medium, glm]", "auto: [¦mediun, glm]", "not a model", "medium"),
    ("an alias that hides a model", '"claude-*": [glm]', "¦glm: [medium]", "a model's name always means", ""),
    ("a star in the middle", '"claude-*": [glm]', '¦"cl*de": [glm]', "an alias", ""),
    ("a zone in itself", "countries: [EEA, CH]", "countries: [EEA, ¦gdpr-space]", "part of itself", ""),
    (
        "a zone that is built in",
        "  gdpr-space: {countries",
        "  gdpr-space: {countries: [CH], source: x, verified: 2026-11-20}\n  ¦EEA: {countries",
        "a built-in zone",
        "",
    ),
    (
        "a zone that is a country",
        "  gdpr-space: {countries",
        "  gdpr-space: {countries: [CH], source: x, verified: 2026-11-20}\n  ¦FR: {countries",
        "code of a country",
        "",
    ),
    ("a zone without source", "source: a decision, ", "", "without `source`", ""),
    ("a limit that can't be", "attempts_max: 3", "attempts_max: ¦0", "whole number from 1", ""),
    ("a limit in halves", "attempts_max: 3", "attempts_max: ¦1.5", "whole number from 1", ""),
    ("an unknown limit", "attempts_max: 3", "¦attempt_max: 3", "no such key", "attempts_max"),
    ("limits against each other", "attempts_max: 3", "¦throttle_s: 7200", "at most `throttle_s_max`", ""),
    ("a built-in word again", "tasks: [coding]", "tasks: [coding]\ncategories: [¦health]", "built in already", ""),
    ("the gateway's own word", "tasks: [coding]", "tasks: [coding, ¦other]", "gateway's own word", ""),
    ("an id twice", "id: europe,", "id: ¦ours,", "the first stands at rules.yaml:2", ""),
    ("an id that decisions use", "id: europe,", "id: ¦disabled,", "use this word themselves", ""),
    ("an id in capitals", "id: europe,", "id: ¦Europe,", "small letters", ""),
    ("no id", "{id: europe, when", "¦{when", "without `id`", ""),
    ("no effect", "- {id: ours, permit: {provider: ours}}", "- ¦{id: ours}", "exactly one of", ""),
    (
        "two effects",
        "- {id: ours, permit: {provider: ours}}",
        "- {id: ours, permit: {provider: ours}, ¦require: {provider: ours}}",
        "exactly one of",
        "",
    ),
    (
        "a permit on a class at least",
        "when: {region: EEA}, permit",
        "when: {data_class: {¦at_least: personal}}, permit",
        "at_most",
        "",
    ),
    (
        "a require on a class at most",
        "when: {data_class: {at_least: personal}, region",
        "when: {data_class: {¦at_most: personal}, region",
        "at_least",
        "",
    ),
    (
        "a require on one class",
        "when: {data_class: {at_least: personal}, region",
        "when: {data_class: ¦personal, region",
        "at_least",
        "",
    ),
    ("a permit on a category", "when: {region: EEA}, permit", "when: {¦categories: [health]}, permit", "never adds a route", ""),
    ("a forbid on a holding", "forbid: {operated_under: CN}", "forbid: {¦assurances: [dpa]}", "can't be forbidden", ""),
    ("a forbid on a number", "forbid: {operated_under: CN}", "forbid: {¦context: {at_least: 5}}", "can't be forbidden", ""),
    ("a forbid of two", "forbid: {operated_under: CN}", "forbid: ¦{operated_under: CN, origin: CN}", "a list of alternatives", ""),
    ("a forbid of nothing", "forbid: {operated_under: CN}", "forbid: ¦{}", "an empty map", ""),
    ("a require of nothing", "require: {processed_in: gdpr-space, assurances: [dpa]}", "require: [¦{}]", "an empty map", ""),
    ("a rule on a soft fact", "when: {region: EEA}, permit", "when: {task: ¦coding}, permit", "trust: client", ""),
    (
        "trust without reason",
        "{id: europe, when: {region: EEA},",
        "{id: europe, trust: ¦client, when: {region: EEA},",
        "remove it",
        "",
    ),
    ("an unknown fact", "when: {region: EEA}, permit", "when: {¦regoin: EEA}, permit", "no such key", "region"),
    (
        "an unknown data class",
        "{data_class: {at_least: personal}, region",
        "{data_class: {at_least: ¦personnel}, region",
        "not a data class",
        "personal",
    ),
    ("an unknown category", "when: {categories: [health]}", "when: {categories: [¦helth]}", "not a category", "health"),
    ("an unknown tenant", "when: {region: EEA}, permit", "when: {tenant: ¦clinc}, permit", "not a tenant", "clinic"),
    ("an unknown group", "when: {region: EEA}, permit", "when: {group: ¦heath}, permit", "not a group", "health"),
    ("an unknown key of a tenant", "when: {region: EEA}, permit", "when: {key: ¦ward-5}, permit", "not a key", "ward-4"),
    ("an unknown name asked", "when: {region: EEA}, permit", "when: {asked: [¦atuo]}, permit", "a model or an alias", "auto"),
    ("an unknown API", "when: {region: EEA}, permit", "when: {api: ¦chats}, permit", "an API", "chat"),
    ("an unknown provider", "permit: {provider: ours}", "permit: {provider: ¦our}", "not a provider", "ours"),
    ("an unknown endpoint", "permit: {provider: ours}", "permit: {endpoint: [¦frankfrt]}", "not an endpoint", "frankfurt"),
    ("an unknown model", "prefer: {model: glm}", "prefer: {model: ¦gml}", "not a model", "glm"),
    ("an unknown assurance in a rule", "assurances: [dpa]}", "assurances: [¦dpaa]}", "not an assurance", "dpa"),
    ("an unknown label", "permit: {provider: ours}", "permit: {¦providers: ours}", "no such key", "provider"),
    ("an unknown score", "score.coding: 0.5", "¦score.codign: 0.5", "can be weighed", "score.coding"),
    ("weights of nothing", "rank: {cost: 1, score.coding: 0.5}", "rank: {¦cost: 0}", "orders nothing", ""),
    ("a preference twice", "id: cheap,", "id: ¦zh,", "second time", ""),
    (
        "a claim that claims nothing",
        "- {id: never-cn, for: {region: EEA}, never: {processed_in: CN}}",
        "- ¦{id: never-cn, for: {region: EEA}}",
        "exactly one of",
        "",
    ),
    ("an unknown word in a claim", "never: {processed_in: CN}", "never: {processed_in: ¦CNN}", "neither a country", "CN"),
    ("a limit of money that can't be", "usd_per_request: 1", "usd_per_request: ¦-1", "US dollars", ""),
    (
        "a variable without values",
        "{id: ours, permit: {provider: ours}}",
        "{id: ours, permit: {provider: ¦'${p}'}}",
        "gives no value",
        "",
    ),
    (
        "a value of a variable",
        "{id: ours, permit: {provider: ours}}",
        "{id: 'o-${z}', for_each: {z: [EEA, ¦EFAT]}, permit: {processed_in: '${z}'}}",
        "neither a country",
        "EFTA",
    ),
    (
        "for_each under one id",
        "{id: ours, permit: {provider: ours}}",
        "{id: ¦ours, for_each: {z: [EEA, CH]}, permit: {processed_in: '${z}'}}",
        "write `${z}`",
        "",
    ),
    ("a default outside within", "default: DE, source", "default: ¦US, source", "outside `within`", ""),
    ("a default class outside within", "default: special", "default: ¦public", "outside `within`", ""),
    (
        "a fact nobody can declare",
        "      categories: {always: [health]}\n",
        "      categories: {always: [health]}\n      ¦language: {within: de}\n",
        "no such key",
        "",
    ),
    (
        "always of a class",
        "data_class: {within: {at_most: internal}, default: public}",
        "data_class: {¦always: public}",
        "no such key",
        "",
    ),
    (
        "a key wider than its tenant",
        "facts: {region: {within: [DE, AT]}}",
        "facts: {region: {within: ¦[DE, US]}}",
        "narrows its tenant",
        "",
    ),
    (
        "a key that may declare what its tenant may not",
        "- {id: notebook, demo: true}",
        "- {id: notebook, demo: true, facts: {region: {within: ¦DE}}}",
        "nothing can be declared",
        "",
    ),
    (
        "a key's default outside its tenant",
        "facts: {region: {within: [DE, AT]}}",
        "facts: {region: {default: ¦US}}",
        "narrows its tenant",
        "",
    ),
    ("a key of another tenant's id", "- {id: notebook,", "- {id: ¦ward-3,", "keys are found by id", ""),
    ("a key with an underscore", "- {id: notebook,", "- {id: ¦note_book,", "a key's id", ""),
    ("a key without a digest", "- {id: notebook, demo: true}", "- ¦{id: notebook}", "without `sha256`", ""),
    ("a digest too short", "0b6c1f0f9d2c4e8ab1d5a9f3c7e604d28f51b3a6e97c0d4418f2a5b96c3e7d10", "0b6c", "64 hex digits", ""),
    (
        "a demo key with a digest",
        "id: ward-3\n        sha256: ",
        "id: ward-3\n        demo: true\n        sha256: ¦",
        "of a demo key",
        "",
    ),
    ("an unknown disclosure", "disclose: [rules]", "disclose: [¦rule]", "what answers may say", "rules"),
    ("a flag in words", "demo: true, facts", "demo: ¦yes, facts", "`true` or `false`", ""),
    ("a budget without a window", GROUP, GROUP + "    budgets: [¦{usd: 500}]\n", "without `per`", ""),
    ("a budget of nothing", GROUP, GROUP + "    budgets: [{usd: ¦0, per: day}]\n", "US dollars", ""),
    ("a budget of two units", GROUP, GROUP + "    budgets: [{usd: 5, ¦tokens: 5, per: day}]\n", "exactly one of", ""),
    ("a budget of neither unit", GROUP, GROUP + "    budgets: [¦{per: day}]\n", "exactly one of", ""),
    ("a budget of half tokens", GROUP, GROUP + "    budgets: [{tokens: ¦1.5, per: day}]\n", "a whole number", ""),
    ("a budget per week", GROUP, GROUP + "    budgets: [{usd: 5, per: ¦week}]\n", "a span such as `7d`", ""),
    ("a budget over years", GROUP, GROUP + "    budgets: [{usd: 5, per: ¦400d}]\n", "at most 366 days", ""),
    ("two budgets for one window", GROUP, GROUP + "    budgets: [{usd: 5, per: day}, ¦{usd: 6, per: day}]\n", "two budgets", ""),
    ("a warning at nothing", GROUP, GROUP + "    budgets: [{usd: 5, per: day, warn_at: [¦0]}]\n", "a share", ""),
    ("a warning at all", GROUP, GROUP + "    budgets: [{usd: 5, per: day, warn_at: [¦1]}]\n", "a share", ""),
    ("a slip in when_spent", GROUP, GROUP + "    budgets: [{usd: 5, per: day, when_spent: ¦cheeper}]\n", "refuse", "cheaper"),
    ("cheaper tokens", GROUP, GROUP + "    budgets: [{tokens: 5, per: day, when_spent: ¦cheaper}]\n", "as many everywhere", ""),
    (
        "a slip in when_store_is_lost",
        GROUP,
        GROUP + "    rates: {requests: 6/min, when_store_is_lost: ¦admitt}\n",
        "admit",
        "admit",
    ),
    ("rates that only say when", GROUP, GROUP + "    rates: ¦{when_store_is_lost: admit}\n", "without a rate", ""),
    (
        "limits of no group",
        "tags: [letters]",
        "tags: [letters]\ngroups: {¦heatlh: {rates: {requests: 6/min}}}",
        "a group of",
        "health",
    ),
    ("a group without limits", "tags: [letters]", "tags: [letters]\ngroups: {health: ¦{}}", "an empty map", ""),
    (
        "budgets of no tag",
        "tags: [letters]",
        "tags: [letters]\ntag_budgets: {¦leters: [{usd: 5, per: day}]}",
        "not a tag",
        "letters",
    ),
    ("budgets of nobody", "tags: [letters]", "tags: [letters]\n¦budgets: [{usd: 5, per: day}]", "`tag_budgets`", ""),
    ("a rate of an endpoint", "    provider: zai\n", "    provider: zai\n    rates: {requests: ¦many}\n", "`600/min`", ""),
    (
        "a rate of a model",
        "{origin: [FR], context: 256000,",
        "{origin: [FR], rates: {tokens: ¦many}, context: 256000,",
        "`600/min`",
        "",
    ),
    ("hours without a clock", *plan_with("peak: {hours: ¦14:00-18:00, times: 2}"), "14:00-18:00 UTC+8", ""),
    ("hours that are none", *plan_with("peak: {hours: ¦25:00-26:00 UTC, times: 2}"), "14:00-18:00 UTC+8", ""),
    ("hours without length", *plan_with("peak: {hours: ¦14:00-14:00 UTC, times: 2}"), "14:00-18:00 UTC+8", ""),
    ("a clock of nowhere", *plan_with("peak: {hours: ¦14:00-18:00 UTC+15, times: 2}"), "14:00-18:00 UTC+8", ""),
    ("an unknown day", *plan_with("peak: {hours: 14:00-18:00 UTC+8, days: [¦monday], times: 2}"), "a day", "mon"),
    ("peak without times", *plan_with("peak: ¦{hours: 14:00-18:00 UTC+8}"), "without `times`", ""),
    ("two quotas for one window", *plan_with("quotas: [{requests: 6, per: 5h}, ¦{requests: 7, per: 300min}]"), "two quotas", ""),
    ("a rate without a span", "    group: health\n", "    group: health\n    rates: {requests: ¦600}\n", "`600/min`", ""),
    ("a rate of nothing", "    group: health\n", "    group: health\n    rates: {tokens: ¦0/min}\n", "`600/min`", ""),
    ("a concurrency of nothing", "    group: health\n", "    group: health\n    rates: {concurrency: ¦0}\n", "requests", ""),
    ("rates that say nothing", "    group: health\n", "    group: health\n    rates: ¦{}\n", "", ""),
    ("rates of nobody", "tasks: [coding]", "¦rates: {concurrency: 50}\ntasks: [coding]", "write them there", ""),
    ("detect", "    group: health\n", "    group: health\n    ¦detect: [email]\n", "not enforced by this version", ""),
    (
        "a store of a name taken",
        "tasks: [coding]",
        "tasks: [coding]\nstores: {¦ledger: {url: env:X, processed_in: [DE], operated_under: [DE]}}",
        "gateway's own",
        "",
    ),
    (
        "a store with a password",
        "tasks: [coding]",
        "tasks: [coding]\nstores: {cache: {url: ¦'redis://:hunter2@h', processed_in: [DE], operated_under: [DE]}}",
        "does not belong",
        "",
    ),
    (
        "a sink that nobody writes to",
        "tasks: [coding]",
        "tasks: [coding]\nsinks: {¦traces: {processed_in: [DE], operated_under: [DE]}}",
        "a sink of this version",
        "",
    ),
    (
        "a ledger that may not keep what comes",
        "tasks: [coding]",
        "tasks: [coding]\nsinks: {¦ledger: {processed_in: [US], operated_under: [US]}}",
        "no record",
        "",
    ),
]


@pytest.mark.parametrize(("old", "new", "told", "nearest"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told_once_where_it_stands(tmp_path: Path, old: str, new: str, told: str, nearest: str) -> None:
    files = changed(old, new)
    loaded = load_world(tmp_path, files)
    assert loaded.snapshot is None
    assert [str(problem) for problem in loaded.problems][1:] == [], "one mistake is told once"
    problem = loaded.problems[0]
    assert told in str(problem)
    assert problem.nearest == nearest
    if "¦" in new:
        file, line, column = mark_in(files)
        assert (problem.file, problem.line, problem.column) == (str(tmp_path / file), line, column)


def test_the_small_world_has_no_mistake(tmp_path: Path) -> None:
    loaded = load_world(tmp_path)
    assert (loaded.problems, loaded.warnings) == ((), ())
    assert loaded.snapshot is not None


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Mistakes that stand in each other's way left out: those that take away what another one changes."""
    files = dict(WORLD)
    made = 0
    for what, old, new, _, _ in MISTAKES:
        if what == "a deployment that outlives its endpoint's label":
            continue  # its endpoint's label is spoilt here, and nothing is compared with that
        for name, text in files.items():
            # each line is spoilt once at most, so that the mistakes do not overlap
            if old in WORLD[name] and text.count(old) == 1 and "\n" not in old and "\n" not in new and "¦" in new:
                line = next(line for line in text.split("\n") if old in line)
                if "¦" not in line:
                    files[name] = text.replace(old, new, 1)
                    made += 1
                break
    loaded = load_world(tmp_path, files)
    marks = {
        (str(tmp_path / name), number, line.index("¦") + 1)
        for name, text in files.items()
        for number, line in enumerate(text.split("\n"), 1)
        if "¦" in line
    }
    assert made > 25
    told = {(problem.file, problem.line, problem.column) for problem in loaded.problems}
    compiled_late = {mark for mark in marks if mark not in told}  # what needs a whole policy to be seen
    assert sorted(compiled_late) == []
    assert list(loaded.problems) == sorted(loaded.problems)


SECRETS = [
    "sk-0123456789abcdef",
    "hunter2",
    "rg_live_ward-3_0123456789abcdef0123456789abcdef",
    "Bearer abc",
    "f81d4fae7dec11d0a76500a0c91e6bf6",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("env:ZAI_API_KEY", "SECRET"),
        ('"0b6c1f0f9d2c4e8ab1d5a9f3c7e604d28f51b3a6e97c0d4418f2a5b96c3e7d10"', '"SECRET"'),
        ("http://10.2.0.7:8000/v1", "http://user:SECRET@10.2.0.7:8000/v1"),
        ("http://10.2.0.7:8000/v1", "user:SECRET@10.2.0.7:8000/v1"),
        ("http://10.2.0.7:8000/v1", "'http://10.2.0.7:8000/v1?key=SECRET'"),
        ("http://10.2.0.7:8000/v1", "'http://10.2.0.7:8000/v1#SECRET'"),
    ],
)
def test_a_secret_in_the_wrong_place_is_never_shown(tmp_path: Path, old: str, new: str, secret: str) -> None:
    loaded = load_world(tmp_path, changed(old, new.replace("SECRET", secret)))
    told = " ".join(f"{problem} {problem.as_record()}" for problem in loaded.problems)
    assert loaded.problems
    assert secret not in told


@pytest.mark.parametrize("secret", [secret for secret in SECRETS if secret != "hunter2"])
def test_what_looks_like_a_secret_is_not_shown_anywhere(tmp_path: Path, secret: str) -> None:
    for old in ("[SG, CN]", "env:ZAI_API_KEY", "auto: [medium, glm]", "id: europe", "default: DE", "verified: 2026-11-20"):
        files = changed(old, old.split(":")[0] + f": '{secret}'" if ":" in old else f"['{secret}']")
        told = " ".join(str(problem) for problem in load_world(tmp_path, files).problems)
        assert secret not in told


@pytest.mark.parametrize("name", ["\\n", "clin\\nic", *(secret for secret in SECRETS if secret != "hunter2")])
def test_a_name_that_is_none_is_not_quoted_where_names_are_listed_or_near(tmp_path: Path, name: str) -> None:
    rule = "{id: here, when: {tenant: clinic}, permit: {provider: ours}}"
    rules = next(file for file, text in WORLD.items() if "rules:\n" in text)
    files = changed("\n  clinic:", f'\n  "{name}":') | {rules: WORLD[rules].replace("rules:\n", f"rules:\n  - {rule}\n", 1)}
    loaded = load_world(tmp_path, files)
    told = [str(problem) for problem in loaded.problems]
    assert any("`clinic`" in line for line in told)
    assert all("\n" not in line and name not in line for line in told), told
