"""Health checks: who is asked, what workers are told, what reloads and defects do; and a real gateway whose engine falls ill."""

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import Gateway, Upstream, until, write_policies
from small_world import NOW, snapshot

from gateway.checks import Checks
from gateway.core.bounds import Bounds
from gateway.core.live import Checked
from gateway.core.policy import Endpoint, HealthCheck, Snapshot
from gateway.fleet import InForce
from gateway.simulators.simulator import Simulator
from gateway.upstream.asking import Answer, NotAnswered

CHECK = HealthCheck(every_s=5, failures=2, load="/metrics")


def asked(check: HealthCheck | None, **changes: Any) -> Snapshot:
    """The small world, whose endpoint `one` is asked so."""
    world = snapshot()
    deployments = [
        replace(d, endpoint=replace(d.endpoint, health=check, **changes)) if d.endpoint.id == "one" else d
        for d in world.policy.deployments
    ]
    return replace(world, policy=replace(world.policy, deployments=tuple(deployments)))


class Fleet:
    """Workers that note what they are told."""

    def __init__(self, world: Snapshot) -> None:
        self.in_force = InForce(0, world, {"one": "s3cret"})
        self.told: list[Mapping[str, Checked]] = []

    def tell_health(self, checked: Mapping[str, Checked]) -> None:
        self.told.append(checked)


class Dialler:
    """Answers by path with what a test has put there: an answer, or what is to be raised. Notes who was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | BaseException] = {"/health": Answer(200, b"")}
        self.asked: list[tuple[str, str | None, str]] = []
        self.limits_s: set[float] = set()
        self.adopted = 0
        self.closed = False

    async def get(self, endpoint: Endpoint, secret: str | None, path: str, limit_s: float) -> Answer:
        self.asked.append((f"{endpoint.id} at {endpoint.host}", secret, path))
        self.limits_s.add(limit_s)
        found = self.answers.get(path, Answer(404, b""))
        if isinstance(found, BaseException):
            raise found
        return found

    def adopt(self, bounds: Bounds) -> None:
        self.adopted += 1

    async def close(self) -> None:
        self.closed = True


class Stage:
    """Checks whose time a test lets pass."""

    def __init__(self, world: Snapshot) -> None:
        self.now = NOW
        self.fleet = Fleet(world)
        self.dialler = Dialler()
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.defects: list[BaseException] = []
        self._pauses: list[tuple[float, asyncio.Future[None]]] = []
        self.checks = Checks(self.fleet, self.dialler, lambda: self.now, self._log, self.defects.append, self._pause)

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    async def _pause(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses.append((self.now + seconds, future))
        await future

    async def settle(self) -> None:
        """Let all tasks run as far as they get."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def turn(self, seconds: float = 5.0) -> None:
        """Let so much time pass."""
        self.now += seconds
        due = [one for one in self._pauses if one[0] <= self.now]
        self._pauses = [one for one in self._pauses if one[0] > self.now]
        for _, future in due:
            if not future.done():
                future.set_result(None)
        await self.settle()

    def switch(self, world: Snapshot, secret: str = "s3cret") -> None:
        self.fleet.in_force = InForce(1, world, {"one": secret})
        self.checks.adopt()


@contextlib.asynccontextmanager
async def stage(world: Snapshot) -> AsyncIterator[Stage]:
    found = Stage(world)
    found.checks.adopt()
    await found.settle()
    yield found
    await found.checks.close()
    assert found.dialler.closed


def waiting(number: int) -> Answer:
    return Answer(200, b"vllm:num_requests_running 8\nvllm:num_requests_waiting %d\n" % number)


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def test_workers_are_told_once_when_it_falls_ill_and_once_when_it_mends() -> None:
    async def main() -> None:
        async with stage(asked(CHECK)) as found:
            dialler, told = found.dialler, found.fleet.told
            assert dialler.asked == [("one at 127.0.0.1", "s3cret", "/health"), ("one at 127.0.0.1", "s3cret", "/metrics")]
            assert (told, dialler.limits_s) == ([], {5.0})
            dialler.answers["/health"] = Answer(503, b"")
            await found.turn()
            assert told == [] and found.checks.rows()["one"]["failures"] == 1
            dialler.answers["/health"] = NotAnswered("no_socket", "127.0.0.1: too many open files")
            for _ in range(3):
                await found.turn()
            assert told == [] and found.checks.rows()["one"]["failures"] == 1  # that says nothing of it
            dialler.answers["/health"] = NotAnswered("connect_refused", "127.0.0.1: connection refused")
            await found.turn()
            await found.turn()
            assert told == [{"one": Checked("GET /health: connect_refused")}]
            assert found.checks.rows()["one"] == {
                "healthy": False, "found": "GET /health: connect_refused", "failures": 3, "asked_s": 0.0, "load": None,
            }  # fmt: skip
            dialler.answers["/health"] = Answer(200, b"")
            await found.turn()
            assert told[1:] == [{}]
            assert [event for event, _ in found.logged] == ["endpoint_ill", "endpoint_well"]
            assert found.logged[0][1]["detail"] == "127.0.0.1: connection refused"

    run(main)


