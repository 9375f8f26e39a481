"""The compiled policy: labels that can go stale, rules over sets of known words, and the ten lines that judge.

A `Snapshot` is what `config/` compiles, immutable and named by content hash. A `View` (view.py) is a snapshot as of an instant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network

from gateway.core.bounds import Bounds
from gateway.core.budgets import Budget
from gateway.core.facts import FINDINGS, FactSpec, RequestFacts, Vocabulary
from gateway.core.pricing import Tariff
from gateway.core.rates import Rates
from gateway.core.terms import CONVERSING, Effect, Subject

# --- labels ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Places:
    """Countries, with who says so. `until` (UTC seconds, exclusive) is when the label goes stale; `countries` None: anywhere."""

    countries: frozenset[str] | None
    source: str = ""
    verified: str = ""  # the day, ISO 8601
    until: float | None = None

    def at(self, instant: float) -> frozenset[str] | None:
        """The countries as of `instant`, or None (ANYWHERE) once stale."""
        return None if self.until is not None and instant >= self.until else self.countries


@dataclass(frozen=True, slots=True)
class Assurance:
    """Something signed or certified. Past `until` (UTC seconds, exclusive) it is absent."""

    name: str
    until: float | None = None
    evidence: str = ""


def assurances_at(assurances: tuple[Assurance, ...], instant: float) -> frozenset[str]:
    """The names of those that hold at `instant`."""
    return frozenset(a.name for a in assurances if a.until is None or instant < a.until)


# --- places that content may go to ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tls:
    """Files are paths on the gateway's machine. Verification can't be switched off."""

    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How an endpoint of ours is asked whether it is well. Paths are from the root of its host: engines have them beside `/v1`."""

    path: str = "/health"
    every_s: int = 5
    failures: int = 3  # in a row, until nothing more is sent there
    load: str | None = None  # path of its own metrics; None: not read


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that serves models. `secret` is `env:NAME` or `file:PATH`, or None where no credential is sent."""

    id: str
    provider: str
    dialect: str
    scheme: str  # "https" or "http"
    host: str
    port: int
    path: str  # prefix, without a slash at its end: "/v1"
    secret: str | None
    resolves_to: tuple[IPv4Network | IPv6Network, ...]
    tls: Tls
    processed_in: Places
    operated_under: Places
    assurances: tuple[Assurance, ...]
    apis: frozenset[str]
    tools: frozenset[str]
    remote_content: bool = False
    enabled: bool = True
    line: str = ""  # file:line
    rates: Rates | None = None  # of all that is sent there
    health: HealthCheck | None = None  # None: it is not asked

    @property
    def at(self) -> str:
        """Where it is, as workers say it to each other: of two places of one name, only one is meant."""
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Model:
    """What is true of a model wherever it runs."""

    id: str
    origin: Places
    context: int | None  # tokens
    abilities: frozenset[str]
    languages: frozenset[str]
    scores: Mapping[str, float]
    rates: Rates | None = None  # of all that it is asked, wherever it runs
    apis: frozenset[str] = CONVERSING  # what it is for
    fim: str = ""  # how a gap in a text is shown to it, around `{prefix}` and `{suffix}`; "": nobody says


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one endpoint, at one price. `upstream_model` is its name there (`as`)."""

    id: str  # endpoint/model
    endpoint: Endpoint
    model: Model
    upstream_model: str
    tariff: Tariff
    processed_in: Places  # the endpoint's, or narrower
    operated_under: Places
    assurances: tuple[Assurance, ...]
    context: int | None  # tokens; the model's, unless this place serves less
    abilities: frozenset[str]
    enabled: bool = True

    @property
    def apis(self) -> frozenset[str]:
        """What can be asked of it: what its model is for, of that for which its endpoint's labels hold."""
        return self.endpoint.apis & self.model.apis

    def as_of(self, instant: float) -> Subject:
        """Its labels at `instant`; what is stale or ended by then counts as missing."""
        return Subject(
            name=self.id,
            kind="deployment",
            endpoint=self.endpoint.id,
            provider=self.endpoint.provider,
            dialect=self.endpoint.dialect,
            model=self.model.id,
            processed_in=self.processed_in.at(instant),
            operated_under=self.operated_under.at(instant),
            origin=self.model.origin.at(instant),
            assurances=assurances_at(self.assurances, instant),
            apis=self.apis,
            tools=self.endpoint.tools,
            abilities=self.abilities,
            context=self.context,
        )


