"""Endpoints and what each of them serves: the places that content goes to, with every label a rule may ask for.

Whatever a label does not say counts against its holder; so what must be there is asked for when loading, not when deciding. An
endpoint with a mistake in it is compiled all the same, to find the others; no snapshot is made of it.
"""

from collections.abc import Mapping
from typing import Final

from gateway.config import labels
from gateway.config.addresses import (
    RESOLVES_TO,
    SECRET,
    TLS,
    Address,
    check_plain_http,
    check_promise,
    compile_address,
    compile_networks,
    compile_tls,
    warn_of_plan,
)
from gateway.config.documents import Node
from gateway.config.health import HEALTH, compile_health
from gateway.config.known import Known
from gateway.config.presets import DIALECTS, PRESETS, Preset
from gateway.config.problems import Mark, Problems, show
from gateway.config.rates import RATES, compile_rates, warn_of_capacity
from gateway.config.reading import At, entries, field, flag, whole, word, words
from gateway.config.shapes import Flag, Key, ListOf, MapOf, Record, Whole, Word
from gateway.config.tariffs import CAPACITY, PLAN, PRICE, compile_capacity, compile_plan, compile_tariff
from gateway.config.vocabulary import ABILITIES, APIS, FIM, MODEL, NAME, OURS, TOOLS, WORD
from gateway.config.words import listed, nearest
from gateway.core.policy import Deployment, Endpoint, Model
from gateway.core.pricing import Capacity, Plan

CONTEXT: Final = Whole("tokens", 1, 100_000_000)
PROVIDER: Final = Word("a provider: letters, digits and hyphens", pattern=WORD)
ABILITY_LIST: Final = ListOf(Word("an ability", of=ABILITIES), least=0)

DEPLOYMENT: Final = Record(
    "a deployment",
    (
        Key(
            "as",
            Word("a model's name at this endpoint"),
            "the model's name at this endpoint, where it is another",
            "mistral-medium-2604",
        ),
        Key("price", PRICE, "US dollars per million tokens", {"input": 1.65, "cached_input": 0.165, "output": 8.25}),
        Key("processed_in", labels.PLACES, "narrower than its endpoint's", ["FR"]),
        Key("operated_under", labels.PLACES, "narrower than its endpoint's", ["FR"]),
        Key("assurances", labels.ASSURANCES_HELD, "fewer, or ending earlier, than its endpoint's", {"dpa": {}}),
        Key("context", CONTEXT, "the window served here, in tokens, where it is below the model's", 131072),
        Key("abilities", ABILITY_LIST, "what works here, where it is less than the model can do", ["tools"]),
        Key("enabled", Flag(), "`false` switches it off", False),
    ),
)

ENDPOINT: Final = Record(
    "an endpoint",
    (
        Key("provider", PROVIDER, "the company that serves models here, or `ours`", "mistral", required=True),
        Key(
            "dialect",
            Word("a dialect", of=DIALECTS),
            "what it speaks: gives authentication, error codes and defaults",
            "mistral",
            required=True,
        ),
        Key(
            "base_url",
            Word("a URL"),
            "where it is; what the dialect's own server is called by default",
            "https://api.eu.mistral.ai/v1",
        ),
        Key("api_key", SECRET, "where its credential is found: `env:NAME` or `file:/path`", "env:MISTRAL_API_KEY"),
        Key("resolves_to", RESOLVES_TO, "networks that its host must resolve into; plain http needs it", ["10.2.0.0/16"]),
        Key(
            "tls", TLS, "certificates to trust and to show; verification can't be switched off", {"ca_file": "/etc/gateway/ca.pem"}
        ),
        labels.PROCESSED_IN,
        labels.OPERATED_UNDER,
        labels.ASSURANCES,
        Key(
            "apis",
            ListOf(Word("an API", of=APIS)),
            "the APIs that its labels hold for; the dialect's by default",
            ["chat", "embeddings"],
        ),
        Key("tools", ListOf(Word("a kind of tool", of=TOOLS), least=0), "the kinds of tool that its labels hold for", ["function"]),
        Key(
            "remote_content",
            Word("what it does", of=("allow", "refuse")),
            "whether it may fetch URLs in content; `refuse` by default",
            "refuse",
        ),
        Key("enabled", Flag(), "`false` switches it off", True),
        Key("plan", PLAN, "a subscription, for every model here", {"name": "pro", "usd_per_month": 18}),
        Key("capacity", CAPACITY, "machines by the hour, for every model here", {"usd_per_hour": 12.8, "concurrency": 48}),
        Key("rates", RATES, "how much may be sent here, by everybody together", {"requests": "1200/min"}),
        Key("health", HEALTH, "ask it whether it is well, and send nothing there while it is not", {"load": "/metrics"}),
        Key(
            "models",
            MapOf(Word("a model", pattern=MODEL), DEPLOYMENT, least=1),
            "the models that it serves: a deployment each, `endpoint/model`",
            {"mistral-medium-3.5": {"price": {"input": 1.65, "output": 8.25}}},
            required=True,
        ),
    ),
)

