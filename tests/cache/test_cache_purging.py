"""Purging the cache: what was named goes, nothing else does, and who asked for it stands in the ledger."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from inprocess import run
from processes import running, until
from small_world import NOW, snapshot
from store_servers import Server, opened, single

from gateway.core.bounds import Bounds
from gateway.core.caching import Keeping, shared_scope, tenant_scope
from gateway.core.policy import Caching, Snapshot
from gateway.ledger.changes import ChangeLog
from gateway.purges import Purges
from gateway.state.cache.cache import SharedCache
from gateway.state.cache.looked import Found
from gateway.state.cache.purging import purge, scopes_of
from gateway.state.cache.sealing import Entry
from gateway.upstream.kept import ChatForm

SECRET = b"a secret that is long enough to be one"
CLINIC, LAB, FAQ = tenant_scope("clinic"), tenant_scope("lab"), shared_scope("faq")
TOKEN = {"authorization": "Bearer an admin's token"}


@pytest.fixture
def server() -> Iterator[Server]:
    with single() as server:
        yield server


class Clock:
    def now(self) -> float:
        return NOW


@dataclass
class Shelf:
    """Entries by scope and a word of their own."""

    cache: SharedCache
    store: Any

    async def put(self, scope: str, word: str, model: str = "alpha", tag: str = "") -> None:
        sealer = await self.cache.sealer(scope)
        entry = Entry("one/alpha", "rg-1", NOW, NOW + 3600, None, word.encode())
        await self.cache.put(scope, sealer, sealer.name("", "chat", word.encode()), entry, f"{model} {tag}", "")

    async def there(self, scope: str, word: str) -> bool:
        looked = await self.cache.look(Keeping(scope, 3600, ""), "chat", word.encode(), "")
        return looked.found is Found.ENTRY


@asynccontextmanager
async def shelf(server: Server) -> AsyncIterator[Shelf]:
    async with opened(server.url) as store:
        cache = SharedCache(
            store, SECRET, {"chat": ChatForm()}, Bounds(), Clock(), asyncio.get_running_loop(), lambda _: None, lambda _: None
        )
        yield Shelf(cache, store)
        await cache.close()


ROWS = [(CLINIC, "a", "alpha", "letters"), (CLINIC, "b", "beta", ""), (LAB, "c", "alpha", "batch"), (FAQ, "d", "beta", "letters")]


@pytest.mark.parametrize(
    ("tenant", "model", "tag", "stays"),
    [
        ("clinic", "", "", "c"),  # and what it may share
        ("", "alpha", "", "bd"),
        ("", "", "letters", "bc"),
        ("clinic", "alpha", "", "bcd"),
        ("", "beta", "letters", "abc"),
        ("", "", "", ""),
        ("shop", "", "", "abc"),
        ("lab", "gamma", "", "abcd"),
    ],
)
def test_what_is_named_goes_and_nothing_else(server: Server, tenant: str, model: str, tag: str, stays: str) -> None:
    async def main() -> None:
        async with shelf(server) as s:
            for row in ROWS:
                await s.put(*row)
            gone = await purge(s.store, await scopes_of(s.store, policy_of(Caching("all", (), 60, "faq")), tenant), model, tag)
            assert "".join([word for scope, word, *_ in ROWS if await s.there(scope, word)]) == stays
            assert gone == len(ROWS) - len(stays)

    run(main)


def test_a_scope_that_no_policy_names_any_more_is_purged_with_all(server: Server) -> None:
    async def main() -> None:
        async with shelf(server) as s:
            await s.put(tenant_scope("gone"), "a")
            assert await purge(s.store, await scopes_of(s.store, snapshot(), ""), "", "") == 1
            assert server.ask("KEYS", "*entries*") == []

    run(main)


def test_what_is_under_way_when_a_scope_is_purged_is_not_kept_under_its_old_salt(server: Server) -> None:
    async def main() -> None:
        async with shelf(server) as s:
            await s.put(LAB, "a")
            before = await s.cache.sealer(LAB)
            await purge(s.store, [LAB], "", "")
            await s.put(LAB, "late")  # this worker has not heard of it
            assert not await s.there(LAB, "late")
            assert (await s.cache.sealer(LAB)).salt != before.salt
            await s.put(LAB, "new")
            assert await s.there(LAB, "new")

    run(main)


def test_many_entries_go_in_steps_and_all_go(server: Server) -> None:
    async def main() -> None:
        async with shelf(server) as s:
            for number in range(350):
                await s.put(LAB, f"{number}", "alpha" if number % 3 else "beta")
            assert await purge(s.store, [LAB], "alpha", "") == sum(1 for number in range(350) if number % 3)
            assert await purge(s.store, [LAB], "beta", "") == sum(1 for number in range(350) if not number % 3)

    run(main)


class Fleet:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


def policy_of(*caching: Caching) -> Snapshot:
    found = snapshot()
    return replace(found, policy=replace(found.policy, caching=caching))


def said(folder: Path) -> list[tuple[str, str, str]]:
    lines = [json.loads(line) for path in sorted(folder.glob("supervisor*")) for line in path.open()]
    return [(line["result"], line["why"], line["by"]) for line in lines if line.get("how") == "purge"]


def test_who_asked_stands_in_the_ledger_whatever_comes_of_it(server: Server, tmp_path: Path) -> None:
    async def main() -> None:
        async with shelf(server) as s:
            await s.put(LAB, "a")
            purges = Purges(Fleet(snapshot()), server.url, ChangeLog(tmp_path, Clock()))
            assert await purges.purge("somebody", "lab", "", "") == 1
            assert said(tmp_path) == [("asked", "tenant lab", "somebody"), ("applied", "tenant lab: 1 answers", "somebody")]
            assert not await s.there(LAB, "a")
            await s.put(LAB, "b")
            (tmp_path / "a file").touch()
            nowhere = Purges(Fleet(snapshot()), server.url, ChangeLog(tmp_path / "a file", Clock()))
            with pytest.raises(OSError):
                await nowhere.purge("somebody", "lab", "", "")
            assert await s.there(LAB, "b"), "nothing is done that nobody can be asked about"

    run(main)
    server.kill()

    async def lost() -> None:
        purges = Purges(Fleet(snapshot()), server.url, ChangeLog(tmp_path / "other", Clock()), open_s_max=0.1)
        assert await purges.purge("somebody", "", "alpha", "batch") is None
        assert said(tmp_path / "other") == [
            ("asked", "model alpha, tag batch", "somebody"),
            ("failed", "model alpha, tag batch: lost the store (down)", "somebody"),
        ]

    run(lost)


def test_a_gateway_gives_nothing_any_more_that_an_admin_has_purged(tmp_path: Path) -> None:
    admin = ("--admin-token", "env:TEST_ADMIN_TOKEN", "--workers", "2")
    with running(tmp_path, *admin, caching="[{id: all, ttl: 1h}]") as (gateway, _):
        until("it is kept", lambda: gateway.ask().headers["x-gateway-cache"] in ("hit", "joined"))
        assert gateway.admin("POST", "/admin/v1/cache/purge", {}, **TOKEN)[0] == 400
        status, body = gateway.admin("POST", "/admin/v1/cache/purge", {"tenant": "ofice"}, **TOKEN)
        assert (status, body["error"]["code"]) == (404, "unknown_tenant")
        assert "(did you mean `office`?); what is kept of one that has left it goes with `all: true`" in body["error"]["message"]
        assert gateway.admin("POST", "/admin/v1/cache/purge", {"tenant": "office", "what": 1}, **TOKEN)[0] == 400
        assert gateway.admin("POST", "/admin/v1/cache/purge", {"tenant": "office"}, **TOKEN) == (200, {"purged": 1})
        assert gateway.ask().headers["x-gateway-cache"] == "miss"
        until("it is kept again", lambda: gateway.ask().headers["x-gateway-cache"] in ("hit", "joined"))
        assert gateway.admin("POST", "/admin/v1/cache/purge", {"all": True}, **TOKEN) == (200, {"purged": 1})
        until("metrics", lambda: gateway.metric("gateway_cache_requests_total", result="hit"))
        assert gateway.end() == 0
    lines = said(tmp_path / "state" / "ledger")
    assert [line[0] for line in lines] == ["asked", "applied"] * 2
    assert {line[2] for line in lines} == {"admin policy (env:TEST_ADMIN_TOKEN)"}