@dataclass(frozen=True, slots=True)
class Keeper:
    """The gateway itself, a store or a sink: whatever of ours reads or keeps content or records of it."""

    name: str
    kind: str  # "gateway", "store" or "sink"
    provider: str
    processed_in: Places
    operated_under: Places
    assurances: tuple[Assurance, ...]
    url: str | None = None
    key: str | None = None  # of the store `cache`: what seals its entries; `env:NAME` or `file:PATH`

    def as_of(self, instant: float) -> Subject:
        """Its labels at `instant`; what is stale or ended by then counts as missing."""
        none: frozenset[str] = frozenset()
        return Subject(
            name=self.name,
            kind=self.kind,
            endpoint="",
            provider=self.provider,
            dialect="",
            model="",
            processed_in=self.processed_in.at(instant),
            operated_under=self.operated_under.at(instant),
            origin=None,
            assurances=assurances_at(self.assurances, instant),
            apis=none,
            tools=none,
            abilities=none,
            context=None,
        )


# --- rules ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FactTest:
    """One test of `when`: a set of values, or for prompt_tokens a range (both ends inclusive).

    A fact without any value: where it lists what was found, nothing was, which meets no test and lies inside every one. Any other
    fact has some value, so an empty one is as good as unknown: every test may hold, none must.
    """

    fact: str
    values: frozenset[str] = frozenset()
    at_least: int | None = None
    at_most: int | None = None

    def may_hold(self, facts: RequestFacts) -> bool:
        value = getattr(facts, self.fact)
        if isinstance(value, int):
            return self._in_range(value)
        return not self.values.isdisjoint(value) if value else self.fact not in FINDINGS

    def must_hold(self, facts: RequestFacts) -> bool:
        value = getattr(facts, self.fact)
        if isinstance(value, int):
            return self._in_range(value)
        return bool(value <= self.values) if value else self.fact in FINDINGS

    def _in_range(self, value: int) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


When = tuple[FactTest, ...]


def may_hold(when: When, facts: RequestFacts) -> bool:
    """Whether all tests may hold together. Conservative: each is asked alone."""
    return all(test.may_hold(facts) for test in when)


def must_hold(when: When, facts: RequestFacts) -> bool:
    """Whether all tests surely hold."""
    return all(test.must_hold(facts) for test in when)


ONE_VALUE = frozenset({"endpoint", "provider", "dialect", "model"})
PLACES = frozenset({"processed_in", "operated_under", "origin"})
HOLDINGS = frozenset({"assurances", "apis", "tools", "abilities"})
NUMBERS = frozenset({"context"})
ASKED_OF_KEEPERS = frozenset({"provider", "processed_in", "operated_under", "assurances"})
"""The only attributes that bind stores, sinks and the gateway; other tests are not asked of them."""


@dataclass(frozen=True, slots=True)
class LabelTest:
    """What a rule says of one attribute of a subject. `values` for all but `context`, which has `at_least` (tokens)."""

    attribute: str
    values: frozenset[str] = frozenset()
    at_least: int | None = None

    def surely_met(self, subject: Subject) -> bool:
        """For permit and require: unknown, missing and ANYWHERE fail."""
        value = getattr(subject, self.attribute)
        if value is None:
            return False
        if self.attribute in ONE_VALUE:
            return value in self.values
        if self.attribute in PLACES:
            return bool(value) and value <= self.values
        if self.attribute in HOLDINGS:
            return self.values <= frozenset(value)
        return self.at_least is not None and int(value) >= self.at_least

    def may_hit(self, subject: Subject) -> bool:
        """For forbid: unknown, missing and ANYWHERE hit."""
        value = getattr(subject, self.attribute)
        if self.attribute in ONE_VALUE:
            return value in self.values
        return not value or not self.values.isdisjoint(value)


Alternative = tuple[LabelTest, ...]
"""Tests of which all must be met. The empty one is met by everything: `permit: {}`."""


def surely_meets(subject: Subject, alternatives: tuple[Alternative, ...]) -> bool:
    """Whether one alternative is met whole. Of keepers only what binds them is asked.

    An alternative that asks a keeper nothing is passed over while another one does ask: `[{model: x}, {operated_under: EEA}]`
    binds a store by its second half, and is not met for free by its first.
    """
    if subject.kind == "deployment":
        return any(all(test.surely_met(subject) for test in tests) for tests in alternatives)
    asked = [tuple(t for t in tests if t.attribute in ASKED_OF_KEEPERS) for tests in alternatives]
    binding = [tests for tests in asked if tests]
    return not binding or any(all(test.surely_met(subject) for test in tests) for tests in binding)


def may_hit(subject: Subject, alternatives: tuple[Alternative, ...]) -> bool:
    """Whether any alternative of a forbid can hit; each names one attribute."""
    asked = (test for tests in alternatives for test in tests if subject.kind == "deployment" or test.attribute in ASKED_OF_KEEPERS)
    return any(test.may_hit(subject) for test in asked)


@dataclass(frozen=True, slots=True)
class Rule:
    """permit, require or forbid: an id, `when`, what it says of deployments, and `because`."""

    id: str
    effect: Effect
    when: When
    says: tuple[Alternative, ...]
    because: str = ""
    line: str = ""  # file:line, for people

    def spares(self, subject: Subject) -> bool:
        """Where it applies: whether `subject` is matched (permit), met (require) or surely not hit (forbid)."""
        if self.effect is Effect.FORBID:
            return not may_hit(subject, self.says)
        return surely_meets(subject, self.says)