def test_who_does_not_say_so_is_not_asked() -> None:
    async def main() -> None:
        for world in (asked(None), asked(CHECK, enabled=False)):
            async with stage(world) as found:
                await found.turn(60)
                assert (found.dialler.asked, found.checks.rows()) == ([], {})

    run(main)


def test_load_is_passed_on_while_requests_wait_and_grows_old() -> None:
    async def main() -> None:
        async with stage(asked(CHECK)) as found:
            told = found.fleet.told
            found.dialler.answers["/metrics"] = waiting(2)
            await found.turn()
            at = found.now
            assert told == [{"one": Checked(queues_until=at + 15)}]
            found.dialler.answers["/metrics"] = NotAnswered("total_timeout", "")
            await found.turn()
            assert found.checks.rows()["one"]["load"] == {"running": 8, "waiting": 2, "kv_cache": None, "age_s": 5.0}
            await found.turn()
            await found.turn()
            assert told[1:] == [{}]  # that its metrics are gone says nothing against it
            assert found.checks.rows()["one"]["load"] is None
            found.dialler.answers["/metrics"] = waiting(0)
            await found.turn()
            assert len(told) == 2 and found.checks.rows()["one"]["load"]["waiting"] == 0

    run(main)


@pytest.mark.parametrize("how", ["moved", "asked otherwise", "another credential", "not asked", "gone"])
def test_a_reload_that_changes_where_or_how_begins_anew(how: str) -> None:
    async def main() -> None:
        async with stage(asked(CHECK)) as found:
            found.dialler.answers["/health"] = Answer(500, b"")
            await found.turn()
            await found.turn()
            assert found.fleet.told == [{"one": Checked("GET /health: status 500")}]
            found.switch(asked(CHECK))  # the same: what is known is kept, and the round goes on
            assert len(found.fleet.told) == 1 and found.checks.rows()["one"]["failures"] == 2
            found.dialler.asked.clear()
            worlds = {
                "moved": asked(CHECK, host="other.example"),
                "asked otherwise": asked(replace(CHECK, path="/ready")),
                "another credential": asked(CHECK),
                "not asked": asked(None),
                "gone": replace(asked(None), policy=replace(snapshot().policy, deployments=())),
            }
            found.switch(worlds[how], secret="an0ther" if how == "another credential" else "s3cret")
            assert found.fleet.told[1:] == [{}]
            await found.turn(60)
            paths = {(who, secret, path) for who, secret, path in found.dialler.asked if path != "/metrics"}
            assert paths == {
                "moved": {("one at other.example", "s3cret", "/health")},
                "asked otherwise": {("one at 127.0.0.1", "s3cret", "/ready")},
                "another credential": {("one at 127.0.0.1", "an0ther", "/health")},
                "not asked": set(),
                "gone": set(),
            }[how]

    run(main)


def test_a_check_that_is_lost_is_reported_takes_nothing_away_and_goes_on() -> None:
    async def main() -> None:
        async with stage(asked(CHECK)) as found:
            found.dialler.answers["/health"] = Answer(500, b"")
            await found.turn()
            await found.turn()
            found.dialler.answers["/health"] = bug = RuntimeError("a bug of ours")
            await found.turn()
            assert found.defects == [bug]
            assert found.fleet.told[1:] == [{}]
            found.dialler.answers["/health"] = Answer(500, b"")
            await found.turn()
            await found.turn()
            assert found.fleet.told[2:] == [{"one": Checked("GET /health: status 500")}]

    run(main)


def test_nobody_is_asked_any_more_once_the_gateway_drains() -> None:
    async def main() -> None:
        found = Stage(asked(CHECK))
        found.checks.adopt()
        await found.settle()
        await found.checks.close()
        count = len(found.dialler.asked)
        found.switch(asked(CHECK, host="other.example"))
        await found.turn(60)
        assert len(found.dialler.asked) == count and found.defects == []

    run(main)


# --- the real thing -----------------------------------------------------------------------------------------------------------

