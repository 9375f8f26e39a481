"""Health checks: each endpoint that has `health` is asked how it is, once for all workers, by the supervisor.

Promises: nothing is asked but endpoints of the snapshot in force, at their own address and past the egress guard; a reload that
moves an endpoint begins with nothing known of it; a check that is lost to a defect is reported, takes no route away, and goes on.
Workers are told whenever something changed. What their own calls find (breakers) goes on besides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from gateway.core.bounds import Bounds
from gateway.core.live import Checked
from gateway.core.policy import Endpoint, HealthCheck
from gateway.fleet import InForce
from gateway.state.health import Standing, load_of
from gateway.upstream.address import Address, address_of
from gateway.upstream.asking import Answer, NotAnswered

CHECK_S_MAX: Final = 5.0  # for one answer, however often it is asked: an engine that needs longer has a loop that is stuck
NOT_ASKED: Final = "no_socket"  # of upstream.call.CODES: for want of something here, so it says nothing of the endpoint


class Fleet(Protocol):
    """What is asked of the workers' keeper."""

    @property
    def in_force(self) -> InForce: ...

    def tell_health(self, checked: Mapping[str, Checked]) -> None: ...


class Asker(Protocol):
    """Who asks an endpoint."""

    async def get(self, endpoint: Endpoint, secret: str | None, path: str, limit_s: float) -> Answer:
        """The answer to `GET path` within `limit_s` seconds. Raises NotAnswered."""
        ...

    def adopt(self, bounds: Bounds) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint that is asked. Equal ones are at the same place, and asked alike."""

    address: Address
    check: HealthCheck
    endpoint: Endpoint = field(compare=False)
    secret: str | None = field(compare=False, repr=False)


class Checks:
    """All of one gateway. `now` says UTC seconds; `pause` lets seconds pass; `defect` is told of our own bugs."""

    def __init__(
        self,
        fleet: Fleet,
        asker: Asker,
        now: Callable[[], float],
        log: Callable[..., None],
        defect: Callable[[BaseException], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fleet = fleet
        self._asker = asker
        self._now = now
        self._log = log
        self._defect = defect
        self._pause = pause
        self._places: dict[str, Place] = {}
        self._standings: dict[str, Standing] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told: Mapping[str, Checked] = {}
        self._closed = False

    def adopt(self) -> None:
        """Ask the endpoints of the snapshot in force. What is known of those that stay where they are is kept."""
        if self._closed:
            return
        found = _places(self._fleet.in_force)
        self._asker.adopt(self._fleet.in_force.snapshot.policy.bounds)
        for name in [name for name, place in self._places.items() if found.get(name) != place]:
            self._places.pop(name)
            self._standings.pop(name, None)
            self._tasks.pop(name).cancel()
        for name, place in found.items():
            if name not in self._places:
                self._places[name] = place
                self._start(name, 0.0)
        self._tell()

    async def close(self) -> None:
        """Ask nobody any more."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._asker.close()

    def rows(self) -> dict[str, dict[str, Any]]:
        """What there is to say of each endpoint that is asked, by id, as JSON can hold it. Of `asked_s` and `age_s`: ago."""
        now = self._now()
        return {name: _row(self._standings.get(name, Standing()), place.check, now) for name, place in self._places.items()}

    # --- one endpoint ---------------------------------------------------------------------------------------------------

    def _start(self, name: str, after_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._keep(name, self._places[name], after_s))
        self._tasks[name] = task
        task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        """A check that ends is cancelled, or lost to a defect: then nothing is known of its endpoint, and it begins anew."""
        if task.cancelled() or self._tasks.get(name) is not task or self._closed:
            return
        if (error := task.exception()) is not None:
            self._defect(error)
        self._standings.pop(name, None)
        self._start(name, self._places[name].check.every_s)
        self._tell()

    async def _keep(self, name: str, place: Place, after_s: float) -> None:
        if after_s:
            await self._pause(after_s)
        while True:
            await self._ask(name, place)
            self._tell()
            await self._pause(place.check.every_s)

    async def _ask(self, name: str, place: Place) -> None:
        """One check, and one look at its load if it is well."""
        check = place.check
        before = self._standings.get(name, Standing())
        found, detail = "", ""
        try:
            answer = await self._get(place, check.path)
            if answer.status != 200:
                found = f"GET {check.path}: status {answer.status}"
        except NotAnswered as why:
            if why.code == NOT_ASKED:
                return
            found, detail = f"GET {check.path}: {why.code}", why.detail
        after = self._standings[name] = before.after(found, self._now(), check)
        if after.ill and not before.ill:
            self._log("endpoint_ill", endpoint=name, found=found, detail=detail, failures=after.failures)
        elif before.ill and not after.ill:
            self._log("endpoint_well", endpoint=name)
        if check.load is not None and not found:
            await self._look_at_load(name, place, check.load)

    async def _look_at_load(self, name: str, place: Place, path: str) -> None:
        """A new reading, if there is one; else the last one grows old."""
        try:
            answer = await self._get(place, path)
        except NotAnswered:
            return
        load = load_of(answer.body, self._now()) if answer.status == 200 else None
        if load is not None:
            self._standings[name] = self._standings[name].with_load(load)

    async def _get(self, place: Place, path: str) -> Answer:
        return await self._asker.get(place.endpoint, place.secret, path, CHECK_S_MAX)

    # --- all of them ----------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        now = self._now()
        against = {name: one.against(now, self._places[name].check) for name, one in self._standings.items()}
        told = {name: checked for name, checked in against.items() if checked is not None}
        if told != self._told:
            self._told = told
            self._fleet.tell_health(told)


def _places(in_force: InForce) -> dict[str, Place]:
    """The endpoints that are to be asked: those that say so, and to which something could be sent."""
    found = {}
    for deployment in in_force.snapshot.policy.deployments:
        endpoint = deployment.endpoint
        if endpoint.health is not None and endpoint.enabled and deployment.enabled:
            secret = in_force.secrets.get(endpoint.id)
            found[endpoint.id] = Place(address_of(endpoint, secret), endpoint.health, endpoint, secret)
    return found


def _row(standing: Standing, check: HealthCheck, now: float) -> dict[str, Any]:
    load = standing.young_load(now, check)
    return {
        "healthy": not standing.ill,
        "found": standing.found,
        "failures": standing.failures,
        "asked_s": None if standing.asked is None else round(now - standing.asked, 1),
        "load": None
        if load is None
        else {"running": load.running, "waiting": load.waiting, "kv_cache": load.kv_cache, "age_s": round(now - load.at, 1)},
    }