@dataclass(frozen=True, slots=True)
class Preference:
    """Orders routes, and does nothing else: either `prefer` (those that meet it come first) or `rank` (weights)."""

    id: str
    when: When
    prefer: tuple[Alternative, ...] = ()
    rank: Mapping[str, float] = field(default_factory=dict)  # "cost", "latency", "score.NAME"
    line: str = ""


@dataclass(frozen=True, slots=True)
class Semantic:
    """Answers to like requests may be given: how like their last messages are, `model` says, which embeds them.

    `thresholds` are the least cosines, by the model that made the answer; what another one made is given to equal requests only.
    `vectors_max` is how many of a partition are compared.
    """

    model: str
    thresholds: Mapping[str, float]
    vectors_max: int


@dataclass(frozen=True, slots=True)
class Caching:
    """An entry of `cache:`: answers to requests that surely meet `when` may be kept for `ttl_s`, and given to whom `share` says."""

    id: str
    when: When
    ttl_s: int
    share: str | None = None  # the name of a scope; None: each tenant its own
    apis: frozenset[str] = frozenset({"chat"})
    line: str = ""
    semantic: Semantic | None = None  # None: to equal requests only


@dataclass(frozen=True, slots=True)
class Limits:
    """`at_most` of the policy."""

    usd_per_request: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Affinity:
    """Requests prefer places that read the beginning of their prompt before: `min_tokens` of it at the least, within `for_s`."""

    min_tokens: int
    for_s: int


# --- the two documents, compiled ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence about all requests that meet `when`. Parsed here, proved elsewhere; `until` None: 30 days from the proof on."""

    id: str
    because: str = ""
    line: str = ""  # file:line
    kind: str = "always"  # "always", "never" or "some"
    when: When = ()
    says: tuple[Alternative, ...] = ()
    until: float | None = None  # UTC seconds, exclusive


@dataclass(frozen=True, slots=True)
class Policy:
    """Catalogue, rules, claims, preferences. `hash` is of the content: equal documents, equal hash."""

    hash: str
    vocabulary: Vocabulary
    gateway: Keeper
    stores: tuple[Keeper, ...]
    sinks: tuple[Keeper, ...]
    deployments: tuple[Deployment, ...]  # by id, so that the order of files and lines does not matter
    models: Mapping[str, Model]
    aliases: Mapping[str, frozenset[str]]  # name, or prefix with "*" at its end -> model ids
    rules: tuple[Rule, ...]  # by id
    preferences: tuple[Preference, ...]  # in the order that they are written in, file by file
    limits: Limits
    bounds: Bounds = field(default_factory=Bounds)
    claims: tuple[Claim, ...] = ()
    tag_budgets: Mapping[str, tuple[Budget, ...]] = field(default_factory=dict)
    caching: tuple[Caching, ...] = ()  # by id
    affinity: Affinity | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What a caller shows. `digest` is the sha256 of the whole key text; `expires` in UTC seconds, exclusive."""

    id: str
    tenant: str
    digest: bytes
    expires: float | None
    revoked: bool
    facts: Mapping[str, FactSpec]
    disclose: frozenset[str]
    demo: bool = False  # the digest is of an `rg_demo_` key: refused outside the demo
    rates: Rates | None = None
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks and pays."""

    id: str
    group: str | None
    facts: Mapping[str, FactSpec]
    rates: Rates | None = None
    budgets: tuple[Budget, ...] = ()
    priority: int = 0  # where requests wait for room: the higher goes first


@dataclass(frozen=True, slots=True)
class Group:
    """What all tenants of a group may ask for and spend together."""

    id: str
    rates: Rates | None = None
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """Tenants, their groups and keys. A document of its own: a rotated key changes no policy."""

    hash: str
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, Key]
    groups: Mapping[str, Group] = field(default_factory=dict)  # those that have limits of their own


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Both documents, compiled and immutable."""

    policy: Policy
    access: Access

    @property
    def hash(self) -> str:
        return f"{self.policy.hash}.{self.access.hash}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name in a request stands for: `asked` is the fact (a model's or an alias' own name), `models` the set."""

    asked: str
    models: frozenset[str]


def resolve(policy: Policy, name: str) -> Resolved | None:
    """A model's or an alias' name; then the longest alias with `*` that matches; None if nothing does."""
    if name in policy.models:
        return Resolved(name, frozenset((name,)))
    if (members := policy.aliases.get(name)) is not None:
        return Resolved(name, members)
    stars = [alias for alias in policy.aliases if alias.endswith("*") and name.startswith(alias[:-1])]
    if not stars:
        return None
    longest = max(stars, key=len)
    return Resolved(longest, policy.aliases[longest])