ENDPOINTS: Final = MapOf(Word("an endpoint's name: letters, digits, dots and hyphens", pattern=NAME), ENDPOINT)

NO_PRESET: Final = Preset("", frozenset(), frozenset(), needs_key=False)
NO_ADDRESS: Final = Address("https", "", 443, "")
"""What stands in where something is wrong, so that looking goes on."""


class Endpoints:
    """Compiles the section `endpoints`. Built for one load; problems and warnings are added to as it goes."""

    def __init__(self, known: Known, at: float, problems: Problems, warnings: Problems) -> None:
        self._known = known
        self._at = at
        self._problems = problems
        self._warnings = warnings
        self._plans: dict[str, tuple[str, Plan]] = {}  # credential -> the first endpoint that has a plan with it, and the plan

    def deployments(self, section: Mapping[str, tuple[Mark, Node]], models: Mapping[str, Model]) -> list[Deployment]:
        """Every endpoint with each of its models."""
        found: list[Deployment] = []
        for name, (mark, node) in section.items():
            endpoint = self._endpoint(name, mark, node)
            served = entries(field(node, "models"))
            plan = compile_plan(field(node, "plan"), served, self._known, self._problems, self._warnings)
            capacity = compile_capacity(field(node, "capacity"))
            self._look_at_limits(endpoint, mark, plan, capacity)
            if plan is not None and capacity is not None:
                wanted = f"the endpoint {show(name)} is paid in one way: make two endpoints of it"
                self._problems.add(mark, "`plan` and `capacity`", wanted)
            for model, (at, deployed) in served.items():
                if self._known.has("model", At(model, at), self._problems):
                    found.append(self._deployment(endpoint, models[model], at, deployed, plan, capacity))
                    self._warn_of_own_labels(endpoint, found[-1], at)
                    self._warn_of_no_api(found[-1], at)
        return found

    def _endpoint(self, name: str, mark: Mark, node: Node) -> Endpoint:
        what = f"the endpoint {show(name)}"
        provider, dialect = word(field(node, "provider")), word(field(node, "dialect"))
        preset = PRESETS.get(dialect.word, NO_PRESET) if dialect else NO_PRESET
        if provider is not None:
            self._warn_of_odd_provider(provider)
        address = self._address(what, mark, node, preset, asks=preset is not NO_PRESET)
        apis, tools, remote = field(node, "apis"), field(node, "tools"), word(field(node, "remote_content"))
        secret = word(field(node, "api_key"))
        endpoint = Endpoint(
            id=name,
            provider=provider.word if provider else "",
            dialect=dialect.word if dialect else "",
            scheme=address.scheme,
            host=address.host,
            port=address.port,
            path=address.path,
            secret=secret.word if secret else None,
            resolves_to=compile_networks(field(node, "resolves_to"), self._problems),
            tls=compile_tls(field(node, "tls"), address, self._problems),
            processed_in=labels.places_of(node, labels.PROCESSED_IN, self._known, self._problems),
            operated_under=labels.places_of(node, labels.OPERATED_UNDER, self._known, self._problems),
            assurances=labels.compile_assurances(field(node, "assurances"), self._known, self._problems),
            apis=preset.apis if apis is None else frozenset(at.word for at in words(apis)),
            tools=preset.tools if tools is None else frozenset(at.word for at in words(tools)),
            remote_content=remote is not None and remote.word == "allow",
            enabled=flag(field(node, "enabled"), otherwise=True),
            line=str(mark),
            rates=compile_rates(field(node, "rates"), self._problems),
            health=compile_health(field(node, "health")),
        )
        label = field(node, "processed_in")
        check_promise(label.mark if label else mark, address, endpoint.processed_in, self._problems, self._warnings)
        if endpoint.enabled:
            self._look_at_use(what, mark, node, endpoint, address, preset)
        return endpoint

    def _look_at_use(self, what: str, mark: Mark, node: Node, endpoint: Endpoint, address: Address, preset: Preset) -> None:
        """What matters only of an endpoint that is switched on."""
        if preset.needs_key and field(node, "api_key") is None:
            wanted = f"the dialect `{endpoint.dialect}` asks for a credential: write `api_key: env:NAME` or `api_key: file:/path`"
            self._problems.add(mark, f"{what} without `api_key`", wanted)
        warn_of_plan(mark, endpoint.provider, address, field(node, "plan") is not None, self._warnings)
        labels.warn_of_stale(what, mark, "processed_in", endpoint.processed_in, self._at, self._warnings)
        labels.warn_of_stale(what, mark, "operated_under", endpoint.operated_under, self._at, self._warnings)
        labels.warn_of_ended(what, mark, endpoint.assurances, self._at, self._warnings)

    def _look_at_limits(self, endpoint: Endpoint, mark: Mark, plan: Plan | None, capacity: Capacity | None) -> None:
        """Quotas are a credential's: endpoints that show the same one, and have a plan, have one plan."""
        what = f"the endpoint {show(endpoint.id)}"
        warn_of_capacity(what, mark, endpoint.rates, capacity.concurrency if capacity else None, self._warnings)
        if plan is None or endpoint.secret is None:
            return
        other, same = self._plans.setdefault(endpoint.secret, (endpoint.id, plan))
        if (same.quotas, same.peak, same.when_lost) != (plan.quotas, plan.peak, plan.when_lost):
            wanted = f"{show(other)} shows the same credential, and quotas are a credential's: write the same ones"
            self._problems.add(mark, f"{what} with quotas of its own", wanted)

    def _address(self, what: str, mark: Mark, node: Node, preset: Preset, *, asks: bool) -> Address:
        url = word(field(node, "base_url"))
        if url is None and not preset.base_url:
            if asks and field(node, "base_url") is None:
                wanted = "servers of this dialect have no address of their own: write where it is"
                self._problems.add(mark, f"{what} without `base_url`", wanted)
            return NO_ADDRESS
        found = compile_address(At(preset.base_url, mark) if url is None else url, self._problems)
        if found is not None and url is not None:
            check_plain_http(what, url.mark, found, field(node, "resolves_to"), self._problems)
        return found or NO_ADDRESS

    def _warn_of_odd_provider(self, provider: At) -> None:
        """Endpoints define providers, so a slip of the pen would define one, and no rule that means `ours` would know it."""
        usual = (OURS, *DIALECTS)
        if provider.word not in usual and (meant := nearest(provider.word, usual)):
            self._warnings.add(provider.mark, show(provider.word), "a provider of its own, and close to one that is known", meant)

    def _deployment(
        self, endpoint: Endpoint, model: Model, mark: Mark, node: Node, plan: Plan | None, capacity: Capacity | None
    ) -> Deployment:
        what = f"the deployment {show(f'{endpoint.id}/{model.id}')}"
        name, known, problems = word(field(node, "as")), self._known, self._problems
        return Deployment(
            id=f"{endpoint.id}/{model.id}",
            endpoint=endpoint,
            model=model,
            upstream_model=name.word if name else model.id,
            tariff=compile_tariff(what, mark, field(node, "price"), plan, capacity, problems),
            processed_in=labels.narrowed_places(node, labels.PROCESSED_IN, endpoint.processed_in, what, known, problems),
            operated_under=labels.narrowed_places(node, labels.OPERATED_UNDER, endpoint.operated_under, what, known, problems),
            assurances=labels.narrowed_assurances(node, endpoint.assurances, what, known, problems),
            context=self._context(what, node, model),
            abilities=self._abilities(what, node, model, PRESETS.get(endpoint.dialect, NO_PRESET)),
            enabled=flag(field(node, "enabled"), otherwise=True),
        )

    def _warn_of_own_labels(self, endpoint: Endpoint, deployment: Deployment, mark: Mark) -> None:
        """Its endpoint's labels were looked at there."""
        if not (endpoint.enabled and deployment.enabled):
            return
        what = f"the deployment {show(deployment.id)}"
        for label in ("processed_in", "operated_under"):
            if getattr(deployment, label) != getattr(endpoint, label):
                labels.warn_of_stale(what, mark, label, getattr(deployment, label), self._at, self._warnings)
        own = tuple(held for held in deployment.assurances if held not in endpoint.assurances)
        labels.warn_of_ended(what, mark, own, self._at, self._warnings)

    def _warn_of_no_api(self, deployment: Deployment, mark: Mark) -> None:
        """What can be asked nothing is there by mistake: most often the model does not say that it is for embeddings."""
        if not deployment.apis and deployment.endpoint.apis:
            model, endpoint = deployment.model, deployment.endpoint
            wanted = (
                f"it can be asked nothing: {show(model.id)} is for {listed(model.apis)}, and the labels of {show(endpoint.id)} "
                f"hold for {listed(endpoint.apis)}; write `apis` of one or the other"
            )
            self._warnings.add(mark, f"the deployment {show(deployment.id)}", wanted)

    def _context(self, what: str, node: Node, model: Model) -> int | None:
        own = field(node, "context")
        tokens = whole(own)
        if own is not None and tokens is not None and model.context is not None and tokens > model.context:
            self._problems.add(own.mark, f"`{tokens}`", f"{what} serves at most the window of its model, {model.context}")
        return model.context if tokens is None else tokens

    def _abilities(self, what: str, node: Node, model: Model, preset: Preset) -> frozenset[str]:
        own = field(node, "abilities")
        if own is None:  # a gap is filled where a suffix is taken, or the model has a template for it; else where it is said to be
            return model.abilities if preset.takes_suffix or model.fim else model.abilities - {FIM}
        for at in words(own):
            if at.word in ABILITIES and at.word not in model.abilities:
                self._problems.add(at.mark, show(at.word), f"{what} can do at most what its model can: {listed(model.abilities)}")
        return frozenset(at.word for at in words(own)) & model.abilities