TOKEN = {"authorization": "Bearer an admin's token"}
ENGINE = """\
  engine:
    provider: ours
    dialect: vllm
    base_url: http://127.0.0.1:{port}/v1
    resolves_to: [127.0.0.1/32]
    processed_in: [DE]
    operated_under: [DE]
    health: {{every_s: 1, failures: 2, load: /metrics}}
    models: {{m: {{price: {{input: 0, output: 0}}}}}}
"""


class Engine:
    """A simulated vLLM on a loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.simulator = Simulator("vllm", models=["m"])
        self._do(self.simulator.start())
        self.port = self.simulator.port

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def follow(self, *script: Mapping[str, Any]) -> None:
        """Go wrong by this script, and by none other."""

        async def change() -> None:
            self.simulator.set_script(list(script))

        self._do(change())

    @property
    def chats(self) -> int:
        """How many were asked for."""
        return sum(entry.path.endswith("/chat/completions") for entry in list(self.simulator.journal.entries))

    def close(self) -> None:
        self._do(self.simulator.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def two_routes(folder: Path) -> Iterator[tuple[Gateway, Engine]]:
    """A gateway whose first route is an engine that is asked how it is; the second is not asked."""
    engine, upstream = Engine(), Upstream()
    write_policies(folder / "policies", upstream.port)
    catalogue = folder / "policies" / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("endpoints:\n", "endpoints:\n" + ENGINE.format(port=engine.port)))
    rules = folder / "policies" / "residency.yaml"
    rules.write_text(rules.read_text() + "preferences:\n  - {id: engine-first, prefer: {endpoint: engine}}\n")
    gateway = Gateway(folder, upstream.port, "--admin-token", "env:TEST_ADMIN_TOKEN", "--workers", "2")
    try:
        yield gateway.ready(), engine
    finally:
        gateway.kill()
        upstream.close()
        engine.close()


def health(gateway: Gateway) -> dict[str, Any]:
    shown = gateway.admin("GET", "/admin/v1/endpoints", **TOKEN)[1]["endpoints"]
    return {one["endpoint"]: one["health"] for one in shown}


def test_an_engine_that_falls_ill_is_left_until_it_mends(tmp_path: Path) -> None:
    with two_routes(tmp_path) as (gateway, engine):
        until("it was asked", lambda: (health(gateway)["engine"] or {}).get("load"))
        assert health(gateway)["here"] is None
        assert gateway.metric("gateway_endpoint_healthy", endpoint="engine") == 1
        assert gateway.metric("gateway_endpoint_load", endpoint="engine", measure="waiting") == 0
        assert gateway.ask().status == 200 and engine.chats == 1

        # chat goes on working there: only /health says that it is not well
        engine.follow({"match": {"path": "/health"}, "fault": {"kind": "error", "status": 503}})

        def ill() -> float | None:
            return gateway.metric("gateway_blocked_workers", deployment="engine/m", word="health")

        until("both workers know", lambda: ill() == 2)
        assert gateway.metric("gateway_endpoint_healthy", endpoint="engine") == 0
        assert health(gateway)["engine"]["found"] == "GET /health: status 503"
        assert [gateway.ask().status for _ in range(8)] == [200] * 8 and engine.chats == 1
        assert gateway.log.count("endpoint_ill") == 1

        worker = gateway.workers()[0]
        os.kill(worker, signal.SIGKILL)  # its successor knows from its first request on
        until("another worker serves", lambda: len(gateway.workers()) == 2 and worker not in gateway.workers() and ill() == 2)
        assert [gateway.ask().status for _ in range(8)] == [200] * 8 and engine.chats == 1

        engine.follow()
        until("both workers know", lambda: not ill())
        assert gateway.ask().status == 200 and engine.chats == 2

        queue = "vllm:num_requests_running 8\nvllm:num_requests_waiting 3\n"
        engine.follow({"match": {"path": "/metrics"}, "fault": {"kind": "error", "status": 200, "body": queue}})

        def busy() -> float | None:
            return gateway.metric("gateway_blocked_workers", deployment="engine/m", word="busy")

        until("both workers know", lambda: busy() == 2)
        assert gateway.ask().status == 200 and engine.chats == 2  # it comes after the other

        catalogue = gateway.policies / "catalogue.yaml"
        catalogue.write_text(catalogue.read_text().replace("    health: {every_s: 1, failures: 2, load: /metrics}\n", ""))
        gateway.process.send_signal(signal.SIGHUP)
        until("it is not asked any more", lambda: health(gateway)["engine"] is None and not busy())
        assert gateway.ask().status == 200 and engine.chats == 3
        assert json.dumps(health(gateway)) == '{"engine": null, "here": null}'
        assert gateway.end() == 0
        assert "defect" not in gateway.log
