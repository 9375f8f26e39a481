"""The providers' side as the pipeline sees it: open a call to a route of a decision.

What happens, in order: the egress guard is asked, the body is built in the endpoint's dialect, the request is on its way when
`open` returns. No task is started for a call on a pooled connection. Kept between calls is only what is the same for each.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.core.bounds import Bounds
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Request
from gateway.core.policy import Affinity, Deployment
from gateway.ports import Clock
from gateway.upstream.address import Address
from gateway.upstream.call import Sink
from gateway.upstream.calling import Calling, Handle, Refusal, Setting
from gateway.upstream.dialects import DIALECTS, Unsendable
from gateway.upstream.guard import pass_for
from gateway.upstream.head import head_of
from gateway.upstream.outcomes import Origin
from gateway.upstream.spoken import SPOKEN, Spoken


class Starter(Protocol):
    """What is asked of the transport."""

    def start(self, address: Address, payload: bytes, sink: Sink) -> Handle: ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is the same for every call to one deployment by one API. Good for this very object: a reload makes others."""

    deployment: Deployment
    spoken: Spoken
    setting: Setting
    head: bytes
    secret: str | None


class Upstreams:
    """The port Upstream. `addresses` and `secrets` are by endpoint id; `clock` says UTC, `loop` runs the timers.
    With `affinity`, providers that cache prompts by a key are given one.

    For other addresses or secrets, make another: it is cheap, and calls under way keep the one they began with.
    """

    def __init__(
        self,
        transport: Starter,
        addresses: Mapping[str, Address],
        secrets: Mapping[str, str | None],
        bounds: Bounds,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        affinity: Affinity | None = None,
    ) -> None:
        self._transport = transport
        self._addresses = addresses
        self._secrets = secrets
        self._bounds = bounds
        self._clock = clock
        self._loop = loop
        self._cached_from = None if affinity is None else affinity.min_tokens
        self._prepared: dict[str, dict[str, _Prepared]] = {api: {} for api in SPOKEN}

    def open(self, decision: Decision, attempt: Attempt, request: Request) -> Calling:
        """Start a call to a route of `decision`. Raises EgressRefused if the attempt's deployment is not one, or has no address.

        A request that this gateway does not send (an image that an upstream would have to fetch) is an Opening that is over.
        """
        address = pass_for(decision, attempt, self._addresses)
        ready = self._ready(attempt.deployment, request.api)
        setting, spoken = ready.setting, ready.spoken
        try:
            body, dropped = spoken.build(setting.dialect, attempt.deployment, request, ready.secret, self._cached_from)
        except Unsendable as refused:
            return Refusal(setting, request, refused.outcome)
        reader = spoken.streamed if request.stream and spoken.streamed else spoken.whole
        call = reader(setting, request, dropped)
        call.handle = self._transport.start(address, b"%b%d\r\n\r\n%b" % (ready.head, len(body), body), call)
        return call

    def _ready(self, deployment: Deployment, api: str) -> _Prepared:
        prepared = self._prepared[api]
        found = prepared.get(deployment.id)
        if found is not None and found.deployment is deployment:
            return found
        spoken = SPOKEN[api]
        endpoint = deployment.endpoint
        dialect = DIALECTS[endpoint.dialect]
        secret = self._secrets.get(endpoint.id)
        origin = Origin(endpoint.dialect, secret, deployment.upstream_model)
        setting = Setting(dialect, origin, deployment.model.id, self._bounds, self._clock, self._loop)
        ready = prepared[deployment.id] = _Prepared(
            deployment, spoken, setting, head_of(endpoint, dialect, secret, dialect.paths.get(api, spoken.path)), secret
        )
        return ready
